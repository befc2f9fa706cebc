//! Python environments under the target folder.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::run::{command, quietly, root, target};
use crate::tools;

/// The environment `target/NAME` with what a requirements file asks for.
pub(crate) fn environment(name: &str, requirements: &Path, what: &str) -> Result<PathBuf> {
    if !root().join(requirements).is_file() {
        bail!("{} is missing", requirements.display());
    }
    tools::require_python()?;
    let venv = target().join(name);
    if !venv.join("bin/pip").is_file() {
        let mut create = command("python3", &["-m", "venv"]);
        quietly(&format!("making the Python environment {name}"), create.arg(&venv))?;
    }
    let mut install = command(venv.join("bin/pip"), &["install", "--quiet", "--requirement"]);
    quietly(&format!("installing {what}"), install.arg(requirements))?;
    Ok(venv)
}
