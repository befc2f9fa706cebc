//! Compiled kernels on disk, so that a process does not compile what another has.
//!
//! A file's name is the digest of what decides its content: the source, the options, the architecture and the compiler's
//! version. It begins with the digest of the rest, which is checked when it is read: a file that is damaged or cut off is
//! compiled anew. Files are written beside and renamed, so that no reader meets half of one. The folder must be the
//! host's own: whoever can write to it decides what runs on the device.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

/// The bytes of a digest.
const DIGEST_BYTES: usize = 32;
/// No kernel of ours is nearly as large.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// A folder of compiled kernels.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    folder: PathBuf,
}

impl Cache {
    pub(crate) fn new(folder: &Path) -> Cache {
        Cache { folder: folder.to_owned() }
    }

    /// The name under which the outcome of compiling is kept.
    pub(crate) fn key(source: &str, options: &[String], compiler: &str) -> String {
        let mut digest = Sha256::new();
        for part in [source, compiler].into_iter().chain(options.iter().map(String::as_str)) {
            // Lengths keep parts apart.
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part.as_bytes());
        }
        hex::encode(digest.finalize())
    }

    /// What was kept under `key`, whole and unchanged.
    pub(crate) fn get(&self, key: &str) -> Option<Vec<u8>> {
        let path = self.path(key);
        if fs::metadata(&path).ok()?.len() > FILE_BYTES_MAX {
            return None;
        }
        let mut bytes = fs::read(path).ok()?;
        let content = bytes.split_off(DIGEST_BYTES.min(bytes.len()));
        (Sha256::digest(&content)[..] == bytes[..]).then_some(content)
    }

    /// Keeps it. A cache that cannot be written to costs time and nothing else, so that errors are no one's.
    pub(crate) fn put(&self, key: &str, content: &[u8]) {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let beside = self.folder.join(format!(".{key}.{}.{number}", std::process::id()));
        let bytes = [&Sha256::digest(content)[..], content].concat();
        let written = fs::create_dir_all(&self.folder)
            .and_then(|()| fs::write(&beside, bytes))
            .and_then(|()| fs::rename(&beside, self.path(key)));
        if written.is_err() {
            let _ = fs::remove_file(beside);
        }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.cubin"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_comes_back_and_damage_does_not() {
        let folder = std::env::temp_dir().join(format!("innkeeper-cubins-{}", std::process::id()));
        let cache = Cache::new(&folder);
        let key = Cache::key("source", &["-DX".to_owned()], "nvrtc 13.0");
        assert_eq!(cache.get(&key), None);
        cache.put(&key, b"machine code");
        assert_eq!(cache.get(&key).unwrap(), b"machine code");
        let path = cache.path(&key);
        let whole = fs::read(&path).unwrap();
        for damaged in [&whole[..whole.len() - 1], &whole[..5], &[]] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(cache.get(&key), None);
        }
        let mut flipped = whole.clone();
        flipped[DIGEST_BYTES] ^= 1;
        fs::write(&path, flipped).unwrap();
        assert_eq!(cache.get(&key), None);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn everything_that_decides_is_in_the_key() {
        let of = |source: &str, options: &[&str], compiler: &str| {
            let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
            Cache::key(source, &options, compiler)
        };
        let key = of("a", &["b", "c"], "d");
        for other in [
            of("x", &["b", "c"], "d"),
            of("a", &["bc"], "d"),
            of("a", &["b", "c"], "e"),
            of("a", &["b"], "d"),
        ] {
            assert_ne!(key, other);
        }
    }
}
