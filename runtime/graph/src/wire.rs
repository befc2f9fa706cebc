//! The wire format of protocol buffers, read in place.
//!
//! Nothing is allocated here, and no length that a file claims is believed before it was held against the bytes that
//! are there.

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("it ends in the middle of a field, at byte {0}")]
    Truncated(usize),
    #[error("there is a number of more than 64 bits at byte {0}")]
    Varint(usize),
    #[error("field {field} at byte {at} has a wire type that ONNX does not use")]
    WireType { field: u64, at: usize },
    #[error("field {field} at byte {at} is of another type than ONNX says")]
    Type { field: u64, at: usize },
    #[error("field {field} at byte {at} is not UTF-8")]
    Text { field: u64, at: usize },
}

/// A run of bytes and where in the file it begins.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Span<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) start: usize,
}

/// One field of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'a> {
    pub(crate) number: u64,
    at: usize,
    value: Value<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    Bytes(Span<'a>),
}

impl<'a> Span<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Span<'a> {
        Span { bytes, start: 0 }
    }

    /// The next field of this message, taken off its front.
    pub(crate) fn next(&mut self) -> Result<Option<Field<'a>>, WireError> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let at = self.start;
        let key = self.varint()?;
        let number = key >> 3;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.fixed()?),
            2 => {
                let len = self.varint()?;
                let len = usize::try_from(len).map_err(|_| WireError::Truncated(at))?;
                Value::Bytes(self.take(len)?)
            }
            5 => Value::Fixed32(self.fixed()?),
            _ => return Err(WireError::WireType { field: number, at }),
        };
        Ok(Some(Field { number, at, value }))
    }

    fn take(&mut self, len: usize) -> Result<Span<'a>, WireError> {
        let (taken, rest) =
            self.bytes.split_at_checked(len).ok_or(WireError::Truncated(self.start))?;
        let span = Span { bytes: taken, start: self.start };
        *self = Span { bytes: rest, start: self.start + len };
        Ok(span)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let at = self.start;
        self.take(N)?.bytes.try_into().map_err(|_| WireError::Truncated(at))
    }

    fn varint(&mut self) -> Result<u64, WireError> {
        let at = self.start;
        let mut value = 0u64;
        for (i, &byte) in self.bytes.iter().enumerate().take(10) {
            let bits = u64::from(byte & 0x7f);
            if i == 9 && bits > 1 {
                return Err(WireError::Varint(at));
            }
            value |= bits << (7 * i);
            if byte & 0x80 == 0 {
                self.take(i + 1)?;
                return Ok(value);
            }
        }
        Err(if self.bytes.len() < 10 { WireError::Truncated(at) } else { WireError::Varint(at) })
    }
}

impl<'a> Field<'a> {
    fn wrong(&self) -> WireError {
        WireError::Type { field: self.number, at: self.at }
    }

    /// A message, or bytes.
    pub(crate) fn span(&self) -> Result<Span<'a>, WireError> {
        match self.value {
            Value::Bytes(span) => Ok(span),
            _ => Err(self.wrong()),
        }
    }

    pub(crate) fn text(&self) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.span()?.bytes)
            .map_err(|_| WireError::Text { field: self.number, at: self.at })
    }

    pub(crate) fn int(&self) -> Result<i64, WireError> {
        match self.value {
            Value::Varint(value) => Ok(value as i64),
            _ => Err(self.wrong()),
        }
    }

    pub(crate) fn float(&self) -> Result<f32, WireError> {
        match self.value {
            Value::Fixed32(bytes) => Ok(f32::from_le_bytes(bytes)),
            _ => Err(self.wrong()),
        }
    }

    /// Adds one number, or the packed ones.
    pub(crate) fn ints(&self, to: &mut Vec<i64>) -> Result<(), WireError> {
        match self.value {
            Value::Bytes(mut packed) => {
                while !packed.bytes.is_empty() {
                    to.push(packed.varint()? as i64);
                }
                Ok(())
            }
            _ => {
                to.push(self.int()?);
                Ok(())
            }
        }
    }

    /// Adds one number, or the packed ones.
    pub(crate) fn floats(&self, to: &mut Vec<f32>) -> Result<(), WireError> {
        match self.value {
            Value::Bytes(packed) => {
                let (numbers, rest) = packed.bytes.as_chunks();
                if !rest.is_empty() {
                    return Err(WireError::Truncated(self.at));
                }
                to.extend(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)));
                Ok(())
            }
            _ => {
                to.push(self.float()?);
                Ok(())
            }
        }
    }

    /// Adds one number, or the packed ones.
    pub(crate) fn doubles(&self, to: &mut Vec<f64>) -> Result<(), WireError> {
        match self.value {
            Value::Bytes(packed) => {
                let (numbers, rest) = packed.bytes.as_chunks();
                if !rest.is_empty() {
                    return Err(WireError::Truncated(self.at));
                }
                to.extend(numbers.iter().map(|bytes| f64::from_le_bytes(*bytes)));
                Ok(())
            }
            Value::Fixed64(bytes) => {
                to.push(f64::from_le_bytes(bytes));
                Ok(())
            }
            _ => Err(self.wrong()),
        }
    }
}
