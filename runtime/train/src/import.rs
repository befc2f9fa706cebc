//! Files of rows are read in a process of its own: they come from outside, and what breaks on them, or takes memory
//! without end, then breaks nothing else.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use innkeeper_formats::dataset::{self, DatasetError};
use innkeeper_sandbox::confine;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::TrainError;
use crate::data::{DatasetOptions, import_options};

/// Bytes of what the process says went wrong.
const TEXT_BYTES_MAX: u64 = 64 << 10;
/// How it ends when the file is refused, and when the system failed it.
const EXIT_REFUSED: i32 = 3;
const EXIT_IO: i32 = 4;

/// Reads files of rows, each in a process of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Importer {
    /// The command that ends in [`import_worker`].
    pub command: Vec<OsString>,
    /// Milliseconds by the clock on the wall that one file may take.
    pub import_ms_max: u64,
    /// Bytes of address space of one process.
    pub import_memory_bytes_max: u64,
    /// Processes that may run at once; files beyond wait.
    pub imports_max: usize,
}

impl Importer {
    /// Converts `source` to the host's own layout, of at most `bytes_max`, and writes it to `out`.
    ///
    /// # Errors
    /// [`TrainError::Data`] with what is wrong where, [`TrainError::Import`] for a file that takes more than it may.
    pub(crate) async fn import(
        &self,
        source: File,
        options: &DatasetOptions,
        bytes_max: u64,
        out: &File,
    ) -> Result<(), TrainError> {
        let failed = |error: std::io::Error| TrainError::io("starting a process for data", &error);
        let [program, arguments @ ..] = &self.command[..] else {
            return Err(TrainError::Host("no command that reads data is set".into()));
        };
        let options =
            serde_json::to_string(options).map_err(|e| TrainError::Host(e.to_string()))?;
        let mut child = Command::new(program)
            .args(arguments)
            .arg(options)
            .arg(bytes_max.to_string())
            .arg(self.import_memory_bytes_max.to_string())
            .arg(self.import_ms_max.div_ceil(1000).to_string())
            .env_clear()
            .stdin(Stdio::from(source))
            .stdout(Stdio::from(out.try_clone().map_err(failed)?))
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let says = child.stderr.take();
        let ended = async {
            let mut text = String::new();
            if let Some(says) = says {
                // What is no text is not from our own worker; how it ended tells.
                let _ = says.take(TEXT_BYTES_MAX).read_to_string(&mut text).await;
            }
            Ok((child.wait().await.map_err(failed)?, text))
        };
        let time = Duration::from_millis(self.import_ms_max);
        let (status, text) = tokio::time::timeout(time, ended).await.unwrap_or_else(|_| {
            let max = self.import_ms_max;
            Err(TrainError::Import(format!("took longer than import_ms_max of {max}")))
        })?;
        self.outcome(status, text)
    }

    fn outcome(&self, status: ExitStatus, text: String) -> Result<(), TrainError> {
        match status.code() {
            Some(0) => Ok(()),
            Some(EXIT_REFUSED) => Err(TrainError::Data(DatasetError::Malformed(text))),
            Some(EXIT_IO) => {
                let number = text.trim().parse().unwrap_or_default();
                let error = std::io::Error::from_raw_os_error(number);
                Err(TrainError::io("reading and writing data", &error))
            }
            _ => Err(TrainError::Import(format!(
                "ended its process ({status}); most likely it met import_memory_bytes_max of {}, or is malformed",
                self.import_memory_bytes_max
            ))),
        }
    }
}

/// The process that reads a file of rows: options and limits are its last four arguments, the file is its standard input,
/// and what becomes of it its standard output. What is wrong it says on standard error.
pub fn import_worker() -> ExitCode {
    // The only text on standard error is the one below.
    std::panic::set_hook(Box::new(|_| {}));
    let done = std::panic::catch_unwind(work).unwrap_or_else(|_| {
        Err(DatasetError::Malformed("the file is malformed: what reads it broke on it".into()))
    });
    let (code, text) = match done {
        Ok(()) => return ExitCode::SUCCESS,
        Err(DatasetError::Io { source, .. }) if source.raw_os_error().is_some() => {
            (EXIT_IO, source.raw_os_error().unwrap_or_default().to_string())
        }
        Err(error) => (EXIT_REFUSED, error.to_string()),
    };
    let _ = std::io::stderr().write_all(text.as_bytes());
    ExitCode::from(code as u8)
}

fn work() -> Result<(), DatasetError> {
    let malformed = |why: String| DatasetError::Malformed(why);
    let arguments: Vec<String> = std::env::args().collect();
    let [.., options, bytes_max, memory, seconds] = &arguments[..] else {
        return Err(malformed("wanted: OPTIONS BYTES_MAX MEMORY_BYTES SECONDS".into()));
    };
    let number = |text: &String| text.parse::<u64>().map_err(|error| malformed(error.to_string()));
    // Before a single byte of the file is read.
    confine(number(memory)?, number(seconds)?.saturating_mul(4)).map_err(malformed)?;
    let options: DatasetOptions =
        serde_json::from_str(options).map_err(|error| malformed(error.to_string()))?;
    let import = import_options(&options, number(bytes_max)?)
        .map_err(|error| malformed(error.to_string()))?;
    let file = |fd: std::io::Result<std::os::fd::OwnedFd>| match fd {
        Ok(fd) => Ok(File::from(fd)),
        Err(source) => Err(DatasetError::Io { doing: "opening data", source }),
    };
    let mut source = file(std::io::stdin().as_fd().try_clone_to_owned())?;
    let mut out = file(std::io::stdout().as_fd().try_clone_to_owned())?;
    source
        .seek(SeekFrom::Start(0))
        .map_err(|source| DatasetError::Io { doing: "reading data", source })?;
    dataset::import(source, &import, &mut out).map(drop)
}
