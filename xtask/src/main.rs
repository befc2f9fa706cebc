//! `cargo xtask demo`, `test`, `models` and `fuzz`: all of Innkeeper's automation.
//!
//! It starts other programs, shows what they are doing, and says which command installs one that is missing. It knows
//! nothing of Innkeeper that its command line and its HTTP API do not say.

#![forbid(unsafe_code)]

mod demo;
mod digits;
mod fuzz;
mod host;
mod models;
mod python;
mod run;
mod signals;
mod test;
mod tools;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Innkeeper's automation
#[derive(Parser)]
#[command(name = "cargo xtask", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build everything, start a server with a throw-away data folder, publish a model, call it
    Demo {
        /// End after the last step instead of waiting for Ctrl-C
        #[arg(long)]
        exit: bool,
    },
    /// Export the models that tests and benchmarks run, and ONNX Runtime's answers, into target/models
    Models {
        /// Even when the files are there
        #[arg(long)]
        again: bool,
    },
    /// Run the fuzz targets, each for a while
    Fuzz {
        /// One of them; all without it
        target: Option<String>,
        /// How long each of them runs
        #[arg(long, value_name = "N", default_value_t = fuzz::SECONDS)]
        seconds: u64,
        /// Then replace fuzz/corpus by the fewest inputs that reach as much
        #[arg(long)]
        keep: bool,
        /// Only run this input
        #[arg(long, value_name = "FILE", requires = "target", conflicts_with = "keep")]
        input: Option<PathBuf>,
    },
    /// Everything that CI runs
    Test {
        /// Only the steps whose name contains this
        #[arg(long, value_name = "TEXT")]
        only: Option<String>,
    },
}

fn main() -> ExitCode {
    let command = Arguments::parse().command;
    let done = signals::catch().and_then(|()| match command {
        Command::Demo { exit } => host::build().and_then(|()| demo::run(exit)),
        Command::Models { again } => models::run(again),
        Command::Fuzz { target: Some(target), input: Some(input), .. } => {
            fuzz::again(&target, &input)
        }
        Command::Fuzz { target, seconds, keep, .. } => {
            fuzz::run(&fuzz::Wanted { target: target.as_deref(), seconds, keep }).map(drop)
        }
        Command::Test { only } => test::run(only.as_deref()),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
