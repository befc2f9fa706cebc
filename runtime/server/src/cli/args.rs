//! What may stand on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::serve::LogFormat;

const EXIT_CODES: &str = "\
Exit codes:
  0  it worked
  1  it failed
  2  the command line or the configuration is wrong
  3  there is no such thing, or this key may not see it
  4  the key is missing, wrong, or does not allow this
  5  something that exists stands in the way
  6  over a limit
  7  the server cannot be reached";

/// Hosts models as sandboxed guests, and speaks to a host that does.
#[derive(Debug, Parser)]
#[command(name = "innkeeper", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) host: Host,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Which server is spoken to.
#[derive(Debug, Args)]
pub(super) struct Host {
    /// The server
    #[arg(
        long,
        global = true,
        env = "INNKEEPER_URL",
        default_value = "http://127.0.0.1:8000",
        hide_env_values = true
    )]
    pub(super) url: String,
    /// The key; a server started with --dev wants none
    #[arg(long, global = true, env = "INNKEEPER_KEY", hide_env_values = true)]
    pub(super) key: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a server
    Serve(Serve),
    /// Print a configuration file with every key, its meaning and its default
    Config,
    /// Make another administrator's key in the data folder of a server that is not running
    AdminKey(AdminKey),
    /// Write a plugin that builds
    New(New),
    /// Build a plugin into a bundle
    Build(Build),
    /// Make a bundle of an ONNX file; it needs no code of its own
    Import(Import),
    /// Build a plugin and run it in the sandbox on its samples, without a server
    Test(Test),
    /// Publish a bundle as a version of a model
    Push(Push),
    /// List models
    List(List),
    /// Show a model with its versions and aliases, or a version with its tensors
    Show(Show),
    /// Delete a version, or a model with all its versions
    Delete(Delete),
    /// Set or delete an alias
    #[command(subcommand)]
    Alias(Alias),
    /// Say which other tenants may call a model
    Share(Share),
    /// Show what a model has logged
    Logs(Logs),
    /// Show a tenant's limits, or change them
    Limits(Limits),
    /// Show what a tenant uses
    Usage(OneTenant),
    /// Create or list tenants
    #[command(subcommand)]
    Tenant(Tenant),
    /// Create, list or revoke keys
    #[command(subcommand)]
    Key(Key),
    /// Call a model
    Predict(Predict),
}

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// The configuration file; `innkeeper config` prints one
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The folder for everything that must outlive the process [default: innkeeper-data]
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    /// The address to listen on; port 0 takes a free one [default: 127.0.0.1:8000]
    #[arg(long, value_name = "IP:PORT")]
    pub(super) http: Option<String>,
    /// One more address, for gRPC alone [default: none; gRPC is served at --http too]
    #[arg(long, value_name = "IP:PORT")]
    pub(super) grpc: Option<String>,
    /// No keys, one tenant; on loopback addresses only
    #[arg(long)]
    pub(super) dev: bool,
    /// How log lines look [default: auto]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(super) log: Option<LogFormat>,
    /// Print the configuration that results, and stop
    #[arg(long)]
    pub(super) print_config: bool,
}

#[derive(Debug, Args)]
pub(super) struct AdminKey {
    /// The data folder
    #[arg(long, value_name = "DIR", default_value = "innkeeper-data")]
    pub(super) data: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct New {
    /// The plugin's name, and its folder
    pub(super) name: String,
    /// Where innkeeper-sdk lies, if not where this program was built
    #[arg(long, value_name = "DIR")]
    pub(super) sdk: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Build {
    /// The plugin's folder
    #[arg(default_value = ".")]
    pub(super) dir: PathBuf,
    /// Where the bundle goes [default: NAME.bundle in the plugin's folder]
    #[arg(long, short, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Import {
    /// The ONNX file
    pub(super) file: PathBuf,
    /// The model's name [default: the file's]
    #[arg(long)]
    pub(super) name: Option<String>,
    /// The version's name
    #[arg(long, default_value = "1")]
    pub(super) version: String,
    /// A sentence about it
    #[arg(long, default_value = "")]
    pub(super) description: String,
    /// Where the bundle goes [default: NAME.bundle]
    #[arg(long, short, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Test {
    /// The plugin's folder, with samples/NAME.json (a request) and samples/NAME.expected.json (its answer)
    #[arg(default_value = ".")]
    pub(super) dir: PathBuf,
    /// How far a number may be from the expected one, absolutely or relative to it
    #[arg(long, default_value_t = 1e-5)]
    pub(super) tolerance: f64,
}

#[derive(Debug, Args)]
pub(super) struct Push {
    /// The bundle, as `innkeeper build` writes it
    pub(super) bundle: PathBuf,
    /// The model's name, if not the bundle's
    #[arg(long)]
    pub(super) model: Option<String>,
    /// The version's name, if not the bundle's
    #[arg(long)]
    pub(super) version: Option<String>,
    /// An alias that shall stand for it, such as stable; may be given more than once
    #[arg(long)]
    pub(super) alias: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// JSON instead of a table
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Show {
    /// MODEL, or MODEL@VERSION with its tensors
    pub(super) model: String,
    /// JSON instead of a table
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Delete {
    /// MODEL, or MODEL@VERSION
    pub(super) model: String,
}

#[derive(Debug, Subcommand)]
pub(super) enum Alias {
    /// Let an alias stand for a version, now and at once
    Set {
        /// The model
        model: String,
        /// The alias
        alias: String,
        /// The version that it stands for
        version: String,
    },
    /// Delete an alias
    Delete {
        /// The model
        model: String,
        /// The alias
        alias: String,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct ShareWith {
    /// With these tenants, and no others
    #[arg(long, value_name = "TENANT", num_args = 1..)]
    pub(super) with: Vec<String>,
    /// With every tenant of this server
    #[arg(long)]
    pub(super) all: bool,
    /// With nobody
    #[arg(long)]
    pub(super) nobody: bool,
}

#[derive(Debug, Args)]
pub(super) struct Share {
    /// The model
    pub(super) model: String,
    #[command(flatten)]
    pub(super) with: ShareWith,
}

#[derive(Debug, Args)]
pub(super) struct Logs {
    /// The model
    pub(super) model: String,
    /// Wait for more
    #[arg(long, short)]
    pub(super) follow: bool,
    /// JSON, one line each, instead of text
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Limits {
    /// The tenant [default: the key's]
    pub(super) tenant: Option<String>,
    /// Give the tenant another limit; may be given more than once; wants an administrator's key
    #[arg(long, value_name = "NAME=VALUE", requires = "tenant")]
    pub(super) set: Vec<String>,
    /// Let the server's default hold again; may be given more than once
    #[arg(long, value_name = "NAME", requires = "tenant")]
    pub(super) unset: Vec<String>,
    /// JSON instead of a table
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct OneTenant {
    /// The tenant [default: the key's]
    pub(super) tenant: Option<String>,
    /// JSON instead of a table
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Tenant {
    /// Create a tenant
    Create {
        /// Its name: a-z, 0-9 and hyphens
        name: String,
    },
    /// List tenants
    List {
        /// JSON instead of a list
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Create a key and print it; it is shown this once
    Create {
        /// The tenant [default: the key's]
        #[arg(long)]
        tenant: Option<String>,
        /// What it allows
        #[arg(long, value_delimiter = ',', default_value = "predict,publish")]
        scopes: Vec<String>,
        /// Days until it expires [default: never]
        #[arg(long, value_name = "DAYS")]
        expires_days: Option<u32>,
        /// What to call it
        #[arg(long, default_value = "")]
        label: String,
    },
    /// List keys
    List {
        /// The tenant [default: the key's]
        #[arg(long)]
        tenant: Option<String>,
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key; it is refused from now on
    Revoke {
        /// The key's id, as `innkeeper key list` shows it
        id: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct Predict {
    /// MODEL, or MODEL@VERSION, or MODEL@ALIAS; OWNER/MODEL for a model that another tenant shares
    pub(super) model: String,
    /// NAME=FILE.npy, FILE.npy for a model of one input, FILE.npz, or JSON: a file, - for standard input, or the text
    /// itself; {"INPUT0": [[1, 2]]} or a whole request. May be given more than once
    #[arg(long, short, value_name = "INPUT", required = true)]
    pub(super) input: Vec<String>,
    /// Only these outputs; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub(super) output: Vec<String>,
    /// The answer as JSON instead of a table
    #[arg(long)]
    pub(super) json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_is_understood_and_what_is_not() {
        let cases = [
            ("serve --http 127.0.0.1:0 --dev", true),
            ("push x.bundle --alias stable --alias canary", true),
            ("share digits --with acme beta", true),
            ("share digits", false),
            ("share digits --all --nobody", false),
            ("predict digits", false),
            ("limits --set deadline_ms_max=5", false),
            ("limits acme --set deadline_ms_max=5", true),
            ("key create --scopes predict,admin", true),
            ("compile-worker", false),
        ];
        for (line, wanted) in cases {
            let words = std::iter::once("innkeeper").chain(line.split(' '));
            assert_eq!(Arguments::try_parse_from(words).is_ok(), wanted, "{line}");
        }
    }
}
