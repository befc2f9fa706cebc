//! Writing a bundle from a plugin's folder.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use innkeeper_catalog::Digest;
use sha2::{Digest as _, Sha256};

use super::{
    ASSETS_PREFIX, AssetRef, BlobRef, BundleError, COMPONENT_ENTRY, FORMAT, MANIFEST_ENTRY,
    Manifest, PluginAsset, PluginToml, ustar,
};

/// Why a bundle was not written.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// `innkeeper.toml` does not read.
    #[error("innkeeper.toml does not read: {0}")]
    Toml(String),
    /// Two assets of one name.
    #[error("innkeeper.toml lists the asset {name:?} twice; give one of them another name")]
    AssetTwice {
        /// Which asset.
        name: String,
    },
    /// A path that is not inside the plugin's folder.
    #[error(
        "the asset path {path:?} does not stay inside the plugin's folder; wanted a relative path without \"..\""
    )]
    AssetPath {
        /// What came.
        path: String,
    },
    /// A file that cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that changed between being hashed and being written.
    #[error("{path} changed while it was packed; pack again", path = path.display())]
    Changed {
        /// Which file.
        path: PathBuf,
    },
    /// What makes no bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The bundle cannot be written.
    #[error("cannot write the bundle: {0}")]
    Write(#[source] io::Error),
}

/// A bundle that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// What is in it.
    pub manifest: Manifest,
    /// What identifies it: the digest of the manifest's text.
    pub digest: Digest,
    /// How many bytes were written.
    pub bytes: u64,
}

/// Writes the bundle of the plugin in `dir`, whose code was built as `component`, to `out`. The same files always give
/// the same bytes. Assets are read twice, once for their digests, and never held in memory.
///
/// # Errors
/// An asset that cannot be read or changes meanwhile, a plugin that breaks the rules for assets, and whatever `out`
/// answers.
pub fn pack(
    dir: &Path,
    plugin: &PluginToml,
    component: &[u8],
    out: &mut impl Write,
) -> Result<Packed, PackError> {
    plugin.check()?;
    let mut sources: Vec<&PluginAsset> = plugin.assets.iter().collect();
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    let manifest = describe(dir, plugin, component, &sources)?;
    let text = manifest.to_text();

    let mut bytes = write_entry(out, MANIFEST_ENTRY, &text)?;
    bytes += write_entry(out, COMPONENT_ENTRY, component)?;
    for (source, asset) in sources.iter().zip(&manifest.assets) {
        bytes += write_asset(out, &dir.join(&source.path), asset)?;
    }
    out.write_all(&ustar::END).and_then(|()| out.flush()).map_err(PackError::Write)?;
    bytes += ustar::END.len() as u64;
    Ok(Packed { manifest, digest: Digest::of(&text), bytes })
}

/// As [`pack`], into memory.
///
/// # Errors
/// As [`pack`].
pub fn pack_to_vec(
    dir: &Path,
    plugin: &PluginToml,
    component: &[u8],
) -> Result<Vec<u8>, PackError> {
    let mut out = Vec::new();
    pack(dir, plugin, component, &mut out)?;
    Ok(out)
}

fn describe(
    dir: &Path,
    plugin: &PluginToml,
    component: &[u8],
    sources: &[&PluginAsset],
) -> Result<Manifest, PackError> {
    let mut assets = Vec::with_capacity(sources.len());
    for source in sources {
        let path = dir.join(&source.path);
        let mut file = open(&path)?;
        let (digest, size) = copy(&mut file, &mut io::sink(), &path)?;
        assets.push(AssetRef { name: source.name.clone(), digest, size });
    }
    Ok(Manifest {
        innkeeper: FORMAT,
        name: plugin.name.clone(),
        version: plugin.version.clone(),
        description: plugin.description.clone(),
        component: BlobRef { digest: Digest::of(component), size: component.len() as u64 },
        assets,
        isolation: plugin.isolation,
        device: plugin.device,
        limits: plugin.limits.clone(),
        batching: plugin.batching.clone(),
        cache: plugin.cache.clone(),
        sequences: plugin.sequences.clone(),
        instances: plugin.instances.clone(),
        lineage: None,
    })
}

fn write_entry(out: &mut impl Write, name: &str, data: &[u8]) -> Result<u64, PackError> {
    let header = ustar::header(name, data.len() as u64);
    let padding = ustar::padding(data.len() as u64);
    let parts = [&header[..], data, &ustar::END[..padding]];
    parts.iter().try_for_each(|part| out.write_all(part)).map_err(PackError::Write)?;
    Ok(parts.iter().map(|part| part.len() as u64).sum())
}

fn write_asset(out: &mut impl Write, path: &Path, asset: &AssetRef) -> Result<u64, PackError> {
    let header = ustar::header(&format!("{ASSETS_PREFIX}{}", asset.name), asset.size);
    out.write_all(&header).map_err(PackError::Write)?;
    // Never more than the header says, whatever happens to the file.
    let (digest, size) = copy(&mut open(path)?.take(asset.size), out, path)?;
    if (digest, size) != (asset.digest, asset.size) {
        return Err(PackError::Changed { path: path.to_owned() });
    }
    let padding = ustar::padding(size);
    out.write_all(&ustar::END[..padding]).map_err(PackError::Write)?;
    Ok(header.len() as u64 + size + padding as u64)
}

fn open(path: &Path) -> Result<File, PackError> {
    File::open(path).map_err(|source| PackError::File { path: path.to_owned(), source })
}

/// Copies all of `from` and answers what went over.
fn copy(
    from: &mut impl Read,
    to: &mut impl Write,
    path: &Path,
) -> Result<(Digest, u64), PackError> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    let mut size = 0;
    loop {
        let got = match from.read(&mut buffer) {
            Ok(0) => return Ok((Digest::from_bytes(hash.finalize().into()), size)),
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(PackError::File { path: path.to_owned(), source }),
        };
        hash.update(&buffer[..got]);
        to.write_all(&buffer[..got]).map_err(PackError::Write)?;
        size += got as u64;
    }
}
