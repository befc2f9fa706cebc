//! The tar format, strictly: plain files with short names, in ustar or GNU form, and nothing else.

use bytes::Bytes;
use tar::{EntryType, Header};

use super::BundleError;
use super::error::short;

/// The most bytes in the name of an entry that is written.
pub(super) const NAME_BYTES_MAX: usize = 100;
const BLOCK: usize = 512;
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// A plain file in a tar.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) data: Bytes,
}

/// The entries of a tar in order; each shares the tar's bytes.
pub(super) struct Entries<'a> {
    tar: &'a Bytes,
    at: usize,
}

impl<'a> Entries<'a> {
    pub(super) fn new(tar: &'a Bytes) -> Entries<'a> {
        Entries { tar, at: 0 }
    }

    /// The next entry, `None` at a proper end.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, BundleError> {
        let block = self.block("a tar header")?;
        if block.iter().all(|&byte| byte == 0) {
            self.end()?;
            return Ok(None);
        }
        let header = Header::from_byte_slice(block);
        check_header(header, self.at)?;
        let name = file_name(header)?;
        let size = header
            .entry_size()
            .map_err(|_| BundleError::NotTar { at: self.at, problem: "its size is no number" })?;
        let data = self.data(&name, size)?;
        Ok(Some(Entry { name, data }))
    }

    /// The block at the present place.
    fn block(&self, inside: &str) -> Result<&'a [u8], BundleError> {
        self.tar.get(self.at..self.at + BLOCK).ok_or_else(|| self.truncated(inside))
    }

    /// Steps over the header and its data.
    fn data(&mut self, name: &str, size: u64) -> Result<Bytes, BundleError> {
        let truncated = || self.truncated(&format!("the entry {:?}", short(name)));
        let size = usize::try_from(size).map_err(|_| truncated())?;
        let padded = size.checked_next_multiple_of(BLOCK).ok_or_else(truncated)?;
        let start = self.at + BLOCK;
        let end = start.checked_add(padded).filter(|end| *end <= self.tar.len());
        self.at = end.ok_or_else(truncated)?;
        Ok(self.tar.slice(start..start + size))
    }

    /// Two blocks of zeros end a tar; what pads it further must be zeros too.
    fn end(&mut self) -> Result<(), BundleError> {
        self.at += BLOCK;
        self.block("the two zero blocks at its end")?;
        match self.tar[self.at..].iter().position(|&byte| byte != 0) {
            Some(offset) => Err(BundleError::Trailing { at: self.at + offset }),
            None => Ok(()),
        }
    }

    fn truncated(&self, inside: &str) -> BundleError {
        BundleError::Truncated { len: self.tar.len(), inside: inside.into() }
    }
}

fn check_header(header: &Header, at: usize) -> Result<(), BundleError> {
    let not_tar = |problem| BundleError::NotTar { at, problem };
    let wanted = header.cksum().map_err(|_| not_tar("its checksum is no number"))?;
    if checksum(header.as_bytes()) != wanted {
        return Err(not_tar("its checksum is wrong"));
    }
    if header.as_ustar().is_none() && header.as_gnu().is_none() {
        return Err(not_tar("it is not in ustar form"));
    }
    Ok(())
}

/// The sum of a header's bytes, its own field read as spaces.
fn checksum(header: &[u8; BLOCK]) -> u32 {
    let sum = |bytes: &[u8]| bytes.iter().map(|&byte| u32::from(byte)).sum::<u32>();
    sum(&header[..CHECKSUM.start]) + 8 * u32::from(b' ') + sum(&header[CHECKSUM.end..])
}

/// The name of an entry that is a file, and a name that stays inside the bundle.
fn file_name(header: &Header) -> Result<String, BundleError> {
    let bytes = header.path_bytes();
    let lossy = || short(&String::from_utf8_lossy(&bytes));
    let problem = |problem| BundleError::Name { name: lossy(), problem };
    let name = std::str::from_utf8(&bytes).map_err(|_| problem("is not UTF-8"))?;
    if let Some(kind) = other_kind(header.entry_type(), name) {
        return Err(BundleError::NotAFile { name: lossy(), kind });
    }
    if name.starts_with('/') {
        return Err(problem("is an absolute path"));
    }
    if name.split(['/', '\\']).any(|part| part == "..") {
        return Err(problem("leads out of the bundle"));
    }
    Ok(name.to_owned())
}

/// What an entry is when it is not a plain file.
fn other_kind(kind: EntryType, name: &str) -> Option<&'static str> {
    Some(match kind {
        EntryType::Regular if name.ends_with('/') => "a directory",
        EntryType::Regular => return None,
        EntryType::Directory => "a directory",
        EntryType::Link => "a hard link",
        EntryType::Symlink => "a symbolic link",
        EntryType::Char | EntryType::Block => "a device",
        EntryType::Fifo => "a pipe",
        EntryType::GNULongName | EntryType::GNULongLink => "a GNU long name",
        EntryType::GNUSparse => "a sparse file",
        EntryType::XHeader | EntryType::XGlobalHeader => {
            "a pax header (write the tar with --format=ustar)"
        }
        _ => "of an unknown kind",
    })
}

/// The header of a plain file; everything in it but name and size is always the same.
pub(super) fn header(name: &str, size: u64) -> [u8; BLOCK] {
    debug_assert!(name.len() <= NAME_BYTES_MAX, "entry names are checked before they are written");
    let mut header = Header::new_ustar();
    let field = name.len().min(NAME_BYTES_MAX);
    header.as_mut_bytes()[..field].copy_from_slice(&name.as_bytes()[..field]);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_entry_type(EntryType::Regular);
    header.set_cksum();
    *header.as_bytes()
}

/// How many zeros follow `size` bytes of data.
pub(super) fn padding(size: u64) -> usize {
    (size.next_multiple_of(BLOCK as u64) - size) as usize
}

/// Appends a whole entry.
pub(super) fn append(out: &mut Vec<Bytes>, name: &str, data: &Bytes) {
    out.push(Bytes::copy_from_slice(&header(name, data.len() as u64)));
    out.push(data.clone());
    out.push(Bytes::from_static(&END[..padding(data.len() as u64)]));
}

/// What ends a tar; padding is of the same zeros.
pub(super) static END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];
