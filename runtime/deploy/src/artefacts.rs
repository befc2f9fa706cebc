//! Compiled code on disk, under this host's seal.
//!
//! It is a cache: whatever is missing or broken in it is compiled again, so nothing here waits for the disk.

use std::fs::{self, DirEntry, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
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
        let replaced = fs::metadata(path).map_or(0, |file| file.len());
        while (*bytes).saturating_sub(replaced) + len > self.bytes_max {
            let freed = self.remove_oldest(path)?;
            *bytes = bytes.saturating_sub(freed);
        }
        // Under another name first: half of it must not be found under the right one.
        let temporary = path.with_extension(TEMPORARY_SUFFIX.trim_start_matches('.'));
        let written = fs::write(&temporary, sealed).and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written?;
        *bytes = bytes.saturating_sub(replaced) + len;
        Ok(())
    }

    /// Removes the file that was written first, except `but`, and answers its size.
    fn remove_oldest(&self, but: &Path) -> io::Result<u64> {
        let age = |file: &DirEntry| {
            let written = file.metadata().and_then(|file| file.modified());
            written.unwrap_or(SystemTime::UNIX_EPOCH)
        };
        let ours =
            |file: &DirEntry| file.path() != but && file.file_name().to_str().is_some_and(is_ours);
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// What one artefact of these tests takes: 10 bytes of code and the seal's tag.
    const ONE: u64 = 42;

    fn component(i: u8) -> Digest {
        Digest::of(&[i])
    }

    fn present(artefacts: &Artefacts) -> Vec<u8> {
        (0..10).filter(|i| artefacts.load(&component(*i)).is_some()).collect()
    }

    #[test]
    fn the_key_is_made_once_and_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let sealed = Artefacts::open(dir.path(), "f", 1000).unwrap().store(&component(0), &[0; 10]);
        let again = Artefacts::open(dir.path(), "f", 1000).unwrap();
        assert_eq!(again.store(&component(0), &[0; 10]), sealed);
        let key = dir.path().join(KEY_FILE);
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&key, b"short").unwrap();
        let error = Artefacts::open(dir.path(), "f", 1000).unwrap_err().to_string();
        assert!(error.contains("has 5 bytes, wanted 32; remove it"), "{error}");
        fs::remove_file(&key).unwrap();
        let other = Artefacts::open(dir.path(), "f", 1000).unwrap();
        assert_ne!(other.store(&component(0), &[0; 10]), sealed);
    }

    #[test]
    fn the_oldest_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let artefacts = Artefacts::open(dir.path(), "f", 3 * ONE).unwrap();
        for i in 0..3 {
            artefacts.store(&component(i), &[i; 10]);
            let file = File::open(artefacts.path(&component(i))).unwrap();
            let age = std::time::Duration::from_secs(u64::from(i));
            file.set_modified(SystemTime::UNIX_EPOCH + age).unwrap();
        }
        artefacts.store(&component(2), &[2; 10]);
        assert_eq!(present(&artefacts), [0, 1, 2], "the same again takes no room");
        artefacts.remove(&component(1));
        artefacts.store(&component(3), &[3; 10]);
        assert_eq!(present(&artefacts), [0, 2, 3]);
        artefacts.store(&component(4), &[4; 10]);
        assert_eq!(present(&artefacts), [2, 3, 4]);
        artefacts.store(&component(5), &[5; 1000]);
        assert_eq!(present(&artefacts), [2, 3, 4], "what is too large is not kept");
    }

    #[test]
    fn leftovers_go() {
        let dir = tempfile::tempdir().unwrap();
        let old = Artefacts::open(dir.path(), "old", 1000).unwrap();
        old.store(&component(0), &[0; 10]);
        fs::write(dir.path().join("x.new"), b"half").unwrap();
        fs::write(dir.path().join("notes.txt"), b"not ours").unwrap();
        let artefacts = Artefacts::open(dir.path(), "f", 1000).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "the key, and what is not ours");
        for i in 0..3 {
            artefacts.store(&component(i), &[i; 10]);
        }
        let wanted = component(1).hex();
        artefacts.retain(|component| component == wanted).unwrap();
        assert_eq!(present(&artefacts), [1]);
        assert_eq!(*artefacts.bytes.lock().unwrap(), ONE);
    }
}
