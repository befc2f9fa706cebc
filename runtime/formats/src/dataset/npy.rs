//! NumPy's arrays, one in a file (`.npy`) or several in an archive (`.npz`).

use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::fs::FileExt;

use innkeeper_tensor::{DType, Shape};
use npyz::{Endianness, NpyHeader, Order, TypeChar};

use super::write::{Layout, check_declared, check_names};
use super::{Column, DatasetError, Import, Schema};

/// Bytes that are read in one go.
const CHUNK_BYTES: usize = 1 << 20;
/// What the column of a file of one array is called.
const ONLY: &str = "data";

pub(super) fn npy(
    source: &mut (impl Read + Seek),
    import: &Import,
    out: &mut File,
) -> Result<Schema, DatasetError> {
    let header = header(source, ONLY)?;
    let (column, rows) = column(ONLY, &header)?;
    let schema = schema(vec![(column, rows)], import)?;
    let layout = Layout::new(&schema, &[], import)?;
    layout.begin(out)?;
    copy(source, &schema.columns[0], schema.rows, out, layout.place(0))?;
    let mut rest = [0];
    match source.read(&mut rest).map_err(DatasetError::read)? {
        0 => Ok(schema),
        _ => Err(DatasetError::Malformed("it has more bytes than its header says".into())),
    }
}

pub(super) fn npz(
    source: &mut (impl Read + Seek),
    import: &Import,
    out: &mut File,
) -> Result<Schema, DatasetError> {
    let malformed = |error: zip::result::ZipError| {
        DatasetError::Malformed(format!("it is not an archive of arrays: {error}"))
    };
    let mut archive = zip::ZipArchive::new(source).map_err(malformed)?;
    if archive.len() > import.limits.columns_max {
        let max = import.limits.columns_max as u64;
        return Err(DatasetError::Limit { limit: "columns_max", max });
    }
    let mut columns = Vec::with_capacity(archive.len());
    for i in 0..archive.len() {
        let mut file = archive.by_index(i).map_err(malformed)?;
        let name = file.name().map_err(malformed)?.into_owned();
        let name = name.strip_suffix(".npy").unwrap_or(&name);
        let header = header(&mut file, name)?;
        columns.push(column(name, &header)?);
    }
    let schema = schema(columns, import)?;
    let layout = Layout::new(&schema, &[], import)?;
    layout.begin(out)?;
    for (i, column) in schema.columns.iter().enumerate() {
        let mut file = archive.by_index(i).map_err(malformed)?;
        header(&mut file, &column.name)?;
        copy(&mut file, column, schema.rows, out, layout.place(i))?;
    }
    Ok(schema)
}

fn header(source: &mut impl Read, name: &str) -> Result<NpyHeader, DatasetError> {
    NpyHeader::from_reader(source).map_err(|error| {
        DatasetError::Malformed(format!("array {name:?} is not in NumPy's format: {error}"))
    })
}

fn column(name: &str, header: &NpyHeader) -> Result<(Column, u64), DatasetError> {
    let refuse = |why: String| DatasetError::Columns(format!("array {name:?} {why}"));
    let npyz::DType::Plain(plain) = header.dtype() else {
        return Err(refuse("has a structured dtype; save each field as an array".into()));
    };
    let dtype = match (plain.type_char(), plain.num_bytes()) {
        (TypeChar::Bool, _) => DType::Bool,
        (TypeChar::Uint, Some(1)) => DType::Uint8,
        (TypeChar::Uint, Some(2)) => DType::Uint16,
        (TypeChar::Uint, Some(4)) => DType::Uint32,
        (TypeChar::Uint, Some(8)) => DType::Uint64,
        (TypeChar::Int, Some(1)) => DType::Int8,
        (TypeChar::Int, Some(2)) => DType::Int16,
        (TypeChar::Int, Some(4)) => DType::Int32,
        (TypeChar::Int, Some(8)) => DType::Int64,
        (TypeChar::Float, Some(2)) => DType::Fp16,
        (TypeChar::Float, Some(4)) => DType::Fp32,
        (TypeChar::Float, Some(8)) => DType::Fp64,
        _ => {
            return Err(refuse(format!(
                "has the dtype {plain}; save it as bool, int, uint or float"
            )));
        }
    };
    if plain.endianness() == Endianness::Big {
        return Err(refuse("is big-endian; save it with astype(\"<f4\") or the like".into()));
    }
    let shape = header.shape();
    if header.order() == Order::Fortran && shape.len() > 1 {
        return Err(refuse("is in Fortran's order; save np.ascontiguousarray of it".into()));
    }
    let Some((&rows, rest)) = shape.split_first() else {
        return Err(refuse("has no dimensions; the first one is the rows".into()));
    };
    let rest: Vec<usize> =
        rest.iter().map(|&dim| usize::try_from(dim).unwrap_or(usize::MAX)).collect();
    // With its rows it must be a tensor, and a batch of its rows, too.
    let mut dims = vec![usize::try_from(rows).unwrap_or(usize::MAX)];
    dims.extend(&rest);
    Shape::new(&dims).map_err(|error| refuse(error.to_string()))?;
    Ok((Column { name: name.to_owned(), dtype, shape: rest }, rows))
}

fn schema(columns: Vec<(Column, u64)>, import: &Import) -> Result<Schema, DatasetError> {
    let Some((_, rows)) = columns.first() else {
        return Err(DatasetError::Empty(": there are no arrays"));
    };
    let rows = *rows;
    if let Some((other, theirs)) = columns.iter().find(|(_, theirs)| *theirs != rows) {
        return Err(DatasetError::Columns(format!(
            "array {:?} has {theirs} rows, {:?} has {rows}; all must have as many",
            other.name, columns[0].0.name
        )));
    }
    if rows == 0 {
        return Err(DatasetError::Empty("; a dataset has one or more"));
    }
    if rows > import.limits.rows_max {
        return Err(DatasetError::Limit { limit: "rows_max", max: import.limits.rows_max });
    }
    let columns: Vec<Column> = columns.into_iter().map(|(column, _)| column).collect();
    let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
    check_names(&names)?;
    check_declared(&names, import)?;
    let other = import.columns.iter().find(|(name, dtype)| {
        columns.iter().any(|column| column.name == *name && column.dtype != *dtype)
    });
    match other {
        None => Ok(Schema { rows, columns }),
        Some((name, dtype)) => Err(DatasetError::Columns(format!(
            "array {name:?} is declared {}, and is not; arrays keep the dtype that they were saved with",
            dtype.name()
        ))),
    }
}

/// Copies a column's elements to their place.
fn copy(
    source: &mut impl Read,
    column: &Column,
    rows: u64,
    out: &File,
    mut at: u64,
) -> Result<(), DatasetError> {
    let row: u64 = column.shape.iter().map(|&dim| dim as u64).product();
    let mut left = rows * row * column.dtype.size().unwrap_or(1) as u64;
    let mut chunk = vec![0; CHUNK_BYTES];
    while left > 0 {
        let part = &mut chunk[..usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES)];
        source.read_exact(part).map_err(|error| {
            DatasetError::Malformed(format!(
                "array {:?} ends before its last element: {error}",
                column.name
            ))
        })?;
        if column.dtype == DType::Bool && part.iter().any(|&byte| byte > 1) {
            let why = format!("array {:?} has a bool that is neither 0 nor 1", column.name);
            return Err(DatasetError::Malformed(why));
        }
        out.write_all_at(part, at).map_err(DatasetError::write)?;
        at += part.len() as u64;
        left -= part.len() as u64;
    }
    Ok(())
}
