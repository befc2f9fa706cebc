//! The body of an inference request, read straight into tensors.

use std::borrow::Cow;

use bytes::Bytes;
use innkeeper_predict::Schedule;
use innkeeper_tensor::{Named, Signature};
use serde::de::{Deserialize, Deserializer};

use super::classification::CLASSES_MAX;
use super::input::{self, Tail};
use super::parameters::{self, NOT_SERVED, is_the_servers, parameters};
use super::reading::{Fields, Items, Reading};
use super::{Bad, tokens};

/// Bytes of the caller's id, which is echoed.
pub(crate) const ID_BYTES_MAX: usize = 1 << 10;

/// An inference request.
#[derive(Debug, Default)]
pub(crate) struct Infer {
    /// The caller's id.
    pub(crate) id: Option<String>,
    /// Parameters for the model, as JSON text.
    pub(crate) parameters: Vec<(String, String)>,
    /// The inputs, in the order given.
    pub(crate) inputs: Vec<Named>,
    /// The outputs asked for; none means all.
    pub(crate) outputs: Vec<Wanted>,
    /// Whether outputs are binary where they do not say.
    pub(crate) binary: bool,
    /// What the parameters say about the request's turn.
    pub(crate) schedule: Schedule,
}

/// An output asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Its name.
    pub(crate) name: String,
    /// Whether it is to be binary, if that was said.
    pub(crate) binary: Option<bool>,
    /// How many classes of it are wanted in its place.
    pub(crate) classes: Option<usize>,
}

/// Reads a body, whose first `header_len` bytes are JSON and the rest binary tensors; without it, all is JSON.
///
/// # Errors
/// Anything that is not as the protocol has it, with the field's path.
pub(crate) fn decode(body: &Bytes, header_len: Option<usize>) -> Result<Infer, Bad> {
    let header_len = header_len.unwrap_or(body.len());
    let header = body.get(..header_len).ok_or_else(|| {
        Bad::new(format!(
            "Inference-Header-Content-Length is {header_len}, but the body has {} bytes",
            body.len()
        ))
    })?;
    let text = std::str::from_utf8(header).map_err(|error| {
        Bad::new(format!("not JSON: byte {} is not UTF-8", error.valid_up_to()))
    })?;
    match parse(&Reading::new(text, None), body) {
        Err(Unread { bad, is_syntax: true }) => match tokens::replaced(text) {
            // Only here it is known that there is something in the text that JSON does not have.
            Some(replaced) => {
                parse(&Reading::new(&replaced, Some(text)), body).map_err(|unread| unread.bad)
            }
            None => Err(bad),
        },
        other => other.map_err(|unread| unread.bad),
    }
}

struct Unread {
    bad: Bad,
    is_syntax: bool,
}

fn parse(reading: &Reading<'_>, body: &Bytes) -> Result<Infer, Unread> {
    let header_len = reading.text().len();
    let mut tail = Tail::new(body, header_len);
    let mut from = serde_json::Deserializer::from_str(reading.text());
    let mut envelope =
        Envelope { reading, tail: &mut tail, infer: Infer::default(), has_inputs: false };
    reading
        .object(&mut from, &mut envelope)
        .and_then(|()| from.end())
        .map_err(|error| Unread { bad: reading.take(&error), is_syntax: error.is_syntax() })?;
    let Envelope { infer, has_inputs, .. } = envelope;
    let bad = |problem: String| Unread { bad: Bad::new(problem), is_syntax: false };
    if !has_inputs {
        return Err(bad("the request has no \"inputs\"".to_owned()));
    }
    if tail.at() != body.len() {
        return Err(bad(format!(
            "{} bytes follow the JSON, but the inputs' binary_data_size add up to {}",
            body.len() - header_len,
            tail.at() - header_len
        )));
    }
    Ok(infer)
}

struct Envelope<'r, 'de, 'b> {
    reading: &'r Reading<'de>,
    tail: &'r mut Tail<'b>,
    infer: Infer,
    has_inputs: bool,
}

impl<'de> Fields<'de> for Envelope<'_, 'de, '_> {
    fn read<D: Deserializer<'de>>(&mut self, key: &Cow<'de, str>, from: D) -> Result<(), D::Error> {
        let (reading, infer) = (self.reading, &mut self.infer);
        match &**key {
            "id" => infer.id = Some(reading.string(from, ID_BYTES_MAX)?),
            "parameters" => parameters(reading, from, &mut ForModel { reading, infer })?,
            "inputs" => {
                self.has_inputs = true;
                let mut inputs = Inputs { reading, tail: self.tail, into: &mut infer.inputs };
                reading.array(from, Signature::TENSORS_MAX, &mut inputs)?;
            }
            "outputs" => {
                let mut outputs = Outputs { reading, into: &mut infer.outputs };
                reading.array(from, Signature::TENSORS_MAX, &mut outputs)?;
            }
            _ => reading.skip(from)?,
        }
        Ok(())
    }
}

struct Inputs<'r, 'de, 'b> {
    reading: &'r Reading<'de>,
    tail: &'r mut Tail<'b>,
    into: &'r mut Vec<Named>,
}

impl<'de> Items<'de> for Inputs<'_, 'de, '_> {
    fn read<D: Deserializer<'de>>(&mut self, from: D) -> Result<(), D::Error> {
        self.into.push(input::read(self.reading, from, self.tail)?);
        Ok(())
    }
}

struct Outputs<'r, 'de> {
    reading: &'r Reading<'de>,
    into: &'r mut Vec<Wanted>,
}

impl<'de> Items<'de> for Outputs<'_, 'de> {
    fn read<D: Deserializer<'de>>(&mut self, from: D) -> Result<(), D::Error> {
        let reading = self.reading;
        let mut output = Output { reading, name: None, binary: None, classes: None };
        reading.object(from, &mut output)?;
        let name = output.name.ok_or_else(|| reading.bad("\"name\" is missing"))?;
        if self.into.iter().any(|other| other.name == name) {
            return Err(reading.bad(format!("output {name:?} is asked for twice")));
        }
        let Output { binary, classes, .. } = output;
        self.into.push(Wanted { name, binary, classes });
        Ok(())
    }
}

struct Output<'r, 'de> {
    reading: &'r Reading<'de>,
    name: Option<String>,
    binary: Option<bool>,
    classes: Option<usize>,
}

impl<'de> Fields<'de> for Output<'_, 'de> {
    fn read<D: Deserializer<'de>>(&mut self, key: &Cow<'de, str>, from: D) -> Result<(), D::Error> {
        let reading = self.reading;
        match &**key {
            "name" => self.name = Some(reading.string(from, Signature::NAME_BYTES_MAX)?),
            "parameters" => {
                parameters(reading, from, &mut ForOutput { output: self })?;
            }
            _ => reading.skip(from)?,
        }
        Ok(())
    }
}

struct ForOutput<'o, 'r, 'de> {
    output: &'o mut Output<'r, 'de>,
}

impl<'de> Fields<'de> for ForOutput<'_, '_, 'de> {
    fn read<D: Deserializer<'de>>(&mut self, key: &Cow<'de, str>, from: D) -> Result<(), D::Error> {
        let reading = self.output.reading;
        match &**key {
            "binary_data" => self.output.binary = Some(bool::deserialize(from)?),
            "classification" => self.output.classes = Some(classes(reading, reading.size(from)?)?),
            _ => return Err(reading.bad(NOT_SERVED)),
        }
        Ok(())
    }
}

fn classes<E: serde::de::Error>(reading: &Reading<'_>, count: i64) -> Result<usize, E> {
    let known = u64::try_from(count).ok().filter(|count| (1..=CLASSES_MAX).contains(count));
    let count = known.and_then(|count| usize::try_from(count).ok());
    count.ok_or_else(|| reading.bad(format!("wanted a number of classes from 1 to {CLASSES_MAX}")))
}

/// The parameters of the request as a whole, most of them the model's.
struct ForModel<'r, 'de> {
    reading: &'r Reading<'de>,
    infer: &'r mut Infer,
}

impl<'de> Fields<'de> for ForModel<'_, 'de> {
    fn read<D: Deserializer<'de>>(&mut self, key: &Cow<'de, str>, from: D) -> Result<(), D::Error> {
        match &**key {
            "binary_data_output" => self.infer.binary = bool::deserialize(from)?,
            "priority" => self.infer.schedule.priority = u64::deserialize(from)?,
            "timeout" => self.infer.schedule.timeout_us = u64::deserialize(from)?,
            "sequence_id" => {
                self.infer.schedule.sequence_id = parameters::sequence_id(self.reading, from)?;
            }
            "sequence_start" => self.infer.schedule.sequence_start = bool::deserialize(from)?,
            "sequence_end" => self.infer.schedule.sequence_end = bool::deserialize(from)?,
            name if is_the_servers(name) => return Err(self.reading.bad(NOT_SERVED)),
            name => {
                let value = parameters::value(self.reading, from)?;
                self.infer.parameters.push((name.to_owned(), value));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
