//! Datasets: taken in, described, and kept as a blob of the host's own layout.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use innkeeper_catalog::{
    Catalog, DatasetName, DatasetRecord, Digest, TenantName, UploadLimits, map_nameless,
};
use innkeeper_formats::dataset::{Dataset, Format, Import, ImportLimits};
use innkeeper_sandbox::{Column, Statistics};
use innkeeper_tensor::{Buffer, DType, Tensor};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::TrainError;
use crate::feeds::numbers;
use crate::run::Host;

/// Rows that are looked at in one go.
const ROWS_AT_ONCE: u64 = 4_096;
/// Different texts of a column that can be classes.
const CATEGORIES_MAX: usize = 10_000;
/// Bytes of all of them.
const CATEGORY_BYTES_MAX: usize = 1 << 20;
/// Bytes that go to the catalog in one go.
const CHUNK_BYTES: usize = 4 << 20;

/// How a file is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetOptions {
    /// "csv", "npy", "npz", "parquet" or "jsonl".
    pub format: String,
    /// Whether the first line of a CSV file names the columns.
    #[serde(default = "yes")]
    pub header: bool,
    /// What stands between the cells of a CSV file.
    #[serde(default = "comma")]
    pub delimiter: char,
    /// The dtypes of columns whose own is not the wanted one.
    #[serde(default)]
    pub columns: BTreeMap<String, String>,
    /// What the file was called where it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filename: Option<String>,
}

fn yes() -> bool {
    true
}

fn comma() -> char {
    ','
}

/// What a dataset has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatasetFacts {
    /// How many rows.
    pub rows: u64,
    /// Bytes of them as they are kept.
    pub bytes: u64,
    /// Its columns.
    pub columns: Vec<ColumnFacts>,
}

/// What is known of a column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColumnFacts {
    /// Its name.
    pub name: String,
    /// The type of an element, as the Open Inference Protocol names it.
    pub datatype: String,
    /// The shape of one row's value.
    pub shape: Vec<usize>,
    /// Of its finite numbers: the smallest, the largest, their mean and standard deviation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statistics: Option<[f64; 4]>,
    /// The different texts, sorted, when they are few.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
}

impl DatasetFacts {
    /// What the catalog holds of it.
    ///
    /// # Errors
    /// The catalog's text is none of ours.
    pub fn of(record: &DatasetRecord) -> Result<DatasetFacts, TrainError> {
        serde_json::from_str(&record.schema).map_err(|error| TrainError::Host(error.to_string()))
    }

    pub(crate) fn columns(&self) -> Result<Vec<Column>, TrainError> {
        let column = |facts: &ColumnFacts| {
            let dtype = facts
                .datatype
                .parse::<DType>()
                .map_err(|error| TrainError::Host(error.to_string()))?;
            let statistics = facts.statistics.map(|[min, max, mean, deviation]| Statistics {
                min,
                max,
                mean,
                deviation,
            });
            let (name, shape) = (facts.name.clone(), facts.shape.clone());
            Ok(Column { name, dtype, shape, statistics, categories: facts.categories.clone() })
        };
        self.columns.iter().map(column).collect()
    }
}

/// A file on its way in. It lies in a file without a name, and is gone when this is.
pub struct Received {
    file: File,
    hash: Sha256,
    bytes: u64,
    bytes_max: u64,
}

impl Received {
    pub(crate) fn new(dir: &Path, bytes_max: u64) -> Result<Received, TrainError> {
        let file = scratch(dir)?;
        Ok(Received { file, hash: Sha256::new(), bytes: 0, bytes_max })
    }

    /// Sixteen digits of what it hashes to so far.
    pub fn short_digest(&self) -> String {
        hex::encode(&self.hash.clone().finalize()[..8])
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`TrainError::Limit`] for `upload_bytes_max`; a full disk.
    pub async fn push(mut self, chunk: Bytes) -> Result<Received, TrainError> {
        let got = self.bytes + chunk.len() as u64;
        if got > self.bytes_max {
            return Err(TrainError::Limit { limit: "upload_bytes_max", max: self.bytes_max, got });
        }
        blocking(move || {
            self.hash.update(&chunk);
            let written = self.file.write_all(&chunk);
            written.map_err(|error| TrainError::io("writing what was sent", &error))?;
            self.bytes = got;
            Ok(self)
        })
        .await
    }
}

/// Makes a dataset of a file that was sent. True if it is new.
pub(crate) async fn create(
    host: &Host,
    name: &DatasetName,
    tenant: &TenantName,
    options: &DatasetOptions,
    received: Received,
    limits: &innkeeper_predict::Limits,
) -> Result<(DatasetRecord, bool), TrainError> {
    let source = Digest::from_bytes(received.hash.clone().finalize().into());
    let out = scratch(&host.dir)?;
    // What is wrong with the options is told before a process is started for them.
    import_options(options, limits.upload_bytes_max)?;
    let permit = host.imports.acquire().await.map_err(|e| TrainError::Host(e.to_string()))?;
    host.importer.import(received.file, options, limits.upload_bytes_max, &out).await?;
    drop(permit);
    let (facts, bytes) = blocking(move || converted(out)).await?;
    let digest = keep(&host.catalog, tenant, bytes, limits).await?;
    let schema = serde_json::to_string(&facts).map_err(|e| TrainError::Host(e.to_string()))?;
    let options = serde_json::to_string(options).map_err(|e| TrainError::Host(e.to_string()))?;
    let new = DatasetRecord {
        tenant: tenant.clone(),
        name: name.clone(),
        source,
        options,
        digest,
        schema,
        created_ms: 0,
    };
    let is_new = host.catalog.create_dataset(&new, limits.datasets_max).await?;
    Ok((host.catalog.dataset(tenant, name).await?, is_new))
}

/// A dataset's rows, mapped from its blob.
pub(crate) async fn open(catalog: &Catalog, record: &DatasetRecord) -> Result<Dataset, TrainError> {
    let bytes = catalog.blob(&record.digest).await?;
    blocking(move || Ok(Dataset::open(Buffer::shared(Arc::new(bytes)))?)).await
}

pub(crate) fn import_options(
    options: &DatasetOptions,
    bytes_max: u64,
) -> Result<Import, TrainError> {
    let format: Format = options.format.parse().map_err(|_| {
        let got: String = options.format.chars().take(40).collect();
        TrainError::Invalid(format!("format must be csv, npy, npz, parquet or jsonl, got {got:?}"))
    })?;
    let delimiter = u8::try_from(options.delimiter).ok().filter(u8::is_ascii).ok_or_else(|| {
        TrainError::Invalid(format!(
            "delimiter must be one ASCII character, got {:?}",
            options.delimiter
        ))
    })?;
    let column = |(name, dtype): (&String, &String)| match dtype.parse() {
        Ok(dtype) => Ok((name.clone(), dtype)),
        Err(_) => Err(TrainError::Invalid(format!("column {name:?}: there is no dtype {dtype:?}"))),
    };
    let columns = options.columns.iter().map(column).collect::<Result<_, _>>()?;
    let limits = ImportLimits { bytes_max, ..ImportLimits::default() };
    Ok(Import { format, header: options.header, delimiter, columns, limits })
}

/// What was converted, mapped and looked at.
fn converted(out: File) -> Result<(DatasetFacts, Bytes), TrainError> {
    let bytes = map_nameless(out).map_err(|error| TrainError::io("mapping a dataset", &error))?;
    let data = Dataset::open(Buffer::shared(Arc::new(bytes.clone())))?;
    Ok((described(&data, bytes.len() as u64)?, bytes))
}

/// Looks at every row once.
fn described(data: &Dataset, bytes: u64) -> Result<DatasetFacts, TrainError> {
    let schema = data.schema();
    let mut columns = Vec::with_capacity(schema.columns.len());
    for (i, column) in schema.columns.iter().enumerate() {
        let mut known = Known::default();
        let mut start = 0;
        while start < schema.rows {
            let rows: Vec<u64> = (start..schema.rows.min(start + ROWS_AT_ONCE)).collect();
            known.see(&data.gather(i, &rows)?)?;
            start += ROWS_AT_ONCE;
        }
        columns.push(ColumnFacts {
            name: column.name.clone(),
            datatype: column.dtype.name().to_owned(),
            shape: column.shape.clone(),
            statistics: known.statistics(),
            categories: known.categories.unwrap_or_default().into_iter().collect(),
        });
    }
    Ok(DatasetFacts { rows: schema.rows, bytes, columns })
}

/// What is known of a column so far. Mean and deviation by the way of Welford 1962.
struct Known {
    count: u64,
    min: f64,
    max: f64,
    mean: f64,
    squares: f64,
    /// None when there are too many.
    categories: Option<BTreeSet<String>>,
    category_bytes: usize,
}

impl Default for Known {
    fn default() -> Known {
        Known {
            count: 0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            mean: 0.0,
            squares: 0.0,
            categories: Some(BTreeSet::new()),
            category_bytes: 0,
        }
    }
}

impl Known {
    fn see(&mut self, values: &Tensor) -> Result<(), TrainError> {
        if values.dtype() == DType::Bytes {
            return self.see_text(values);
        }
        for value in numbers(values)?.into_iter().filter(|value| value.is_finite()) {
            self.count += 1;
            self.min = self.min.min(value);
            self.max = self.max.max(value);
            let away = value - self.mean;
            self.mean += away / self.count as f64;
            self.squares += away * (value - self.mean);
        }
        Ok(())
    }

    fn see_text(&mut self, values: &Tensor) -> Result<(), TrainError> {
        let strings = values.strings().map_err(|error| TrainError::Host(error.to_string()))?;
        for text in strings {
            let Some(known) = &mut self.categories else { return Ok(()) };
            let text = String::from_utf8_lossy(text);
            if known.contains(text.as_ref()) {
                continue;
            }
            self.category_bytes += text.len();
            known.insert(text.into_owned());
            if known.len() > CATEGORIES_MAX || self.category_bytes > CATEGORY_BYTES_MAX {
                self.categories = None;
            }
        }
        Ok(())
    }

    fn statistics(&self) -> Option<[f64; 4]> {
        let deviation = (self.squares / self.count.max(1) as f64).sqrt();
        (self.count > 0).then_some([self.min, self.max, self.mean, deviation])
    }
}

/// Stores the bytes as a blob of the tenant's, in parts.
async fn keep(
    catalog: &Catalog,
    tenant: &TenantName,
    bytes: Bytes,
    limits: &innkeeper_predict::Limits,
) -> Result<Digest, TrainError> {
    let (digest, bytes) = blocking(move || Ok((Digest::of(&bytes), bytes))).await?;
    let limits = UploadLimits {
        stored_bytes_max: limits.stored_bytes_max,
        upload_bytes_max: limits.upload_bytes_max,
        uploads_max: u64::MAX,
    };
    let upload = catalog.begin_upload(tenant, &limits).await?;
    let sent = async {
        let mut offset = 0;
        while (offset as usize) < bytes.len() {
            let end = bytes.len().min(offset as usize + CHUNK_BYTES);
            let chunk = bytes.slice(offset as usize..end);
            offset = catalog.append(tenant, &upload, offset, chunk, &limits).await?;
        }
        catalog.finish_upload(tenant, &upload, &digest).await
    };
    match sent.await {
        Ok(_) => Ok(digest),
        Err(error) => {
            if let Err(error) = catalog.cancel_upload(tenant, &upload).await {
                tracing::warn!(%error, "an upload that failed is left to the sweep");
            }
            Err(error.into())
        }
    }
}

/// A file without a name.
pub(crate) fn scratch(dir: &Path) -> Result<File, TrainError> {
    tempfile::tempfile_in(dir).map_err(|error| TrainError::io("making a file", &error))
}

/// Runs what blocks on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TrainError> + Send + 'static,
) -> Result<T, TrainError> {
    let panicked = |_| TrainError::Host("a step panicked; the host's log says where".into());
    tokio::task::spawn_blocking(work).await.map_err(panicked)?
}
