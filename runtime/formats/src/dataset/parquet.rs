//! Apache Parquet: columns of numbers, true and false, text and lists of numbers; dates and times are kept as text.

use std::io::{BufReader, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, FileReader, Length, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, List};

use super::cells::Cell;
use super::error::shown;
use super::write::Table;
use super::{DatasetError, Import};

/// A file of rows, read from its beginning as often as is wanted.
pub(super) struct Parquet<R: Read + Seek + Send + 'static> {
    source: Source<R>,
    names: Vec<String>,
    rows: Option<RowIter<'static>>,
    row: u64,
    bytes_max: usize,
}

impl<R: Read + Seek + Send + 'static> Parquet<R> {
    pub(super) fn new(mut source: R, import: &Import) -> Result<Parquet<R>, DatasetError> {
        let bytes = source.seek(SeekFrom::End(0)).map_err(DatasetError::read)?;
        let source = Source { file: Arc::new(Mutex::new(source)), bytes };
        let bytes_max = import.limits.row_bytes_max;
        Ok(Parquet { source, names: Vec::new(), rows: None, row: 0, bytes_max })
    }
}

impl<R: Read + Seek + Send + 'static> Table for Parquet<R> {
    fn rewind(&mut self) -> Result<(), DatasetError> {
        let reader =
            SerializedFileReader::new(self.source.clone()).map_err(|error| whole(&error))?;
        let schema = reader.metadata().file_metadata().schema();
        self.names = schema.get_fields().iter().map(|field| field.name().to_owned()).collect();
        self.rows = Some(RowIter::from_file_into(Box::new(reader)));
        self.row = 0;
        Ok(())
    }

    fn names(&self) -> &[String] {
        &self.names
    }

    fn next(&mut self, cells: &mut Vec<Cell>) -> Result<Option<u64>, DatasetError> {
        let Some(row) = self.rows.as_mut().and_then(Iterator::next) else { return Ok(None) };
        self.row += 1;
        let row = row.map_err(|error| whole(&error))?;
        cells.clear();
        for (i, (name, field)) in row.into_columns().into_iter().enumerate() {
            let got = || shown(&field.to_string());
            let cell = cell(&field).map_err(|wanted| DatasetError::Cell {
                line: self.row,
                number: i + 1,
                column: name,
                wanted: wanted.into(),
                got: got(),
            })?;
            cells.push(cell);
        }
        let bytes = cells.iter().fold(0usize, |sum, cell| sum.saturating_add(bytes_of(cell)));
        if bytes > self.bytes_max {
            let why = format!("the row is longer than row_bytes_max of {}", self.bytes_max);
            return Err(DatasetError::Row { line: self.row, why });
        }
        Ok(Some(self.row))
    }
}

fn bytes_of(cell: &Cell) -> usize {
    match cell {
        Cell::Text(text) | Cell::Written(text) => text.len(),
        Cell::List { numbers, .. } => size_of_val(&numbers[..]),
        Cell::Bool(_) | Cell::Integer(_) | Cell::Number(_) => 8,
    }
}

fn whole(error: &ParquetError) -> DatasetError {
    DatasetError::Malformed(format!("it is no Parquet file that can be read: {error}"))
}

const WANTED: &str = "a number, true or false, text or a list of numbers";

fn cell(field: &Field) -> Result<Cell, &'static str> {
    Ok(match field {
        Field::Bool(value) => Cell::Bool(*value),
        Field::ULong(value) => match i64::try_from(*value) {
            Ok(value) => Cell::Integer(value),
            Err(_) => Cell::Number(*value as f64),
        },
        Field::Str(text) => Cell::Text(text.clone()),
        Field::Bytes(bytes) => {
            let text = bytes.as_utf8().map_err(|_| "bytes that are text in UTF-8")?;
            Cell::Text(text.to_owned())
        }
        Field::Date(_)
        | Field::TimeMillis(_)
        | Field::TimeMicros(_)
        | Field::TimestampMillis(_)
        | Field::TimestampMicros(_) => Cell::Text(field.to_string()),
        Field::ListInternal(elements) => list(elements)?,
        Field::Null => return Err("a value in every row"),
        Field::Group(_) | Field::MapInternal(_) => return Err(WANTED),
        _ => match whole_number(field) {
            Some(value) => Cell::Integer(value),
            None => Cell::Number(number(field).ok_or(WANTED)?),
        },
    })
}

fn whole_number(field: &Field) -> Option<i64> {
    Some(match field {
        Field::Byte(value) => i64::from(*value),
        Field::Short(value) => i64::from(*value),
        Field::Int(value) => i64::from(*value),
        Field::Long(value) => *value,
        Field::UByte(value) => i64::from(*value),
        Field::UShort(value) => i64::from(*value),
        Field::UInt(value) => i64::from(*value),
        _ => return None,
    })
}

fn number(field: &Field) -> Option<f64> {
    match field {
        Field::Float16(value) => Some(value.to_f64()),
        Field::Float(value) => Some(f64::from(*value)),
        Field::Double(value) => Some(*value),
        // Digits with a point, as it is written.
        Field::Decimal(_) => field.to_string().parse().ok(),
        _ => None,
    }
}

/// Lists in lists, all of one level equally long; a list of none has none within.
fn list(list: &List) -> Result<Cell, &'static str> {
    const RANK_MAX: usize = 8;
    let mut shape = vec![list.len()];
    let mut first = list.elements().first();
    while let Some(Field::ListInternal(inner)) = first {
        shape.push(inner.len());
        if shape.len() > RANK_MAX {
            return Err("lists in lists of at most 8 levels");
        }
        first = inner.elements().first();
    }
    let (mut numbers, mut whole) = (Vec::new(), true);
    collect(list, &shape, &mut numbers, &mut whole)?;
    Ok(Cell::List { shape, numbers, whole })
}

fn collect(
    list: &List,
    shape: &[usize],
    numbers: &mut Vec<f64>,
    whole: &mut bool,
) -> Result<(), &'static str> {
    const WANTED: &str = "numbers, all lists of one level equally long";
    let [size, rest @ ..] = shape else { return Err(WANTED) };
    if list.len() != *size {
        return Err(WANTED);
    }
    for element in list.elements() {
        match (element, rest) {
            (Field::ListInternal(inner), [_, ..]) => collect(inner, rest, numbers, whole)?,
            (element, []) => {
                let integer = whole_number(element);
                // Beyond 2^53 a whole number would not come out as it went in.
                *whole &= integer.is_some_and(|value| value.unsigned_abs() <= 1 << 53);
                let value = integer.map(|value| value as f64).or_else(|| number(element));
                numbers.push(value.ok_or(WANTED)?);
            }
            _ => return Err(WANTED),
        }
    }
    Ok(())
}

/// A file that several readers share, each at a place of its own.
struct Source<R> {
    file: Arc<Mutex<R>>,
    bytes: u64,
}

impl<R> Clone for Source<R> {
    fn clone(&self) -> Source<R> {
        Source { file: self.file.clone(), bytes: self.bytes }
    }
}

impl<R> Length for Source<R> {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl<R: Read + Seek + Send + 'static> ChunkReader for Source<R> {
    type T = BufReader<Place<R>>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(BufReader::new(Place { file: self.file.clone(), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        // What the file claims is not believed before memory is taken for it.
        if start.checked_add(length as u64).is_none_or(|end| end > self.bytes) {
            return Err(ParquetError::EOF(format!(
                "{length} bytes are wanted at {start} of {}",
                self.bytes
            )));
        }
        let mut bytes = vec![0; length];
        Place { file: self.file.clone(), at: start }.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

struct Place<R> {
    file: Arc<Mutex<R>>,
    at: u64,
}

impl<R: Read + Seek> Read for Place<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.at))?;
        let got = file.read(out)?;
        self.at += got as u64;
        Ok(got)
    }
}
