//! CSV: RFC 4180, with or without a first line of names.

use std::cell::Cell as Counter;
use std::io::{self, Read, Seek, SeekFrom};
use std::rc::Rc;

use csv::{ByteRecord, ReaderBuilder};

use super::cells::Cell;
use super::error::shown;
use super::write::Table;
use super::{DatasetError, Import};

pub(super) struct Csv<'a, R> {
    reader: csv::Reader<Bounded<&'a mut R>>,
    import: &'a Import,
    read: Rc<Counter<u64>>,
    names: Vec<String>,
    record: ByteRecord,
    /// Whether the record holds a row that was read for the sake of its length.
    kept: bool,
}

/// Stops within a record that does not end, such as one behind a quotation mark that is never closed.
struct Bounded<R> {
    inner: R,
    /// Bytes since a record was last asked for.
    read: Rc<Counter<u64>>,
    max: u64,
}

const TOO_LONG: &str = "a row is too long";

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read.get() > self.max {
            return Err(io::Error::other(TOO_LONG));
        }
        let got = self.inner.read(buffer)?;
        self.read.set(self.read.get() + got as u64);
        Ok(got)
    }
}

impl<R: Seek> Seek for Bounded<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

impl<'a, R: Read + Seek> Csv<'a, R> {
    pub(super) fn new(source: &'a mut R, import: &'a Import) -> Csv<'a, R> {
        let read = Rc::new(Counter::new(0));
        let max = import.limits.row_bytes_max as u64;
        let bounded = Bounded { inner: source, read: Rc::clone(&read), max };
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(import.delimiter)
            .from_reader(bounded);
        let (names, record) = (Vec::new(), ByteRecord::new());
        Csv { reader, import, read, names, record, kept: false }
    }

    /// Reads a record, and answers its line.
    fn record(&mut self) -> Result<Option<u64>, DatasetError> {
        self.read.set(0);
        let line = self.reader.position().line();
        let more = self.reader.read_byte_record(&mut self.record).map_err(|error| match error.kind() {
            csv::ErrorKind::Io(inner) if inner.to_string() == TOO_LONG => DatasetError::Row {
                line,
                why: format!(
                    "the row is longer than row_bytes_max of {}; is a quotation mark not closed?",
                    self.import.limits.row_bytes_max
                ),
            },
            _ => DatasetError::Malformed(error.to_string()),
        })?;
        let line = self.record.position().map_or(line, csv::Position::line);
        Ok(more.then_some(line))
    }

    fn text(record: &ByteRecord, i: usize, line: u64) -> Result<&str, DatasetError> {
        std::str::from_utf8(&record[i])
            .map_err(|_| DatasetError::Row { line, why: format!("column {} is not UTF-8", i + 1) })
    }
}

impl<R: Read + Seek> Table for Csv<'_, R> {
    fn rewind(&mut self) -> Result<(), DatasetError> {
        self.read.set(0);
        self.reader
            .seek(csv::Position::new())
            .map_err(|error| DatasetError::Malformed(error.to_string()))?;
        let Some(line) = self.record()? else {
            return Err(DatasetError::Empty(": the file is empty"));
        };
        self.names = match self.import.header {
            true => (0..self.record.len())
                .map(|i| Self::text(&self.record, i, line).map(|name| name.trim().to_owned()))
                .collect::<Result<_, _>>()?,
            false => (1..=self.record.len()).map(|i| format!("column{i}")).collect(),
        };
        if let Some(first) = self.names.first_mut()
            && let Some(rest) = first.strip_prefix('\u{feff}')
        {
            *first = rest.to_owned();
        }
        self.kept = !self.import.header;
        Ok(())
    }

    fn names(&self) -> &[String] {
        &self.names
    }

    fn next(&mut self, row: &mut Vec<Cell>) -> Result<Option<u64>, DatasetError> {
        let line = match self.kept {
            true => self.record.position().map(csv::Position::line),
            false => self.record()?,
        };
        self.kept = false;
        let Some(line) = line else { return Ok(None) };
        if self.record.len() != self.names.len() {
            let (got, wanted) = (self.record.len(), self.names.len());
            let first = shown(&String::from_utf8_lossy(&self.record[0]));
            return Err(DatasetError::Row {
                line,
                why: format!("wanted {wanted} cells, got {got}; the first is {first}"),
            });
        }
        row.clear();
        for i in 0..self.record.len() {
            row.push(Cell::Written(Self::text(&self.record, i, line)?.to_owned()));
        }
        Ok(Some(line))
    }
}
