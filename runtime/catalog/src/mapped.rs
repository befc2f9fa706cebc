//! Files mapped into memory: blobs for reading, counters for counting.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use memmap2::{Advice, Mmap, MmapRaw};

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

/// The bytes of a file that has no name: nobody but who made it can have it, and who hands it over writes no more to it.
///
/// # Errors
/// What the system says. An empty file is mapped as no bytes.
pub fn map_nameless(file: File) -> io::Result<Bytes> {
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the bytes must stay as they are while they are mapped. The file has no name, so that no other process opens
    // it, and its one handle is given up here.
    let mapped = unsafe { Mmap::map(&file)? };
    Ok(Bytes::from_owner(mapped))
}

/// Counters in a file. The kernel has every count as soon as it is made, so that none is lost when the process is
/// killed; a power loss takes those that the kernel has not written yet.
pub(crate) struct Counters(MmapRaw);

impl Counters {
    /// The counters of a file, as many as it has room for.
    pub(crate) fn map(file: &File) -> io::Result<Counters> {
        Ok(Counters(MmapRaw::map_raw(file)?))
    }

    /// The counter of this number, if there is one.
    pub(crate) fn get(&self, index: usize) -> Option<&AtomicU64> {
        if index >= self.0.len() / size_of::<AtomicU64>() {
            return None;
        }
        let counter = self.0.as_mut_ptr().cast::<u64>().wrapping_add(index);
        // SAFETY: the mapping is shared, writable, begins at a page and so is aligned, lives as long as `self`, and
        // holds the counter by the check above. Nobody reaches these bytes but through these atomics: the file lies in
        // a folder that the host has locked. It is never made shorter, so that no page of it can be missing.
        Some(unsafe { AtomicU64::from_ptr(counter) })
    }
}
