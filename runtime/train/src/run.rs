//! The journey of one job.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use innkeeper_catalog::{
    Catalog, DatasetName, DatasetRecord, JobRecord, ModelKey, VersionName, VersionRecord,
};
use innkeeper_deploy::bundle::{Bundle, Lineage};
use innkeeper_deploy::{Compatibility, DeployRequest, Deployer, Source};
use innkeeper_formats::dataset::{Dataset, Permutation};
use innkeeper_formats::safetensors;
use innkeeper_predict::{Deployment, PredictError, Predictor};
use innkeeper_sandbox::{Cancel, Column, Hyperparameter, Made, Setting, Task, Turn};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

use crate::checkpoint::Folder;
use crate::data::{self, DatasetFacts, blocking};
use crate::feeds::Feeds;
use crate::import::Importer;
use crate::jobs::Reporter;
use crate::learn::{self, Clock, End, Learning, Rows, Told};
use crate::request::{self, AliasBar, TrainRequest};
use crate::{Epoch, TrainError};

/// What jobs are done with.
pub(crate) struct Host {
    pub(crate) catalog: Catalog,
    pub(crate) predictor: Predictor,
    pub(crate) deployer: Deployer,
    /// Where checkpoints lie, and files without a name.
    pub(crate) dir: PathBuf,
    pub(crate) importer: Importer,
    /// A permit for each process that may read data now.
    pub(crate) imports: Semaphore,
}

/// What came of a job that went well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) model: String,
    pub(crate) version: String,
    pub(crate) digest: String,
    pub(crate) metrics: BTreeMap<String, f64>,
    /// The alias that stands for the version now.
    pub(crate) alias: Option<String>,
    /// Why an alias that was asked for does not.
    pub(crate) no_alias: Option<String>,
}

/// How one turn of a job ends.
pub(crate) enum Ended {
    Done(Box<Outcome>),
    Rested,
}

/// A version that another is made of.
pub(crate) struct Parent {
    pub(crate) deployment: Arc<Deployment>,
    pub(crate) record: VersionRecord,
}

impl Host {
    /// The way of a training job: parent, data, trainer, plan, feeds, steps, files, version, alias.
    pub(crate) async fn train(
        &self,
        record: &JobRecord,
        request: &TrainRequest,
        told: Arc<Told>,
        mut reporter: Reporter,
    ) -> Result<Ended, TrainError> {
        let key = ModelKey::new(record.model.owner.clone(), request.model.clone());
        let parent = self.parent(&key, request.version.as_deref()).await?;
        let limits = self.predictor.model_limits(&parent.deployment);
        let (dataset, data, columns) = self.dataset(&key, &request.dataset).await?;
        let (other_dataset, other) = match &request.validation_dataset {
            Some(name) => {
                let (dataset, data, columns) = self.dataset(&key, name).await?;
                (Some(dataset), Some((data, columns)))
            }
            None => (None, None),
        };

        let mut trainer = self
            .predictor
            .trainer(&parent.deployment, &told.cancel)
            .await
            .map_err(predict_error)?;
        let turn = first_turn(&record.id, limits.load_ms_max, &told.cancel);
        let known = trainer.describe(turn.clone()).await?;
        let settings = request::settings(&known, &request.hyperparameters)?;
        let split = split(data.schema().rows, request, other.as_ref().map(|(data, _)| data))?;
        let task = Task {
            settings: settings.clone(),
            seed: request.seed,
            columns: columns.clone(),
            rows: split.rows,
            validation_rows: split.validation_rows,
        };
        let plan = trainer.begin(turn.clone(), &task).await?;
        learn::check(&plan)?;
        let rows = self.rows(data, columns, other, &plan.feeds, split).await?;

        let folder = Folder::of(&self.dir, &record.id);
        let found = folder.clone();
        let at = match blocking(move || found.read()).await? {
            Some((at, state)) => {
                trainer.restore(turn, state).await?;
                reporter.checkpoint_step = at.step;
                at
            }
            None => Default::default(),
        };
        let learning = Learning {
            id: record.id.clone(),
            clock: Clock::new(&at),
            trainer,
            plan,
            rows,
            at,
            seed: request.seed,
            folder,
            told,
            reporter,
            step_ms_max: limits.step_ms_max,
            job_ms_max: limits.job_ms_max,
            checkpoint_every: Duration::from_millis(request.checkpoint_every_ms),
        };
        let panicked = || TrainError::Host("the job panicked; the host's log says where".into());
        let engine = self.predictor.engine();
        let share = self.predictor.share(&parent.deployment.model.owner);
        let learnt = engine.run(learning.learn(), &share, false).await;
        let (mut learning, end) = learnt.ok_or_else(panicked)?;
        if end? == End::Rested {
            return Ok(Ended::Rested);
        }
        let turn = learning.turn();
        let made = learning.trainer.finish(turn).await?;
        let last = learning.at.history.last().cloned().unwrap_or_default();
        let data = (&dataset, other_dataset.as_ref());
        let lineage = lineage(&parent, request, data, &settings, &last);
        let bundle = self.bundle(record, parent, made, lineage).await?;
        let alias = request.alias.as_ref();
        self.publish(record, &learning.told, bundle, alias, last.metrics).await
    }

    /// The version that is trained, see [`Host::version`].
    pub(crate) async fn parent(
        &self,
        key: &ModelKey,
        slot: Option<&str>,
    ) -> Result<Parent, TrainError> {
        let parent = self.version(key, slot).await?;
        if !self.predictor.has_trainer(&parent.deployment).await.map_err(predict_error)? {
            return Err(TrainError::Invalid(format!(
                "version {} of model {} has no trainer: its component exports a model alone; add one with \
                 #[innkeeper_sdk::trainer]",
                parent.record.version, key.name
            )));
        }
        Ok(parent)
    }

    /// A version, which must be the tenant's own: its parts become parts of another one.
    pub(crate) async fn version(
        &self,
        key: &ModelKey,
        slot: Option<&str>,
    ) -> Result<Parent, TrainError> {
        let endpoint = self.predictor.endpoint(&key.owner, key.owner.as_str(), key.name.as_str());
        let not_found = |error: innkeeper_predict::NotFound| TrainError::Invalid(error.to_string());
        let endpoint = endpoint.map_err(not_found)?;
        let deployment = Arc::clone(endpoint.kept(slot).map_err(not_found)?);
        let record = self.catalog.version(key, &deployment.version).await?;
        Ok(Parent { deployment, record })
    }

    /// The hyper-parameters of a version.
    pub(crate) async fn hyperparameters(
        &self,
        parent: &Parent,
    ) -> Result<Vec<Hyperparameter>, TrainError> {
        let cancel = Cancel::default();
        // Whoever asks may go away; then the guest stops, too.
        let _guard = cancel.on_drop();
        let limits = self.predictor.model_limits(&parent.deployment);
        let mut trainer =
            self.predictor.trainer(&parent.deployment, &cancel).await.map_err(predict_error)?;
        let turn = first_turn("", limits.load_ms_max, &cancel);
        let describe = async move { trainer.describe(turn).await };
        let panicked = || TrainError::Host("a trainer's description panicked".into());
        let share = self.predictor.share(&parent.deployment.model.owner);
        let described = self.predictor.engine().run(describe, &share, true).await;
        let described = described.ok_or_else(panicked)?;
        Ok(described?)
    }

    async fn dataset(
        &self,
        key: &ModelKey,
        name: &DatasetName,
    ) -> Result<(DatasetRecord, Dataset, Vec<Column>), TrainError> {
        let record = self.catalog.dataset(&key.owner, name).await?;
        let columns = DatasetFacts::of(&record)?.columns()?;
        let data = data::open(&self.catalog, &record).await?;
        Ok((record, data, columns))
    }

    async fn rows(
        &self,
        data: Dataset,
        columns: Vec<Column>,
        other: Option<(Dataset, Vec<Column>)>,
        feeds: &[innkeeper_sandbox::Feed],
        split: Split,
    ) -> Result<Rows, TrainError> {
        let (dir, wanted) = (self.dir.clone(), feeds.to_vec());
        blocking(move || {
            let feeds = Feeds::prepare(&data, &columns, &wanted, &dir)?;
            let other = match other {
                Some((other, theirs)) => {
                    // Classes are those of the data that is learnt from.
                    let theirs = with_categories(theirs, &columns);
                    let feeds = Feeds::prepare(&other, &theirs, &wanted, &dir)?;
                    Some((other, feeds))
                }
                None => None,
            };
            let Split { drawn, held_out, rows, validation_rows } = split;
            Ok(Rows { data, feeds, drawn, held_out, rows, other, validation_rows })
        })
        .await
    }

    /// The parent's component with what was made in place of its files of the same names.
    async fn bundle(
        &self,
        record: &JobRecord,
        parent: Parent,
        made: Vec<Made>,
        lineage: Lineage,
    ) -> Result<Bytes, TrainError> {
        let Bundle { mut manifest, component, assets, .. } =
            self.deployer.bundle(&parent.record).await?;
        let names = manifest.assets.iter().map(|asset| asset.name.clone());
        let whole = |(name, bytes): (String, Option<Bytes>)| bytes.map(|bytes| (name, bytes));
        let mut assets: Vec<(String, Bytes)> = names.zip(assets).filter_map(whole).collect();
        for file in made {
            assets.push(written(file)?);
        }
        manifest.name = record.model.name.to_string();
        manifest.version = Some(record.version.to_string());
        manifest.lineage = Some(lineage);
        blocking(move || {
            let bundle = Bundle::of(manifest, component, assets).map_err(|error| {
                TrainError::Trainer(format!("made what cannot be published: {error}"))
            })?;
            Ok(Bytes::from(bundle.to_bytes()))
        })
        .await
    }

    /// Publishes what a job of any kind made, unless it was cancelled, and sets the alias that was asked for.
    pub(crate) async fn publish(
        &self,
        record: &JobRecord,
        told: &Told,
        bundle: Bytes,
        bar: Option<&AliasBar>,
        metrics: BTreeMap<String, f64>,
    ) -> Result<Ended, TrainError> {
        told.publish()?;
        let deployed = self
            .deployer
            .deploy(DeployRequest {
                tenant: record.model.owner.clone(),
                model: record.model.name.clone(),
                version: record.version.clone(),
                aliases: Vec::new(),
                compatibility: Compatibility::Required,
                source: Source::Bundle(bundle),
            })
            .await?;
        let (alias, no_alias) = self.alias(&record.model, &record.version, bar, &metrics).await;
        Ok(Ended::Done(Box::new(Outcome {
            model: record.model.name.to_string(),
            version: record.version.to_string(),
            digest: deployed.record.digest.to_string(),
            metrics,
            alias,
            no_alias,
        })))
    }

    /// Sets the alias that was asked for, if the numbers are good enough; else why it is not set. The version stays
    /// published in any case.
    async fn alias(
        &self,
        key: &ModelKey,
        version: &VersionName,
        bar: Option<&AliasBar>,
        metrics: &BTreeMap<String, f64>,
    ) -> (Option<String>, Option<String>) {
        let Some(bar) = bar else { return (None, None) };
        if let Some(why) = bar.below(metrics) {
            return (None, Some(why));
        }
        let compatibility = if bar.force { Compatibility::Forced } else { Compatibility::Required };
        match self.deployer.set_alias(key, &bar.name, version, compatibility).await {
            Ok(()) => (Some(bar.name.to_string()), None),
            Err(error) => (None, Some(error.to_string())),
        }
    }
}

/// How the new version came about. The datasets are those that it was learnt from and judged by, as they were then.
fn lineage(
    parent: &Parent,
    request: &TrainRequest,
    (dataset, other): (&DatasetRecord, Option<&DatasetRecord>),
    settings: &[(String, Setting)],
    last: &Epoch,
) -> Lineage {
    let told = |record: &DatasetRecord| json!({ "name": record.name.as_str(), "digest": record.source.to_string() });
    let mut facts = Map::new();
    facts.insert("model".into(), json!(parent.record.model.name.as_str()));
    facts.insert("version".into(), json!(parent.record.version.as_str()));
    facts.insert("dataset".into(), told(dataset));
    match other {
        Some(other) => facts.insert("validation_dataset".into(), told(other)),
        None => facts.insert("validation_fraction".into(), json!(request.validation_fraction)),
    };
    let settings: BTreeMap<&str, Value> =
        settings.iter().map(|(name, setting)| (name.as_str(), request::json(setting))).collect();
    facts.insert("hyperparameters".into(), json!(settings));
    facts.insert("seed".into(), json!(request.seed));
    facts.insert("metrics".into(), json!(last.metrics));
    Lineage { kind: "train".into(), parent: parent.record.digest, facts }
}

fn predict_error(error: PredictError) -> TrainError {
    match error {
        PredictError::Guest(error) => TrainError::Guest(error),
        error => TrainError::Host(error.to_string()),
    }
}

fn first_turn(id: &str, load_ms_max: u64, cancel: &Cancel) -> Turn {
    Turn {
        id: id.to_owned(),
        deadline: std::time::Instant::now() + Duration::from_millis(load_ms_max),
        limit: "load_ms_max",
        limit_ms: load_ms_max,
        cancel: cancel.clone(),
    }
}

struct Split {
    drawn: Permutation,
    held_out: u64,
    rows: u64,
    validation_rows: u64,
}

/// Which rows are learnt from. The seed draws those that are held out.
fn split(rows: u64, request: &TrainRequest, other: Option<&Dataset>) -> Result<Split, TrainError> {
    let drawn = Permutation::new(rows, request.seed);
    let held_out = match other {
        Some(_) => 0,
        None => (rows as f64 * request.validation_fraction).round() as u64,
    };
    let left = rows.saturating_sub(held_out);
    if left == 0 {
        return Err(TrainError::Invalid(format!(
            "dataset {} has {rows} rows, of which none is left to learn from beside {held_out} for judging",
            request.dataset
        )));
    }
    let validation_rows = other.map_or(held_out, |other| other.schema().rows);
    Ok(Split { drawn, held_out, rows: left, validation_rows })
}

fn with_categories(mut columns: Vec<Column>, known: &[Column]) -> Vec<Column> {
    for column in &mut columns {
        if let Some(known) = known.iter().find(|known| known.name == column.name) {
            column.categories.clone_from(&known.categories);
        }
    }
    columns
}

fn written(file: Made) -> Result<(String, Bytes), TrainError> {
    match file {
        Made::Bytes(name, bytes) => Ok((name, bytes.into())),
        Made::Tensors(name, tensors) => {
            let bytes = safetensors::to_bytes(&tensors, &[]);
            let wrong = |error| TrainError::Trainer(format!("made a file {name:?}: {error}"));
            Ok((name.clone(), bytes.map_err(wrong)?.into()))
        }
    }
}
