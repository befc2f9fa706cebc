//! The server: its configuration, and how its parts are put together, started and stopped.

mod config;
mod data;
mod housekeeping;
mod issuer;
mod log;
mod settings;
mod signals;
mod start;
mod telemetry;
mod tls;

pub use config::{Config, ConfigError};
pub use data::new_admin_key;
pub use log::LogFormat;
pub use settings::{
    CatalogSettings, ComponentSettings, CorsSettings, DeploySettings, EngineSettings, JwtSettings,
    LogSettings, PredictSettings, ServerSettings, TelemetrySettings, TlsSettings,
};
pub use start::{Drained, Server, StartOptions, runtime};
pub use telemetry::Ratio;
pub use tls::Clients;

use std::process::ExitCode;

use anyhow::Result;

/// Runs a server until a signal ends it.
///
/// # Errors
/// The configuration cannot be followed, the data folder is in use or damaged, the address is taken.
pub fn run(config: Config) -> Result<ExitCode> {
    config.check()?;
    log::start(&config.log)?;
    raise_open_files();
    runtime()?.block_on(async {
        let server = Server::start(config, StartOptions::of_this_program()?).await?;
        server.announce();
        Ok(match server.run_until(signals::stop()).await? {
            Drained::Whole => ExitCode::SUCCESS,
            Drained::Cut => ExitCode::FAILURE,
        })
    })
}

/// Lets the process have as many files and sockets open as the system allows it at all: by default that is often 1,024,
/// far below the connections that a server may hold.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, ?current, "the number of open files stays as it is");
    }
}
