//! Makes the call that its input `CALL` names. `../README.md` says more.

mod calls;

use innkeeper_sdk::{Assets, DType, Error, Inputs, Model, Outputs, Result, Signature, Tensor};

use calls::{CALLS, WRONG};

pub struct Operations;

#[innkeeper_sdk::model]
impl Model for Operations {
    fn load(_assets: &Assets) -> Result<Self> {
        Ok(Operations)
    }

    fn signature(&self) -> Signature {
        Signature::new()
            .input("CALL", DType::Bytes, &[1])
            .output("KINDS", DType::Bytes, &[-1])
            .output("ELEMENTS", DType::Fp64, &[-1])
    }

    fn predict(&self, inputs: Inputs) -> Result<Outputs> {
        let names = inputs.tensor("CALL")?.to_strings()?;
        let name = names.first().map_or("", String::as_str);
        let results = match name {
            "products without end" => products(),
            "weights without end" => weights(),
            _ => {
                let found = CALLS.iter().chain(WRONG).find(|(known, _)| *known == name);
                let unknown = || Error::not_found(format!("there is no call {name:?}"));
                found.ok_or_else(unknown)?.1()
            }
        };
        let (kinds, elements) = match results {
            Ok(results) => calls::told(&results)?,
            // The caller wants to see the error's case as well.
            Err(error) => (vec![format!("{error:?}")], Vec::new()),
        };
        Ok(Outputs::new()
            .with("KINDS", Tensor::from_strings(&[kinds.len()], &kinds)?)
            .with("ELEMENTS", Tensor::from_slice(&[elements.len()], &elements)?))
    }
}

/// Large products in the host until the deadline.
fn products() -> Result<Vec<Tensor>> {
    let x = Tensor::full(DType::Fp32, &[4096, 4096], 0.5)?;
    loop {
        x.linear(&x, None)?;
    }
}

/// Weights of 256 KiB, of which the host keeps what its kernels read, until there is no room; how many there were.
fn weights() -> Result<Vec<Tensor>> {
    let x = Tensor::full(DType::Fp32, &[32, 256], 0.5)?;
    let mut kept = Vec::new();
    loop {
        match weight(&x) {
            Ok(weight) => kept.push(weight),
            Err(Error::ResourceExhausted(_)) => break,
            Err(error) => return Err(error),
        }
    }
    let count = kept.len() as i64;
    drop(kept);
    Ok(vec![Tensor::from_slice(&[1], &[count])?])
}

fn weight(x: &Tensor) -> Result<Tensor> {
    let weight = Tensor::full(DType::Fp32, &[256, 256], 0.5)?.constant()?;
    x.linear(&weight, None)?;
    Ok(weight)
}
