//! Data to learn from: a file of rows is converted once into a layout that is mapped and read by row.
//!
//! The layout is a safetensors file whose metadata describes the columns. A column of numbers is one tensor, its first
//! dimension the rows; text is two, where each row begins and all bytes. Nothing is held in memory whole: a file is read
//! twice, once to learn what its columns are and once to write them.

mod cells;
mod csv;
mod error;
mod jsonl;
mod npy;
#[cfg(feature = "parquet")]
mod parquet;
mod permutation;
mod write;

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::str::FromStr;
use std::sync::Arc;

use innkeeper_tensor::{Buffer, DType, Shape, Tensor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::safetensors;

pub use cells::push_number;
pub use error::DatasetError;
pub use permutation::Permutation;

/// The key of the metadata that describes the columns.
const SCHEMA: &str = "innkeeper.dataset";

/// What a file of rows is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values, RFC 4180.
    Csv,
    /// One array of NumPy's; the rows are its first dimension.
    Npy,
    /// Several arrays of NumPy's, each a column, with equally many rows.
    Npz,
    /// Apache Parquet.
    Parquet,
    /// One JSON object on each line.
    JsonLines,
}

impl Format {
    const NAMES: [(Format, &'static str); 5] = [
        (Format::Csv, "csv"),
        (Format::Npy, "npy"),
        (Format::Npz, "npz"),
        (Format::Parquet, "parquet"),
        (Format::JsonLines, "jsonl"),
    ];

    /// The format that the end of a file's name says.
    pub fn of_name(name: &str) -> Option<Format> {
        let end = name.rsplit_once('.')?.1.to_ascii_lowercase();
        end.parse().ok().or((end == "ndjson").then_some(Format::JsonLines))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Format::NAMES.iter().find(|(format, _)| format == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Format, String> {
        let found = Format::NAMES.iter().find(|(_, name)| *name == text);
        found.map(|(format, _)| *format).ok_or_else(|| format!("{text:?} is no format of data"))
    }
}

/// How a file is converted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// What it is written in.
    pub format: Format,
    /// Whether the first line of a CSV file names the columns; else they are `column1`, `column2`, ...
    pub header: bool,
    /// What stands between the cells of a CSV file.
    pub delimiter: u8,
    /// The dtypes of columns whose own is not the wanted one.
    pub columns: Vec<(String, DType)>,
    /// How much of it may be there.
    pub limits: ImportLimits,
}

/// How much of a file may be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportLimits {
    /// Rows.
    pub rows_max: u64,
    /// Columns.
    pub columns_max: usize,
    /// Bytes of one row as it is written.
    pub row_bytes_max: usize,
    /// Bytes of what comes out.
    pub bytes_max: u64,
}

impl Default for ImportLimits {
    fn default() -> ImportLimits {
        ImportLimits {
            rows_max: 1 << 40,
            columns_max: 16_384,
            row_bytes_max: 16 << 20,
            bytes_max: 1 << 40,
        }
    }
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    #[serde(rename = "datatype", serialize_with = "write_dtype", deserialize_with = "read_dtype")]
    pub dtype: DType,
    /// The shape of one row's value: `[]` for one number or text.
    pub shape: Vec<usize>,
}

fn write_dtype<S: Serializer>(dtype: &DType, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(dtype.name())
}

fn read_dtype<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DType, D::Error> {
    let name = String::deserialize(deserializer)?;
    name.parse().map_err(serde::de::Error::custom)
}

/// What a dataset has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// How many rows.
    pub rows: u64,
    /// Its columns, in the order of the file.
    pub columns: Vec<Column>,
}

/// Converts a file. Types are those of the first row, but whole numbers may go on as others: true and false become BOOL,
/// whole numbers INT64, other numbers FP32, everything else text (BYTES). What does not fit is an error, unless a column
/// is declared to be something else.
///
/// # Errors
/// [`DatasetError`], with the line and the column of what is wrong.
///
/// # Panics
/// Whatever the bytes, it does not by itself; the library that reads Parquet may, and may take much memory for a small
/// file. Files from outside are for a process of their own.
pub fn import(
    mut source: impl Read + Seek + Send + 'static,
    import: &Import,
    out: &mut File,
) -> Result<Schema, DatasetError> {
    source.seek(SeekFrom::Start(0)).map_err(DatasetError::read)?;
    match import.format {
        Format::Csv => write::cells(&mut csv::Csv::new(&mut source, import), import, out),
        Format::JsonLines => write::cells(&mut jsonl::Lines::new(&mut source, import), import, out),
        Format::Npy => npy::npy(&mut source, import, out),
        Format::Npz => npy::npz(&mut source, import, out),
        #[cfg(feature = "parquet")]
        Format::Parquet => write::cells(&mut parquet::Parquet::new(source, import)?, import, out),
        #[cfg(not(feature = "parquet"))]
        Format::Parquet => Err(DatasetError::Malformed(
            "this build reads no Parquet; save it as CSV, JSON Lines or .npz".into(),
        )),
    }
}

/// A converted file.
#[derive(Clone)]
pub struct Dataset(Arc<Inner>);

struct Inner {
    schema: Schema,
    columns: Vec<Kept>,
}

enum Kept {
    Numbers(Tensor),
    Text { offsets: Tensor, bytes: Tensor },
}

impl Dataset {
    /// Opens what [`import`] wrote.
    ///
    /// # Errors
    /// [`DatasetError::Malformed`]: it is something else.
    pub fn open(file: Buffer) -> Result<Dataset, DatasetError> {
        let malformed = |error: &dyn fmt::Display| {
            DatasetError::Malformed(format!("it is no converted dataset: {error}"))
        };
        let metadata = safetensors::metadata(&file).map_err(|error| malformed(&error))?;
        let schema = metadata.get(SCHEMA).ok_or_else(|| malformed(&"it has no schema"))?;
        let schema: Schema = serde_json::from_str(schema).map_err(|error| malformed(&error))?;
        let mut tensors = safetensors::tensors(&file).map_err(|error| malformed(&error))?;
        let mut columns = Vec::with_capacity(schema.columns.len());
        for (i, column) in schema.columns.iter().enumerate() {
            let mut take = |name: String| {
                tensors.remove(&name).ok_or_else(|| malformed(&format!("it has no tensor {name}")))
            };
            let kept = if column.dtype == DType::Bytes {
                let (offsets, bytes) =
                    (take(format!("c{i}.offsets"))?, take(format!("c{i}.bytes"))?);
                let wanted = Some(offsets.shape().elements() as u64) == schema.rows.checked_add(1);
                if !wanted || offsets.dtype() != DType::Uint64 || bytes.dtype() != DType::Uint8 {
                    return Err(malformed(&format!("column {i} is not what the schema says")));
                }
                Kept::Text { offsets, bytes }
            } else {
                let tensor = take(format!("c{i}"))?;
                let dims = tensor.shape().dims();
                let fits = dims.split_first().is_some_and(|(rows, rest)| {
                    *rows as u64 == schema.rows && rest == column.shape
                });
                if !fits || tensor.dtype() != column.dtype {
                    return Err(malformed(&format!("column {i} is not what the schema says")));
                }
                Kept::Numbers(tensor)
            };
            columns.push(kept);
        }
        Ok(Dataset(Arc::new(Inner { schema, columns })))
    }

    /// What it has.
    pub fn schema(&self) -> &Schema {
        &self.0.schema
    }

    /// These rows of a column, copied: `[rows, ...]`, the rest the shape of one row's value.
    ///
    /// # Errors
    /// [`DatasetError::Malformed`]: there is no such column or row, or the file was changed.
    pub fn gather(&self, column: usize, rows: &[u64]) -> Result<Tensor, DatasetError> {
        let none =
            || DatasetError::Malformed(format!("it has no column {column}, or not all these rows"));
        let kept = self.0.columns.get(column).ok_or_else(none)?;
        if rows.iter().any(|&row| row >= self.0.schema.rows) {
            return Err(none());
        }
        let host = |error: &dyn fmt::Display| DatasetError::Malformed(error.to_string());
        match kept {
            Kept::Numbers(tensor) => {
                rows_of(tensor.as_bytes(), tensor.dtype(), &tensor.shape().dims()[1..], rows)
            }
            Kept::Text { offsets, bytes } => {
                let offset = |i: u64| {
                    let at = usize::try_from(i).ok()?.checked_mul(8)?;
                    let eight = offsets.as_bytes().get(at..at.checked_add(8)?)?;
                    usize::try_from(u64::from_le_bytes(eight.try_into().ok()?)).ok()
                };
                let text = |&row: &u64| {
                    let (start, end) = (offset(row)?, offset(row + 1)?);
                    bytes.as_bytes().get(start..end)
                };
                let texts: Option<Vec<&[u8]>> = rows.iter().map(text).collect();
                Tensor::from_strings(&[rows.len()], &texts.ok_or_else(none)?)
                    .map_err(|error| host(&error))
            }
        }
    }
}

/// These rows, each a value of the shape `row`, of a table whose rows lie one behind another, copied.
///
/// # Errors
/// [`DatasetError::Malformed`]: the table has not all of them.
pub fn rows_of(
    table: &[u8],
    dtype: DType,
    row: &[usize],
    rows: &[u64],
) -> Result<Tensor, DatasetError> {
    let row_bytes = row.iter().product::<usize>() * dtype.size().unwrap_or(0);
    let start = |row: u64| usize::try_from(row).unwrap_or(usize::MAX).saturating_mul(row_bytes);
    let of = |row: u64| table.get(start(row)..start(row).saturating_add(row_bytes));
    if let Some(row) = rows.iter().find(|&&row| of(row).is_none()) {
        return Err(DatasetError::Malformed(format!("there is no row {row}")));
    }
    let buffer = Buffer::aligned(rows.len() * row_bytes, |out| {
        if row_bytes == 0 {
            return;
        }
        for (out, &row) in out.chunks_exact_mut(row_bytes).zip(rows) {
            out.copy_from_slice(of(row).unwrap_or_default());
        }
    });
    let mut dims = vec![rows.len()];
    dims.extend(row);
    let malformed = |error: &dyn fmt::Display| DatasetError::Malformed(error.to_string());
    let shape = Shape::new(&dims).map_err(|error| malformed(&error))?;
    Tensor::new(dtype, shape, buffer).map_err(|error| malformed(&error))
}

#[cfg(test)]
mod tests;
