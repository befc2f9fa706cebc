//! One guest that learns, in its own store.

use std::time::Instant;

use innkeeper_tensor::{DType, Named};
use wasmtime::Store;

use crate::bindings::innkeeper::model::types;
use crate::bindings::trainable::exports::innkeeper::model::trainer::{self as wit, Guest};
use crate::host::{Current, State, dtype_from_wit, dtype_to_wit};
use crate::{Cancel, GuestError};

/// A guest that learns. It answers one call at a time, and none after an error that it did not answer itself.
pub struct Trainer {
    store: Store<State>,
    guest: Guest,
}

/// How long one call may take, and what stops it earlier.
#[derive(Clone, Debug)]
pub struct Turn {
    /// The job's id, for the log.
    pub id: String,
    /// When the guest is stopped.
    pub deadline: Instant,
    /// The limit that `deadline` stands for.
    pub limit: &'static str,
    /// Its value in milliseconds, for the error's text.
    pub limit_ms: u64,
    /// Stops the guest earlier.
    pub cancel: Cancel,
}

/// A hyper-parameter's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Setting {
    /// A whole number.
    Integer(i64),
    /// A number.
    Number(f64),
    /// Yes or no.
    Flag(bool),
    /// Text.
    Text(String),
    /// Whole numbers.
    Integers(Vec<i64>),
}

/// The values that a hyper-parameter may have. Bounds are included.
#[derive(Clone, Debug, PartialEq)]
pub enum SettingKind {
    /// A whole number between these.
    Integer(i64, i64),
    /// A number between these.
    Number(f64, f64),
    /// Yes or no.
    Flag,
    /// One of these texts; any when there are none.
    Text(Vec<String>),
    /// Whole numbers, each between these.
    Integers(i64, i64),
}

/// A hyper-parameter as a trainer describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Hyperparameter {
    /// Its name.
    pub name: String,
    /// What it does.
    pub meaning: String,
    /// What it may be.
    pub kind: SettingKind,
    /// What it is otherwise; a job must say it where there is none.
    pub default: Option<Setting>,
}

/// What is known of a column's numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Statistics {
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation.
    pub deviation: f64,
}

/// A column of the data, as the guest sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub dtype: DType,
    /// The shape of one row's value.
    pub shape: Vec<usize>,
    /// None for text.
    pub statistics: Option<Statistics>,
    /// The different values of text, sorted, when they are few.
    pub categories: Vec<String>,
}

/// What is to be learnt.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// A value for each hyper-parameter.
    pub settings: Vec<(String, Setting)>,
    /// Where all chance comes from.
    pub seed: u64,
    /// What the data has.
    pub columns: Vec<Column>,
    /// Rows to learn from.
    pub rows: u64,
    /// Rows to be judged by.
    pub validation_rows: u64,
}

/// What a batch has under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    /// The name.
    pub name: String,
    /// What the columns are converted to.
    pub dtype: DType,
    /// The columns.
    pub columns: Vec<String>,
}

/// How a trainer wants to learn; nothing of it is checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Times that all rows are seen.
    pub epochs: u32,
    /// Rows of a mini-batch.
    pub batch_size: u32,
    /// What each batch brings.
    pub feeds: Vec<Feed>,
    /// Whether each epoch has another order.
    pub shuffle: bool,
}

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// From 0.
    pub epoch: u32,
    /// Steps before this one.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
}

/// A file of the new version.
#[derive(Clone, Debug, PartialEq)]
pub enum Made {
    /// A file of tensors.
    Tensors(String, Vec<Named>),
    /// Any other.
    Bytes(String, Vec<u8>),
}

/// Numbers under their names.
pub type Metrics = Vec<(String, f64)>;

macro_rules! call {
    ($this:ident, $function:ident($($argument:expr),*)) => {{
        $this.store.set_epoch_deadline(1);
        let result = $this.guest.$function(&mut $this.store $(, $argument)*).await;
        $this.answer(result)
    }};
}

impl Trainer {
    pub(crate) fn new(mut store: Store<State>, guest: Guest) -> Trainer {
        store.data_mut().learns();
        Trainer { store, guest }
    }

    /// The hyper-parameters, as the guest says them.
    ///
    /// # Errors
    /// Whatever `describe` did.
    pub async fn describe(&mut self, turn: Turn) -> Result<Vec<Hyperparameter>, GuestError> {
        self.begin_turn(turn);
        let described = call!(self, call_describe())?;
        Ok(described.into_iter().map(hyperparameter_from_wit).collect())
    }

    /// Makes it ready to learn.
    ///
    /// # Errors
    /// Whatever `begin` did.
    pub async fn begin(&mut self, turn: Turn, task: &Task) -> Result<Plan, GuestError> {
        self.begin_turn(turn);
        call!(self, call_begin(&task_to_wit(task))).map(plan_from_wit)
    }

    /// Learns from one mini-batch.
    ///
    /// # Errors
    /// Whatever `step` did, and [`GuestError::NoRoom`] for a batch that is too large.
    pub async fn step(
        &mut self,
        turn: Turn,
        batch: Vec<Named>,
        position: Position,
    ) -> Result<Metrics, GuestError> {
        let batch = self.store.data_mut().push_inputs(batch)?;
        self.begin_turn(turn);
        let Position { epoch, step, steps } = position;
        call!(self, call_step(&batch, wit::Position { epoch, step, steps })).map(metrics_from_wit)
    }

    /// Judges by one mini-batch.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub async fn evaluate(&mut self, turn: Turn, batch: Vec<Named>) -> Result<Metrics, GuestError> {
        let batch = self.store.data_mut().push_inputs(batch)?;
        self.begin_turn(turn);
        call!(self, call_evaluate(&batch)).map(metrics_from_wit)
    }

    /// Everything that another one needs to go on.
    ///
    /// # Errors
    /// Whatever `save` did, and [`GuestError::Limit`] for a state that is too large.
    pub async fn save(&mut self, turn: Turn) -> Result<Vec<Named>, GuestError> {
        self.begin_turn(turn);
        let state = call!(self, call_save())?;
        self.store.data_mut().take_outputs(state)
    }

    /// Goes on from what `save` answered.
    ///
    /// # Errors
    /// Whatever `restore` did.
    pub async fn restore(&mut self, turn: Turn, state: Vec<Named>) -> Result<(), GuestError> {
        let state = self.store.data_mut().push_inputs(state)?;
        self.begin_turn(turn);
        call!(self, call_restore(&state))
    }

    /// What has been learnt.
    ///
    /// # Errors
    /// Whatever `finish` did, and [`GuestError::Limit`] for files that are too large.
    pub async fn finish(&mut self, turn: Turn) -> Result<Vec<Made>, GuestError> {
        self.begin_turn(turn);
        let files = call!(self, call_finish())?;
        let mut made = Vec::with_capacity(files.len());
        for file in files {
            made.push(match file.contents {
                wit::Contents::Tensors(tensors) => {
                    Made::Tensors(file.name, self.store.data_mut().take_outputs(tensors)?)
                }
                wit::Contents::Bytes(bytes) => Made::Bytes(file.name, bytes),
            });
        }
        Ok(made)
    }

    fn begin_turn(&mut self, turn: Turn) {
        self.store.data_mut().begin(Current {
            id: turn.id,
            parameters: Default::default(),
            outputs: Default::default(),
            deadline: turn.deadline,
            limit: turn.limit,
            limit_ms: turn.limit_ms,
            cancel: turn.cancel,
            work: None,
        });
    }

    fn answer<T>(
        &mut self,
        result: wasmtime::Result<Result<T, types::Error>>,
    ) -> Result<T, GuestError> {
        let state = self.store.data_mut();
        let answer = match result {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(state.answered(error)),
            Err(error) => Err(state.explain(&error)),
        };
        state.end();
        answer
    }
}

fn setting_from_wit(setting: wit::Setting) -> Setting {
    match setting {
        wit::Setting::Integer(value) => Setting::Integer(value),
        wit::Setting::Number(value) => Setting::Number(value),
        wit::Setting::Flag(value) => Setting::Flag(value),
        wit::Setting::Text(value) => Setting::Text(value),
        wit::Setting::Integers(values) => Setting::Integers(values),
    }
}

fn setting_to_wit(setting: &Setting) -> wit::Setting {
    match setting {
        Setting::Integer(value) => wit::Setting::Integer(*value),
        Setting::Number(value) => wit::Setting::Number(*value),
        Setting::Flag(value) => wit::Setting::Flag(*value),
        Setting::Text(value) => wit::Setting::Text(value.clone()),
        Setting::Integers(values) => wit::Setting::Integers(values.clone()),
    }
}

fn hyperparameter_from_wit(one: wit::Hyperparameter) -> Hyperparameter {
    let kind = match one.kind {
        wit::SettingKind::Integer((low, high)) => SettingKind::Integer(low, high),
        wit::SettingKind::Number((low, high)) => SettingKind::Number(low, high),
        wit::SettingKind::Flag => SettingKind::Flag,
        wit::SettingKind::Text(choices) => SettingKind::Text(choices),
        wit::SettingKind::Integers((low, high)) => SettingKind::Integers(low, high),
    };
    let default = one.default.map(setting_from_wit);
    Hyperparameter { name: one.name, meaning: one.meaning, kind, default }
}

fn task_to_wit(task: &Task) -> wit::Task {
    let settings = task.settings.iter();
    wit::Task {
        settings: settings.map(|(name, value)| (name.clone(), setting_to_wit(value))).collect(),
        seed: task.seed,
        columns: task.columns.iter().map(column_to_wit).collect(),
        rows: task.rows,
        validation_rows: task.validation_rows,
    }
}

fn column_to_wit(column: &Column) -> wit::Column {
    let statistics = column.statistics.map(|Statistics { min, max, mean, deviation }| {
        wit::Statistics { min, max, mean, deviation }
    });
    wit::Column {
        name: column.name.clone(),
        dtype: dtype_to_wit(column.dtype),
        shape: column.shape.iter().map(|&size| u32::try_from(size).unwrap_or(u32::MAX)).collect(),
        statistics,
        categories: column.categories.clone(),
    }
}

fn plan_from_wit(plan: wit::Plan) -> Plan {
    let feed = |feed: wit::Feed| Feed {
        name: feed.name,
        dtype: dtype_from_wit(feed.dtype),
        columns: feed.columns,
    };
    Plan {
        epochs: plan.epochs,
        batch_size: plan.batch_size,
        feeds: plan.feeds.into_iter().map(feed).collect(),
        shuffle: plan.shuffle,
    }
}

fn metrics_from_wit(metrics: Vec<wit::Metric>) -> Metrics {
    metrics.into_iter().map(|metric| (metric.name, metric.value)).collect()
}
