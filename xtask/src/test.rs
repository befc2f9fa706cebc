//! `cargo xtask test`: everything that CI runs, with one compilation of everything.

use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::{Result, anyhow, bail};

use crate::run::{cargo, command, quietly, shown, target};
use crate::{demo, host, models, python, tools};

/// The plugins that are shipped.
const PLUGINS: [&str; 7] = ["identity", "add-one", "digits", "mlp", "linear", "tiny-gpt", "minilm"];
/// The tests with other people's clients.
const CLIENTS: &str = "tests/clients";

/// A step: its name, and what it does. It answers with the tests that it ran.
type Action = (&'static str, fn() -> Result<Tests>);

const STEPS: [Action; 11] = [
    ("format", format),
    ("lints", lints),
    ("documentation", documentation),
    ("dependencies", dependencies),
    ("host", build_host),
    ("models", exports),
    ("plugins", plugins),
    ("demo", show),
    ("clients", clients),
    ("tests", tests),
    ("cuda", cuda),
];

/// How many tests passed, failed and were left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tests {
    passed: u64,
    failed: u64,
    ignored: u64,
}

pub(crate) fn run(only: Option<&str>) -> Result<()> {
    tools::require_c_compiler()?;
    let chosen = |step: &&Action| only.is_none_or(|text| step.0.contains(text));
    let steps: Vec<&Action> = STEPS.iter().filter(chosen).collect();
    if steps.is_empty() {
        let names: Vec<&str> = STEPS.iter().map(|step| step.0).collect();
        bail!("there is no such step; there are {}", names.join(", "));
    }
    // Downloading waits for the network while the compiler wants the processors.
    let mut prepared = only.is_none().then(|| thread::spawn(prepare));
    let outcome = in_turn(&steps, &mut prepared);
    // Nothing of it is left running.
    let rest = prepared.map_or(Ok(()), joined);
    let sum = outcome?;
    rest?;
    if sum.ignored > 0 {
        bail!("{} tests are ignored; a test runs, or it is not there", sum.ignored);
    }
    println!("\n{} passed, {} failed", sum.passed, sum.failed);
    Ok(())
}

fn in_turn(steps: &[&Action], prepared: &mut Option<JoinHandle<Result<()>>>) -> Result<Tests> {
    let mut sum = Tests::default();
    for (i, (name, action)) in steps.iter().enumerate() {
        println!("\n[{}/{}] {name}", i + 1, steps.len());
        if wants_python(name) {
            prepared.take().map_or(Ok(()), joined)?;
        }
        let began = Instant::now();
        let tests = action()?;
        println!("{name} took {} s", began.elapsed().as_secs());
        sum = added(sum, tests);
    }
    Ok(sum)
}

fn joined(thread: JoinHandle<Result<()>>) -> Result<()> {
    thread.join().map_err(|_| anyhow!("preparing Python's environments broke down"))?
}

/// What the steps from `models` on want from Python, and make sure of again.
fn prepare() -> Result<()> {
    exports()?;
    clients()?;
    nvrtc().map(drop)
}

fn wants_python(step: &str) -> bool {
    !["format", "lints", "documentation", "dependencies", "host"].contains(&step)
}

fn format() -> Result<Tests> {
    quietly("cargo fmt --check", &mut cargo(&["fmt", "--all", "--check"]))?;
    let fuzz = ["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"];
    quietly("cargo fmt --check in fuzz", &mut cargo(&fuzz))?;
    for plugin in PLUGINS {
        let manifest = format!("plugins/{plugin}/Cargo.toml");
        let mut check = cargo(&["fmt", "--manifest-path", &manifest, "--check"]);
        quietly(&format!("cargo fmt --check in plugins/{plugin}"), &mut check)?;
    }
    Ok(Tests::default())
}

fn lints() -> Result<Tests> {
    let arguments =
        ["clippy", "--release", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    quietly("clippy on everything", &mut cargo(&arguments))?;
    Ok(Tests::default())
}

fn documentation() -> Result<Tests> {
    let mut doc = cargo(&["doc", "--release", "--workspace", "--no-deps", "--locked"]);
    quietly("cargo doc", doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    Ok(Tests::default())
}

/// Licences, sources and bans. Advisories want a database from the network; see `deny.toml`.
fn dependencies() -> Result<Tests> {
    if !tools::works("cargo", &["deny", "--version"]) {
        if std::env::var_os("CI").is_some_and(|ci| ci == "true") {
            bail!("cargo-deny is missing; install it with\n    cargo install cargo-deny --locked");
        }
        println!(
            "SKIPPED: cargo-deny is missing, so that licences and sources are not checked; install it with\n    cargo install cargo-deny --locked"
        );
        return Ok(Tests::default());
    }
    let mut deny = cargo(&["deny", "--offline", "check", "licenses", "bans", "sources"]);
    quietly("cargo deny", &mut deny)?;
    Ok(Tests::default())
}

/// The host is built as the tests want it: built by itself it would have other features, and much below it be compiled
/// twice.
fn build_host() -> Result<Tests> {
    let mut build = cargo(&["test", "--release", "--workspace", "--locked", "--no-run"]);
    quietly("building everything, the host among it", &mut build)?;
    Ok(Tests::default())
}

/// Each plugin's own tests on this machine, then the plugin in the sandbox on its samples.
fn plugins() -> Result<Tests> {
    let mut sum = Tests::default();
    for plugin in PLUGINS {
        let manifest = format!("plugins/{plugin}/Cargo.toml");
        let mut test = cargo(&["test", "--manifest-path", &manifest, "--locked"]);
        test.env("CARGO_TARGET_DIR", target().join("plugins"));
        let text = quietly(&format!("native tests of plugins/{plugin}"), &mut test)?;
        sum = added(sum, counted(&text));

        let mut sandboxed = command(host::program(), &["test"]);
        sandboxed.arg(format!("plugins/{plugin}"));
        let text = quietly(&format!("innkeeper test plugins/{plugin}"), &mut sandboxed)?;
        sum = added(sum, sample_count(&text));
    }
    Ok(sum)
}

fn show() -> Result<Tests> {
    build_host()?;
    demo::run(true)?;
    Ok(Tests::default())
}

/// Prepares Python for the tests with other people's clients, which run with the others.
fn clients() -> Result<Tests> {
    let requirements = Path::new(CLIENTS).join("requirements.txt");
    python::environment("venv", &requirements, "tritonclient and KServe's client")?;
    Ok(Tests::default())
}

/// Models and goldens, for the tests of the graph executor and of plugins.
fn exports() -> Result<Tests> {
    models::run(false)?;
    Ok(Tests::default())
}

/// Every test of the workspace, the integration tests among them; what fails is shown at the end.
fn tests() -> Result<Tests> {
    let mut test = cargo(&["test", "--release", "--workspace", "--locked", "--no-fail-fast"]);
    test.env("INNKEEPER_TEST_VENV", target().join("venv"));
    test.env("INNKEEPER_TEST_MODELS", target().join("models"));
    test.env("INNKEEPER_NODE_TESTS_FOLDER", target().join("node-tests"));
    let (succeeded, text) = shown(&mut test)?;
    let tests = counted(&text);
    if !succeeded || tests.failed > 0 {
        bail!("{} tests passed, {} failed; they are named above", tests.passed, tests.failed);
    }
    if tests.passed == 0 {
        bail!("no test ran");
    }
    Ok(tests)
}

/// The CUDA backend's tests, which need no GPU: every kernel source through NVRTC, which PyPI has, and every operation on a
/// device that is emulated.
fn cuda() -> Result<Tests> {
    let venv = nvrtc()?;
    let library = tools::found(&venv.join("lib"), "libnvrtc.so.13")?;
    let arguments = ["test", "--release", "-p", "innkeeper-kernels", "--features", "cuda"];
    let mut test = cargo(&arguments);
    test.args(["--locked", "--lib", "--test", "it", "cuda"]);
    test.env("INNKEEPER_REQUIRE_NVRTC", "1").env("LD_LIBRARY_PATH", library);
    let text = quietly("tests of the CUDA backend", &mut test)?;
    Ok(counted(&text))
}

fn nvrtc() -> Result<PathBuf> {
    python::environment("nvrtc", Path::new("runtime/kernels/tests/nvrtc.txt"), "NVRTC")
}

fn added(a: Tests, b: Tests) -> Tests {
    Tests {
        passed: a.passed + b.passed,
        failed: a.failed + b.failed,
        ignored: a.ignored + b.ignored,
    }
}

/// The sum of all lines like `test result: ok. 3 passed; 0 failed; 0 ignored; ...`.
fn counted(text: &str) -> Tests {
    let results = text.lines().filter_map(|line| line.trim().strip_prefix("test result: "));
    results.fold(Tests::default(), |sum, line| {
        let number = |word: &str| {
            let part = line.split(['.', ';']).find_map(|part| part.trim().strip_suffix(word));
            part.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
        };
        let (passed, failed, ignored) = (number("passed"), number("failed"), number("ignored"));
        added(sum, Tests { passed, failed, ignored })
    })
}

/// The last line of `innkeeper test`: `2 passed, 0 failed`.
fn sample_count(text: &str) -> Tests {
    let line = text.lines().last().unwrap_or_default().replace(',', ";");
    counted(&format!("test result: {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up() {
        let text = "running 2 tests\ntest result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 \
                    filtered out; finished in 0.00s\n\ntest result: FAILED. 1 passed; 3 failed; 0 ignored\n";
        assert_eq!(counted(text), Tests { passed: 3, failed: 3, ignored: 1 });
        let samples = Tests { passed: 4, failed: 1, ignored: 0 };
        assert_eq!(sample_count("SAMPLE  RESULT\n4 passed, 1 failed\n"), samples);
    }
}
