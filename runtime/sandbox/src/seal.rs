//! A seal on compiled code.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const TAG_BYTES: usize = 32;

/// Marks compiled code as ours. Machine code is run as it is, so a byte that somebody changed would be run too; the
/// seal is an HMAC-SHA256 (RFC 2104) under a key of this host's, over the engine's fingerprint, the component's digest
/// and the code.
#[derive(Clone)]
pub struct Seal {
    key: [u8; 32],
}

impl Seal {
    /// A seal under this key, which must be random and stay on this host.
    pub fn new(key: [u8; 32]) -> Seal {
        Seal { key }
    }

    /// `code` under a seal that also names what it was compiled from and for.
    pub fn close(&self, fingerprint: &str, digest: &[u8; 32], code: &[u8]) -> Vec<u8> {
        let tag = self.mac(fingerprint, digest, code).finalize().into_bytes();
        [tag.as_slice(), code].concat()
    }

    /// The code under the seal, `None` when the seal is broken or is not for this engine and component.
    pub(crate) fn open<'a>(
        &self,
        fingerprint: &str,
        digest: &[u8; 32],
        sealed: &'a [u8],
    ) -> Option<&'a [u8]> {
        let (tag, code) = sealed.split_at_checked(TAG_BYTES)?;
        self.mac(fingerprint, digest, code).verify_slice(tag).ok()?;
        Some(code)
    }

    fn mac(&self, fingerprint: &str, digest: &[u8; 32], code: &[u8]) -> Hmac<Sha256> {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.key)
            .expect("HMAC takes a key of any length");
        mac.update(&(fingerprint.len() as u64).to_le_bytes());
        mac.update(fingerprint.as_bytes());
        mac.update(digest);
        mac.update(code);
        mac
    }
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_change_breaks_the_seal() {
        let seal = Seal::new([7; 32]);
        let sealed = seal.close("engine", &[1; 32], b"code");
        assert_eq!(seal.open("engine", &[1; 32], &sealed), Some(&b"code"[..]));
        assert_eq!(seal.open("engine2", &[1; 32], &sealed), None);
        assert_eq!(seal.open("engine", &[2; 32], &sealed), None);
        assert_eq!(Seal::new([8; 32]).open("engine", &[1; 32], &sealed), None);
        for i in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[i] ^= 1;
            assert_eq!(seal.open("engine", &[1; 32], &flipped), None, "byte {i}");
        }
        assert_eq!(seal.open("engine", &[1; 32], &sealed[..10]), None);
    }
}
