//! HDF5 files, as far as Keras writes them: groups, attributes and arrays of numbers.
//!
//! The original library is C and was not made for files of strangers, hence this reader. What it knows: superblocks 0 to
//! 3, object headers 1 and 2, groups as symbol tables or as links in their header, arrays that are compact, contiguous
//! or in chunks under a B-tree of version 1, the filters gzip, shuffle and fletcher32 (of which the sum is not checked),
//! whole numbers, floats and text. Everything else is refused. Every address, size and count is held against the file,
//! and all steps through it and all bytes that it unpacks to are counted, so that no loop in it is followed for long.

mod array;
mod fields;
mod object;
mod write;

use std::cell::Cell;

use fields::Fields;
pub use object::{Attribute, Object};
pub use write::{Node, write};

/// How many blocks of a file are looked at.
const STEPS_MAX: u64 = 4_000_000;
/// What a file may unpack to: so many bytes, and so many times its own.
const UNPACKED_BYTES_MAX: u64 = 64 << 20;
const UNPACKED_TIMES_MAX: u64 = 64;

const SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n";

/// Why a file cannot be read: it is damaged, or uses what this reader does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is no HDF5 file that can be read: {0}")]
pub struct Hdf5Error(pub String);

impl Hdf5Error {
    fn new(problem: impl Into<String>) -> Hdf5Error {
        Hdf5Error(problem.into())
    }
}

/// A file.
pub struct Hdf5<'a> {
    bytes: &'a [u8],
    root: u64,
    steps: Cell<u64>,
    unpacked: Cell<u64>,
}

impl<'a> Hdf5<'a> {
    /// Reads the superblock.
    ///
    /// # Errors
    /// It is none, or one of another kind.
    pub fn open(bytes: &'a [u8]) -> Result<Hdf5<'a>, Hdf5Error> {
        let mut fields = Fields::new(bytes);
        if fields.take(SIGNATURE.len()) != Ok(SIGNATURE) {
            return Err(Hdf5Error::new("it does not begin as one does"));
        }
        let version = fields.u8()?;
        let (sizes, root) = match version {
            0 | 1 => {
                fields.take(4)?;
                let sizes = [fields.u8()?, fields.u8()?];
                fields.take(if version == 0 { 9 } else { 13 })?;
                let base = fields.u64()?;
                check_base(base)?;
                // Free space, end of file, driver, and the name of the root.
                fields.take(32)?;
                (sizes, fields.u64()?)
            }
            2 | 3 => {
                let sizes = [fields.u8()?, fields.u8()?];
                fields.take(1)?;
                check_base(fields.u64()?)?;
                fields.take(16)?;
                (sizes, fields.u64()?)
            }
            other => return Err(Hdf5Error::new(format!("superblock version {other}"))),
        };
        if sizes != [8, 8] {
            return Err(Hdf5Error::new(format!("addresses of {} bytes instead of 8", sizes[0])));
        }
        Ok(Hdf5 { bytes, root, steps: Cell::new(0), unpacked: Cell::new(0) })
    }

    /// The outermost group.
    ///
    /// # Errors
    /// Its header cannot be read.
    pub fn root(&self) -> Result<Object<'_>, Hdf5Error> {
        Object::read(self, self.root)
    }

    /// What lies at an address, to the end of the file.
    fn at(&self, address: u64) -> Result<Fields<'_>, Hdf5Error> {
        self.step()?;
        let bytes = usize::try_from(address).ok().and_then(|at| self.bytes.get(at..));
        bytes
            .map(Fields::new)
            .ok_or_else(|| Hdf5Error::new(format!("address {address} is outside")))
    }

    fn step(&self) -> Result<(), Hdf5Error> {
        self.steps.set(self.steps.get() + 1);
        match self.steps.get() > STEPS_MAX {
            true => Err(Hdf5Error::new(format!("over {STEPS_MAX} blocks, or a loop of them"))),
            false => Ok(()),
        }
    }

    /// Counts bytes that are about to be unpacked.
    fn unpack(&self, bytes: u64) -> Result<(), Hdf5Error> {
        let max = UNPACKED_BYTES_MAX + UNPACKED_TIMES_MAX * self.bytes.len() as u64;
        let sum = self.unpacked.get().saturating_add(bytes);
        self.unpacked.set(sum);
        match sum > max {
            true => Err(Hdf5Error::new(format!("it unpacks to over {max} bytes"))),
            false => Ok(()),
        }
    }
}

fn check_base(base: u64) -> Result<(), Hdf5Error> {
    match base {
        0 => Ok(()),
        other => Err(Hdf5Error::new(format!("addresses that begin at {other}"))),
    }
}

#[cfg(test)]
mod tests;
