//! Messages of protocol buffers, field by field: read in place, and written.

/// A field of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    pub(super) number: u64,
    pub(super) value: Value<'a>,
    /// All of it, with its key.
    pub(super) raw: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Other,
}

impl<'a> Field<'a> {
    pub(super) fn bytes(&self) -> Option<&'a [u8]> {
        match self.value {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    pub(super) fn int(&self) -> Option<i64> {
        match self.value {
            Value::Varint(value) => Some(value as i64),
            _ => None,
        }
    }
}

/// The fields of a message.
pub(super) fn fields(mut message: &[u8]) -> Result<Vec<Field<'_>>, String> {
    let cut = || "it ends in the middle of a field".to_owned();
    let mut fields = Vec::new();
    while !message.is_empty() {
        let whole = message;
        let key = varint(&mut message).ok_or_else(cut)?;
        let value = match key & 7 {
            0 => Value::Varint(varint(&mut message).ok_or_else(cut)?),
            1 => take(&mut message, 8).map(|_| Value::Other).ok_or_else(cut)?,
            2 => {
                let len = varint(&mut message).ok_or_else(cut)?;
                let len = usize::try_from(len).map_err(|_| cut())?;
                Value::Bytes(take(&mut message, len).ok_or_else(cut)?)
            }
            5 => take(&mut message, 4).map(|_| Value::Other).ok_or_else(cut)?,
            other => return Err(format!("a field has the wire type {other}")),
        };
        let raw = &whole[..whole.len() - message.len()];
        fields.push(Field { number: key >> 3, value, raw });
    }
    Ok(fields)
}

fn take<'a>(message: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = message.split_at_checked(len)?;
    *message = rest;
    Some(taken)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for index in 0..10 {
        let (&byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f).checked_shl(7 * index)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The numbers of a field that may hold one or several.
pub(super) fn packed(field: &Field<'_>, to: &mut Vec<i64>) -> Option<()> {
    match field.value {
        Value::Varint(value) => to.push(value as i64),
        Value::Bytes(mut bytes) => {
            while !bytes.is_empty() {
                to.push(varint(&mut bytes)? as i64);
            }
        }
        Value::Other => return None,
    }
    Some(())
}

/// A message that is being written.
#[derive(Default)]
pub(super) struct Message(pub(super) Vec<u8>);

impl Message {
    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub(super) fn int(&mut self, number: u64, value: i64) {
        self.number(number << 3);
        self.number(value as u64);
    }

    pub(super) fn bytes(&mut self, number: u64, bytes: &[u8]) {
        self.number(number << 3 | 2);
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn raw(&mut self, field: &Field<'_>) {
        self.0.extend_from_slice(field.raw);
    }
}
