//! Reading a bundle.

use bytes::Bytes;
use innkeeper_catalog::Digest;
use innkeeper_predict::LimitOverrides;

use super::error::short;
use super::ustar::{Entries, Entry};
use super::{
    ASSETS_PREFIX, AssetRef, BlobRef, Bundle, BundleError, BundleLimits, COMPONENT_ENTRY, Device,
    FORMAT, MANIFEST_BYTES_MAX, MANIFEST_ENTRY, Manifest,
};

pub(super) fn read(bytes: &Bytes, limits: &BundleLimits) -> Result<Bundle, BundleError> {
    let mut entries = Entries::new(bytes);
    let manifest_bytes = expect(&mut entries, MANIFEST_ENTRY)?;
    check_size(MANIFEST_ENTRY, "manifest_bytes_max", MANIFEST_BYTES_MAX, manifest_bytes.len())?;
    let manifest = Manifest::parse(&manifest_bytes)?;
    check_limits(&manifest, limits)?;

    let component = expect(&mut entries, COMPONENT_ENTRY)?;
    check_part(COMPONENT_ENTRY, &manifest.component.digest, manifest.component.size, &component)?;

    let assets = read_assets(&mut entries, &manifest)?;
    Ok(Bundle { manifest, manifest_bytes, component, assets })
}

pub(super) fn bare(
    name: &str,
    component: Bytes,
    mut assets: Vec<(String, Bytes)>,
    limits: &BundleLimits,
) -> Result<Bundle, BundleError> {
    let size = component.len();
    check_size("the component", "component_bytes_max", limits.component_bytes_max, size)?;
    assets.sort_by(|a, b| a.0.cmp(&b.0));
    let asset = |(name, bytes): &(String, Bytes)| AssetRef {
        name: name.clone(),
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
    };
    let manifest = Manifest {
        innkeeper: FORMAT,
        name: name.to_owned(),
        version: None,
        description: String::new(),
        component: BlobRef { digest: Digest::of(&component), size: size as u64 },
        assets: assets.iter().map(asset).collect(),
        isolation: Manifest::default_isolation(),
        device: Device::Auto,
        limits: LimitOverrides::default(),
        batching: None,
        cache: None,
        sequences: None,
        instances: None,
        lineage: None,
    };
    let manifest_bytes: Bytes = manifest.to_text().into();
    // Names, numbers and sizes are held to what a manifest that was sent is held to.
    let manifest = Manifest::parse(&manifest_bytes)?;
    check_limits(&manifest, limits)?;
    let assets = assets.into_iter().map(|(_, bytes)| Some(bytes)).collect();
    Ok(Bundle { manifest, manifest_bytes, component, assets })
}

/// The data of the next entry, which must have this name.
fn expect(entries: &mut Entries<'_>, name: &'static str) -> Result<Bytes, BundleError> {
    let Some(entry) = entries.next()? else { return Err(BundleError::Missing { name }) };
    if entry.name == name {
        return Ok(entry.data);
    }
    if entry.name == MANIFEST_ENTRY {
        // It has been read before the component is wanted, so here it stands twice.
        return Err(BundleError::Duplicate { name: entry.name });
    }
    Err(BundleError::Order { wanted: format!("the entry {name:?}"), got: short(&entry.name) })
}

/// The rest of the entries: assets of the manifest, in its order, some or all left out.
fn read_assets(
    entries: &mut Entries<'_>,
    manifest: &Manifest,
) -> Result<Vec<Option<Bytes>>, BundleError> {
    let mut assets = vec![None; manifest.assets.len()];
    let mut next = 0;
    while let Some(Entry { name, data }) = entries.next()? {
        let place = place(manifest, &name)?;
        if assets[place].is_some() {
            return Err(BundleError::Duplicate { name });
        }
        if place < next {
            let wanted = format!("an asset after {:?}", manifest.assets[next - 1].name);
            return Err(BundleError::Order { wanted, got: short(&name) });
        }
        let asset = &manifest.assets[place];
        check_part(&name, &asset.digest, asset.size, &data)?;
        assets[place] = Some(data);
        next = place + 1;
    }
    Ok(assets)
}

/// Which asset of the manifest an entry is.
fn place(manifest: &Manifest, entry: &str) -> Result<usize, BundleError> {
    if [MANIFEST_ENTRY, COMPONENT_ENTRY].contains(&entry) {
        return Err(BundleError::Duplicate { name: entry.to_owned() });
    }
    let unknown = || BundleError::Unknown { name: short(entry) };
    let name = entry.strip_prefix(ASSETS_PREFIX).ok_or_else(unknown)?;
    let by_name = |asset: &AssetRef| asset.name.as_str().cmp(name);
    manifest.assets.binary_search_by(by_name).map_err(|_| unknown())
}

/// What the manifest promises must be within the limits, whether it is in this tar or not.
fn check_limits(manifest: &Manifest, limits: &BundleLimits) -> Result<(), BundleError> {
    let (max, got) = (limits.component_bytes_max, manifest.component.size);
    if got > max {
        let (what, limit) = (COMPONENT_ENTRY.to_owned(), "component_bytes_max");
        return Err(BundleError::TooLarge { what, limit, max, got });
    }
    for asset in &manifest.assets {
        let (max, got) = (limits.asset_bytes_max, asset.size);
        if got > max {
            let what = format!("{ASSETS_PREFIX}{}", asset.name);
            return Err(BundleError::TooLarge { what, limit: "upload_bytes_max", max, got });
        }
    }
    Ok(())
}

fn check_size(what: &str, limit: &'static str, max: u64, got: usize) -> Result<(), BundleError> {
    let got = got as u64;
    if got > max {
        return Err(BundleError::TooLarge { what: what.to_owned(), limit, max, got });
    }
    Ok(())
}

/// The size before the digest: it is the clearer message, and it is free.
fn check_part(what: &str, wanted: &Digest, size: u64, data: &[u8]) -> Result<(), BundleError> {
    let what = || short(what);
    let len = data.len() as u64;
    if len != size {
        return Err(BundleError::Size { what: what(), wanted: size, got: len });
    }
    let got = Digest::of(data);
    if got != *wanted {
        return Err(BundleError::Digest { what: what(), wanted: *wanted, got });
    }
    Ok(())
}
