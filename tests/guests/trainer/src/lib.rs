//! Trains networks inside the sandbox: the tensors, the backward passes and the optimiser are the host's.
//!
//! `TASK` "digits" learns handwritten digits for `STEPS` epochs; "mlp" takes `STEPS` steps of the network 1000-64-64-10 on
//! random data, for timing; "misuse" calls training in every wrong way and answers what it was told.

use innkeeper_sdk::train::{
    Adam, Linear, Module, Optimizer, Parameter, Random, Sequential, Sgd, Var, without_gradients,
};
use innkeeper_sdk::{
    Assets, DType, Error, Inputs, Model, Outputs, Result, Signature, Tensor, TensorSpec,
};

const BATCH: usize = 32;

pub struct Trainer {
    seen: Digits,
    held_out: Digits,
}

struct Digits {
    pixels: Tensor,
    labels: Tensor,
}

impl Digits {
    fn open(assets: &Assets, part: &str) -> Result<Digits> {
        let open =
            |what: &str| assets.weights("digits.safetensors").tensor(&format!("{part}.{what}"));
        Ok(Digits {
            pixels: open("pixels")?.cast(DType::Fp32)?.mul_scalar(1.0 / 16.0)?,
            labels: open("labels")?.cast(DType::Int64)?,
        })
    }
}

#[innkeeper_sdk::model]
impl Model for Trainer {
    fn load(assets: &Assets) -> Result<Self> {
        let [seen, held_out] = ["seen", "held_out"].map(|part| Digits::open(assets, part));
        Ok(Trainer { seen: seen?, held_out: held_out? })
    }

    fn signature(&self) -> Signature {
        Signature::new()
            .input("TASK", DType::Bytes, &[1])
            .input("STEPS", DType::Int64, &[1])
            .output("LOSS", DType::Fp64, &[-1])
            .with_output(TensorSpec::new("ACCURACY", DType::Fp32, &[]).optional())
            .with_output(TensorSpec::new("TOLD", DType::Bytes, &[-1]).optional())
    }

    fn predict(&self, inputs: Inputs) -> Result<Outputs> {
        let task = inputs.tensor("TASK")?.to_strings()?;
        let steps = inputs.tensor("STEPS")?.to_vec::<i64>()?[0];
        match task[0].as_str() {
            "digits" => {
                let (model, losses) = learn(&self.seen, steps)?;
                let accuracy = accuracy(&model, &self.held_out)?;
                Ok(answer(&losses)?.with("ACCURACY", accuracy))
            }
            "mlp" => answer(&[mlp(steps)?]),
            "misuse" => {
                let told = Tensor::from_strings(&[misuse()?.len()], &misuse()?)?;
                Ok(answer(&[])?.with("TOLD", told))
            }
            other => Err(Error::invalid_argument(format!("there is no task {other:?}"))),
        }
    }
}

fn answer(losses: &[f64]) -> Result<Outputs> {
    Ok(Outputs::new().with("LOSS", Tensor::from_slice(&[losses.len()], losses)?))
}

fn network(sizes: [usize; 4], random: &mut Random) -> Result<Sequential> {
    let [inputs, first, second, outputs] = sizes;
    Ok(Sequential::new()
        .with(Linear::new(inputs, first, random)?)
        .relu()
        .with(Linear::new(first, second, random)?)
        .relu()
        .with(Linear::new(second, outputs, random)?))
}

/// The network after `epochs`, and the mean loss of each.
fn learn(digits: &Digits, epochs: i64) -> Result<(Sequential, Vec<f64>)> {
    let mut random = Random::new(20);
    let model = network([64, 64, 32, 10], &mut random)?;
    let parameters = model.parameters();
    let mut adam = Adam::new(3e-3);
    let count = digits.pixels.shape()[0];
    let mut order: Vec<i64> = (0..count as i64).collect();
    let mut losses = Vec::new();
    for _ in 0..epochs {
        random.shuffle(&mut order);
        let mut sum = 0.0;
        for batch in order.chunks(BATCH) {
            let rows = Tensor::from_slice(&[batch.len()], batch)?;
            let x = digits.pixels.gather(&rows, 0)?;
            let labels = digits.labels.gather(&rows, 0)?;
            let loss = model.forward(&x.into())?.cross_entropy(&labels)?;
            sum += loss.item()? * batch.len() as f64;
            let gradients = loss.backward()?;
            drop(loss);
            adam.step(&parameters, &gradients)?;
        }
        losses.push(sum / count as f64);
    }
    Ok((model, losses))
}

fn accuracy(model: &Sequential, digits: &Digits) -> Result<Tensor> {
    let logits = without_gradients(|| model.forward(&digits.pixels.share()?.into()))?;
    let right = logits.value().argmax(-1)?.equal(&digits.labels)?;
    right.cast(DType::Fp32)?.mean(&[], false)
}

/// The loss after some steps of Adam.
fn mlp(steps: i64) -> Result<f64> {
    let mut random = Random::new(20);
    let model = network([1000, 64, 64, 10], &mut random)?;
    let parameters = model.parameters();
    let mut adam = Adam::new(1e-3);
    let x: Vec<f32> = (0..BATCH * 1000).map(|_| random.uniform() as f32).collect();
    let x = Var::constant(Tensor::from_slice(&[BATCH, 1000], &x)?);
    let labels: Vec<i64> = (0..BATCH).map(|_| random.below(10) as i64).collect();
    let labels = Tensor::from_slice(&[BATCH], &labels)?;
    for _ in 0..steps {
        let gradients = model.forward(&x)?.cross_entropy(&labels)?.backward()?;
        adam.step(&parameters, &gradients)?;
    }
    model.forward(&x)?.cross_entropy(&labels)?.item()
}

/// What the host says to what cannot be done; after each the guest goes on.
fn misuse() -> Result<Vec<String>> {
    let parameter = Parameter::new(Tensor::from_slice(&[2], &[1f32, 2.0])?);
    let gradients = parameter.var().sum(&[], false)?.backward()?;
    let row = parameter.var().reshape(&[1, 2])?;
    let told = [
        row.cross_entropy(&Tensor::from_slice(&[1], &[9i64])?).map(drop),
        row.cross_entropy(&Tensor::from_slice(&[1], &[0f32])?).map(drop),
        row.mean_squared_error(&Tensor::from_slice(&[3], &[0f32; 3])?).map(drop),
        parameter.var().dropout(1.0, 0).map(drop),
        Sgd::new(f64::NAN).step(&[parameter.clone()], &gradients),
        Adam::new(0.1).betas(1.0, 0.9).step(&[parameter.clone()], &gradients),
    ];
    // What was refused has changed nothing.
    let values = parameter.value().to_vec::<f32>()?;
    let kept = Error::internal(format!("the parameter is {values:?}"));
    let told = told.into_iter().chain([Err(kept)]);
    Ok(told
        .map(|result| result.err().map_or_else(String::new, |error| error.to_string()))
        .collect())
}

#[cfg(test)]
mod tests {
    use innkeeper_sdk::test::Harness;

    use super::*;

    #[test]
    fn learns_digits_natively_too() {
        let model = Harness::<Trainer>::load_plugin(env!("CARGO_MANIFEST_DIR")).unwrap();
        let inputs = Inputs::new()
            .with("TASK", Tensor::from_strings(&[1], &["digits"]).unwrap())
            .with("STEPS", Tensor::from_slice(&[1], &[12i64]).unwrap());
        let outputs = model.predict(inputs).unwrap();
        assert!(outputs.tensor("ACCURACY").unwrap().item().unwrap() >= 0.95);
    }
}
