//! Bundles taken apart, changed and put together again.

use bytes::Bytes;
use innkeeper_catalog::Digest;
use innkeeper_deploy::bundle::{Bundle, BundleLimits};

/// The bundle, read.
pub(crate) fn read(bundle: &[u8]) -> Bundle {
    Bundle::read(&Bytes::copy_from_slice(bundle), &BundleLimits::default()).unwrap()
}

/// The bundle with something changed, and its manifest written anew.
pub(crate) fn changed(bundle: &[u8], change: impl FnOnce(&mut Bundle)) -> Vec<u8> {
    let mut bundle = read(bundle);
    change(&mut bundle);
    bundle.manifest_bytes = bundle.manifest.to_text().into();
    bundle.to_bytes()
}

/// The same model in other bytes.
pub(crate) fn described(bundle: &[u8], description: &str) -> Vec<u8> {
    changed(bundle, |bundle| bundle.manifest.description = description.to_owned())
}

/// The bundle with other bytes in its only asset.
pub(crate) fn with_asset(bundle: &[u8], bytes: &[u8]) -> Vec<u8> {
    changed(bundle, |bundle| {
        let [asset] = &mut bundle.manifest.assets[..] else { panic!("it has one asset") };
        asset.digest = Digest::of(bytes);
        asset.size = bytes.len() as u64;
        bundle.assets = vec![Some(Bytes::copy_from_slice(bytes))];
    })
}

/// The bundle without the bytes of its assets.
pub(crate) fn without_assets(bundle: &[u8]) -> Vec<u8> {
    let mut bundle = read(bundle);
    bundle.assets.fill(None);
    bundle.to_bytes()
}

/// The bytes of its only asset.
pub(crate) fn asset(bundle: &[u8]) -> Bytes {
    read(bundle).assets[0].clone().unwrap()
}

/// The digits bundle with weights that say `label` to every picture.
pub(crate) fn always(digits: &[u8], label: usize) -> Vec<u8> {
    let mut weights = asset(digits).to_vec();
    let header_len = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&weights[8..8 + header_len]).unwrap();
    let bias = header["layer3.bias"]["data_offsets"][0].as_u64().unwrap() as usize;
    let at = 8 + header_len + bias + label * 4;
    weights[at..at + 4].copy_from_slice(&1e6f32.to_le_bytes());
    with_asset(digits, &weights)
}
