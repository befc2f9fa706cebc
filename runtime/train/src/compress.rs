//! The journey of a job that compresses: parent, weights, version.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use innkeeper_catalog::{JobRecord, ModelKey, ModelName};
use innkeeper_deploy::compress::{self, Calibration, CompressError, Plan, Report};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::data::blocking;
use crate::jobs::Reporter;
use crate::learn::Told;
use crate::request::{AliasBar, Into};
use crate::run::{Ended, Host};
use crate::{Progress, TrainError};

/// Tensors that the report in a job's events has at most.
const TENSORS_MAX: usize = 1_000;

/// What is compressed, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompressRequest {
    /// The model.
    pub model: ModelName,
    /// Its version or alias; what serves when a request names none otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What weights are kept as: `int8`, `int4`, `bf16` or `fp16`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// How many numbers of `int4` share a scale: 32, 64 or 128.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<usize>,
    /// Which weights become zero: a share such as `"0.5"`, or `"2:4"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prune: Option<String>,
    /// The rank of the product that stands for a matrix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low_rank: Option<usize>,
    /// The version that it makes.
    #[serde(default)]
    pub into: Into,
    /// An alias that stands for it when `relative_error`, `bytes_after` or `bytes_share` is good enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<AliasBar>,
}

impl CompressRequest {
    /// What is to be done.
    ///
    /// # Errors
    /// [`TrainError::Invalid`].
    pub(crate) fn plan(&self) -> Result<Plan, TrainError> {
        let invalid = |error: compress::BadPlan| TrainError::Invalid(error.to_string());
        let to = self.to.as_deref().map(str::parse).transpose().map_err(invalid)?;
        let prune = self.prune.as_deref().map(str::parse).transpose().map_err(invalid)?;
        Plan::new(to, self.group, prune, self.low_rank).map_err(invalid)
    }
}

impl Host {
    /// Compresses a version and publishes what comes of it. There is nothing to go on from after a restart: the same is
    /// done again, and gives the same bytes.
    pub(crate) async fn compress(
        &self,
        record: &JobRecord,
        request: &CompressRequest,
        told: Arc<Told>,
        mut reporter: Reporter,
    ) -> Result<Ended, TrainError> {
        let plan = request.plan()?;
        let key = ModelKey::new(record.model.owner.clone(), request.model.clone());
        let parent = self.version(&key, request.version.as_deref()).await?;
        let mut bundle = self.deployer.bundle(&parent.record).await?;
        bundle.manifest.name = record.model.name.to_string();
        let version = record.version.to_string();
        let made = blocking(move || {
            let (small, report) =
                compress::compress(&bundle, &plan, &Calibration::default(), &version)
                    .map_err(compress_error)?;
            Ok((Bytes::from(small.to_bytes()), report))
        });
        let (small, report) = made.await?;
        reporter.event("report", shown(&report));
        reporter.report(&Progress::default()).await?;
        let alias = request.alias.as_ref();
        self.publish(record, &told, small, alias, metrics(&report)).await
    }
}

/// The report, without its tensors where there are very many.
fn shown(report: &Report) -> serde_json::Value {
    if report.tensors.len() > TENSORS_MAX {
        return json!({ "plan": report.plan, "total": report.total });
    }
    json!(report)
}

/// The numbers that an alias may have a bar for.
fn metrics(report: &Report) -> BTreeMap<String, f64> {
    let total = &report.total;
    let share = total.bytes_after as f64 / total.bytes_before.max(1) as f64;
    BTreeMap::from([
        ("bytes_before".to_owned(), total.bytes_before as f64),
        ("bytes_after".to_owned(), total.bytes_after as f64),
        ("bytes_share".to_owned(), share),
        ("half_squared_distance".to_owned(), total.half_squared_distance),
        ("relative_error".to_owned(), total.relative_error),
    ])
}

fn compress_error(error: CompressError) -> TrainError {
    match error {
        CompressError::Failed(text) => TrainError::Host(text),
        error => TrainError::Invalid(error.to_string()),
    }
}
