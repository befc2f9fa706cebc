//! Why something about a job or a dataset is not done.

use innkeeper_catalog::{CatalogError, DatasetName, JobState};
use innkeeper_deploy::DeployError;
use innkeeper_formats::dataset::DatasetError;
use innkeeper_predict::Fault;
use innkeeper_sandbox::GuestError;

/// Why a job or a dataset is refused, or why a job failed.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// What is asked for does not hold together.
    #[error("{0}")]
    Invalid(String),
    /// A hyper-parameter is unknown or out of its bounds.
    #[error("hyper-parameter {name:?}: wanted {wanted}, got {got}")]
    Setting {
        /// Which.
        name: String,
        /// What it may be.
        wanted: String,
        /// What came.
        got: String,
    },
    /// A file that is no dataset.
    #[error(transparent)]
    Data(#[from] DatasetError),
    /// A file that takes more than the process that reads it may have.
    #[error("reading the file {0}")]
    Import(String),
    /// The trainer's plan, or what it answered, cannot be followed.
    #[error("the trainer {0}")]
    Trainer(String),
    /// A value that cannot be what the trainer wants.
    #[error("row {row} of column {column:?} is {got}; {wanted} is wanted")]
    Value {
        /// From 1, in the order of the file.
        row: u64,
        /// The column's name.
        column: String,
        /// What is there.
        got: String,
        /// What is wanted.
        wanted: String,
    },
    /// Training went astray.
    #[error(
        "the {metric} is {value} at step {step} of epoch {epoch}: it diverges; a smaller learning rate may help"
    )]
    Diverged {
        /// Which number.
        metric: String,
        /// What it is.
        value: f64,
        /// From 1 within the epoch.
        step: u64,
        /// From 1.
        epoch: u32,
    },
    /// A limit was met.
    #[error("{limit} is {max}, and this would make it {got}")]
    Limit {
        /// The limit's name.
        limit: &'static str,
        /// Its value.
        max: u64,
        /// The value that came.
        got: u64,
    },
    /// The job took too long.
    #[error("the job ran for longer than job_ms_max of {max}")]
    Time {
        /// The limit's value.
        max: u64,
    },
    /// The job is in no state for this.
    #[error("job {id} is {state}; only a job that is {wanted} can be {act}")]
    State {
        /// Which.
        id: String,
        /// How it stands.
        state: JobState,
        /// How it would have to stand.
        wanted: &'static str,
        /// What was to be done.
        act: &'static str,
    },
    /// A dataset that a job still needs.
    #[error(
        "the dataset {dataset} is needed by the job {job}, which has not ended; cancel it, or wait"
    )]
    InUse {
        /// Which.
        dataset: DatasetName,
        /// The job's id.
        job: String,
    },
    /// What the guest did.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// What publishing says.
    #[error(transparent)]
    Deploy(#[from] DeployError),
    /// What the catalog says.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The host's own fault.
    #[error("the host failed: {0}")]
    Host(String),
}

impl TrainError {
    /// The system failed while the host was doing something.
    pub(crate) fn io(doing: &str, error: &std::io::Error) -> TrainError {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                TrainError::Catalog(CatalogError::DiskFull)
            }
            _ => TrainError::Host(format!("{doing}: {error}")),
        }
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            TrainError::Invalid(_)
            | TrainError::Setting { .. }
            | TrainError::Data(_)
            | TrainError::Import(_)
            | TrainError::Value { .. }
            | TrainError::Diverged { .. }
            | TrainError::Limit { .. }
            | TrainError::Time { .. }
            | TrainError::State { .. }
            | TrainError::InUse { .. } => Fault::Caller,
            TrainError::Trainer(_) => Fault::Plugin,
            TrainError::Guest(GuestError::Busy | GuestError::NoRoom { .. }) => Fault::Load,
            TrainError::Guest(GuestError::Host(_)) | TrainError::Host(_) => Fault::Host,
            TrainError::Guest(GuestError::Refused(_) | GuestError::Cancelled) => Fault::Caller,
            TrainError::Guest(_) => Fault::Plugin,
            TrainError::Deploy(error) => error.fault(),
            TrainError::Catalog(error) => match error {
                CatalogError::NotFound { .. }
                | CatalogError::Conflict { .. }
                | CatalogError::LimitExceeded { .. } => Fault::Caller,
                _ => Fault::Host,
            },
        }
    }

    /// What programs tell it apart by.
    pub fn code(&self) -> &'static str {
        match self {
            TrainError::Invalid(_) => "invalid",
            TrainError::Setting { .. } => "hyperparameter",
            TrainError::Data(_) | TrainError::Import(_) => "bad_dataset",
            TrainError::Trainer(_) => "trainer",
            TrainError::Value { .. } => "bad_value",
            TrainError::Diverged { .. } => "diverged",
            TrainError::Limit { .. } => "limit_exceeded",
            TrainError::Time { .. } => "time",
            TrainError::State { .. } => "state",
            TrainError::InUse { .. } => "in_use",
            TrainError::Guest(GuestError::Trap(_)) => "trainer_trap",
            TrainError::Guest(GuestError::Deadline { .. }) => "deadline",
            TrainError::Guest(GuestError::Limit { .. }) => "limit_exceeded",
            TrainError::Guest(GuestError::Refused(_)) => "refused",
            TrainError::Guest(_) => "trainer",
            TrainError::Deploy(_) => "not_published",
            TrainError::Catalog(CatalogError::DiskFull) => "disk_full",
            TrainError::Catalog(_) => "catalog",
            TrainError::Host(_) => "internal",
        }
    }

    /// What its owner is told: what the host did wrong is for the log alone.
    pub(crate) fn told(&self) -> String {
        match self.fault() {
            Fault::Host if self.code() != "disk_full" => {
                "the server failed; its log says why".into()
            }
            _ => self.to_string(),
        }
    }
}
