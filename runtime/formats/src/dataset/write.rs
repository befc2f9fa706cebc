//! The converted file: where everything in it lies, and writing it row by row.

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::FileExt;

use ::safetensors::Dtype;
use innkeeper_tensor::DType;

use super::cells::{Cell, Kind};
use super::{Column, DatasetError, Import, SCHEMA, Schema};
use crate::safetensors::written_dtype;

/// Bytes of all columns together that are kept before they are written.
const BUFFER_BYTES: usize = 8 << 20;

/// Rows that can be read twice.
pub(super) trait Table {
    /// Goes to the first row.
    fn rewind(&mut self) -> Result<(), DatasetError>;
    /// The names of the columns, known once a row was read or after [`rewind`](Table::rewind).
    fn names(&self) -> &[String];
    /// The next row's cells, one for each name, and its line.
    fn next(&mut self, row: &mut Vec<Cell>) -> Result<Option<u64>, DatasetError>;
}

/// Converts a table of cells.
pub(super) fn cells(
    table: &mut dyn Table,
    import: &Import,
    out: &mut File,
) -> Result<Schema, DatasetError> {
    table.rewind()?;
    let seen = look(table, import)?;
    let columns = table.names().iter().zip(&seen.kinds).map(|(name, kind)| Column {
        name: name.clone(),
        dtype: kind.dtype(),
        shape: kind.shape(),
    });
    let schema = Schema { rows: seen.rows, columns: columns.collect() };
    let layout = Layout::new(&schema, &seen.text_bytes, import)?;
    layout.begin(out)?;

    table.rewind()?;
    let mut writer = Writer::new(&schema, &layout, out);
    let mut row = Vec::new();
    while let Some(line) = table.next(&mut row)? {
        for (i, cell) in row.iter().enumerate() {
            writer.push(i, cell, line)?;
        }
        writer.end_row()?;
    }
    writer.flush()?;
    Ok(schema)
}

/// What the first reading saw.
struct Seen {
    rows: u64,
    kinds: Vec<Kind>,
    text_bytes: Vec<u64>,
}

fn look(table: &mut dyn Table, import: &Import) -> Result<Seen, DatasetError> {
    let mut seen = Seen { rows: 0, kinds: Vec::new(), text_bytes: Vec::new() };
    let mut row = Vec::new();
    while let Some(line) = table.next(&mut row)? {
        if seen.rows == 0 {
            seen.kinds = first_kinds(table.names(), import)?;
            seen.text_bytes = vec![0; seen.kinds.len()];
        }
        seen.rows += 1;
        if seen.rows > import.limits.rows_max {
            return Err(DatasetError::Limit { limit: "rows_max", max: import.limits.rows_max });
        }
        for (i, cell) in row.iter().enumerate() {
            let kind = std::mem::replace(&mut seen.kinds[i], Kind::Unknown);
            seen.kinds[i] =
                kind.with(cell).map_err(|wanted| wrong(table, i, line, wanted, cell))?;
            if seen.kinds[i].dtype() == DType::Bytes {
                seen.text_bytes[i] += cell.text().map_or(0, |text| text.len() as u64);
            }
        }
    }
    match seen.rows {
        0 => Err(DatasetError::Empty("; a dataset has one or more")),
        _ => Ok(seen),
    }
}

fn first_kinds(names: &[String], import: &Import) -> Result<Vec<Kind>, DatasetError> {
    let max = import.limits.columns_max;
    if names.len() > max {
        return Err(DatasetError::Limit { limit: "columns_max", max: max as u64 });
    }
    check_names(names)?;
    check_declared(names, import)?;
    let kind = |name: &String| {
        let declared = import.columns.iter().find(|(declared, _)| declared == name);
        declared.map_or(Kind::Unknown, |(_, dtype)| Kind::Declared(*dtype))
    };
    Ok(names.iter().map(kind).collect())
}

/// Whether every column has a name of its own.
pub(super) fn check_names(names: &[String]) -> Result<(), DatasetError> {
    let mut known = std::collections::HashMap::new();
    for (i, name) in names.iter().enumerate() {
        if name.is_empty() {
            return Err(DatasetError::Columns(format!("column {} has no name", i + 1)));
        }
        if let Some(before) = known.insert(name, i) {
            return Err(DatasetError::Columns(format!(
                "columns {} and {} are both named {}",
                before + 1,
                i + 1,
                super::error::shown(name)
            )));
        }
    }
    Ok(())
}

/// Whether what is declared is there.
pub(super) fn check_declared(names: &[String], import: &Import) -> Result<(), DatasetError> {
    match import.columns.iter().find(|(declared, _)| !names.contains(declared)) {
        None => Ok(()),
        Some((declared, _)) => {
            let known = names.iter().take(20).cloned().collect::<Vec<_>>().join(", ");
            let name = super::error::shown(declared);
            Err(DatasetError::Columns(format!("there is no column {name}; there are {known}")))
        }
    }
}

fn wrong(table: &dyn Table, i: usize, line: u64, wanted: String, cell: &Cell) -> DatasetError {
    let column = table.names().get(i).cloned().unwrap_or_default();
    DatasetError::Cell { line, number: i + 1, column, wanted, got: cell.shown() }
}

/// Where each column lies in the file.
pub(super) struct Layout {
    header: Vec<u8>,
    /// For each column where it begins; for text where its offsets do, and where its bytes do.
    places: Vec<(u64, u64)>,
    end: u64,
}

struct Region {
    name: String,
    dtype: Dtype,
    shape: Vec<u64>,
    bytes: u64,
    /// The size of an element: the larger come first, so that each is aligned.
    align: usize,
    column: usize,
    is_second: bool,
}

impl Layout {
    /// # Errors
    /// [`DatasetError::Limit`] for `bytes_max`.
    pub(super) fn new(
        schema: &Schema,
        text_bytes: &[u64],
        import: &Import,
    ) -> Result<Layout, DatasetError> {
        let over = || DatasetError::Limit { limit: "bytes_max", max: import.limits.bytes_max };
        let mut regions = Vec::new();
        for (i, column) in schema.columns.iter().enumerate() {
            if column.dtype == DType::Bytes {
                let offsets = schema.rows.checked_add(1).ok_or_else(over)?;
                let bytes = offsets.checked_mul(8).ok_or_else(over)?;
                let text = text_bytes.get(i).copied().unwrap_or(0);
                regions.push(region(
                    format!("c{i}.offsets"),
                    Dtype::U64,
                    vec![offsets],
                    bytes,
                    8,
                    i,
                    false,
                ));
                regions.push(region(
                    format!("c{i}.bytes"),
                    Dtype::U8,
                    vec![text],
                    text,
                    1,
                    i,
                    true,
                ));
                continue;
            }
            let size = column.dtype.size().unwrap_or(1);
            let mut shape = vec![schema.rows];
            shape.extend(column.shape.iter().map(|&dim| dim as u64));
            let elements = shape.iter().try_fold(1u64, |all, &dim| all.checked_mul(dim));
            let bytes = elements.and_then(|all| all.checked_mul(size as u64)).ok_or_else(over)?;
            // Text was another region.
            let dtype = written_dtype(column.dtype).unwrap_or(Dtype::U8);
            regions.push(region(format!("c{i}"), dtype, shape, bytes, size, i, false));
        }
        regions.sort_by_key(|region| std::cmp::Reverse(region.align));
        Layout::of(schema, &regions, import.limits.bytes_max)
    }

    fn of(schema: &Schema, regions: &[Region], bytes_max: u64) -> Result<Layout, DatasetError> {
        let over = || DatasetError::Limit { limit: "bytes_max", max: bytes_max };
        let text = serde_json::to_string(schema)
            .and_then(|text| serde_json::to_string(&text))
            .map_err(|error| DatasetError::Malformed(error.to_string()))?;
        let mut header = format!("{{\"__metadata__\":{{\"{SCHEMA}\":{text}}}");
        let mut at = 0u64;
        let mut places = vec![(0, 0); schema.columns.len()];
        for region in regions {
            let end =
                at.checked_add(region.bytes).filter(|&end| end <= bytes_max).ok_or_else(over)?;
            let Region { name, dtype, shape, .. } = region;
            // Writing to a string does not fail.
            let _ = write!(
                header,
                ",\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{at},{end}]}}"
            );
            match region.is_second {
                true => places[region.column].1 = at,
                false => places[region.column].0 = at,
            }
            at = end;
        }
        header.push('}');
        while header.len() % 8 != 0 {
            header.push(' ');
        }
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        if bytes.len() as u64 > crate::safetensors::HEADER_BYTES_MAX {
            let max = crate::safetensors::HEADER_BYTES_MAX;
            return Err(DatasetError::Limit { limit: "the header's bytes", max });
        }
        let base = bytes.len() as u64;
        for (first, second) in &mut places {
            *first += base;
            *second += base;
        }
        Ok(Layout { header: bytes, places, end: base + at })
    }

    /// Writes the header, and makes the file as long as it will be.
    pub(super) fn begin(&self, out: &File) -> Result<(), DatasetError> {
        out.set_len(self.end).map_err(DatasetError::write)?;
        out.write_all_at(&self.header, 0).map_err(DatasetError::write)
    }

    /// Where a column of numbers begins.
    pub(super) fn place(&self, column: usize) -> u64 {
        self.places[column].0
    }
}

fn region(
    name: String,
    dtype: Dtype,
    shape: Vec<u64>,
    bytes: u64,
    align: usize,
    column: usize,
    is_second: bool,
) -> Region {
    Region { name, dtype, shape, bytes, align, column, is_second }
}

/// Writes rows to where they belong, many at once.
struct Writer<'a> {
    schema: &'a Schema,
    out: &'a File,
    columns: Vec<Pending>,
    pending_bytes: usize,
}

/// What of one column waits to be written.
struct Pending {
    at: u64,
    bytes: Vec<u8>,
    /// For text: where its bytes go on, and those that wait.
    text: Option<(u64, Vec<u8>, u64)>,
}

impl<'a> Writer<'a> {
    fn new(schema: &'a Schema, layout: &Layout, out: &'a File) -> Writer<'a> {
        let pending = |(column, &(at, second)): (&Column, &(u64, u64))| {
            let is_text = column.dtype == DType::Bytes;
            // The first text begins at 0.
            let bytes = if is_text { 0u64.to_le_bytes().to_vec() } else { Vec::new() };
            Pending { at, bytes, text: is_text.then(|| (second, Vec::new(), 0)) }
        };
        let columns = schema.columns.iter().zip(&layout.places).map(pending).collect();
        Writer { schema, out, columns, pending_bytes: 0 }
    }

    fn push(&mut self, i: usize, cell: &Cell, line: u64) -> Result<(), DatasetError> {
        let (column, pending) = (&self.schema.columns[i], &mut self.columns[i]);
        let wrong = |wanted: String| DatasetError::Cell {
            line,
            number: i + 1,
            column: column.name.clone(),
            wanted,
            got: cell.shown(),
        };
        match &mut pending.text {
            Some((_, bytes, end)) => {
                let text = cell.text().ok_or_else(|| wrong("text".into()))?;
                bytes.extend_from_slice(text.as_bytes());
                *end += text.len() as u64;
                pending.bytes.extend_from_slice(&end.to_le_bytes());
                self.pending_bytes += text.len() + 8;
            }
            None => {
                let before = pending.bytes.len();
                cell.push(column.dtype, &mut pending.bytes).map_err(wrong)?;
                self.pending_bytes += pending.bytes.len() - before;
            }
        }
        Ok(())
    }

    fn end_row(&mut self) -> Result<(), DatasetError> {
        if self.pending_bytes < BUFFER_BYTES { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), DatasetError> {
        for pending in &mut self.columns {
            write_at(self.out, &mut pending.at, &mut pending.bytes)?;
            if let Some((at, bytes, _)) = &mut pending.text {
                write_at(self.out, at, bytes)?;
            }
        }
        self.pending_bytes = 0;
        Ok(())
    }
}

fn write_at(out: &File, at: &mut u64, bytes: &mut Vec<u8>) -> Result<(), DatasetError> {
    out.write_all_at(bytes, *at).map_err(DatasetError::write)?;
    *at += bytes.len() as u64;
    bytes.clear();
    Ok(())
}
