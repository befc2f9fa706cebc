//! The command line, as a person or a script meets it.

mod calling;
mod errors;
mod plugins;
mod serving;
mod top;
mod traffic;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::harness::{Client, guest, root};

/// A folder to work in, and the server and key that the environment names.
pub(crate) struct Shell {
    folder: PathBuf,
    url: String,
    key: String,
}

/// What a command left behind.
#[derive(Debug)]
pub(crate) struct Said {
    /// For the texts of failures, which show all of this.
    #[allow(dead_code)]
    line: String,
    pub(crate) code: i32,
    out: String,
    pub(crate) err: String,
}

impl Shell {
    /// A shell without a server.
    pub(crate) fn new(folder: &Path) -> Shell {
        Shell { folder: folder.into(), url: String::new(), key: String::new() }
    }

    /// The same with the server and the key of a client.
    pub(crate) fn with(&self, client: &Client) -> Shell {
        Shell { folder: self.folder.clone(), url: client.url.clone(), key: client.key.clone() }
    }

    /// `innkeeper` with these words.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_innkeeper"));
        command.args(words).current_dir(&self.folder).stdin(Stdio::null());
        command.env_remove("INNKEEPER_URL").env_remove("INNKEEPER_KEY");
        for (name, value) in [("INNKEEPER_URL", &self.url), ("INNKEEPER_KEY", &self.key)] {
            if !value.is_empty() {
                command.env(name, value);
            }
        }
        command.env("INNKEEPER_GUEST_TARGET_DIR", root().join("target/guests"));
        command
    }

    /// Runs `innkeeper` with these words, which hold no spaces themselves.
    pub(crate) fn run(&self, line: &str) -> Said {
        self.run_words(&line.split(' ').collect::<Vec<_>>())
    }

    fn run_words(&self, words: &[&str]) -> Said {
        said(words, self.command(words).output().unwrap())
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.folder.join(name), bytes).unwrap();
    }

    /// A guest of the repository as a bundle in the folder.
    fn bundle(&self, plugin: &str, name: &str) {
        self.write(name, &guest(plugin).bundle);
    }
}

fn said(words: &[&str], output: Output) -> Said {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Said {
        line: format!("innkeeper {}", words.join(" ")),
        code: output.status.code().unwrap_or(-1),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}

impl Said {
    /// What it printed, if it worked.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:#?}");
        assert!(!self.err.contains("error"), "{self:#?}");
        self.out
    }

    /// What it printed as JSON, if it worked.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    /// It did not work: the exit code, and one error on standard error with all these texts in it.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, texts: &[&str]) {
        assert_eq!(self.code, code, "{self:#?}");
        assert_eq!(self.out, "", "{self:#?}");
        assert_eq!(self.err.matches("error:").count(), 1, "{self:#?}");
        assert!(!self.err.contains("panicked"), "{self:#?}");
        for text in texts {
            assert!(self.err.contains(text), "wanted {text:?} in {self:#?}");
        }
    }
}
