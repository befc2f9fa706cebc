//! Modes that answer: rightly, wrongly, or with an error.

use innkeeper_sdk::{DType, Error, Inputs, Outputs, Result, Tensor, request};

use crate::{answer, value};

const MIB: usize = 1 << 20;

pub(crate) fn run(mode: &str, inputs: &Inputs) -> Option<Result<Outputs>> {
    Some(match mode {
        "ok" => answer(value(inputs, 1.0).unwrap_or(f32::NAN)),
        "echo" => echo(),
        "remaining" => answer(request::remaining_ms() as f32),
        "large-output" => large_output(inputs),
        "large-text" => large_text(inputs),
        "many-outputs" => many_outputs(inputs),
        "wrong-dtype" => with_output0(Tensor::from_slice(&[1], &[1i64])),
        "wrong-shape" => with_output0(Tensor::from_slice(&[2], &[1f32, 2.0])),
        "wrong-rank" => with_output0(Tensor::from_slice(&[1, 1], &[1f32])),
        "wrong-name" => answer(1.0).and_then(|outputs| {
            Ok(outputs.with("NOT-IN-SIGNATURE", Tensor::from_slice(&[1], &[1f32])?))
        }),
        "missing" => Ok(Outputs::new()),
        "twice" => answer(1.0)
            .and_then(|outputs| Ok(outputs.with("OUTPUT0", Tensor::from_slice(&[1], &[2f32])?))),
        "invalid-argument" => Err(Error::invalid_argument("MODE said invalid-argument")),
        "not-found" => Err(Error::not_found("MODE said not-found")),
        "unsupported" => Err(Error::unsupported("MODE said unsupported")),
        "resource-exhausted" => Err(Error::resource_exhausted("MODE said resource-exhausted")),
        "internal" => Err(Error::internal("MODE said internal")),
        "long-error" => long_error(inputs),
        _ => return None,
    })
}

fn with_output0(tensor: Result<Tensor>) -> Result<Outputs> {
    Ok(Outputs::new().with("OUTPUT0", tensor?))
}

/// `TEXT`: the request's id, its parameter `p` ("none" without), and whether `EXTRA` and `TEXT` are wanted. `EXTRA` is
/// given whether or not it is wanted.
fn echo() -> Result<Outputs> {
    let parameter = request::parameter("p").unwrap_or_else(|| "none".to_owned());
    let wanted = |name| request::wants_output(name).to_string();
    let text = [request::id(), parameter, wanted("EXTRA"), wanted("TEXT")];
    Ok(answer(1.0)?
        .with("TEXT", Tensor::from_strings(&[text.len()], &text)?)
        .with("EXTRA", Tensor::from_slice(&[1], &[2f32])?))
}

/// `EXTRA` of `VALUE` MiB, made in the host.
fn large_output(inputs: &Inputs) -> Result<Outputs> {
    let elements = value(inputs, 1.0)? as usize * MIB / 4;
    Ok(answer(1.0)?.with("EXTRA", Tensor::full(DType::Fp32, &[elements], 1.0)?))
}

/// `TEXT` of one element of `VALUE` MiB, made in the guest.
fn large_text(inputs: &Inputs) -> Result<Outputs> {
    let text = "x".repeat(value(inputs, 1.0)? as usize * MIB);
    Ok(answer(1.0)?.with("TEXT", Tensor::from_strings(&[1], &[text])?))
}

/// `VALUE` outputs that the signature does not have, on one tensor's bytes.
fn many_outputs(inputs: &Inputs) -> Result<Outputs> {
    let mut outputs = answer(1.0)?;
    let x = Tensor::from_slice(&[1], &[1f32])?;
    for index in 0..value(inputs, 10_000.0)? as usize {
        outputs.push(&format!("OUTPUT{}", index + 1), x.share()?);
    }
    Ok(outputs)
}

/// An error text of `VALUE` MiB.
fn long_error(inputs: &Inputs) -> Result<Outputs> {
    Err(Error::invalid_argument("x".repeat(value(inputs, 1.0)? as usize * MIB)))
}
