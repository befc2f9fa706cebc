//! The host under demonstration: a server in a process of its own, and the command line that speaks to it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::run::{LOOK_EVERY, cargo, command, quietly, target};
use crate::signals::stopped;
use crate::tools;

/// The program that [`build`] makes.
pub(crate) fn program() -> PathBuf {
    target().join("release/innkeeper")
}

/// Builds the host.
pub(crate) fn build() -> Result<()> {
    tools::require_c_compiler()?;
    // With the features that the whole workspace has: by itself the package would have others.
    let mut build = cargo(&["build", "--release", "--workspace", "--bin", "innkeeper"]);
    quietly("building the host (minutes the first time)", &mut build).map(drop)
}

/// Builds the plugin in `plugins/NAME` into a bundle, and says where it is.
pub(crate) fn bundle(name: &str) -> Result<PathBuf> {
    let folder = target().join("bundles");
    std::fs::create_dir_all(&folder)?;
    let out = folder.join(format!("{name}.bundle"));
    let mut build = command(program(), &["build"]);
    build.arg(Path::new("plugins").join(name)).arg("--out").arg(&out);
    quietly(&format!("building the plugin {name}"), &mut build)?;
    Ok(out)
}

/// A server on a free port of this machine, with a data folder that is removed at its end. It is ended by its pid
/// when it is dropped.
pub(crate) struct Server {
    child: Child,
    _stdout: BufReader<ChildStdout>,
    data: PathBuf,
    pub(crate) url: String,
    pub(crate) admin_key: String,
}

/// For how long a server may take to end before it is killed.
const END_WAIT: Duration = Duration::from_secs(10);

impl Server {
    pub(crate) fn start() -> Result<Server> {
        let data = std::env::temp_dir().join(format!("innkeeper-demo-{}", std::process::id()));
        std::fs::create_dir(&data).with_context(|| format!("cannot make {}", data.display()))?;
        let log = File::create(data.join("server.log"))?;
        let child = Command::new(program())
            .args(["serve", "--http", "127.0.0.1:0", "--data"])
            .arg(data.join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => {
                let _ = std::fs::remove_dir_all(&data);
                bail!("cannot run {}: {error}", program().display());
            }
        };
        let stdout = child.stdout.take().context("the server's standard output is a pipe")?;
        let mut server = Server {
            child,
            _stdout: BufReader::new(stdout),
            data,
            url: String::new(),
            admin_key: String::new(),
        };
        server.url = server.wait_until_it_listens()?;
        let key = std::fs::read_to_string(server.data.join("data/admin.key"))?;
        server.admin_key = key.trim().to_owned();
        Ok(server)
    }

    fn wait_until_it_listens(&mut self) -> Result<String> {
        let mut line = String::new();
        while self._stdout.read_line(&mut line)? > 0 {
            if let Some(url) = line.trim().strip_prefix("listening on ") {
                return Ok(url.to_owned());
            }
            line.clear();
        }
        let log = std::fs::read_to_string(self.data.join("server.log")).unwrap_or_default();
        bail!("the server did not start; it wrote:\n{log}")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// The command line with a key, for this server.
    pub(crate) fn cli(&self, key: &str, arguments: &[&str]) -> Result<String> {
        let output = self.try_cli(key, arguments)?;
        if !output.status.success() {
            let problem = String::from_utf8_lossy(&output.stderr).into_owned();
            bail!("innkeeper {} failed: {}", arguments.join(" "), problem.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// As [`Server::cli`], for a command that may fail.
    pub(crate) fn try_cli(&self, key: &str, arguments: &[&str]) -> Result<Output> {
        command(program(), arguments)
            .env("INNKEEPER_URL", &self.url)
            .env("INNKEEPER_KEY", key)
            .output()
            .context("cannot run innkeeper")
    }

    /// Waits until a signal comes, or the server ends by itself.
    pub(crate) fn wait(&mut self) -> Result<()> {
        while !stopped() {
            let ended = self.child.try_wait()?;
            std::thread::sleep(LOOK_EVERY);
            // Ctrl-C in a terminal reaches the server too, which may be the first to act on it.
            if let Some(status) = ended.filter(|_| !stopped()) {
                bail!("the server ended by itself with {status}");
            }
        }
        Ok(())
    }

    fn end(&mut self) {
        let pid = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status();
        if asked.is_ok_and(|status| status.success()) {
            let began = std::time::Instant::now();
            while began.elapsed() < END_WAIT {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    return;
                }
                std::thread::sleep(LOOK_EVERY);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.end();
        }
        let _ = std::fs::remove_dir_all(&self.data);
    }
}
