//! Bundles: tars, and the manifests in them.

use bytes::Bytes;
use innkeeper_deploy::bundle::{
    Bundle, BundleLimits, COMPONENT_ENTRY, MANIFEST_ENTRY, Manifest, PluginToml,
};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

use crate::source::Source;

const LIMITS: BundleLimits =
    BundleLimits { component_bytes_max: 1 << 12, asset_bytes_max: 1 << 12 };

/// The first byte says what the others are: a manifest, a plugin's `innkeeper.toml`, a tar, or a tar's entries.
pub fn check(bytes: &[u8]) {
    let mut from = Source::new(bytes);
    match from.byte() % 4 {
        0 => manifest(from.rest()),
        1 => drop(std::str::from_utf8(from.rest()).map(PluginToml::parse)),
        2 => whole(from.rest().to_vec()),
        _ => whole(entries(from)),
    }
}

fn manifest(text: &[u8]) {
    let Ok(manifest) = Manifest::parse(text) else { return };
    assert_eq!(Manifest::parse(&manifest.to_text()), Ok(manifest), "it reads back");
}

fn whole(tar: Vec<u8>) {
    let tar = Bytes::from(tar);
    let Ok(bundle) = Bundle::read(&tar, &LIMITS) else { return };
    assert_eq!(bundle.assets.len(), bundle.manifest.assets.len());
    let again = Bundle::read(&bundle.to_bytes().into(), &LIMITS).expect("it reads back");
    assert_eq!(again.manifest, bundle.manifest);
    assert_eq!((again.component, again.assets), (bundle.component, bundle.assets));
}

/// A tar with right sums: of its headers, and where the manifest says `$0` to `$9` of its parts.
fn entries(mut from: Source<'_>) -> Vec<u8> {
    let mut entries = Vec::new();
    for _ in 0..from.byte() % 8 {
        let kind = match from.rarely(16) {
            true => EntryType::new(from.byte()),
            false => EntryType::Regular,
        };
        let name = match from.byte() % 6 {
            0 => MANIFEST_ENTRY,
            1 => COMPONENT_ENTRY,
            2 => "assets/a",
            3 => "assets/b",
            4 => "assets/../a",
            _ => std::str::from_utf8(from.bytes(100)).unwrap_or("x"),
        };
        entries.push((kind, name, from.bytes(1 << 11)));
    }
    let sums: Vec<String> = entries.iter().map(|(_, _, data)| hex(&Sha256::digest(data))).collect();
    let mut tar = Vec::new();
    for (kind, name, data) in entries {
        let data = match name == MANIFEST_ENTRY {
            true => with_sums(data, &sums),
            false => data.to_vec(),
        };
        append(&mut tar, kind, name, &data);
    }
    let padding = if from.rarely(8) { usize::from(from.byte()) } else { 1024 };
    tar.resize(tar.len() + padding, 0);
    tar
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The text with `$i` replaced by the sum of entry i.
fn with_sums(text: &[u8], sums: &[String]) -> Vec<u8> {
    let mut parts = text.split(|&byte| byte == b'$');
    let mut out = parts.next().unwrap_or_default().to_vec();
    for part in parts {
        let entry = part.first().and_then(|digit| sums.get(usize::from(digit.wrapping_sub(b'0'))));
        match entry {
            Some(sum) => {
                out.extend_from_slice(sum.as_bytes());
                out.extend_from_slice(&part[1..]);
            }
            None => {
                out.push(b'$');
                out.extend_from_slice(part);
            }
        }
    }
    out
}

fn append(tar: &mut Vec<u8>, kind: EntryType, name: &str, data: &[u8]) {
    let mut header = Header::new_gnu();
    let name = &name.as_bytes()[..name.len().min(100)];
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_size(data.len() as u64);
    header.set_cksum();
    tar.extend_from_slice(header.as_bytes());
    tar.extend_from_slice(data);
    tar.resize(tar.len().next_multiple_of(512), 0);
}
