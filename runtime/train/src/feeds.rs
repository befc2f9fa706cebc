//! What a trainer's batches are made of: columns, converted and joined once, then cut into mini-batches.

use std::io::{BufWriter, Write};
use std::path::Path;

use bytes::Bytes;
use innkeeper_catalog::map_nameless;
use innkeeper_formats::dataset::{Dataset, push_number, rows_of};
use innkeeper_sandbox::{Column, Feed};
use innkeeper_tensor::{DType, Named, Tensor, bf16, f16};

use crate::TrainError;
use crate::data::scratch;

/// Rows that are converted in one go.
const ROWS_AT_ONCE: u64 = 1_024;
/// Feeds of one trainer.
const FEEDS_MAX: usize = 64;

/// Every feed of a trainer, ready to be cut into batches.
pub(crate) struct Feeds(Vec<Ready>);

struct Ready {
    name: String,
    source: Source,
}

enum Source {
    /// Rows of equal size, one after another, in a file without a name.
    Rows { bytes: Bytes, dtype: DType, row: Vec<usize> },
    /// A column as it is kept.
    Column(usize),
}

impl Feeds {
    /// Converts what must be converted, each value checked. It blocks, and reads all rows.
    ///
    /// # Errors
    /// [`TrainError::Trainer`] for feeds that make no sense, [`TrainError::Value`] for a value that cannot be converted.
    pub(crate) fn prepare(
        data: &Dataset,
        columns: &[Column],
        feeds: &[Feed],
        dir: &Path,
    ) -> Result<Feeds, TrainError> {
        if feeds.is_empty() || feeds.len() > FEEDS_MAX {
            let got = feeds.len();
            return Err(TrainError::Trainer(format!(
                "plans {got} feeds; 1 to {FEEDS_MAX} can be given"
            )));
        }
        let ready = |feed: &Feed| {
            let chosen = chosen(columns, feed)?;
            Ok(Ready {
                name: feed.name.clone(),
                source: source(data, columns, &chosen, feed, dir)?,
            })
        };
        Ok(Feeds(feeds.iter().map(ready).collect::<Result<_, TrainError>>()?))
    }

    /// These rows of every feed.
    pub(crate) fn batch(&self, data: &Dataset, rows: &[u64]) -> Result<Vec<Named>, TrainError> {
        let one = |ready: &Ready| {
            let tensor = match &ready.source {
                Source::Column(column) => data.gather(*column, rows)?,
                // The rows are the host's own: one that is not there is its fault.
                Source::Rows { bytes, dtype, row } => rows_of(bytes, *dtype, row, rows)
                    .map_err(|error| TrainError::Host(error.to_string()))?,
            };
            Ok(Named { name: ready.name.clone(), tensor })
        };
        self.0.iter().map(one).collect()
    }
}

fn chosen(columns: &[Column], feed: &Feed) -> Result<Vec<usize>, TrainError> {
    if feed.columns.is_empty() {
        return Err(TrainError::Trainer(format!("plans a feed {:?} of no columns", feed.name)));
    }
    let find = |name: &String| {
        columns.iter().position(|column| column.name == *name).ok_or_else(|| {
            TrainError::Trainer(format!("plans a feed of column {name:?}, which the data lacks"))
        })
    };
    feed.columns.iter().map(find).collect()
}

fn source(
    data: &Dataset,
    columns: &[Column],
    chosen: &[usize],
    feed: &Feed,
    dir: &Path,
) -> Result<Source, TrainError> {
    let texts = chosen.iter().filter(|&&i| columns[i].dtype == DType::Bytes).count();
    match (chosen, texts, feed.dtype) {
        (&[one], 1, DType::Bytes) => return Ok(Source::Column(one)),
        (&[one], 1, _) if columns[one].categories.is_empty() => {
            return Err(TrainError::Invalid(format!(
                "column {:?} has too many different texts to be classes",
                columns[one].name
            )));
        }
        (&[_], 1, DType::Int32 | DType::Int64) => {}
        (_, 0, DType::Bytes) | (_, 1.., _) => {
            return Err(TrainError::Trainer(format!(
                "plans a feed {:?} of {} from {} columns, {texts} of them text; text is given as BYTES, or as INT32 or \
                 INT64 classes, one column at a time",
                feed.name,
                feed.dtype.name(),
                chosen.len()
            )));
        }
        _ => {}
    }
    let row = match chosen {
        [one] => columns[*one].shape.clone(),
        several => vec![several.iter().map(|&i| width(&columns[i])).sum()],
    };
    written(data, columns, chosen, feed.dtype, row, dir)
}

fn width(column: &Column) -> usize {
    column.shape.iter().product()
}

fn written(
    data: &Dataset,
    columns: &[Column],
    chosen: &[usize],
    dtype: DType,
    row: Vec<usize>,
    dir: &Path,
) -> Result<Source, TrainError> {
    let io = |error: std::io::Error| TrainError::io("writing rows", &error);
    let file = scratch(dir)?;
    let mut out = BufWriter::with_capacity(1 << 20, &file);
    let total = data.schema().rows;
    let mut start = 0;
    let mut bytes = Vec::new();
    while start < total {
        let rows: Vec<u64> = (start..total.min(start + ROWS_AT_ONCE)).collect();
        let parts = chosen.iter().map(|&i| {
            let column = &columns[i];
            Ok((converted(&data.gather(i, &rows)?, column, dtype, start)?, width(column)))
        });
        let parts: Vec<(Vec<u8>, usize)> = parts.collect::<Result<_, TrainError>>()?;
        bytes.clear();
        for row in 0..rows.len() {
            for (part, width) in &parts {
                let size = width * size(dtype);
                bytes.extend_from_slice(&part[row * size..][..size]);
            }
        }
        out.write_all(&bytes).map_err(io)?;
        start += ROWS_AT_ONCE;
    }
    out.flush().map_err(io)?;
    drop(out);
    let bytes = map_nameless(file).map_err(io)?;
    Ok(Source::Rows { bytes, dtype, row })
}

/// A column's values as bytes of another dtype.
fn converted(
    values: &Tensor,
    column: &Column,
    to: DType,
    first_row: u64,
) -> Result<Vec<u8>, TrainError> {
    let width = width(column).max(1);
    let wrong = |i: usize, got: String, wanted: String| TrainError::Value {
        row: first_row + (i / width) as u64 + 1,
        column: column.name.clone(),
        got,
        wanted,
    };
    let numbers = if values.dtype() == DType::Bytes {
        classes(values, column)?
    } else if values.dtype() == to && !is_float(to) {
        return Ok(values.as_bytes().to_vec());
    } else {
        numbers(values)?
    };
    let mut out = Vec::with_capacity(numbers.len() * size(to));
    for (i, &value) in numbers.iter().enumerate() {
        if !value.is_finite() {
            return Err(wrong(i, value.to_string(), "a finite number".into()));
        }
        if !push_number(&mut out, to, value) {
            return Err(wrong(i, value.to_string(), format!("a number that {} has", to.name())));
        }
    }
    Ok(out)
}

/// Bytes of a number. Text is not written here.
fn size(dtype: DType) -> usize {
    dtype.size().unwrap_or(0)
}

fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::Fp16 | DType::Bf16 | DType::Fp32 | DType::Fp64)
}

/// The position of each text among the column's.
fn classes(values: &Tensor, column: &Column) -> Result<Vec<f64>, TrainError> {
    let strings = values.strings().map_err(|error| TrainError::Host(error.to_string()))?;
    let class = |text: &[u8]| {
        let text = String::from_utf8_lossy(text);
        let found = column.categories.binary_search_by(|known| known.as_str().cmp(&text));
        let position = found.map_err(|_| {
            let text: String = text.chars().take(60).collect();
            TrainError::Invalid(format!("column {:?} has the class {text:?} nowhere", column.name))
        })?;
        Ok(position as f64)
    };
    strings.map(class).collect()
}

/// The elements of a tensor of numbers.
pub(crate) fn numbers(values: &Tensor) -> Result<Vec<f64>, TrainError> {
    macro_rules! read {
        ($type:ty, $of:expr) => {{
            const SIZE: usize = size_of::<$type>();
            let (chunks, _) = values.as_bytes().as_chunks::<SIZE>();
            chunks.iter().map(|bytes| $of(<$type>::from_le_bytes(*bytes))).collect()
        }};
    }
    Ok(match values.dtype() {
        DType::Bool | DType::Uint8 => read!(u8, f64::from),
        DType::Uint16 => read!(u16, f64::from),
        DType::Uint32 => read!(u32, f64::from),
        DType::Uint64 => read!(u64, |v| v as f64),
        DType::Int8 => read!(i8, f64::from),
        DType::Int16 => read!(i16, f64::from),
        DType::Int32 => read!(i32, f64::from),
        DType::Int64 => read!(i64, |v| v as f64),
        DType::Fp16 => read!(f16, f16::to_f64),
        DType::Bf16 => read!(bf16, bf16::to_f64),
        DType::Fp32 => read!(f32, f64::from),
        DType::Fp64 => read!(f64, |v| v),
        DType::Bytes => return Err(TrainError::Host("text was taken for numbers".into())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_where_they_fit() {
        let check = |dtype, value: f64, wanted: Option<&[u8]>| {
            let mut out = Vec::new();
            let fits = push_number(&mut out, dtype, value);
            assert_eq!(fits.then_some(&out[..]), wanted, "{value} as {}", dtype.name());
        };
        check(DType::Int64, 3.0, Some(&3i64.to_le_bytes()));
        check(DType::Int64, 3.5, None);
        check(DType::Int64, 1e300, None);
        check(DType::Uint8, -1.0, None);
        check(DType::Uint8, 255.0, Some(&[255]));
        check(DType::Fp32, 0.1, Some(&0.1f32.to_le_bytes()));
        check(DType::Fp32, 1e300, None);
        check(DType::Fp16, 70_000.0, None);
        check(DType::Bool, 1.0, Some(&[1]));
        check(DType::Bool, 2.0, None);
        check(DType::Bytes, 2.0, None);
    }
}
