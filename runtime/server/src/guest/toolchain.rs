//! What can compile Rust to WebAssembly on this machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The target of guests: a core module that imports nothing but the contract in `wit/`.
pub(super) const TARGET: &str = "wasm32-unknown-unknown";

/// Debian's compiler. Its package `rust-web-src` puts the standard library's source where this compiler finds it.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// Variables with which cargo, rustup and clippy would have the outer build decide about the inner one.
const OUTER_BUILD_VARIABLES: [&str; 12] = [
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS",
    "RUSTC",
    "RUSTC_BOOTSTRAP",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOCFLAGS",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

/// A way to compile guests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The active compiler has the target installed, as `rustup target add` does it.
    Installed,
    /// Debian's compiler, which compiles the standard library along, with the linkers of the active toolchain.
    Debian {
        /// Folders with `rust-lld` and `wasm-ld`, to stand first in `PATH`.
        linkers: Vec<PathBuf>,
    },
}

impl Toolchain {
    /// The way to compile the plugin in `dir`, whose `rust-toolchain.toml`, if there is one, has its say.
    ///
    /// # Errors
    /// There is none; the text says which command installs one.
    pub fn find(dir: &Path) -> Result<Toolchain> {
        let active = |what: &[&str]| ask(command("rustc", dir), what);
        let libraries = active(&["--print", "target-libdir", "--target", TARGET])
            .context("cannot run rustc; install Rust as https://rustup.rs says, then try again")?;
        if has_standard_library(Path::new(&libraries)) {
            return Ok(Toolchain::Installed);
        }
        let sysroot = PathBuf::from(active(&["--print", "sysroot"])?);
        let host = active(&["--print", "host-tuple"])?;
        if let Some(linkers) = linkers(&sysroot, &host)
            && debian_has_source(dir)
        {
            return Ok(Toolchain::Debian { linkers });
        }
        bail!(
            "the Rust toolchain in {} cannot compile for {TARGET}; install the target with\n    \
             rustup target add {TARGET}\n\
             or, on Debian without access to rustup's server, the compiler with its source by\n    \
             apt-get install --no-install-recommends rustc-web rust-web-src libstd-rust-web-dev",
            sysroot.display()
        )
    }

    /// Cargo in `dir`, set up so that this toolchain compiles for [`TARGET`].
    pub(super) fn cargo(&self, dir: &Path) -> Result<Command> {
        let mut cargo = command("cargo", dir);
        cargo.args(["build", "--release", "--target", TARGET]);
        if let Toolchain::Debian { linkers } = self {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let folders = linkers.iter().cloned().chain(std::env::split_paths(&path));
            let path = std::env::join_paths(folders).context("cannot put the linkers into PATH")?;
            cargo.arg("-Zbuild-std=std,panic_abort").env("PATH", path);
            // The flag above is for nightly compilers unless this is set.
            cargo.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
        }
        Ok(cargo)
    }
}

/// A program that runs in `dir` and that no outer build decides about.
fn command(program: &str, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir);
    for variable in OUTER_BUILD_VARIABLES {
        command.env_remove(variable);
    }
    command
}

/// The one line that a compiler answers.
fn ask(mut rustc: Command, what: &[&str]) -> Result<String> {
    let output = rustc.args(what).output().context("rustc does not start")?;
    if !output.status.success() {
        let problem = String::from_utf8_lossy(&output.stderr);
        bail!("rustc {} failed: {}", what.join(" "), problem.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn has_standard_library(libraries: &Path) -> bool {
    let Ok(files) = libraries.read_dir() else { return false };
    files.flatten().any(|file| {
        let name = file.file_name();
        name.to_string_lossy().starts_with("libstd-")
    })
}

/// The folders of rustup's toolchain with `rust-lld` and, under the name that compilers look for, `wasm-ld`.
fn linkers(sysroot: &Path, host: &str) -> Option<Vec<PathBuf>> {
    let tools = sysroot.join("lib/rustlib").join(host).join("bin");
    let aliases = tools.join("gcc-ld");
    aliases.join("wasm-ld").is_file().then(|| vec![tools, aliases])
}

fn debian_has_source(dir: &Path) -> bool {
    let Ok(sysroot) = ask(command(DEBIAN_RUSTC, dir), &["--print", "sysroot"]) else {
        return false;
    };
    Path::new(&sysroot).join("lib/rustlib/src/rust/library/std/Cargo.toml").is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standard_library_is_a_file_and_not_a_folder_name() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!has_standard_library(folder.path()));
        assert!(!has_standard_library(&folder.path().join("absent")));
        std::fs::write(folder.path().join("libstd-1234.rlib"), "").unwrap();
        assert!(has_standard_library(folder.path()));
    }

    #[test]
    fn an_outer_build_decides_nothing() {
        let cargo = Toolchain::Installed.cargo(Path::new(".")).unwrap();
        for variable in OUTER_BUILD_VARIABLES {
            let removed = cargo.get_envs().any(|(name, value)| name == variable && value.is_none());
            assert!(removed, "{variable}");
        }
    }

    #[test]
    fn debian_compiles_the_standard_library_with_the_linkers_first() {
        let toolchain = Toolchain::Debian { linkers: vec!["/one".into(), "/two".into()] };
        let cargo = toolchain.cargo(Path::new(".")).unwrap();
        let path = cargo.get_envs().find(|(name, _)| *name == "PATH").unwrap().1.unwrap();
        assert!(path.to_string_lossy().starts_with("/one:/two:"));
        assert!(cargo.get_args().any(|argument| argument == "-Zbuild-std=std,panic_abort"));
    }
}
