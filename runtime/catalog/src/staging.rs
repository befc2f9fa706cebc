//! The files that uploads grow in. Everything here blocks.
//!
//! A blob store has no append, so these are plain files; they lie where the blob store can move
//! them in one step.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use sha2::{Digest as _, Sha256};

use crate::{CatalogError, Digest, store::sync_folder};

type Result<T> = std::result::Result<T, CatalogError>;

/// As much as is read at once when a file is hashed.
const PIECE_BYTES: usize = 256 * 1024;

/// Writes `chunk` at `offset`, in place of whatever was there and beyond, and syncs it.
pub(crate) fn write(path: &Path, offset: u64, chunk: &[u8]) -> Result<()> {
    let failed = |error| CatalogError::io("writing an upload", error);
    let mut file = open(path)?;
    let written = write_at(&mut file, offset, chunk);
    if written.is_err() {
        // Gives the space back at once. Should this fail as well, the next append or start cuts it
        // off.
        let _ = file.set_len(offset);
    }
    written.map_err(failed)?;
    // A new file is durable once its folder is.
    match path.parent() {
        Some(folder) if offset == 0 => sync_folder(folder),
        _ => Ok(()),
    }
}

fn write_at(file: &mut File, offset: u64, chunk: &[u8]) -> io::Result<()> {
    let length = file.metadata()?.len();
    if length < offset {
        return Err(io::Error::other(format!("the file has {length} bytes, not {offset}")));
    }
    file.set_len(offset)?;
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(chunk)?;
    file.sync_all()
}

/// The digest of the file's first `length` bytes; what is beyond was never acknowledged and is cut
/// off.
pub(crate) fn digest(path: &Path, length: u64) -> Result<Digest> {
    let failed = |error| CatalogError::io("reading an upload", error);
    let mut file = open(path)?;
    if file.metadata().map_err(failed)?.len() > length {
        file.set_len(length).and_then(|()| file.sync_all()).map_err(failed)?;
    }
    let mut sha256 = Sha256::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut piece).map_err(failed)? {
            0 => return Ok(Digest::from_bytes(sha256.finalize().into())),
            read => sha256.update(&piece[..read]),
        }
    }
}

/// Cuts the file to `length` and returns what it has then, which is less if it was shorter or is
/// gone.
pub(crate) fn truncate(path: &Path, length: u64) -> Result<u64> {
    let failed = |error| CatalogError::io("truncating an upload", error);
    let file = match File::options().write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other.map_err(failed)?,
    };
    let found = file.metadata().map_err(failed)?.len();
    if found > length {
        file.set_len(length).and_then(|()| file.sync_all()).map_err(failed)?;
    }
    Ok(found.min(length))
}

/// Removes the file; false if it was gone.
pub(crate) fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(CatalogError::io(format!("removing {}", path.display()), error)),
    }
}

/// Opens the file for reading and writing; an upload without bytes has none yet.
fn open(path: &Path) -> Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|error| CatalogError::io("opening an upload", error))
}
