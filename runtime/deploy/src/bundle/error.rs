//! What is wrong with a bundle.

use innkeeper_catalog::Digest;

use super::{ASSETS_MAX, DESCRIPTION_BYTES_MAX, FORMAT};

/// Why these bytes are no bundle. It is always the sender's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// A block that should be a tar header is none.
    #[error(
        "the block at byte {at} is no tar header ({problem}); a bundle is a plain tar that is not compressed, as `innkeeper build` writes it"
    )]
    NotTar {
        /// Where the block begins.
        at: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The bytes end too early.
    #[error("the bundle is cut off at byte {len} in {inside}; send it whole")]
    Truncated {
        /// How many bytes came.
        len: usize,
        /// What they end in.
        inside: String,
    },
    /// Something follows the end of the tar.
    #[error("byte {at}, after the end of the tar, is not zero; nothing may follow the tar")]
    Trailing {
        /// Where the first such byte is.
        at: usize,
    },
    /// A name that no entry may have.
    #[error(
        "the entry {name:?} {problem}; entries are manifest.json, component.wasm and assets/NAME"
    )]
    Name {
        /// What came.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An entry that is not a plain file.
    #[error("the entry {name:?} is {kind}; a bundle holds plain files only")]
    NotAFile {
        /// Which entry.
        name: String,
        /// What it is.
        kind: &'static str,
    },
    /// The same name twice.
    #[error("the entry {name:?} stands twice in the tar")]
    Duplicate {
        /// Which entry.
        name: String,
    },
    /// An entry that a bundle does not have.
    #[error("the entry {name:?} is not in the manifest; list it under \"assets\" or leave it out")]
    Unknown {
        /// Which entry.
        name: String,
    },
    /// An entry in the wrong place.
    #[error(
        "wanted {wanted}, got {got:?}; the order is manifest.json, component.wasm, then assets sorted by name"
    )]
    Order {
        /// What should stand here.
        wanted: String,
        /// What does.
        got: String,
    },
    /// An entry that must be there and is not.
    #[error("the bundle has no entry {name:?}")]
    Missing {
        /// Which entry.
        name: &'static str,
    },
    /// A part over a limit.
    #[error("{what} has {got} bytes, over the limit {limit} of {max}")]
    TooLarge {
        /// Which part.
        what: String,
        /// The limit's name.
        limit: &'static str,
        /// The limit's value.
        max: u64,
        /// What came.
        got: u64,
    },
    /// More assets than may be.
    #[error("the manifest lists {got} assets; at most {ASSETS_MAX} may be")]
    TooManyAssets {
        /// What came.
        got: usize,
    },
    /// An asset's name that breaks the rule.
    #[error(
        "{name:?} cannot name an asset; a name has 1 to 93 of the characters a-z A-Z 0-9 . _ - and begins with a letter, a digit or _"
    )]
    AssetName {
        /// What came.
        name: String,
    },
    /// The manifest lists its assets out of order or twice.
    #[error(
        "the manifest lists the asset {name:?} {problem}; assets are sorted by name, each once"
    )]
    AssetOrder {
        /// Which asset.
        name: String,
        /// What is wrong with its place.
        problem: &'static str,
    },
    /// The manifest does not read.
    #[error("manifest.json does not read: {0}")]
    Manifest(String),
    /// A description that is too long.
    #[error(
        "the description has {got} bytes; at most {DESCRIPTION_BYTES_MAX} may be, so write a shorter one"
    )]
    Description {
        /// How long it is.
        got: usize,
    },
    /// A manifest of another format.
    #[error(
        "manifest.json has the format \"innkeeper\": {got}; this host reads {FORMAT}, build the bundle again"
    )]
    Format {
        /// What came.
        got: u64,
    },
    /// The size of a part is not the one in the manifest.
    #[error("{what} has {got} bytes, the manifest says {wanted}; build the bundle again")]
    Size {
        /// Which part.
        what: String,
        /// What the manifest says.
        wanted: u64,
        /// What came.
        got: u64,
    },
    /// The digest of a part is not the one in the manifest.
    #[error("{what} has the digest {got}, the manifest says {wanted}; build the bundle again")]
    Digest {
        /// Which part.
        what: String,
        /// What the manifest says.
        wanted: Digest,
        /// What came.
        got: Digest,
    },
}

/// At most 64 characters of what somebody sent, for an error text.
pub(super) fn short(text: &str) -> String {
    text.chars().take(64).collect()
}
