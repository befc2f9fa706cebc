//! Runs cargo and finds what it made.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::{BuildOptions, Messages, Toolchain};

/// Compiles the library in `dir` and gives the core module.
pub(super) fn build(dir: &Path, toolchain: &Toolchain, options: &BuildOptions) -> Result<Vec<u8>> {
    let mut cargo = toolchain.cargo(dir)?;
    cargo.args(["--lib", "--message-format", "json-render-diagnostics"]);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", encoded_flags());
    if let Some(target_dir) = &options.target_dir {
        // Cargo runs in the plugin's folder; the caller means its own.
        cargo.env("CARGO_TARGET_DIR", std::path::absolute(target_dir)?);
    }
    let output = run(cargo, options.messages)?;
    if !output.status.success() {
        let messages = String::from_utf8_lossy(&output.stderr);
        bail!("cargo could not build {}:\n{}", dir.display(), messages.trim_end());
    }
    let path = module(&output.stdout, dir)?;
    fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// Flags for guests alone: SIMD, and no folder of the author's in the messages that end up in the component.
fn encoded_flags() -> OsString {
    let mut flags = OsString::from("-Ctarget-feature=+simd128");
    if let Some(home) = std::env::home_dir().filter(|home| home.parent().is_some()) {
        flags.push("\u{1f}--remap-path-prefix=");
        flags.push(home);
        flags.push("=~");
    }
    flags
}

fn run(mut cargo: Command, messages: Messages) -> Result<Output> {
    cargo.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(match messages {
        Messages::Show => Stdio::inherit(),
        Messages::Keep => Stdio::piped(),
    });
    let child =
        cargo.spawn().context("cannot run cargo; install Rust as https://rustup.rs says")?;
    child.wait_with_output().context("cannot read what cargo says")
}

/// One line of `--message-format json`, as far as it matters here.
#[derive(Deserialize)]
struct Message {
    reason: String,
    manifest_path: Option<PathBuf>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

/// The path of the module that the package in `dir` made, from cargo's messages.
fn module(messages: &[u8], dir: &Path) -> Result<PathBuf> {
    let manifest = dir.join("Cargo.toml").canonicalize()?;
    let is_ours = |path: &PathBuf| path.canonicalize().is_ok_and(|path| path == manifest);
    messages
        .split(|&byte| byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Message>(line).ok())
        .filter(|message| message.reason == "compiler-artifact")
        .filter(|message| message.manifest_path.as_ref().is_some_and(is_ours))
        .flat_map(|message| message.filenames)
        .find(|path| path.extension().is_some_and(|extension| extension == "wasm"))
        .with_context(|| {
            format!(
                "{} makes no module; its Cargo.toml needs\n    [lib]\n    crate-type = [\"cdylib\", \"rlib\"]",
                dir.display()
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_is_that_of_the_package_itself() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = dir.path().join("Cargo.toml");
        fs::write(&manifest, "").unwrap();
        let line = |manifest: &Path, file: &str| {
            serde_json::json!({
                "reason": "compiler-artifact",
                "manifest_path": manifest,
                "filenames": ["/t/lib.rlib", file],
            })
            .to_string()
        };
        let other = line(Path::new("/elsewhere/Cargo.toml"), "/t/other.wasm");
        let ours = line(&manifest, "/t/ours.wasm");
        let finished = r#"{"reason":"build-finished","success":true}"#;
        let messages = [other.as_str(), &ours, finished, ""].join("\n");
        assert_eq!(module(messages.as_bytes(), dir.path()).unwrap(), Path::new("/t/ours.wasm"));

        let error = module(other.as_bytes(), dir.path()).unwrap_err().to_string();
        assert!(error.contains("cdylib"), "{error}");
    }

    #[test]
    fn compiler_errors_are_readable() {
        let dir = tempfile::tempdir().unwrap();
        // The profile is that of the plugins, so that they share one standard library.
        let manifest = "[package]\nname = \"broken\"\nedition = \"2024\"\n[workspace]\n\
                        [lib]\npath = \"lib.rs\"\ncrate-type = [\"cdylib\"]\n\
                        [profile.release]\nopt-level = 3\nlto = true\ncodegen-units = 1\n\
                        panic = \"abort\"\nstrip = true\n";
        fs::write(dir.path().join("Cargo.toml"), manifest).unwrap();
        fs::write(dir.path().join("lib.rs"), "fn broken() -> u8 { \"text\" }").unwrap();
        let toolchain = Toolchain::find(dir.path()).unwrap();
        let error =
            build(dir.path(), &toolchain, &crate::guest::tests::options()).unwrap_err().to_string();
        assert!(error.contains("mismatched types"), "{error}");
    }
}
