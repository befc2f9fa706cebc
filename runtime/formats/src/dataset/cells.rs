//! What stands in one place of a table, and what a column is made of.

use innkeeper_tensor::{DType, bf16, f16};

use super::error::shown;

/// What stands in one place.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Bool(bool),
    Integer(i64),
    Number(f64),
    Text(String),
    /// Numbers of this shape.
    List {
        shape: Vec<usize>,
        numbers: Vec<f64>,
        whole: bool,
    },
    /// Text that may be anything; what it is its column decides.
    Written(String),
}

/// What a column is made of, as far as it was seen.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Unknown,
    Bool,
    Integer,
    Number,
    Text,
    List {
        shape: Vec<usize>,
        whole: bool,
    },
    /// As it was declared.
    Declared(DType),
}

impl Kind {
    pub(super) fn dtype(&self) -> DType {
        match self {
            Kind::Bool => DType::Bool,
            Kind::Integer | Kind::List { whole: true, .. } => DType::Int64,
            Kind::Number | Kind::List { whole: false, .. } => DType::Fp32,
            Kind::Text | Kind::Unknown => DType::Bytes,
            Kind::Declared(dtype) => *dtype,
        }
    }

    pub(super) fn shape(&self) -> Vec<usize> {
        match self {
            Kind::List { shape, .. } => shape.clone(),
            _ => Vec::new(),
        }
    }

    /// The column with one more cell, or what is wanted instead of it.
    pub(super) fn with(self, cell: &Cell) -> Result<Kind, String> {
        let seen = match cell {
            Cell::Bool(_) => Kind::Bool,
            Cell::Integer(_) => Kind::Integer,
            Cell::Number(_) => Kind::Number,
            Cell::Text(_) => Kind::Text,
            Cell::List { shape, whole, .. } => Kind::List { shape: shape.clone(), whole: *whole },
            Cell::Written(text) => self.of_written(text),
        };
        match (self, seen) {
            (Kind::Unknown, seen) => Ok(seen),
            (a, b) if a == b => Ok(a),
            (Kind::Integer, Kind::Number) | (Kind::Number, Kind::Integer) => Ok(Kind::Number),
            (Kind::List { shape, whole }, Kind::List { shape: other, whole: also })
                if shape == other =>
            {
                Ok(Kind::List { shape, whole: whole && also })
            }
            (Kind::Declared(dtype), _) => Ok(Kind::Declared(dtype)),
            (before, _) => Err(before.wanted()),
        }
    }

    /// What a text is, which a column of text need not ask.
    fn of_written(&self, text: &str) -> Kind {
        let trimmed = text.trim();
        match self {
            Kind::Text => Kind::Text,
            _ if trimmed.eq_ignore_ascii_case("true") || trimmed.eq_ignore_ascii_case("false") => {
                Kind::Bool
            }
            _ if trimmed.parse::<i64>().is_ok() => Kind::Integer,
            _ if trimmed.parse::<f64>().is_ok() => Kind::Number,
            _ => Kind::Text,
        }
    }

    fn wanted(&self) -> String {
        match self {
            Kind::Bool => "true or false, as in the rows before".into(),
            Kind::Integer | Kind::Number => {
                "a number, as in the rows before; declare the column BYTES if it is text".into()
            }
            Kind::List { shape, .. } => {
                format!("numbers of the shape {shape:?}, as in the rows before")
            }
            _ => "text, as in the rows before".into(),
        }
    }
}

impl Cell {
    /// Adds the cell's bytes as elements of `dtype`, or says what is wanted instead.
    pub(super) fn push(&self, dtype: DType, out: &mut Vec<u8>) -> Result<(), String> {
        let wanted = || match dtype {
            DType::Bool => "true or false, 1 or 0".to_owned(),
            dtype => format!("a number that {} has", dtype.name()),
        };
        let mut one = |value: f64| push_number(out, dtype, value).then_some(()).ok_or_else(wanted);
        match self {
            Cell::Bool(value) => one(f64::from(u8::from(*value))),
            Cell::Integer(value) if dtype == DType::Int64 => {
                out.extend_from_slice(&value.to_le_bytes());
                Ok(())
            }
            Cell::Integer(value) => one(*value as f64),
            Cell::Number(value) => one(*value),
            Cell::List { numbers, .. } => numbers.iter().try_for_each(|&value| one(value)),
            Cell::Text(text) | Cell::Written(text) => {
                let text = text.trim();
                let word = |word: &str| text.eq_ignore_ascii_case(word);
                match text.parse::<i64>() {
                    Ok(value) if dtype == DType::Int64 => {
                        out.extend_from_slice(&value.to_le_bytes());
                        Ok(())
                    }
                    _ if dtype == DType::Bool && word("true") => one(1.0),
                    _ if dtype == DType::Bool && word("false") => one(0.0),
                    _ => one(text.parse::<f64>().map_err(|_| wanted())?),
                }
            }
        }
    }

    /// The cell as text, for a column of text.
    pub(super) fn text(&self) -> Option<std::borrow::Cow<'_, str>> {
        match self {
            Cell::Text(text) | Cell::Written(text) => Some(text.as_str().into()),
            Cell::Bool(value) => Some(value.to_string().into()),
            Cell::Integer(value) => Some(value.to_string().into()),
            Cell::Number(value) => Some(value.to_string().into()),
            Cell::List { .. } => None,
        }
    }

    pub(super) fn shown(&self) -> String {
        match self {
            Cell::Written(text) if text.is_empty() => "nothing".into(),
            Cell::Text(text) | Cell::Written(text) => shown(text),
            Cell::Bool(value) => value.to_string(),
            Cell::Integer(value) => value.to_string(),
            Cell::Number(value) => value.to_string(),
            Cell::List { shape, .. } => format!("numbers of the shape {shape:?}"),
        }
    }
}

/// Adds a number as `dtype`; false if it has no such number. Floats take what is nearest, and NaN as it is.
pub fn push_number(out: &mut Vec<u8>, dtype: DType, value: f64) -> bool {
    macro_rules! whole {
        ($type:ty) => {{
            let number = value as $type;
            out.extend_from_slice(&number.to_le_bytes());
            number as f64 == value
        }};
    }
    let near = |got: f64| got.is_finite() || !value.is_finite();
    match dtype {
        DType::Bool => {
            out.push(u8::from(value != 0.0));
            value == 0.0 || value == 1.0
        }
        DType::Uint8 => whole!(u8),
        DType::Uint16 => whole!(u16),
        DType::Uint32 => whole!(u32),
        DType::Uint64 => whole!(u64),
        DType::Int8 => whole!(i8),
        DType::Int16 => whole!(i16),
        DType::Int32 => whole!(i32),
        DType::Int64 => whole!(i64),
        DType::Fp16 => {
            out.extend_from_slice(&f16::from_f64(value).to_le_bytes());
            near(f16::from_f64(value).to_f64())
        }
        DType::Bf16 => {
            out.extend_from_slice(&bf16::from_f64(value).to_le_bytes());
            near(bf16::from_f64(value).to_f64())
        }
        DType::Fp32 => {
            out.extend_from_slice(&(value as f32).to_le_bytes());
            near(f64::from(value as f32))
        }
        DType::Fp64 => {
            out.extend_from_slice(&value.to_le_bytes());
            true
        }
        DType::Bytes => false,
    }
}
