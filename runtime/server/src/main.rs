//! `innkeeper`: hosts models as sandboxed guests, and speaks to a host that does.

#![forbid(unsafe_code)]

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything else starts: these processes run under tight limits and are started often.
    match std::env::args_os().nth(1).as_ref().and_then(|command| command.to_str()) {
        Some("compile-worker") => innkeeper_sandbox::compile_worker(),
        Some("import-worker") => innkeeper_train::import_worker(),
        _ => innkeeper::cli::main(),
    }
}
