//! Who may import whom, as ARCHITECTURE.md says it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::harness::root;

type Imports = BTreeMap<String, BTreeSet<String>>;

/// The table between the marks in ARCHITECTURE.md.
fn allowed() -> Imports {
    let page = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let table = page.split("<!-- imports -->").nth(1).unwrap();
    let table = table.split("<!-- /imports -->").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| innkeeper"));
    rows.map(|row| {
        let mut cells = row.trim_matches('|').split('|').map(str::trim);
        let (name, imports) = (cells.next().unwrap(), cells.next().unwrap_or(""));
        let imports = imports.split(", ").filter(|name| !name.is_empty());
        (name.to_owned(), imports.map(str::to_owned).collect())
    })
    .collect()
}

/// What the manifests say.
fn actual() -> Imports {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(root());
    let metadata: Value = serde_json::from_slice(&cargo.output().unwrap().stdout).unwrap();
    let ours = |name: &str| name == "innkeeper" || name.starts_with("innkeeper-");
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .map(|package| (package["name"].as_str().unwrap(), &package["dependencies"]))
        .filter(|(name, _)| ours(name) && *name != "innkeeper-benches")
        .map(|(name, dependencies)| {
            // Dependencies of the ordinary kind have none written down.
            let ordinary = dependencies.as_array().unwrap().iter().filter(|d| d["kind"].is_null());
            let imports = ordinary.map(|dependency| dependency["name"].as_str().unwrap());
            (name.to_owned(), imports.filter(|name| ours(name)).map(str::to_owned).collect())
        })
        .collect()
}

#[test]
fn crates_import_only_what_the_architecture_allows() {
    let allowed = allowed();
    for (name, imports) in actual() {
        let allowed = allowed.get(&name).unwrap_or_else(|| {
            panic!("{name} does not stand in ARCHITECTURE.md");
        });
        let extra: Vec<_> = imports.difference(allowed).collect();
        assert!(extra.is_empty(), "{name} imports {extra:?}, which ARCHITECTURE.md does not allow");
    }
}

#[test]
fn every_crate_says_what_it_must_not_know() {
    for name in allowed().keys().filter(|name| !name.contains("sdk")) {
        let folder = name.strip_prefix("innkeeper-").unwrap_or("server");
        let lib = root().join("runtime").join(folder).join("src/lib.rs");
        let text = std::fs::read_to_string(&lib).unwrap();
        let doc: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        let says = ["no ", "never", "not ", "only"].iter().any(|word| doc.contains(word));
        assert!(says, "{} does not open by saying what it must not know", lib.display());
    }
}

#[test]
fn unsafe_code_is_only_where_the_architecture_says() {
    let page = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut sources = Vec::new();
    for folder in ["runtime", "sdk", "xtask"] {
        rust_files(&root().join(folder), &mut sources);
    }
    assert!(sources.len() > 50, "the walk over the sources finds too little");
    for file in sources {
        let text = std::fs::read_to_string(&file).unwrap();
        let allows = text.contains("allow(unsafe_code)");
        let path = file.strip_prefix(root()).unwrap().display().to_string();
        assert!(
            !allows || page.contains(&path),
            "{path} allows unsafe code; say so in ARCHITECTURE.md"
        );
    }
}

#[test]
fn compiled_code_is_deserialized_in_one_place() {
    let mut sources = Vec::new();
    rust_files(&root().join("runtime"), &mut sources);
    let users: Vec<_> = sources
        .iter()
        .filter(|file| {
            let text = std::fs::read_to_string(file).unwrap();
            text.contains("Component::deserialize") || text.contains("Module::deserialize")
        })
        .map(|file| file.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(users, ["artefact.rs"]);
}

fn rust_files(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}
