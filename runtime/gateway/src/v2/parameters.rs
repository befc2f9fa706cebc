//! The parameters of a request, of its inputs and of its outputs.

use std::borrow::Cow;

use innkeeper_predict::SequenceId;
use innkeeper_tensor::Signature;
use serde::de::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::reading::{Fields, Reading};

/// What is said to parameters that mean something elsewhere and nothing here.
pub(crate) const NOT_SERVED: &str = "this parameter is not served here";

/// More parameters than any protocol defines.
pub(crate) const PARAMETERS_MAX: usize = 64;
/// Whether a request's parameter of this name is for the server, of which none is served, and not for the model.
pub(crate) fn is_the_servers(name: &str) -> bool {
    name == "headers" || name.starts_with("triton_")
}

/// Bytes of one parameter's JSON text.
const PARAMETER_BYTES_MAX: usize = 16 << 10;

/// Bytes of a text that names a sequence.
pub(crate) const SEQUENCE_ID_BYTES_MAX: usize = 256;

/// Reads an object of parameters, each once.
///
/// # Errors
/// Too many, too long a name, one twice, and what `fields` refuses.
pub(crate) fn parameters<'de, D: Deserializer<'de>>(
    reading: &Reading<'de>,
    from: D,
    fields: &mut impl Fields<'de>,
) -> Result<(), D::Error> {
    reading.object(from, &mut Once { reading, names: Vec::new(), fields })
}

struct Once<'r, 'de, F> {
    reading: &'r Reading<'de>,
    names: Vec<Cow<'de, str>>,
    fields: &'r mut F,
}

impl<'de, F: Fields<'de>> Fields<'de> for Once<'_, 'de, F> {
    fn read<D: Deserializer<'de>>(&mut self, key: &Cow<'de, str>, from: D) -> Result<(), D::Error> {
        if self.names.len() == PARAMETERS_MAX || key.len() > Signature::NAME_BYTES_MAX {
            return Err(self.reading.bad(format!(
                "at most {PARAMETERS_MAX} parameters, with names of at most {} bytes",
                Signature::NAME_BYTES_MAX
            )));
        }
        if self.names.contains(key) {
            return Err(self.reading.bad("stands twice"));
        }
        self.names.push(key.clone());
        self.fields.read(key, from)
    }
}

/// Reads a parameter's value as JSON text: a string, a number or a boolean.
///
/// # Errors
/// Any other value, and one that is too long.
pub(crate) fn value<'de, D: Deserializer<'de>>(
    reading: &Reading<'de>,
    from: D,
) -> Result<String, D::Error> {
    let text = <&RawValue>::deserialize(from)?.get();
    if text.len() > PARAMETER_BYTES_MAX {
        return Err(reading.bad(format!("longer than {PARAMETER_BYTES_MAX} bytes")));
    }
    if text.starts_with(['{', '[']) {
        return Err(reading.bad("wanted a string, a number or a boolean"));
    }
    // What is stepped over may hold half a surrogate pair, which no guest could read.
    if text.starts_with('"')
        && let Err(error) = serde_json::from_str::<Cow<'_, str>>(text)
    {
        return Err(reading.keep(reading.take(&error)));
    }
    Ok(reading.as_sent(text).to_owned())
}

/// Reads what names a sequence: a number, or a text. 0 and the empty text name none.
///
/// # Errors
/// Any other value, and a text that is too long.
pub(crate) fn sequence_id<'de, D: Deserializer<'de>>(
    reading: &Reading<'de>,
    from: D,
) -> Result<Option<SequenceId>, D::Error> {
    let text = value(reading, from)?;
    if let Ok(number) = text.parse::<u64>() {
        return Ok((number != 0).then_some(SequenceId::Number(number)));
    }
    match serde_json::from_str::<String>(&text) {
        Ok(name) if name.len() > SEQUENCE_ID_BYTES_MAX => {
            Err(reading.bad(format!("longer than {SEQUENCE_ID_BYTES_MAX} bytes")))
        }
        Ok(name) => Ok((!name.is_empty()).then_some(SequenceId::Text(name))),
        Err(_) => Err(reading.bad("wanted a whole number of 64 bits, not negative, or a text")),
    }
}
