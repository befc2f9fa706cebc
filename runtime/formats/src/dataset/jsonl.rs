//! JSON Lines: one object on each line, of the same keys.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::cells::Cell;
use super::error::shown;
use super::write::Table;
use super::{DatasetError, Import};

/// An object with its keys in their order.
struct Object(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Object;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Object(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

pub(super) struct Lines<'a, R> {
    reader: BufReader<&'a mut R>,
    bytes_max: u64,
    line: u64,
    names: Vec<String>,
    text: Vec<u8>,
}

impl<'a, R: Read + Seek> Lines<'a, R> {
    pub(super) fn new(source: &'a mut R, import: &Import) -> Lines<'a, R> {
        Lines {
            reader: BufReader::new(source),
            bytes_max: import.limits.row_bytes_max as u64,
            line: 0,
            names: Vec::new(),
            text: Vec::new(),
        }
    }

    /// The next line that is not blank.
    fn object(&mut self) -> Result<Option<Object>, DatasetError> {
        loop {
            self.text.clear();
            self.line += 1;
            let mut bounded = self.reader.by_ref().take(self.bytes_max + 1);
            let got = bounded.read_until(b'\n', &mut self.text).map_err(DatasetError::read)?;
            if got == 0 {
                return Ok(None);
            }
            if got as u64 > self.bytes_max {
                let why = format!("the row is longer than row_bytes_max of {}", self.bytes_max);
                return Err(self.wrong(why));
            }
            if self.line == 1 && self.text.starts_with(b"\xef\xbb\xbf") {
                self.text.drain(..3);
            }
            if self.text.trim_ascii().is_empty() {
                continue;
            }
            if self.text.trim_ascii().first() != Some(&b'{') {
                return Err(self.wrong("wanted a JSON object, got another value".into()));
            }
            return match serde_json::from_slice(&self.text) {
                Ok(object) => Ok(Some(object)),
                Err(error) => Err(self.wrong(format!("it is not JSON: {error}"))),
            };
        }
    }

    fn wrong(&self, why: String) -> DatasetError {
        DatasetError::Row { line: self.line, why }
    }
}

impl<R: Read + Seek> Table for Lines<'_, R> {
    fn rewind(&mut self) -> Result<(), DatasetError> {
        self.reader.seek(SeekFrom::Start(0)).map_err(DatasetError::read)?;
        self.line = 0;
        Ok(())
    }

    fn names(&self) -> &[String] {
        &self.names
    }

    fn next(&mut self, row: &mut Vec<Cell>) -> Result<Option<u64>, DatasetError> {
        let Some(Object(mut fields)) = self.object()? else { return Ok(None) };
        if self.names.is_empty() {
            self.names = fields.iter().map(|(name, _)| name.clone()).collect();
        }
        row.clear();
        for (i, name) in self.names.iter().enumerate() {
            // Mostly the order is that of the first row.
            let at = match fields.get(i) {
                Some((other, _)) if other == name => Some(i),
                _ => fields.iter().position(|(other, _)| other == name),
            };
            let at = at.ok_or_else(|| self.wrong(format!("there is no {}", shown(name))))?;
            let (_, value) = &mut fields[at];
            let value = value.take();
            let got = shown(&value.to_string());
            row.push(cell(value).map_err(|wanted| DatasetError::Cell {
                line: self.line,
                number: i + 1,
                column: name.clone(),
                wanted: wanted.into(),
                got,
            })?);
        }
        // Every name was found: with as many fields there are no others.
        if fields.len() == self.names.len() {
            return Ok(Some(self.line));
        }
        match fields.iter().find(|(name, _)| !self.names.contains(name)) {
            None => Err(self.wrong("a key stands there twice".into())),
            Some((name, _)) => Err(self.wrong(format!("{} is not in the first row", shown(name)))),
        }
    }
}

fn cell(value: Value) -> Result<Cell, &'static str> {
    Ok(match value {
        Value::Bool(value) => Cell::Bool(value),
        Value::Number(number) => match number.as_i64() {
            Some(value) => Cell::Integer(value),
            None => Cell::Number(number.as_f64().ok_or("a number of 64 bits")?),
        },
        Value::String(text) => Cell::Text(text),
        Value::Array(_) => list(&value)?,
        Value::Null | Value::Object(_) => return Err("a number, a string, true, false or a list"),
    })
}

const RANK_MAX: usize = 8;

fn list(value: &Value) -> Result<Cell, &'static str> {
    let mut shape = Vec::new();
    let mut inner = value;
    while let Value::Array(values) = inner {
        shape.push(values.len());
        if shape.len() > RANK_MAX {
            return Err("lists in lists of at most 8 levels");
        }
        let Some(first) = values.first() else { break };
        inner = first;
    }
    let (mut numbers, mut whole) = (Vec::new(), true);
    collect(value, &shape, &mut numbers, &mut whole)?;
    Ok(Cell::List { shape, numbers, whole })
}

fn collect(
    value: &Value,
    shape: &[usize],
    numbers: &mut Vec<f64>,
    whole: &mut bool,
) -> Result<(), &'static str> {
    match (value, shape) {
        (Value::Array(values), [size, rest @ ..]) if values.len() == *size => {
            values.iter().try_for_each(|value| collect(value, rest, numbers, whole))
        }
        (Value::Number(number), []) => {
            // Beyond 2^53 a whole number would not come out as it went in.
            *whole &= number.as_i64().is_some_and(|value| value.unsigned_abs() <= 1 << 53);
            numbers.push(number.as_f64().ok_or("numbers of 64 bits")?);
            Ok(())
        }
        _ => Err("numbers, all lists of one level equally long"),
    }
}
