//! Little-endian fields, one behind the other.

use super::Hdf5Error;

/// What of some bytes was not read yet.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Fields<'a> {
        Fields { rest: bytes }
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Hdf5Error> {
        let (taken, rest) = (self.rest.split_at_checked(len)).ok_or_else(|| {
            Hdf5Error::new("a block runs past its end; perhaps the file is cut off")
        })?;
        self.rest = rest;
        Ok(taken)
    }

    /// A number of so many bytes, at most 8.
    pub(super) fn uint(&mut self, len: usize) -> Result<u64, Hdf5Error> {
        let bytes = self.take(len)?;
        Ok(bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
    }

    pub(super) fn u8(&mut self) -> Result<u8, Hdf5Error> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, Hdf5Error> {
        Ok(self.uint(2)? as u16)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Hdf5Error> {
        Ok(self.uint(4)? as u32)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Hdf5Error> {
        self.uint(8)
    }

    /// A length or count that is used on this machine.
    pub(super) fn size(&mut self) -> Result<usize, Hdf5Error> {
        let size = self.u64()?;
        usize::try_from(size).map_err(|_| Hdf5Error::new(format!("a size of {size}")))
    }

    pub(super) fn signature(&mut self, wanted: &[u8; 4]) -> Result<(), Hdf5Error> {
        match self.take(4)? {
            got if got == wanted => Ok(()),
            _ => {
                let wanted = String::from_utf8_lossy(wanted);
                Err(Hdf5Error::new(format!("there is no {wanted} where one should be")))
            }
        }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }
}
