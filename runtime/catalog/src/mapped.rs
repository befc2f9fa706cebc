//! Files mapped into memory, for reading.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;

use bytes::Bytes;
use memmap2::{Advice, Mmap};

/// From this size on a file is mapped. Smaller ones are read: a process has only so many mappings, and each takes
/// whole pages.
pub(crate) const BYTES_MIN: u64 = 1 << 20;

/// The bytes of a file that nobody writes to.
pub(crate) fn map(file: &File) -> io::Result<Bytes> {
    // SAFETY: the bytes must stay as they are while they are mapped. The files of blobs lie in a folder of the host's
    // own that the host has locked, are moved there whole, and are never opened for writing again: a blob is mended by
    // a new file under its name, and deleting one leaves its bytes to those who have it mapped.
    let mapped = unsafe { Mmap::map(file)? };
    // All of it is read at once, to be checked against its digest; without the hint it comes in page by page.
    let _ = mapped.advise(Advice::WillNeed);
    Ok(Bytes::from_owner(mapped))
}
