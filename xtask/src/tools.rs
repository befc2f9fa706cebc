//! What must be on the machine, and how it gets there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// Whether a command runs and succeeds.
pub(crate) fn works(program: &str, arguments: &[&str]) -> bool {
    let status =
        Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// A C compiler links Rust programs and compiles SQLite.
pub(crate) fn require_c_compiler() -> Result<()> {
    if works("cc", &["--version"]) {
        return Ok(());
    }
    bail!(
        "there is no C compiler (cc); install one, on Debian by\n    apt-get install gcc libc6-dev"
    )
}

/// Python with its `venv`, for the tests with other people's clients.
pub(crate) fn require_python() -> Result<()> {
    if works("python3", &["-c", "import venv, ensurepip"]) {
        return Ok(());
    }
    bail!(
        "there is no python3 with venv; install it, on Debian by\n    apt-get install python3-venv"
    )
}

/// The folder under `folder` that holds a file of this name.
pub(crate) fn found(folder: &Path, name: &str) -> Result<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        if folder.join(name).is_file() {
            return Ok(folder);
        }
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        folders.extend(entries.map(|entry| entry.path()).filter(|path| path.is_dir()));
    }
    bail!("there is no {name} under {}", folder.display())
}
