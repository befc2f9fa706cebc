//! Builds a plugin from its source: cargo compiles it to WebAssembly, and what comes out is wrapped as a component.
//!
//! Knows nothing of bundles, assets or servers: it ends with the component's bytes.

mod cargo;
pub mod onnx;
mod toolchain;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use wit_component::{ComponentEncoder, DecodedWasm};

pub use toolchain::Toolchain;

/// The file in a plugin's folder that says what goes into its bundle.
pub const MANIFEST_FILE: &str = "innkeeper.toml";
/// What a model exports, of whatever version.
const MODEL_INTERFACE: &str = "innkeeper:model/model@";
/// The environment variable with one target folder for all guests; see [`BuildOptions::target_dir`].
pub const TARGET_DIR_VARIABLE: &str = "INNKEEPER_GUEST_TARGET_DIR";

/// How a plugin is built.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// Where cargo keeps what it compiles. Plugins that share a folder share the standard library and the SDK in it.
    /// Without one it is `target` in the plugin's own folder.
    pub target_dir: Option<PathBuf>,
    /// What becomes of cargo's messages.
    pub messages: Messages,
}

/// What becomes of cargo's messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Messages {
    /// They go to standard error as they come, with progress where that is a terminal.
    Show,
    /// They are kept, and are part of the error if the build fails.
    #[default]
    Keep,
}

/// A plugin that was built.
#[derive(Clone, Debug)]
pub struct Built {
    /// The component.
    pub component: Vec<u8>,
    /// The plugin's `innkeeper.toml`. It is known to be a file, and has not been read.
    pub manifest: PathBuf,
}

impl BuildOptions {
    /// The target folder from the environment variable [`TARGET_DIR_VARIABLE`], if it is set and not empty.
    pub fn from_env() -> BuildOptions {
        let target_dir = std::env::var_os(TARGET_DIR_VARIABLE).filter(|dir| !dir.is_empty());
        BuildOptions { target_dir: target_dir.map(PathBuf::from), ..BuildOptions::default() }
    }
}

/// Builds the plugin in `dir`, which holds a `Cargo.toml` and an `innkeeper.toml`. The first build into a target
/// folder takes a minute or two where the standard library is compiled along, later ones seconds.
///
/// # Errors
/// A missing file, a missing toolchain (the text has the command that installs it), what the compiler says, a library
/// that exports no model.
pub fn build(dir: &Path, options: &BuildOptions) -> Result<Built> {
    let manifest = required_file(dir, MANIFEST_FILE)?;
    required_file(dir, "Cargo.toml")?;
    let toolchain = Toolchain::find(dir)?;
    let module = cargo::build(dir, &toolchain, options)?;
    let component = componentize(&module)?;
    Ok(Built { component, manifest })
}

fn required_file(dir: &Path, name: &str) -> Result<PathBuf> {
    let path = dir.join(name);
    if !path.is_file() {
        bail!(
            "{} is no plugin folder: it has no {name}; `innkeeper new NAME` writes one that builds",
            dir.display()
        );
    }
    Ok(path)
}

/// A core module with the types that wit-bindgen left in it, as a component.
fn componentize(module: &[u8]) -> Result<Vec<u8>> {
    let no_model = "the library is no model: it must export one with #[innkeeper_sdk::model] and may \
                    import nothing but what the SDK offers (no files, clock, network or JavaScript glue)";
    let component = ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| anyhow::anyhow!("{error:#}"))
        .context(no_model)?;
    // A module without any such types is a fine component too, with nothing in it.
    if !exports_model(&component)? {
        bail!(no_model);
    }
    Ok(component)
}

fn exports_model(component: &[u8]) -> Result<bool> {
    match wit_component::decode(component).map_err(|error| anyhow::anyhow!("{error:#}"))? {
        DecodedWasm::Component(resolve, world) => Ok(resolve.worlds[world]
            .exports
            .keys()
            .any(|export| resolve.name_world_key(export).starts_with(MODEL_INTERFACE))),
        DecodedWasm::WitPackage(..) => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
    }

    /// Options with a target folder that all tests share: compiling the standard library takes a minute.
    pub(super) fn options() -> BuildOptions {
        let shared = repository().join("target/guests");
        let target_dir = BuildOptions::from_env().target_dir.or(Some(shared));
        BuildOptions { target_dir, ..BuildOptions::default() }
    }

    #[test]
    fn add_one_becomes_a_component() {
        let built = build(&repository().join("plugins/add-one"), &options()).unwrap();
        // The magic number, then version 13 of layer 1: a component, not a core module.
        assert_eq!(built.component[..8], *b"\0asm\x0d\0\x01\0");
        assert!(built.manifest.ends_with("add-one/innkeeper.toml"));
    }

    #[test]
    fn a_folder_without_a_plugin_is_named() {
        let empty = tempfile::tempdir().unwrap();
        let error = build(empty.path(), &options()).unwrap_err().to_string();
        assert!(error.contains("it has no innkeeper.toml"), "{error}");
        assert!(error.contains("innkeeper new"), "{error}");
    }

    #[test]
    fn what_is_no_model_is_refused() {
        let module = [b"\0asm".as_slice(), &[1, 0, 0, 0]].concat();
        let error = componentize(&module).unwrap_err().to_string();
        assert!(error.contains("#[innkeeper_sdk::model]"), "{error}");
        assert!(componentize(b"nonsense").is_err());
    }
}
