//! Compiled code on disk, under this host's seal.
//!
//! It is a cache: whatever is missing or broken in it is compiled again, so nothing here waits for the disk.

use std::fs::{self, DirEntry, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::SystemTime;

use innkeeper_catalog::Digest;
use innkeeper_sandbox::Seal;

const KEY_FILE: &str = "seal.key";
const KEY_BYTES: usize = 32;
const SUFFIX: &str = ".artefact";
const TEMPORARY_SUFFIX: &str = ".new";

/// A folder of sealed code.
#[derive(Debug)]
pub(crate) struct Artefacts {
    dir: PathBuf,
    fingerprint: String,
    bytes_max: u64,
    /// Bytes in the folder; the lock also lets one thread at a time make room.
    bytes: Mutex<u64>,
    seal: Seal,
}

impl Artefacts {
    /// Opens the folder, made if it is not there, and its key. Leftovers of a crash and of other engines go.
    pub(crate) fn open(dir: &Path, fingerprint: &str, bytes_max: u64) -> io::Result<Artefacts> {
        fs::create_dir_all(dir)?;
        let seal = Seal::new(secret(&dir.join(KEY_FILE))?);
        let artefacts = Artefacts {
            dir: dir.to_owned(),
            fingerprint: fingerprint.to_owned(),
            bytes_max,
            bytes: Mutex::new(0),
            seal,
        };
        artefacts.keep_if(|name| name.ends_with(&artefacts.suffix()))?;
        Ok(artefacts)
    }

    /// The seal that everything in the folder is under.
    pub(crate) fn seal(&self) -> &Seal {
        &self.seal
    }

    /// The sealed code made from this component, if it is here.
    pub(crate) fn load(&self, component: &Digest) -> Option<Vec<u8>> {
        fs::read(self.path(component)).ok()
    }

    /// Puts code under the seal and keeps it, so far as there is room.
    pub(crate) fn store(&self, component: &Digest, code: &[u8]) -> Vec<u8> {
        let sealed = self.seal.close(&self.fingerprint, component.as_bytes(), code);
        if let Err(error) = self.write(&self.path(component), &sealed) {
            tracing::warn!(%component, %error, "compiled code could not be kept; it will be compiled again");
        }
        sealed
    }

    /// Removes code that turned out to be broken.
    pub(crate) fn remove(&self, component: &Digest) {
        let path = self.path(component);
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let len = fs::metadata(&path).map_or(0, |file| file.len());
        if fs::remove_file(&path).is_ok() {
            *bytes = bytes.saturating_sub(len);
        }
    }

    /// Removes the code of every component for which `wanted` is false.
    pub(crate) fn retain(&self, wanted: impl Fn(&str) -> bool) -> io::Result<()> {
        let suffix = self.suffix();
        self.keep_if(|name| name.strip_suffix(&suffix).is_some_and(&wanted))
    }

    fn path(&self, component: &Digest) -> PathBuf {
        self.dir.join(format!("{}{}", component.hex(), self.suffix()))
    }

    fn suffix(&self) -> String {
        format!("-{}{SUFFIX}", self.fingerprint)
    }

    /// Removes the files whose name is not to be kept, and counts the others.
    fn keep_if(&self, kept: impl Fn(&str) -> bool) -> io::Result<()> {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        *bytes = 0;
        for file in fs::read_dir(&self.dir)? {
            let file = file?;
            let name = file.file_name();
            let Some(name) = name.to_str() else { continue };
            if !is_ours(name) {
                continue;
            }
            if kept(name) {
                *bytes += file.metadata()?.len();
            } else {
                fs::remove_file(file.path())?;
            }
        }
        Ok(())
    }

    fn write(&self, path: &Path, sealed: &[u8]) -> io::Result<()> {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let len = sealed.len() as u64;
        if len > self.bytes_max {
            return Err(io::Error::other(format!(
                "it has {len} bytes, over the limit artefact_bytes_max of {}",
                self.bytes_max
            )));
        }
        while *bytes + len > self.bytes_max {
            let freed = self.remove_oldest()?;
            *bytes = bytes.saturating_sub(freed);
        }
        // Under another name first: half of it must not be found under the right one.
        let temporary = path.with_extension(TEMPORARY_SUFFIX.trim_start_matches('.'));
        fs::write(&temporary, sealed)?;
        let replaced = fs::metadata(path).map_or(0, |file| file.len());
        fs::rename(&temporary, path)?;
        *bytes = (*bytes + len).saturating_sub(replaced);
        Ok(())
    }

    /// Removes the file that was written first, and answers its size.
    fn remove_oldest(&self) -> io::Result<u64> {
        let age = |file: &DirEntry| {
            let written = file.metadata().and_then(|file| file.modified());
            written.unwrap_or(SystemTime::UNIX_EPOCH)
        };
        let ours = |file: &DirEntry| file.file_name().to_str().is_some_and(is_ours);
        let files = fs::read_dir(&self.dir)?.filter_map(Result::ok).filter(ours);
        let oldest = files.min_by_key(age);
        let oldest =
            oldest.ok_or_else(|| io::Error::other("no compiled code is left to remove"))?;
        let len = oldest.metadata()?.len();
        fs::remove_file(oldest.path())?;
        Ok(len)
    }
}

fn is_ours(name: &str) -> bool {
    name.ends_with(SUFFIX) || name.ends_with(TEMPORARY_SUFFIX)
}

/// The key of this host, made at the first start and readable by its owner alone.
fn secret(path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    match fs::read(path) {
        Ok(key) => key.try_into().map_err(|key: Vec<u8>| {
            io::Error::other(format!(
                "{} has {} bytes, wanted {KEY_BYTES}; remove it, and compiled code is made anew",
                path.display(),
                key.len()
            ))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_secret(path),
        Err(error) => Err(error),
    }
}

fn make_secret(path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    // A crash must leave the whole key or none.
    let temporary = path.with_extension("key.new");
    let mut file: File = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(&key)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    Ok(key)
}
