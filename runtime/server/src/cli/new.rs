//! `innkeeper new`: writes a plugin that builds. The template is the simplest plugin there is, `plugins/add-one`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::args::New;
use super::output;
use crate::failure::{Code, Failure};

const CODE: &str = include_str!("../../../../plugins/add-one/src/lib.rs");
const CARGO: &str = include_str!("../../../../plugins/add-one/Cargo.toml");
/// Where the SDK lies beside the source that this program was built from.
const SDK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../sdk");
const NAME_BYTES_MAX: usize = 64;

pub(super) fn run(args: &New) -> Result<()> {
    let name = &args.name;
    check_name(name)?;
    let sdk = sdk(args.sdk.as_deref())?;
    let dir = Path::new(name);
    if dir.exists() {
        let text = format!("{name} exists; choose another name, or remove it");
        return Err(Failure::new(Code::Conflict, text).into());
    }
    for (path, text) in files(name, &sdk) {
        let path = dir.join(path);
        let doing = || format!("cannot write {}", path.display());
        fs::create_dir_all(path.parent().unwrap_or(dir)).with_context(doing)?;
        fs::write(&path, text).with_context(doing)?;
    }
    output::line(&format!(
        "{name} is written. Next:\n  innkeeper test {name}\n  innkeeper build {name}\n  \
         innkeeper push {name}/{name}.bundle --alias stable"
    ));
    Ok(())
}

/// The name becomes a package's, a folder's and, changed a little, a type's.
fn check_name(name: &str) -> Result<()> {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let begins = name.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
    if begins && name.len() <= NAME_BYTES_MAX && name.bytes().all(good) {
        return Ok(());
    }
    let text = format!(
        "{name:?} is no name for a plugin; wanted a letter and then a-z, 0-9 and hyphens, at most {NAME_BYTES_MAX}"
    );
    Err(Failure::usage(text).into())
}

fn sdk(given: Option<&Path>) -> Result<PathBuf> {
    let path = given.unwrap_or(Path::new(SDK));
    if !path.join("Cargo.toml").is_file() {
        let text = format!(
            "innkeeper-sdk is not in {}; say where it lies by --sdk DIR: the folder sdk of Innkeeper's source",
            path.display()
        );
        return Err(Failure::usage(text).into());
    }
    path.canonicalize().with_context(|| format!("cannot read {}", path.display()))
}

fn files(name: &str, sdk: &Path) -> [(&'static str, String); 6] {
    let cargo = CARGO
        .replace("\"add-one\"", &format!("{name:?}"))
        .replace("\"../../sdk\"", &format!("{:?}", sdk.display().to_string()));
    let description = "Adds one: the smallest model there is";
    let about = format!(
        "name = {name:?}\nversion = \"1\"\ndescription = \"Says here what it does\"\n\
         # \"tenant\": an instance is used again for its tenant; \"request\": each request gets a fresh one.\n\
         isolation = \"tenant\"\n\n\
         # Files that the model reads, such as weights:\n\
         # [[assets]]\n# name = \"weights.safetensors\"\n# path = \"assets/weights.safetensors\"\n"
    );
    let row = |from: u32| (from..from + 16).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let tensor = |name: &str, row: String| {
        format!(
            "[\n    {{\"name\": \"{name}\", \"datatype\": \"FP32\", \"shape\": [1, 16],\n     \"data\": [{row}]}}\n  ]"
        )
    };
    [
        ("Cargo.toml", cargo.replace(description, "A model")),
        ("innkeeper.toml", about),
        ("src/lib.rs", CODE.replace("AddOne", &type_name(name))),
        ("samples/count.json", format!("{{\n  \"inputs\": {}\n}}\n", tensor("INPUT0", row(0)))),
        (
            "samples/count.expected.json",
            format!("{{\n  \"outputs\": {}\n}}\n", tensor("OUTPUT0", row(1))),
        ),
        (".gitignore", "/target\n*.bundle\n".into()),
    ]
}

/// `my-model` as `MyModel`.
fn type_name(name: &str) -> String {
    let mut text = String::new();
    for word in name.split('-') {
        let mut letters = word.chars();
        text.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        text.extend(letters);
    }
    // Names that mean something in the template already.
    match text.as_str() {
        "Model" | "Assets" | "Inputs" | "Outputs" | "Result" | "Signature" | "DType" | "Self" => {
            format!("{text}Plugin")
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_well() {
        let files = files("my-model", Path::new("/src/sdk"));
        let text = |name: &str| &files.iter().find(|(path, _)| *path == name).unwrap().1;
        let cargo: toml::Table = text("Cargo.toml").parse().unwrap();
        assert_eq!(cargo["package"]["name"].as_str(), Some("my-model"));
        assert_eq!(cargo["dependencies"]["innkeeper-sdk"]["path"].as_str(), Some("/src/sdk"));
        let about = innkeeper_deploy::bundle::PluginToml::parse(text("innkeeper.toml")).unwrap();
        assert_eq!(about.name, "my-model");
        assert!(text("src/lib.rs").contains("impl Model for MyModel"));
        for sample in ["samples/count.json", "samples/count.expected.json"] {
            serde_json::from_str::<serde_json::Value>(text(sample)).unwrap();
        }
        for (path, text) in &files {
            assert!(!text.contains("add-one") && !text.contains("AddOne"), "{path}");
        }
    }

    #[test]
    fn names_that_no_package_can_have() {
        for name in ["", "-a", "1st", "Big", "a b", "a/b", "..", &"a".repeat(65)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["a", "my-model-2"] {
            check_name(name).unwrap();
        }
        assert_eq!(type_name("model"), "ModelPlugin");
    }

    #[test]
    fn a_missing_sdk_is_named() {
        let error = sdk(Some(Path::new("/nowhere"))).unwrap_err().to_string();
        assert!(error.contains("--sdk DIR"), "{error}");
    }
}
