//! What the host calls of a trainer.

use std::cell::RefCell;
use std::thread::LocalKey;

use super::Assets;
use super::bindings::innkeeper::model::tensors::NamedTensor;
use super::bindings::innkeeper::model::types;
use super::convert::{dtype, dtype_back};
use super::export::tell_panics;
use super::trainable::exports::innkeeper::model::trainer as wit;
use crate::trainer::{
    Column, Contents, Hyperparameter, Metrics, Position, Setting, SettingKind, Statistics, Task,
    Trainer,
};
use crate::{Error, Outputs, Tensor};

/// A trainer with the place where its one instance stays between calls. [`export_trainer!`](crate::export_trainer)
/// implements it.
pub trait ExportedTrainer {
    /// The trainer.
    type Trainer: Trainer + 'static;

    /// Where `begin` puts it.
    fn instance() -> &'static LocalKey<RefCell<Option<Self::Trainer>>>;
}

impl<E: ExportedTrainer> wit::Guest for E {
    fn describe() -> Result<Vec<wit::Hyperparameter>, types::Error> {
        tell_panics();
        Ok(E::Trainer::hyperparameters().into_iter().map(hyperparameter).collect())
    }

    fn begin(task: wit::Task) -> Result<wit::Plan, types::Error> {
        tell_panics();
        let task = Task {
            settings: task.settings.into_iter().map(|(name, s)| (name, setting_back(s))).collect(),
            seed: task.seed,
            columns: task.columns.into_iter().map(column_back).collect(),
            rows: task.rows,
            validation_rows: task.validation_rows,
            assets: crate::Assets(Assets),
        };
        let (trainer, plan) = E::Trainer::begin(&task)?;
        E::instance().with(|instance| *instance.borrow_mut() = Some(trainer));
        let feed = |feed: crate::trainer::Feed| wit::Feed {
            name: feed.name,
            dtype: dtype(feed.dtype),
            columns: feed.columns,
        };
        Ok(wit::Plan {
            epochs: plan.epochs,
            batch_size: plan.batch_size,
            feeds: plan.feeds.into_iter().map(feed).collect(),
            shuffle: plan.shuffle,
        })
    }

    fn step(
        batch: Vec<NamedTensor>,
        position: wit::Position,
    ) -> Result<Vec<wit::Metric>, types::Error> {
        let wit::Position { epoch, step, steps } = position;
        let position = Position { epoch, step, steps };
        let batch = batch.into_iter().map(super::named).collect();
        with_trainer::<E, _>(|trainer| trainer.step(batch, position)).map(metrics)
    }

    fn evaluate(batch: Vec<NamedTensor>) -> Result<Vec<wit::Metric>, types::Error> {
        let batch = batch.into_iter().map(super::named).collect();
        with_trainer::<E, _>(|trainer| trainer.evaluate(batch)).map(metrics)
    }

    fn save() -> Result<Vec<NamedTensor>, types::Error> {
        with_trainer::<E, _>(Trainer::save).map(named)
    }

    fn restore(state: Vec<NamedTensor>) -> Result<(), types::Error> {
        let state = state.into_iter().map(super::named).collect();
        with_trainer::<E, _>(|trainer| trainer.restore(state))
    }

    fn finish() -> Result<Vec<wit::File>, types::Error> {
        let files = with_trainer::<E, _>(Trainer::finish)?;
        let file = |(name, contents)| {
            let contents = match contents {
                Contents::Tensors(tensors) => wit::Contents::Tensors(named(tensors)),
                Contents::Bytes(bytes) => wit::Contents::Bytes(bytes),
            };
            wit::File { name, contents }
        };
        Ok(files.into_iter().map(file).collect())
    }
}

fn with_trainer<E: ExportedTrainer, T>(
    call: impl FnOnce(&mut E::Trainer) -> Result<T, Error>,
) -> Result<T, types::Error> {
    E::instance().with(|instance| match instance.borrow_mut().as_mut() {
        Some(trainer) => call(trainer).map_err(Into::into),
        None => Err(types::Error::Internal("nothing is being learnt; call begin first".into())),
    })
}

fn named(tensors: Outputs) -> Vec<NamedTensor> {
    let named = |(name, Tensor(value))| NamedTensor { name, value };
    tensors.into_iter().map(named).collect()
}

fn metrics(metrics: Metrics) -> Vec<wit::Metric> {
    metrics.0.into_iter().map(|(name, value)| wit::Metric { name, value }).collect()
}

fn hyperparameter(one: Hyperparameter) -> wit::Hyperparameter {
    let kind = match one.kind {
        SettingKind::Integer(low, high) => wit::SettingKind::Integer((low, high)),
        SettingKind::Number(low, high) => wit::SettingKind::Number((low, high)),
        SettingKind::Flag => wit::SettingKind::Flag,
        SettingKind::Text(words) => wit::SettingKind::Text(words),
        SettingKind::Integers(low, high) => wit::SettingKind::Integers((low, high)),
    };
    let default = one.default.map(setting);
    wit::Hyperparameter { name: one.name, meaning: one.meaning, kind, default }
}

macro_rules! settings {
    ($($case:ident),*) => {
        fn setting(setting: Setting) -> wit::Setting {
            match setting { $(Setting::$case(value) => wit::Setting::$case(value),)* }
        }

        fn setting_back(setting: wit::Setting) -> Setting {
            match setting { $(wit::Setting::$case(value) => Setting::$case(value),)* }
        }
    };
}
settings!(Integer, Number, Flag, Text, Integers);

fn column_back(column: wit::Column) -> Column {
    let statistics = column.statistics.map(|known| Statistics {
        min: known.min,
        max: known.max,
        mean: known.mean,
        deviation: known.deviation,
    });
    Column {
        name: column.name,
        dtype: dtype_back(column.dtype),
        shape: column.shape.into_iter().map(|size| size as usize).collect(),
        statistics,
        categories: column.categories,
    }
}
