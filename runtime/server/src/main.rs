//! `innkeeper`: hosts models as sandboxed guests, and speaks to a host that does.

#![forbid(unsafe_code)]

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything else starts: the compiler's process runs under tight limits and is started often.
    if std::env::args_os().nth(1).is_some_and(|command| command == "compile-worker") {
        return innkeeper_sandbox::compile_worker();
    }
    innkeeper::cli::main()
}
