//! `cargo xtask fuzz`: what comes from outside, made up by libFuzzer, from the inputs that are kept in `fuzz/corpus`.
//!
//! It builds as `cargo fuzz` does, but with the compiler of `rust-toolchain.toml`: see `fuzz/README.md`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};

use crate::run::{cargo, command, quietly, root, target};
use crate::tools;

/// How long a target runs where nothing is said.
pub(crate) const SECONDS: u64 = 60;

const WORKSPACE: &str = "fuzz";
/// What is watched: every crate whose code reads what comes from outside, and the targets themselves. The other crates
/// are compiled as plainly and fast as can be.
const WATCHED: [&str; 7] = [
    "innkeeper-deploy",
    "innkeeper-formats",
    "innkeeper-fuzz",
    "innkeeper-gateway",
    "innkeeper-graph",
    "innkeeper-kernels",
    "innkeeper-tensor",
];
/// Counters at every edge and the operands of every comparison, as libFuzzer wants them, and AddressSanitizer.
const FLAGS: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Zsanitizer=address",
    "--cfg=fuzzing",
];
/// Targets that run at the same time.
const AT_ONCE: usize = 2;
/// Bytes of an input that is made up.
const INPUT_BYTES_MAX: u32 = 4 << 10;
/// One input may take this long, and the whole process this much memory.
const INPUT_SECONDS_MAX: u32 = 20;
const MEMORY_MIB_MAX: u32 = 2 << 10;
/// Bytes of an input that is kept in the repository.
const KEPT_BYTES_MAX: u64 = 16 << 10;

/// What is wanted of the targets.
pub(crate) struct Wanted<'a> {
    /// One of them, else all.
    pub(crate) target: Option<&'a str>,
    /// How long each runs.
    pub(crate) seconds: u64,
    /// Whether what was found is kept in the repository.
    pub(crate) keep: bool,
}

/// Answers how many targets ran.
pub(crate) fn run(wanted: &Wanted<'_>) -> Result<u64> {
    let mut targets = targets()?;
    if let Some(name) = wanted.target {
        if !targets.iter().any(|target| target == name) {
            bail!("there is no fuzz target {name:?}; there are {}", targets.join(", "));
        }
        targets.retain(|target| target == name);
    }
    build()?;
    match together(&targets, |target| one(target, wanted)) {
        Some(error) => Err(error),
        None => Ok(targets.len() as u64),
    }
}

/// Does `work` for every target, some at the same time; answers the first error.
fn together(targets: &[String], work: impl Fn(&str) -> Result<()> + Sync) -> Option<anyhow::Error> {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = work(target)
                        && let Ok(mut failed) = failed.lock()
                    {
                        failed.get_or_insert(error);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_default()
}

/// The names of the targets, which are files.
fn targets() -> Result<Vec<String>> {
    let folder = root().join(WORKSPACE).join("fuzz_targets");
    let list =
        fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in list {
        let path = entry?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// Where everything lies that fuzzing makes.
fn folder() -> PathBuf {
    target().join("fuzz")
}

fn build() -> Result<()> {
    if !tools::works("c++", &["--version"]) {
        bail!(
            "there is no C++ compiler (c++), which libFuzzer needs; install one, on Debian by\n    apt-get install g++"
        );
    }
    let manifest = format!("{WORKSPACE}/Cargo.toml");
    // Not `--locked`: what a crate of the host has come to depend on is not in this lock file yet.
    let mut build = cargo(&["build", "--release", "--bins", "--manifest-path"]);
    build.args([&manifest, "-Zprofile-rustflags"]);
    for package in WATCHED {
        build.arg(format!("--config=profile.release.package.{package}.rustflags={FLAGS:?}"));
    }
    // Neither the sanitizer's flag nor flags for single crates are stable, but all that they need comes with the stable
    // compiler.
    build.env("RUSTC_BOOTSTRAP", "1").env("CARGO_TARGET_DIR", folder());
    quietly("building the fuzz targets", &mut build)?;
    Ok(())
}

fn program(target: &str) -> Command {
    let mut command = command(folder().join("release").join(target), &[]);
    command.env("RUST_BACKTRACE", "1");
    command
}

/// Makes a folder and what it lies in.
fn made(path: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(path)
}

/// Runs a target, says what it did, and keeps what it found if that is wanted.
fn one(target: &str, wanted: &Wanted<'_>) -> Result<()> {
    let found = made(folder().join("corpus").join(target))?;
    let kept = made(root().join(WORKSPACE).join("corpus").join(target))?;
    let seeds = made(folder().join("seeds").join(target))?;
    let artifacts = made(folder().join("artifacts").join(target))?;
    let mut fuzz = program(target);
    fuzz.args([&found, &kept, &seeds]);
    fuzz.arg(format!("-artifact_prefix={}/", artifacts.display()));
    fuzz.arg(format!("-max_total_time={}", wanted.seconds));
    fuzz.arg(format!("-max_len={INPUT_BYTES_MAX}"));
    fuzz.arg(format!("-timeout={INPUT_SECONDS_MAX}"));
    fuzz.arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"));
    fuzz.args(["-malloc_limit_mb=1024", "-print_final_stats=1", "-use_value_profile=0"]);
    let name = format!("fuzzing {target} for {} s", wanted.seconds);
    let text = quietly(&name, &mut fuzz).map_err(|error| told(target, &error))?;
    println!("   {target}: {}", summary(&text)?);
    if wanted.keep {
        keep(target, &found, &kept, &seeds)?;
    }
    Ok(())
}

/// What libFuzzer wrote, after the one line that matters.
fn told(target: &str, error: &anyhow::Error) -> anyhow::Error {
    let text = format!("{error:#}");
    let path = text.lines().find_map(|line| line.split("Test unit written to ").nth(1));
    match path {
        Some(path) => anyhow::anyhow!(
            "fuzzing {target} found an input that breaks a promise:\n    {path}\nrun it again with\n    cargo xtask fuzz {target} --input {path}\n\n{text}"
        ),
        None => anyhow::anyhow!("fuzzing {target}: {text}"),
    }
}

/// The numbers in libFuzzer's text: runs, edges that were reached, inputs that reach them.
fn summary(text: &str) -> Result<String> {
    let last = |word: &str| {
        let value = text.lines().rev().find_map(|line| line.split_once(word));
        let value = value.and_then(|(_, rest)| rest.split_whitespace().next());
        value.map(|value| value.split('/').next().unwrap_or(value).to_owned())
    };
    let runs = last("stat::number_of_executed_units:");
    let (edges, inputs) = (last(" cov: "), last(" corp: "));
    match (runs, edges, inputs) {
        (Some(runs), Some(edges), Some(inputs)) => {
            Ok(format!("{runs} runs, {edges} edges covered by {inputs} inputs"))
        }
        _ => bail!("libFuzzer did not say what it did:\n{text}"),
    }
}

/// Replaces the inputs in the repository by the fewest of all that reach as much.
fn keep(target: &str, found: &Path, kept: &Path, seeds: &Path) -> Result<()> {
    let fewest = folder().join("fewest").join(target);
    if fewest.exists() {
        fs::remove_dir_all(&fewest)?;
    }
    made(fewest.clone())?;
    let mut merge = program(target);
    merge.args(["-set_cover_merge=1", "-rss_limit_mb=0"]).arg(format!("-max_len={KEPT_BYTES_MAX}"));
    merge.arg(&fewest).args([kept, found, seeds]);
    quietly(&format!("choosing inputs of {target}"), &mut merge)?;
    fs::remove_dir_all(kept)?;
    made(kept.to_owned())?;
    let (mut files, mut bytes) = (0, 0);
    for entry in fs::read_dir(&fewest)? {
        let entry = entry?;
        let len = entry.metadata()?.len();
        if len <= KEPT_BYTES_MAX {
            fs::copy(entry.path(), kept.join(entry.file_name()))?;
            (files, bytes) = (files + 1, bytes + len);
        }
    }
    println!("   {target}: {files} inputs kept, {} KiB", bytes >> 10);
    Ok(())
}

/// Runs a target on one input, such as one that broke a promise.
pub(crate) fn again(target: &str, input: &Path) -> Result<()> {
    build()?;
    let mut program = program(target);
    let text = quietly(&format!("{target} on {}", input.display()), program.arg(input))?;
    println!("{text}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_did_is_read() {
        let text = "#2\tINITED cov: 9 ft: 9 corp: 1/1b exec/s: 0 rss: 30Mb\n\
                    #77\tDONE   cov: 123 ft: 400 corp: 45/2Kb lim: 9 exec/s: 38 rss: 31Mb\n\
                    stat::number_of_executed_units: 77\nstat::average_exec_per_sec:     38\n";
        assert_eq!(summary(text).unwrap(), "77 runs, 123 edges covered by 45 inputs");
        assert!(summary("").is_err());
    }

    #[test]
    fn the_input_that_broke_a_promise_is_named() {
        let text = "==1== ERROR\nartifact_prefix='a/'; Test unit written to a/crash-1\nBase64: ";
        let told = told("rest", &anyhow::anyhow!("{text}")).to_string();
        assert!(told.contains("cargo xtask fuzz rest --input a/crash-1\n"), "{told}");
    }

    #[test]
    fn every_target_has_inputs_that_are_kept() {
        for target in targets().unwrap() {
            let kept = root().join(WORKSPACE).join("corpus").join(&target);
            assert!(fs::read_dir(kept).is_ok_and(|mut list| list.next().is_some()), "{target}");
        }
    }
}
