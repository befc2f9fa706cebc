//! `cargo xtask models`: models for tests and benchmarks, exported from what people train with, and plugins' weights.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::Path;

use anyhow::{Context, Result};

use crate::python;
use crate::run::{command, quietly, root, target};

const SCRIPTS: &str = "tests/models";
/// Makes the weights of a plugin, which the repository does not have.
const MINILM: &str = "plugins/minilm";
/// Writes the tests of its operators that the package `onnx` carries.
const NODE_TESTS: &str = "runtime/graph/tests/node_tests.py";
/// A file that says of which scripts the models were made.
const STAMP: &str = "made-of";

/// Makes the files, unless these very scripts made those that are there.
pub(crate) fn run(again: bool) -> Result<()> {
    let folder = target().join("models");
    let scripts = scripts(&root().join(SCRIPTS))?;
    let stamp = folder.join(STAMP);
    let weights = root().join(MINILM).join("assets/weights.safetensors");
    let made = fs::read_to_string(&stamp).is_ok_and(|text| text == scripts);
    let node_tests = target().join("node-tests");
    if !again && made && weights.is_file() && node_tests.join("names.txt").is_file() {
        println!("ok {} is up to date", folder.display());
        return Ok(());
    }
    let requirements = Path::new(SCRIPTS).join("requirements.txt");
    let venv = python::environment("models-venv", &requirements, "PyTorch, scikit-learn, ONNX")?;
    let mut export = command(venv.join("bin/python"), &[]);
    export.arg(Path::new(SCRIPTS).join("export.py")).env("INNKEEPER_TEST_MODELS", &folder);
    quietly("exporting models", &mut export)?;
    let mut write = command(venv.join("bin/python"), &[NODE_TESTS]);
    quietly("writing the node tests of ONNX", write.arg(&node_tests))?;
    let mut prepare = command(venv.join("bin/python"), &[]);
    quietly("preparing plugins/minilm", prepare.arg(Path::new(MINILM).join("prepare.py")))?;
    fs::write(&stamp, scripts).with_context(|| format!("cannot write {}", stamp.display()))
}

/// A number that changes with any of the scripts.
fn scripts(folder: &Path) -> Result<String> {
    let list = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = list.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.is_file());
    paths.sort();
    let mut hasher = DefaultHasher::new();
    for path in paths {
        path.file_name().hash(&mut hasher);
        fs::read(&path)
            .with_context(|| format!("cannot read {}", path.display()))?
            .hash(&mut hasher);
    }
    Ok(format!("{:016x}\n", hasher.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scripts_are_told_apart() {
        let here = |name: &str| scripts(&root().join(name)).unwrap();
        assert_eq!(here("tests/models"), here("tests/models"));
        assert_ne!(here("tests/models"), here("tests/clients"));
    }
}
