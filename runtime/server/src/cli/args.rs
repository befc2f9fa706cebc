//! What may stand on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use innkeeper_deploy::compress::{Prune, Target};

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
    /// Make a bundle of an ONNX file or a Keras model (.h5, .keras); it needs no code of its own
    Import(Import),
    /// Write the model of a bundle as a file of other software
    Export(Export),
    /// Make a new version whose weights take fewer bytes, and say what that costs
    Compress(Compress),
    /// Build a plugin and run it in the sandbox on its samples, without a server
    Test(Test),
    /// Publish a bundle as a version of a model
    Push(Push),
    /// Fetch a version's bundle, as it was published
    Pull(Pull),
    /// List models
    List(List),
    /// Show a model with its versions and aliases, or a version with its tensors
    Show(Show),
    /// Delete a version, or a model with all its versions
    Delete(Delete),
    /// Set, roll back or delete an alias, or show what it stood for
    #[command(subcommand)]
    Alias(Alias),
    /// Try a version behind an alias, see how it does, promote it or roll it back
    Rollout(Rollout),
    /// Show which versions of a model are served and kept, or say so
    Policy(Policy),
    /// Say which other tenants may call a model
    Share(Share),
    /// Show what a model has logged
    Logs(Logs),
    /// Show a tenant's limits, or change them
    Limits(Limits),
    /// Show what a tenant uses now, or what tenants used by hours or days
    Usage(Usage),
    /// Show what models do, again and again
    Top(super::top::Top),
    /// Show who changed what, the newest first
    Audit(Audit),
    /// Create or list tenants
    #[command(subcommand)]
    Tenant(Tenant),
    /// Create, list or revoke keys
    #[command(subcommand)]
    Key(Key),
    /// Send, list or delete data to learn from
    #[command(subcommand)]
    Dataset(Dataset),
    /// Train a model: make a new version that has learnt from data
    Train(Train),
    /// List jobs, watch them, or tell them what to do
    #[command(subcommand)]
    Jobs(Jobs),
    /// Call a model
    Predict(Predict),
    /// Call a model again and again, and show how fast it answers
    Bench(Bench),
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
    /// The ONNX file, or Keras's .h5 or .keras file
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
pub(super) struct Export {
    /// A bundle in a file, or MODEL[@VERSION] on the server
    pub(super) source: String,
    /// What is written: the weights alone (safetensors), the model (onnx), or a model of Keras's with its training state (keras)
    #[arg(long)]
    pub(super) to: ExportFormat,
    /// Where it goes
    #[arg(long, short, value_name = "FILE")]
    pub(super) out: PathBuf,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum ExportFormat {
    Safetensors,
    Onnx,
    Keras,
}

#[derive(Debug, Args)]
pub(super) struct Compress {
    /// A bundle, as `innkeeper build` or `innkeeper import` writes it, or MODEL[@VERSION] on the server. There a job does it,
    /// but with --calibrate, --out or --report, for which the bundle is fetched
    pub(super) source: String,
    /// What weights are kept as: int8, int4, bf16 or fp16
    #[arg(long, value_name = "KIND")]
    pub(super) to: Option<Target>,
    /// How many numbers of int4 share a scale: 32, 64 or 128 [default: 32]
    #[arg(long, value_name = "COUNT")]
    pub(super) group: Option<usize>,
    /// Make weights of small magnitude zero: a share such as 0.5, or 2:4
    #[arg(long, value_name = "SHARE")]
    pub(super) prune: Option<Prune>,
    /// Make a matrix the product of two of this rank, where that saves bytes
    #[arg(long, value_name = "RANK")]
    pub(super) low_rank: Option<usize>,
    /// Requests with labels or expected outputs: a .npz file of a model's inputs, and of its outputs or of `labels`, or a
    /// sample NAME.json with NAME.expected.json. Both versions run on them here, in the sandbox; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(super) calibrate: Vec<PathBuf>,
    /// How much worse the metric on the calibration data may get, such as 0.5%; else nothing is written
    #[arg(long, value_name = "SHARE", requires = "calibrate")]
    pub(super) max_drop: Option<String>,
    /// The name of the new version [default: a bundle's, with what was done after it; a model's next number]
    #[arg(long = "as", value_name = "VERSION")]
    pub(super) version: Option<String>,
    /// Where the new bundle goes [default: MODEL-VERSION.bundle; of a model on the server, only there]
    #[arg(long, short, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
    /// Where the report goes as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    /// Publish the bundle too
    #[arg(long)]
    pub(super) push: bool,
    /// An alias that will stand for what is published
    #[arg(long)]
    pub(super) alias: Option<String>,
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

#[derive(Debug, Subcommand)]
pub(super) enum Dataset {
    /// Send a file of rows
    Push(DatasetPush),
    /// List datasets
    List {
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Show a dataset's columns
    Show {
        /// The dataset
        name: String,
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Delete a dataset; what was learnt from it stays
    Delete {
        /// The dataset
        name: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct DatasetPush {
    /// The file: CSV, JSON Lines, .npy, .npz or Parquet
    pub(super) file: PathBuf,
    /// The dataset's name [default: the file's]
    #[arg(long)]
    pub(super) name: Option<String>,
    /// csv, npy, npz, parquet or jsonl [default: as the file's name ends]
    #[arg(long)]
    pub(super) format: Option<String>,
    /// The first line of a CSV file is a row, and names no columns
    #[arg(long)]
    pub(super) no_header: bool,
    /// What stands between the cells of a CSV file [default: a comma]
    #[arg(long)]
    pub(super) delimiter: Option<char>,
    /// A column's dtype, such as age:FP64; may be given more than once
    #[arg(long, value_name = "NAME:DTYPE")]
    pub(super) column: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Train {
    /// The model, MODEL@VERSION, or a bundle in a file, which is published first
    pub(super) model: String,
    /// What it learns from: a dataset's name, or a file, which is sent first
    #[arg(long, value_name = "NAME|FILE")]
    pub(super) data: Option<String>,
    /// What it is judged by, if not a part of the data
    #[arg(long, value_name = "NAME|FILE")]
    pub(super) validation: Option<String>,
    /// The part of the data that is kept for judging [default: 0.1]
    #[arg(long, value_name = "FRACTION", conflicts_with = "validation")]
    pub(super) validation_fraction: Option<f64>,
    /// A hyper-parameter; may be given more than once
    #[arg(long, value_name = "NAME=VALUE")]
    pub(super) set: Vec<String>,
    /// Where all chance comes from
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
    /// What it makes [default: the model's next version]
    #[arg(long, value_name = "MODEL[@VERSION]")]
    pub(super) into: Option<String>,
    /// An alias that shall stand for the new version
    #[arg(long)]
    pub(super) alias: Option<String>,
    /// Only if the last epoch's number passes, such as 'val_accuracy>=0.95'
    #[arg(long = "if", value_name = "BAR", requires = "alias")]
    pub(super) bar: Option<String>,
    /// Also where the version breaks those who call by the alias
    #[arg(long, requires = "alias")]
    pub(super) force: bool,
    /// Seconds from one checkpoint to the next [default: 10]
    #[arg(long, value_name = "SECONDS")]
    pub(super) checkpoint_every: Option<f64>,
    /// Print the job's id, and do not wait
    #[arg(long)]
    pub(super) detach: bool,
    /// Show the hyper-parameters that there are, and train nothing
    #[arg(long)]
    pub(super) hyperparameters: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Jobs {
    /// List jobs, the newest first
    List {
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Show a job
    Show {
        /// The job
        id: String,
        /// JSON
        #[arg(long)]
        json: bool,
    },
    /// Show a job until it ends; exit code 1 when it fails
    Watch {
        /// The job
        id: String,
    },
    /// Let a job rest after its next step
    Pause {
        /// The job
        id: String,
    },
    /// Let a job that rests go on
    Resume {
        /// The job
        id: String,
    },
    /// End a job
    Cancel {
        /// The job
        id: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct Pull {
    /// MODEL[@VERSION]; without a version what the alias stable stands for, or else the newest
    pub(super) model: String,
    /// Where the bundle goes [default: MODEL-VERSION.bundle]
    #[arg(long, short, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
}

#[derive(Debug, Default, Args)]
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
    /// Also where the version breaks those who call by the alias
    #[arg(long, requires = "alias")]
    pub(super) force: bool,
}

/// Without --to, --promote and --rollback it shows what is tried behind the alias.
#[derive(Debug, Args)]
pub(super) struct Rollout {
    /// The model
    pub(super) model: String,
    /// The alias that callers use
    #[arg(long, default_value = "stable")]
    pub(super) alias: String,
    /// The version to try
    #[arg(long, value_name = "VERSION", conflicts_with_all = ["promote", "rollback"])]
    pub(super) to: Option<String>,
    /// The share of requests that it answers; alone it changes a rollout that runs
    #[arg(long, value_name = "PERCENT", value_parser = percent, conflicts_with_all = ["promote", "rollback"])]
    pub(super) canary: Option<f64>,
    /// The share of requests that it is shown besides, without answering them; alone it changes a rollout that runs
    #[arg(long, value_name = "PERCENT", value_parser = percent, conflicts_with_all = ["promote", "rollback"])]
    pub(super) shadow: Option<f64>,
    /// By how much numbers of what it is shown may differ, as a part of the larger one or of 1 [default: 0.001]
    #[arg(long, value_name = "PART", requires = "to")]
    pub(super) max_difference: Option<f64>,
    /// The header by whose value a caller stays on its version [default: x-innkeeper-sticky]
    #[arg(long, value_name = "HEADER", requires = "to")]
    pub(super) sticky: Option<String>,
    /// Roll back by itself when more requests than that fail; "never" for no bound [default: 5%]
    #[arg(long, value_name = "PERCENT", value_parser = bound, requires = "to")]
    pub(super) max_errors: Option<Bound>,
    /// Roll back by itself when more requests than that trap, run into their deadline or go over a limit [default: 1%]
    #[arg(long, value_name = "PERCENT", value_parser = bound, requires = "to")]
    pub(super) max_traps: Option<Bound>,
    /// Roll back by itself when more than one request in a hundred takes longer
    #[arg(long, value_name = "MS", requires = "to")]
    pub(super) max_p99_ms: Option<f64>,
    /// Requests without which nothing is judged [default: 50]
    #[arg(long, value_name = "N", requires = "to")]
    pub(super) min_requests: Option<u64>,
    /// Seconds that are looked back on [default: 60]
    #[arg(long, value_name = "SECONDS", requires = "to")]
    pub(super) window: Option<u64>,
    /// Also where the version breaks those who call by the alias
    #[arg(long, requires = "to")]
    pub(super) force: bool,
    /// Let the version that is tried take the alias over
    #[arg(long, conflicts_with = "rollback")]
    pub(super) promote: bool,
    /// Take the version that is tried away; where none is, let the alias go back to what it stood for
    #[arg(long)]
    pub(super) rollback: bool,
    /// Why, for the history
    #[arg(long, default_value = "", requires = "rollback")]
    pub(super) why: String,
    /// Show it again every second until it ends; exit code 1 when it is rolled back
    #[arg(long, conflicts_with_all = ["promote", "rollback"])]
    pub(super) watch: bool,
    /// JSON instead of a table
    #[arg(long)]
    pub(super) json: bool,
}

/// A percentage that must not be passed, or none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bound(pub(super) Option<f64>);

fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>();
    let number = number.ok().filter(|number| (0.0..=100.0).contains(number));
    number.ok_or_else(|| "wanted a percentage, such as 10%".into())
}

fn bound(text: &str) -> Result<Bound, String> {
    if text == "never" { Ok(Bound(None)) } else { percent(text).map(|max| Bound(Some(max))) }
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
        /// Also where the version breaks those who call by the alias
        #[arg(long)]
        force: bool,
    },
    /// Let an alias go back to the version that it stood for before
    Rollback {
        /// The model
        model: String,
        /// The alias
        alias: String,
        /// Why, for the history
        #[arg(long, default_value = "")]
        why: String,
    },
    /// Show what an alias stood for, the newest first
    History {
        /// The model
        model: String,
        /// The alias
        alias: String,
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Delete an alias
    Delete {
        /// The model
        model: String,
        /// The alias
        alias: String,
    },
}

/// What an alias stands for or tries is served and kept always.
#[derive(Debug, Args)]
pub(super) struct Policy {
    /// The model
    pub(super) model: String,
    /// Serve all versions
    #[arg(long, conflicts_with_all = ["latest", "versions"])]
    pub(super) all: bool,
    /// Serve so many of the newest versions
    #[arg(long, value_name = "N", conflicts_with = "versions")]
    pub(super) latest: Option<u32>,
    /// Serve these versions
    #[arg(long, value_name = "VERSION", num_args = 1..)]
    pub(super) versions: Vec<String>,
    /// Keep so many of the newest versions, and remove older ones now and with every publication
    #[arg(long, value_name = "N", conflicts_with = "keep_all")]
    pub(super) keep: Option<u32>,
    /// Keep all versions
    #[arg(long)]
    pub(super) keep_all: bool,
    /// JSON instead of text
    #[arg(long)]
    pub(super) json: bool,
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
pub(super) struct Usage {
    /// The tenant [default: the key's]
    pub(super) tenant: Option<String>,
    /// What was used by hour, day or all in one; without a tenant an administrator sees every tenant
    #[arg(long, value_enum, value_name = "PERIOD")]
    pub(super) by: Option<Period>,
    /// From this date or hour on, in UTC: 2026-11-25 or 2026-11-25T17:00:00Z
    #[arg(long, value_name = "TIME", requires = "by")]
    pub(super) from: Option<String>,
    /// Before this date or hour
    #[arg(long, value_name = "TIME", requires = "by")]
    pub(super) to: Option<String>,
    /// CSV instead of a table
    #[arg(long, requires = "by", conflicts_with = "json")]
    pub(super) csv: bool,
    /// JSON instead of a table
    #[arg(long)]
    pub(super) json: bool,
}

/// How usage is put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Period {
    /// By hours
    Hour,
    /// By days
    Day,
    /// All in one
    All,
}

#[derive(Debug, Args)]
pub(super) struct Audit {
    /// Only changes to what this tenant has [default: all that the key may see]
    #[arg(long)]
    pub(super) tenant: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(super) max: usize,
    /// JSON, one line each, instead of a table
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

/// Each connection sends its next request once it has its answer; with --rate requests are due at fixed times, and
/// latency counts from then on, also for those that had to wait for a connection.
#[derive(Debug, Args)]
pub(super) struct Bench {
    /// MODEL, or MODEL@VERSION, or MODEL@ALIAS; OWNER/MODEL for a model that another tenant shares
    pub(super) model: String,
    /// What to send, as `innkeeper predict` takes it [default: the example of the model's interface]
    #[arg(long, short, value_name = "INPUT")]
    pub(super) input: Vec<String>,
    /// Connections at once
    #[arg(long, short, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(super) connections: u32,
    /// Requests that are due in a second, over all connections
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) rate: Option<u32>,
    /// Seconds to measure
    #[arg(long, short, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(super) duration: u32,
    /// Seconds before, which are not measured
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=60))]
    pub(super) warmup: u32,
    /// JSON instead of a table
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
            ("rollout digits", true),
            ("rollout digits --to 2 --canary 10% --max-errors never", true),
            ("rollout digits --to 2 --shadow 50% --max-difference 0.1", true),
            ("rollout digits --canary 110%", false),
            ("rollout digits --promote --rollback", false),
            ("rollout digits --promote --to 2", false),
            ("bench digits --rate 100 -c 4 -d 2", true),
            ("bench digits -c 0", false),
            ("policy digits --versions 1 2 --keep 3", true),
            ("policy digits --all --latest 1", false),
            ("compile-worker", false),
        ];
        for (line, wanted) in cases {
            let words = std::iter::once("innkeeper").chain(line.split(' '));
            assert_eq!(Arguments::try_parse_from(words).is_ok(), wanted, "{line}");
        }
    }
}
