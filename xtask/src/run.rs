//! Steps: other programs, run with something to look at meanwhile.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::signals::stopped;

/// Lines of a failed program that are shown.
const LINES_SHOWN: usize = 200;
/// How often a line says that a long step still runs, where there is no terminal.
const ALIVE_EVERY: Duration = Duration::from_secs(60);
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The repository.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Where programs are built.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// A program to run in the repository.
pub(crate) fn command(program: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root()).stdin(Stdio::null());
    // Plugins share one target folder, so that the standard library and the SDK are compiled for them once.
    command.env("INNKEEPER_GUEST_TARGET_DIR", target().join("guests"));
    command
}

/// Cargo, the same that runs this.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), arguments)
}

/// Something that takes a while, with its name and the time it takes.
pub(crate) struct Step {
    name: String,
    began: Instant,
    spinner: Option<ProgressBar>,
}

impl Step {
    pub(crate) fn begin(name: &str) -> Step {
        let spinner = std::io::stdout().is_terminal().then(|| {
            let spinner = ProgressBar::new_spinner().with_message(name.to_owned());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
                spinner.set_style(style);
            }
            spinner.enable_steady_tick(Duration::from_millis(100));
            spinner
        });
        if spinner.is_none() {
            println!(".. {name}");
        }
        Step { name: name.to_owned(), began: Instant::now(), spinner }
    }

    pub(crate) fn end(self, word: &str) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
        println!("{word} {} ({:.1} s)", self.name, self.began.elapsed().as_secs_f64());
    }
}

/// Runs a program to its end and gives its standard output and error, in the order in which they came. What it writes
/// is shown when it fails.
pub(crate) fn quietly(name: &str, command: &mut Command) -> Result<String> {
    let step = Step::begin(name);
    match output(command, &step) {
        Ok(text) => {
            step.end("ok");
            Ok(text)
        }
        Err(error) => {
            step.end("FAILED");
            Err(error)
        }
    }
}

fn output(command: &mut Command, step: &Step) -> Result<String> {
    let line = line(command);
    // A file and not a pipe: nobody has to read it while the program runs.
    let mut file = scratch()?;
    let mut child = command
        .stdout(Stdio::from(file.try_clone()?))
        .stderr(Stdio::from(file.try_clone()?))
        .spawn()
        .with_context(|| format!("cannot run {line}"))?;
    let mut alive = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if stopped() {
            let _ = child.kill();
            let _ = child.wait();
            bail!("stopped by a signal");
        }
        if step.spinner.is_none() && alive.elapsed() > ALIVE_EVERY {
            alive = Instant::now();
            println!("   {} still runs after {} s", step.name, step.began.elapsed().as_secs());
        }
        std::thread::sleep(LOOK_EVERY);
    };
    let mut text = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    if status.success() {
        return Ok(text);
    }
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
    bail!("{line} ended with {status}; it wrote:\n{}", last.join("\n"));
}

/// Runs a program to its end, shows what it writes as it comes, and gives its standard output and whether it succeeded.
pub(crate) fn shown(command: &mut Command) -> Result<(bool, String)> {
    let line = line(command);
    println!(".. {line}");
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot run {line}"))?;
    let mut text = String::new();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            println!("{line}");
            text.push_str(&line);
            text.push('\n');
        }
    }
    Ok((child.wait()?.success(), text))
}

/// A file without a name, gone with its last handle.
fn scratch() -> Result<File> {
    // Several may be made at the same time.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("innkeeper-xtask-{}-{count}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let mut options = File::options();
    let file = options.read(true).write(true).create(true).truncate(true).open(&path);
    let file = file.with_context(|| format!("cannot write {}", path.display()))?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// The command as one would type it.
fn line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let mut line = program.to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_kept_and_shown_when_it_fails() {
        let text = quietly("echo", &mut command("sh", &["-c", "echo out; echo err >&2"])).unwrap();
        assert_eq!(text, "out\nerr\n");
        let failed = quietly("false", &mut command("sh", &["-c", "echo why; exit 3"]));
        let error = failed.unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("why"), "{error}");
    }
}
