//! What learns, and how it becomes the component's.

use crate::{Assets, DType, Error, Inputs, Outputs, Result, Tensor};

/// Something that learns from the data of a job, step by step. The host reads and shuffles the data, calls
/// [`step`](Trainer::step) for each mini-batch, keeps checkpoints, and publishes what [`finish`](Trainer::finish) answers
/// as a new version of the same component.
///
/// For one seed and one list of settings it must do the same each time: chance comes from [`Task::seed`] alone. Between
/// two calls the host may drop the instance; another one begins with the same task and is given back what
/// [`save`](Trainer::save) last answered.
///
/// ```
/// use innkeeper_sdk::train::{Linear, Module, Optimizer, Random, Sgd, Var, without_gradients};
/// use innkeeper_sdk::trainer::{Files, Hyperparameter, Metrics, Plan, Position, Task, Trainer};
/// use innkeeper_sdk::{DType, Inputs, Outputs, Result};
///
/// struct Regression {
///     line: Linear,
///     sgd: Sgd,
/// }
///
/// impl Regression {
///     fn loss(&self, batch: &Inputs) -> Result<Var> {
///         let x = Var::constant(batch.tensor("x")?.share()?);
///         self.line.forward(&x)?.mean_squared_error(batch.tensor("y")?)
///     }
/// }
///
/// #[innkeeper_sdk::trainer]
/// impl Trainer for Regression {
///     fn hyperparameters() -> Vec<Hyperparameter> {
///         vec![
///             Hyperparameter::integer("epochs", "How often all rows are seen.", 1..=1000, 10),
///             Hyperparameter::number("learning_rate", "How far a step goes.", 0.0..=10.0, 0.01),
///         ]
///     }
///
///     fn begin(task: &Task) -> Result<(Self, Plan)> {
///         let plan = Plan::new(task.integer("epochs")? as u32, 32)
///             .feed("x", DType::Fp32, &["x"])
///             .feed("y", DType::Fp32, &["y"]);
///         let line = Linear::new(1, 1, &mut Random::new(task.seed))?;
///         Ok((Regression { line, sgd: Sgd::new(task.number("learning_rate")?) }, plan))
///     }
///
///     fn step(&mut self, batch: Inputs, _: Position) -> Result<Metrics> {
///         let loss = self.loss(&batch)?;
///         self.sgd.step(&self.line.parameters(), &loss.backward()?)?;
///         Ok(Metrics::new().with("loss", loss.item()?))
///     }
///
///     fn evaluate(&mut self, batch: Inputs) -> Result<Metrics> {
///         let loss = without_gradients(|| self.loss(&batch))?;
///         Ok(Metrics::new().with("loss", loss.item()?))
///     }
///
///     fn save(&mut self) -> Result<Outputs> {
///         innkeeper_sdk::trainer::saved(&self.line, &self.sgd)
///     }
///
///     fn restore(&mut self, state: Inputs) -> Result<()> {
///         innkeeper_sdk::trainer::restored(&self.line, &mut self.sgd, state)
///     }
///
///     fn finish(&mut self) -> Result<Files> {
///         Ok(Files::new().tensors("weights.safetensors", innkeeper_sdk::trainer::weights(&self.line)?))
///     }
/// }
/// # fn main() {}
/// ```
pub trait Trainer: Sized {
    /// What a job may choose, the same at every call. The host checks what a job says against it.
    fn hyperparameters() -> Vec<Hyperparameter>;

    /// Makes it ready to learn, and says how. Weights that it begins from are among [`Task::assets`].
    ///
    /// # Errors
    /// Whatever keeps the task from being learnt, such as a column that is missing; the job fails with the text.
    fn begin(task: &Task) -> Result<(Self, Plan)>;

    /// Learns from one mini-batch, and says how it goes: the metric `loss`, and others as it likes, each a mean over the
    /// rows. A job stops at the first loss that is not finite.
    ///
    /// # Errors
    /// The job fails with the text.
    fn step(&mut self, batch: Inputs, position: Position) -> Result<Metrics>;

    /// Judges by one mini-batch, and learns nothing.
    ///
    /// # Errors
    /// The job fails with the text.
    fn evaluate(&mut self, batch: Inputs) -> Result<Metrics>;

    /// Everything that another instance needs to go on as this one would: parameters, the optimiser's state, the state of
    /// random numbers.
    ///
    /// # Errors
    /// The job fails with the text.
    fn save(&mut self) -> Result<Outputs>;

    /// Goes on from what [`save`](Trainer::save) answered.
    ///
    /// # Errors
    /// The job fails with the text.
    fn restore(&mut self, state: Inputs) -> Result<()>;

    /// What has been learnt, as files of the new version. Files of the old one that are not among them stay.
    ///
    /// # Errors
    /// The job fails with the text.
    fn finish(&mut self) -> Result<Files>;
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
    /// Whole numbers, each between these; at most 64.
    Integers(i64, i64),
}

/// Something that a job may choose.
#[derive(Clone, Debug, PartialEq)]
pub struct Hyperparameter {
    /// Its name.
    pub name: String,
    /// What it does, in one sentence.
    pub meaning: String,
    /// What it may be.
    pub kind: SettingKind,
    /// What it is when a job does not say it; a job must where there is none.
    pub default: Option<Setting>,
}

impl Hyperparameter {
    fn of(name: &str, meaning: &str, kind: SettingKind, default: Setting) -> Hyperparameter {
        let (name, meaning) = (name.to_owned(), meaning.to_owned());
        Hyperparameter { name, meaning, kind, default: Some(default) }
    }

    /// A whole number.
    pub fn integer(
        name: &str,
        meaning: &str,
        bounds: std::ops::RangeInclusive<i64>,
        default: i64,
    ) -> Hyperparameter {
        let kind = SettingKind::Integer(*bounds.start(), *bounds.end());
        Hyperparameter::of(name, meaning, kind, Setting::Integer(default))
    }

    /// A number.
    pub fn number(
        name: &str,
        meaning: &str,
        bounds: std::ops::RangeInclusive<f64>,
        default: f64,
    ) -> Hyperparameter {
        let kind = SettingKind::Number(*bounds.start(), *bounds.end());
        Hyperparameter::of(name, meaning, kind, Setting::Number(default))
    }

    /// Yes or no.
    pub fn flag(name: &str, meaning: &str, default: bool) -> Hyperparameter {
        Hyperparameter::of(name, meaning, SettingKind::Flag, Setting::Flag(default))
    }

    /// Any text.
    pub fn text(name: &str, meaning: &str, default: &str) -> Hyperparameter {
        Hyperparameter::choice(name, meaning, &[], default)
    }

    /// One of some words.
    pub fn choice(name: &str, meaning: &str, words: &[&str], default: &str) -> Hyperparameter {
        let words = words.iter().map(|&word| word.to_owned()).collect();
        Hyperparameter::of(name, meaning, SettingKind::Text(words), Setting::Text(default.into()))
    }

    /// Several whole numbers.
    pub fn integers(
        name: &str,
        meaning: &str,
        bounds: std::ops::RangeInclusive<i64>,
        default: &[i64],
    ) -> Hyperparameter {
        let kind = SettingKind::Integers(*bounds.start(), *bounds.end());
        Hyperparameter::of(name, meaning, kind, Setting::Integers(default.to_vec()))
    }

    /// Without a value of its own: each job must say it.
    #[must_use]
    pub fn required(mut self) -> Hyperparameter {
        self.default = None;
        self
    }
}

/// What is known of a column's numbers over all rows.
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

/// A column of the data.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub dtype: DType,
    /// The shape of one row's value: `[]` for one number.
    pub shape: Vec<usize>,
    /// None for text.
    pub statistics: Option<Statistics>,
    /// The different values of text, in the order of their bytes, when they are no more than 10,000.
    pub categories: Vec<String>,
}

impl Column {
    /// How many numbers a row has.
    pub fn width(&self) -> usize {
        self.shape.iter().product()
    }
}

/// What is to be learnt.
#[derive(Debug)]
pub struct Task {
    /// A value for every hyper-parameter.
    pub settings: Vec<(String, Setting)>,
    /// Where all chance comes from.
    pub seed: u64,
    /// What the data has.
    pub columns: Vec<Column>,
    /// Rows to learn from.
    pub rows: u64,
    /// Rows to be judged by; may be 0.
    pub validation_rows: u64,
    /// The files of the version that is trained.
    pub assets: Assets,
}

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $name:ident: $case:ident($value:ident) -> $type:ty = $get:expr;)*) => {
        $(
            $(#[doc = $doc])+
            ///
            /// # Errors
            /// [`Error::Internal`]: there is no hyper-parameter of that name and kind.
            pub fn $name(&self, name: &str) -> Result<$type> {
                match self.setting(name) {
                    Some(Setting::$case($value)) => Ok($get),
                    _ => Err(Error::internal(format!(
                        "there is no hyper-parameter {name:?} of the kind {}", stringify!($name)
                    ))),
                }
            }
        )*
    };
}

impl Task {
    settings! {
        /// A whole number that was chosen.
        integer: Integer(value) -> i64 = *value;
        /// A number that was chosen.
        number: Number(value) -> f64 = *value;
        /// A yes or no that was chosen.
        flag: Flag(value) -> bool = *value;
        /// A text that was chosen.
        text: Text(value) -> &str = value;
        /// Whole numbers that were chosen.
        integers: Integers(value) -> &[i64] = value;
    }

    fn setting(&self, name: &str) -> Option<&Setting> {
        self.settings.iter().find(|(other, _)| other == name).map(|(_, setting)| setting)
    }

    /// The column of this name.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]: there is none. It names those that there are.
    pub fn column(&self, name: &str) -> Result<&Column> {
        self.columns.iter().find(|column| column.name == name).ok_or_else(|| {
            let names: Vec<&str> =
                self.columns.iter().take(20).map(|column| column.name.as_str()).collect();
            let more = if self.columns.len() > 20 { ", ..." } else { "" };
            Error::invalid_argument(format!(
                "the data has no column {name:?}; it has: {}{more}",
                names.join(", ")
            ))
        })
    }
}

/// What a batch has under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    /// The name.
    pub name: String,
    /// What the columns are converted to.
    pub dtype: DType,
    /// One column, whose rows keep their shape, or several, each row of which is flattened and joined.
    pub columns: Vec<String>,
}

/// How it is learnt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How often all rows are seen.
    pub epochs: u32,
    /// Rows of a mini-batch.
    pub batch_size: u32,
    /// What each batch brings.
    pub feeds: Vec<Feed>,
    /// Whether each epoch has the rows in another order.
    pub shuffle: bool,
}

impl Plan {
    /// So many epochs of mini-batches of so many rows, in another order each time.
    pub fn new(epochs: u32, batch_size: u32) -> Plan {
        Plan { epochs, batch_size, feeds: Vec::new(), shuffle: true }
    }

    /// With these columns under `name` in each batch. Numbers become `dtype`, and one that it cannot hold fails the job,
    /// with its row and column; text becomes its position among the column's categories, or stays text for
    /// [`DType::Bytes`]. One column keeps its shape; several are flattened and joined to `[rows, all of them]`.
    #[must_use]
    pub fn feed<S: AsRef<str>>(mut self, name: &str, dtype: DType, columns: &[S]) -> Plan {
        let columns = columns.iter().map(|column| column.as_ref().to_owned()).collect();
        self.feeds.push(Feed { name: name.to_owned(), dtype, columns });
        self
    }

    /// With the rows always in the same order.
    #[must_use]
    pub fn in_order(mut self) -> Plan {
        self.shuffle = false;
        self
    }
}

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// From 0.
    pub epoch: u32,
    /// Steps before this one, over all epochs.
    pub step: u64,
    /// Steps that there will be in all.
    pub steps: u64,
}

/// Numbers that say how it goes, each a mean over the rows of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(pub(crate) Vec<(String, f64)>);

impl Metrics {
    /// None, to begin with.
    pub fn new() -> Metrics {
        Metrics::default()
    }

    /// With this one.
    #[must_use]
    pub fn with(mut self, name: &str, value: f64) -> Metrics {
        self.0.push((name.to_owned(), value));
        self
    }

    /// The value of one.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| *value)
    }
}

/// Files of a new version.
#[derive(Debug, Default)]
pub struct Files(Vec<(String, Contents)>);

/// What a file is made of.
#[derive(Debug)]
pub enum Contents {
    /// A safetensors file of these.
    Tensors(Outputs),
    /// These bytes.
    Bytes(Vec<u8>),
}

impl Files {
    /// None, to begin with.
    pub fn new() -> Files {
        Files::default()
    }

    /// With a safetensors file of these.
    #[must_use]
    pub fn tensors(mut self, name: &str, tensors: Outputs) -> Files {
        self.0.push((name.to_owned(), Contents::Tensors(tensors)));
        self
    }

    /// With a file of these bytes.
    #[must_use]
    pub fn bytes(mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Files {
        self.0.push((name.to_owned(), Contents::Bytes(bytes.into())));
        self
    }
}

impl IntoIterator for Files {
    type Item = (String, Contents);
    type IntoIter = std::vec::IntoIter<(String, Contents)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// The values of a module's parameters under their names.
///
/// # Errors
/// See [`Tensor::share`].
pub fn weights(module: &impl crate::train::Module) -> Result<Outputs> {
    let named = module.named_parameters().into_iter();
    named.map(|(name, parameter)| Ok((name, parameter.value().share()?))).collect()
}

/// Gives a module's parameters the values that are under their names.
///
/// # Errors
/// [`Error::InvalidArgument`]: one is missing, or has another dtype or shape.
pub fn set_weights(module: &impl crate::train::Module, values: &mut Inputs) -> Result<()> {
    for (name, parameter) in module.named_parameters() {
        let value = values.take(&name).ok_or_else(|| {
            Error::invalid_argument(format!("there is no tensor {name:?} among the weights"))
        })?;
        let old = parameter.value();
        if (value.dtype(), value.shape()) != (old.dtype(), old.shape()) {
            return Err(Error::invalid_argument(format!(
                "{name:?} must be {} {:?}, got {} {:?}",
                old.dtype(),
                old.shape(),
                value.dtype(),
                value.shape()
            )));
        }
        parameter.set(value);
    }
    Ok(())
}

/// What [`Trainer::save`] answers for a module and its optimiser: `model.` and the parameters' names, `optimizer.` and
/// those of its state.
///
/// # Errors
/// See [`Tensor::share`].
pub fn saved(
    module: &impl crate::train::Module,
    optimizer: &impl crate::train::Optimizer,
) -> Result<Outputs> {
    let mut state = Outputs::new();
    for (name, value) in weights(module)? {
        state.push(&format!("model.{name}"), value);
    }
    for (name, value) in optimizer.state(&module.named_parameters())? {
        state.push(&format!("optimizer.{name}"), value);
    }
    Ok(state)
}

/// Goes on from what [`saved`] answered.
///
/// # Errors
/// [`Error::InvalidArgument`]: something is missing, or has another dtype or shape.
pub fn restored(
    module: &impl crate::train::Module,
    optimizer: &mut impl crate::train::Optimizer,
    state: Inputs,
) -> Result<()> {
    let (mut model, mut rest) = (Inputs::new(), Vec::<(String, Tensor)>::new());
    for (name, value) in state {
        if let Some(name) = name.strip_prefix("model.") {
            model.push(name, value);
        } else if let Some(name) = name.strip_prefix("optimizer.") {
            rest.push((name.to_owned(), value));
        }
    }
    set_weights(module, &mut model)?;
    optimizer.set_state(&module.named_parameters(), rest.into_iter().collect())
}

/// Exports a trainer. The documentation is at its twin below.
#[cfg(target_family = "wasm")]
#[macro_export]
macro_rules! export_trainer {
    ($trainer:ty) => {
        const _: () = {
            struct ExportedTrainer;

            ::std::thread_local! {
                static INSTANCE: ::std::cell::RefCell<::std::option::Option<$trainer>> = const {
                    ::std::cell::RefCell::new(::std::option::Option::None)
                };
            }

            impl $crate::guest::ExportedTrainer for ExportedTrainer {
                type Trainer = $trainer;

                fn instance() -> &'static ::std::thread::LocalKey<
                    ::std::cell::RefCell<::std::option::Option<$trainer>>,
                > {
                    &INSTANCE
                }
            }

            $crate::guest::trainable::export!(
                ExportedTrainer with_types_in $crate::guest::trainable
            );
        };
    };
}

/// Makes a type that implements [`Trainer`] the trainer of this component, as `#[innkeeper_sdk::trainer]` on the `impl`
/// does. A component has at most one, beside its model; compiled natively this only checks that the type is a trainer.
#[cfg(not(target_family = "wasm"))]
#[macro_export]
macro_rules! export_trainer {
    ($trainer:ty) => {
        const _: fn() = || {
            fn is_trainer<T: $crate::trainer::Trainer + 'static>() {}
            is_trainer::<$trainer>();
        };
    };
}
