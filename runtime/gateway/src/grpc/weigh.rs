//! What a request comes to once it is decoded, found out before it is.
//!
//! Two bytes of a message can stand for an empty input, which takes two hundred in memory. So fields are counted first.

use innkeeper_tensor::{RANK_MAX, Signature};
use prost::encoding::{WireType, decode_key, decode_varint};

use crate::v2::{Bad, PARAMETERS_MAX};

/// In memory, what one element of `bytes_contents` takes beside its bytes.
const STRING_BYTES: usize = 32;
/// The most bytes of a number in a message.
const VARINT_BYTES: usize = 10;

/// The bytes that decoding a `ModelInferRequest` takes beside those it came as, at most.
///
/// # Errors
/// More tensors, dimensions or parameters than any request may have; bytes that are no message.
pub(crate) fn weigh(message: &[u8]) -> Result<usize, Bad> {
    let mut weight = 0;
    let mut counts = [0; 4];
    let counted = [
        ("parameters", PARAMETERS_MAX),
        ("inputs", Signature::TENSORS_MAX),
        ("outputs", Signature::TENSORS_MAX),
        ("raw_input_contents", Signature::TENSORS_MAX),
    ];
    fields(message, &mut |tag, value| {
        if let Some(at) = (tag as usize).checked_sub(4).filter(|at| *at < counts.len()) {
            counts[at] += 1;
            let (name, max) = counted[at];
            at_most(name, counts[at], max)?;
        }
        match (tag, value) {
            (5, Some(input)) => weight += weigh_input(input).map_err(|bad| bad.at("inputs"))?,
            (6, Some(output)) => few_parameters(output, 2).map_err(|bad| bad.at("outputs"))?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(weight)
}

fn weigh_input(input: &[u8]) -> Result<usize, Bad> {
    few_parameters(input, 4)?;
    let (mut weight, mut dims) = (0, 0);
    fields(input, &mut |tag, value| {
        match (tag, value) {
            (3, value) => dims += value.map_or(1, |packed| packed.len().div_ceil(VARINT_BYTES)),
            (5, Some(contents)) => weight += weigh_contents(contents)?,
            _ => {}
        }
        at_most("shape", dims, RANK_MAX)
    })?;
    Ok(weight)
}

fn weigh_contents(contents: &[u8]) -> Result<usize, Bad> {
    let mut weight = 0usize;
    fields(contents, &mut |tag, value| {
        weight += match (tag, value) {
            (8, _) => STRING_BYTES,
            // A packed number takes at least a byte and becomes at most eight.
            (2..=5, Some(packed)) => packed.len().saturating_mul(8),
            (_, Some(packed)) => packed.len(),
            (_, None) => 8,
        };
        Ok(())
    })?;
    // Vectors grow by doubling.
    Ok(weight.saturating_mul(2))
}

fn few_parameters(tensor: &[u8], parameters: u32) -> Result<(), Bad> {
    count(tensor, parameters, PARAMETERS_MAX).map_err(|bad| bad.at("parameters"))
}

/// Goes over a message to see that one of its fields is there at most `max` times.
///
/// # Errors
/// It is there more often; bytes that are no message.
pub(super) fn count(message: &[u8], field: u32, max: usize) -> Result<(), Bad> {
    let mut count = 0;
    fields(message, &mut |tag, _| {
        count += usize::from(tag == field);
        if count <= max { Ok(()) } else { Err(Bad::new(format!("more than {max}"))) }
    })
}

fn at_most(name: &str, count: usize, max: usize) -> Result<(), Bad> {
    if count <= max { Ok(()) } else { Err(Bad::new(format!("more than {max}")).at(name)) }
}

/// Called with the number of a field, and its bytes if it has a length.
type Visit<'a> = dyn FnMut(u32, Option<&[u8]>) -> Result<(), Bad> + 'a;

/// Goes over the fields of a message.
fn fields(mut rest: &[u8], visit: &mut Visit<'_>) -> Result<(), Bad> {
    while !rest.is_empty() {
        let (tag, wire) = decode_key(&mut rest).map_err(|_| broken())?;
        match wire {
            WireType::Varint => drop(decode_varint(&mut rest).map_err(|_| broken())?),
            WireType::SixtyFourBit => drop(take(&mut rest, 8)?),
            WireType::ThirtyTwoBit => drop(take(&mut rest, 4)?),
            WireType::LengthDelimited => {
                let len = decode_varint(&mut rest).map_err(|_| broken())?;
                visit(tag, Some(take(&mut rest, len)?))?;
                continue;
            }
            // No version of the protocol ever had groups.
            WireType::StartGroup | WireType::EndGroup => return Err(broken()),
        }
        visit(tag, None)?;
    }
    Ok(())
}

fn take<'a>(rest: &mut &'a [u8], len: u64) -> Result<&'a [u8], Bad> {
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let (value, after) = rest.split_at_checked(len).ok_or_else(broken)?;
    *rest = after;
    Ok(value)
}

fn broken() -> Bad {
    Bad::new("the message is not of the type that this call takes")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::grpc::messages::inference::model_infer_request::InferInputTensor;
    use crate::grpc::messages::inference::{InferTensorContents, ModelInferRequest};

    fn with(inputs: Vec<InferInputTensor>) -> Vec<u8> {
        ModelInferRequest { inputs, ..ModelInferRequest::default() }.encode_to_vec()
    }

    #[test]
    fn what_grows_is_counted() {
        let weight = |contents: InferTensorContents| {
            let input = InferInputTensor { contents: Some(contents), ..Default::default() };
            weigh(&with(vec![input])).unwrap()
        };
        let floats = vec![1.0; 1000];
        assert!(
            weight(InferTensorContents { fp32_contents: floats, ..Default::default() }) < 9_000
        );
        let longs = vec![1; 1000];
        assert!(
            weight(InferTensorContents { int64_contents: longs, ..Default::default() }) >= 8_000
        );
        let empty = vec![bytes::Bytes::new(); 1000];
        let strings = InferTensorContents { bytes_contents: empty, ..Default::default() };
        assert!(weight(strings) >= 32_000);
    }

    #[test]
    fn there_are_not_too_many_of_anything() {
        assert_eq!(weigh(&with(vec![InferInputTensor::default(); 256])), Ok(0));
        let error = weigh(&with(vec![InferInputTensor::default(); 257])).unwrap_err();
        assert_eq!(error.to_string(), "inputs: more than 256");
        let shape = vec![1; 400];
        let error = weigh(&with(vec![InferInputTensor { shape, ..Default::default() }]));
        assert_eq!(error.unwrap_err().to_string(), "inputs.shape: more than 16");
        let parameters = (0..65).map(|i| (i.to_string(), Default::default())).collect();
        let many = ModelInferRequest { parameters, ..ModelInferRequest::default() };
        assert!(weigh(&many.encode_to_vec()).is_err());
    }

    proptest! {
        /// What is let through can be decoded or not, but never panics.
        #[test]
        fn no_bytes_can_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if weigh(&bytes).is_ok() {
                let _ = ModelInferRequest::decode(&bytes[..]);
            }
        }
    }
}
