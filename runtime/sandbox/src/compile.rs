//! Compiling, in a process of its own.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::{Engine, EngineConfig};

/// How much of the machine one compilation may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Milliseconds by the clock on the wall.
    pub compile_ms_max: u64,
    /// Bytes of address space of the compiler's process.
    pub compile_memory_bytes_max: u64,
}

impl Default for CompileLimits {
    fn default() -> CompileLimits {
        CompileLimits { compile_ms_max: 20_000, compile_memory_bytes_max: 2 << 30 }
    }
}

/// Makes machine code of components.
#[derive(Clone, Debug)]
pub struct Compiler(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Child { command: Vec<OsString>, limits: CompileLimits },
    InProcess,
}

/// Why there is no machine code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The compiler refuses it.
    #[error("the component does not compile: {0}")]
    Refused(String),
    /// It took too long.
    #[error("compiling took longer than the limit compile_ms_max of {0}")]
    Time(u64),
    /// It took too much memory, or the compiler broke down.
    #[error(
        "the compiler's process ended ({status}); most likely it met the limit compile_memory_bytes_max of {max}"
    )]
    Died {
        /// How it ended.
        status: String,
        /// The limit's value.
        max: u64,
    },
    /// The host could not run the compiler.
    #[error("the compiler could not be run: {0}")]
    Host(String),
}

impl Compiler {
    /// Compiles in a child process, under limits. `command` must end in [`compile_worker`].
    pub fn child(command: Vec<OsString>, limits: CompileLimits) -> Compiler {
        Compiler(Kind::Child { command, limits })
    }

    /// Compiles here, without limits: for components that the user built, never for a tenant's.
    pub fn in_process() -> Compiler {
        Compiler(Kind::InProcess)
    }

    /// Machine code for a component that [`inspect`](crate::inspect) let pass.
    ///
    /// # Errors
    /// [`CompileError`].
    pub async fn compile(
        &self,
        engine: &Engine,
        component: impl AsRef<[u8]> + Send + 'static,
    ) -> Result<Vec<u8>, CompileError> {
        match &self.0 {
            Kind::Child { command, limits } => {
                let time = Duration::from_millis(limits.compile_ms_max);
                let compiled = in_child(engine, command, limits, component.as_ref());
                tokio::time::timeout(time, compiled)
                    .await
                    .unwrap_or(Err(CompileError::Time(limits.compile_ms_max)))
            }
            Kind::InProcess => {
                let wasmtime = engine.0.wasmtime.clone();
                tokio::task::spawn_blocking(move || {
                    wasmtime.precompile_component(component.as_ref())
                })
                .await
                .map_err(|error| CompileError::Host(error.to_string()))?
                .map_err(|error| CompileError::Refused(format!("{error:#}")))
            }
        }
    }
}

/// Talks to one compiler process: its limits and the component go in, code or an error's text comes out.
async fn in_child(
    engine: &Engine,
    command: &[OsString],
    limits: &CompileLimits,
    component: &[u8],
) -> Result<Vec<u8>, CompileError> {
    let host = |error: std::io::Error| CompileError::Host(error.to_string());
    let mut child = start(engine, command, limits).map_err(host)?;
    let (mut stdin, mut stdout) = (child.stdin.take(), child.stdout.take());
    let feed = async {
        if let Some(mut stdin) = stdin.take() {
            // A child that died does not read on; its exit status tells more than the broken pipe.
            let _ = stdin.write_all(component).await;
        }
    };
    let mut answer = Vec::new();
    let drain = async {
        match stdout.as_mut() {
            Some(stdout) => stdout.read_to_end(&mut answer).await,
            None => Ok(0),
        }
    };
    let ((), read) = tokio::join!(feed, drain);
    read.map_err(host)?;
    let status = child.wait().await.map_err(host)?;
    match status.code() {
        Some(0) => Ok(answer),
        Some(EXIT_REFUSED) => Err(CompileError::Refused(String::from_utf8_lossy(&answer).into())),
        _ => Err(CompileError::Died {
            status: status.to_string(),
            max: limits.compile_memory_bytes_max,
        }),
    }
}

fn start(engine: &Engine, command: &[OsString], limits: &CompileLimits) -> std::io::Result<Child> {
    let [program, arguments @ ..] = command else {
        return Err(std::io::Error::other("no command for the compiler is set"));
    };
    Command::new(program)
        .args(arguments)
        .arg(limits.compile_memory_bytes_max.to_string())
        .arg(limits.compile_ms_max.div_ceil(1000).to_string())
        .arg(engine.0.stack_bytes_max.to_string())
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
}

const EXIT_REFUSED: i32 = 3;

/// The compiler's process: reads its limits from the last three arguments, a component from standard input, and writes
/// machine code to standard output.
pub fn compile_worker() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::from(EXIT_REFUSED as u8)
        }
    }
}

fn work() -> Result<(), String> {
    let arguments: Vec<u64> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let [.., memory, seconds, stack] = arguments[..] else {
        return Err("wanted: MEMORY_BYTES SECONDS STACK_BYTES".into());
    };
    // Before a single byte of the component is read.
    confine(memory, seconds.saturating_mul(4))?;
    let config = EngineConfig {
        stack_bytes_max: usize::try_from(stack).map_err(|error| error.to_string())?,
        ..EngineConfig::default()
    };
    let engine = Engine::compiler(&config).map_err(|error| error.to_string())?;
    let mut component = Vec::new();
    std::io::stdin().read_to_end(&mut component).map_err(|error| error.to_string())?;
    let code = engine.precompile_component(&component).map_err(|error| format!("{error:#}"))?;
    std::io::stdout().write_all(&code).map_err(|error| error.to_string())
}

/// Takes from this process all but so many bytes of address space, seconds of computing, and a few files: for processes
/// that read what comes from outside.
///
/// # Errors
/// The system refuses a limit.
pub fn confine(memory_bytes: u64, cpu_seconds: u64) -> Result<(), String> {
    limit(Resource::As, memory_bytes)?;
    limit(Resource::Cpu, cpu_seconds)?;
    limit(Resource::Core, 0)?;
    limit(Resource::Nofile, 16)
}

fn limit(resource: Resource, value: u64) -> Result<(), String> {
    let hard = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let value = value.min(hard);
    setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })
        .map_err(|error| format!("cannot limit {resource:?}: {error}"))
}
