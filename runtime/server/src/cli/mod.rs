//! The command line.

mod args;
mod array;
mod audit;
mod bench;
mod build;
mod client;
mod compress;
mod curve;
mod datasets;
mod export;
mod import;
mod infer;
mod input;
mod jobs;
mod logs;
mod models;
mod new;
mod output;
mod policy;
mod predict;
mod pull;
mod push;
mod rollout;
mod server;
mod tenants;
mod test;
mod top;
mod upload;
mod values;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::failure::code_of;
use args::{Arguments, Command};

/// Does what the command line says, and ends with the exit code that `innkeeper --help` explains.
pub fn main() -> ExitCode {
    // Clap ends the process itself, with 2 for a command line that it does not understand.
    let arguments = Arguments::parse();
    run(arguments).unwrap_or_else(|error| {
        output::error(&error);
        code_of(&error).into()
    })
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    let Arguments { host, command } = arguments;
    match command {
        Command::Serve(args) => return server::serve(args),
        Command::Config => server::config(),
        Command::AdminKey(args) => server::admin_key(&args),
        Command::New(args) => new::run(&args),
        Command::Build(args) => build::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Export(args) => export::run(&host, &args),
        Command::Compress(args) => compress::run(&host, &args),
        Command::Test(args) => return test::run(&args),
        Command::Push(args) => push::run(&host, &args),
        Command::Pull(args) => pull::run(&host, &args),
        Command::List(args) => models::list(&host, &args),
        Command::Show(args) => models::show(&host, &args),
        Command::Delete(args) => models::delete(&host, &args),
        Command::Alias(args) => models::alias(&host, args),
        Command::Rollout(args) => rollout::run(&host, &args),
        Command::Policy(args) => policy::run(&host, &args),
        Command::Share(args) => models::share(&host, &args),
        Command::Logs(args) => logs::run(&host, &args),
        Command::Limits(args) => tenants::limits(&host, &args),
        Command::Usage(args) => tenants::usage(&host, &args),
        Command::Top(args) => top::run(&host, &args),
        Command::Audit(args) => audit::run(&host, &args),
        Command::Tenant(args) => tenants::tenant(&host, args),
        Command::Key(args) => tenants::key(&host, args),
        Command::Dataset(args) => datasets::run(&host, args),
        Command::Train(args) => jobs::train(&host, &args),
        Command::Jobs(args) => jobs::jobs(&host, args),
        Command::Predict(args) => predict::run(&host, &args),
        Command::Bench(args) => bench::run(&host, &args),
    }?;
    Ok(ExitCode::SUCCESS)
}
