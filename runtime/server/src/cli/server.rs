//! `serve`, `config` and `admin-key`.

use std::process::ExitCode;

use anyhow::Result;

use super::args::{AdminKey, Serve};
use crate::serve::{self, Config};

pub(super) fn serve(args: Serve) -> Result<ExitCode> {
    let mut config = match &args.config {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    if let Some(data) = args.data {
        config.server.data = data.to_string_lossy().into_owned();
    }
    if let Some(http) = args.http {
        config.server.http = http;
    }
    if let Some(grpc) = args.grpc {
        config.server.grpc = grpc;
    }
    if let Some(format) = args.log {
        config.log.format = format;
    }
    config.server.dev |= args.dev;
    if args.print_config {
        config.check()?;
        print!("{}", config.documented());
        return Ok(ExitCode::SUCCESS);
    }
    serve::run(config)
}

pub(super) fn config() -> Result<()> {
    print!("{}", Config::default().documented());
    Ok(())
}

pub(super) fn admin_key(args: &AdminKey) -> Result<()> {
    let path = serve::runtime()?.block_on(serve::new_admin_key(&args.data))?;
    println!("the administrator's key is in {}", path.display());
    Ok(())
}
