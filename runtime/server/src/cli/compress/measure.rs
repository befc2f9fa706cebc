//! What compressing did to a model's answers and to how fast it gives them: both bundles are published on a server inside
//! this process, whose data folder is thrown away, and called in turn.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use innkeeper_deploy::bundle::Bundle;
use innkeeper_deploy::compress::{self, Calibration};
use innkeeper_tensor::{DType, Named, Tensor};
use serde::Serialize;
use ureq::http::Method;

use super::super::args::Host;
use super::super::client::{Client, segment};
use super::super::infer::{ModelRef, infer, metadata};
use super::super::input::{self, Inputs, Spec};
use super::super::{array, output, test, values};
use crate::failure::{Code, Failure};
use crate::serve::{Server, StartOptions, runtime};

/// How often each side is called with each file.
const ROUNDS: usize = 15;
/// The array of an .npz file that holds classes.
const LABELS: &str = "labels";

/// Both sides on the calibration data.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Measured {
    /// `accuracy` on labels, else `cosine` to the expected outputs, or to the original's where none are given.
    pub(super) metric: &'static str,
    pub(super) before: f64,
    pub(super) after: f64,
    /// The mean square of the difference between both sides' numbers.
    pub(super) mean_squared_difference: f64,
    /// Median milliseconds of a call, over HTTP, both sides called in turn.
    pub(super) ms_before: f64,
    pub(super) ms_after: f64,
}

/// A share such as `0.5%` or `0.005`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Share(pub(super) f64);

impl Share {
    pub(super) fn parse(text: &str) -> Result<Share> {
        let number = match text.strip_suffix('%') {
            Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
            None => text.parse(),
        };
        match number {
            Ok(share) if (0.0..=1.0).contains(&share) => Ok(Share(share)),
            _ => Err(Failure::usage(format!(
                "--max-drop {text:?}; wanted a share such as 0.5% or 0.005"
            ))
            .into()),
        }
    }
}

impl Measured {
    /// Refuses a metric that fell by more than this.
    pub(super) fn require(&self, max: Share) -> Result<()> {
        let drop = self.before - self.after;
        // Not the other way round: a NaN must not pass.
        if drop <= max.0 {
            return Ok(());
        }
        let text = format!(
            "the {} fell from {:.6} to {:.6}, by {:.4}%, over --max-drop of {:.4}%; nothing was written",
            self.metric,
            self.before,
            self.after,
            drop * 100.0,
            max.0 * 100.0
        );
        Err(Failure::new(Code::Limit, text).into())
    }

    pub(super) fn table(&self) -> String {
        let row = |name: &str, before: f64, after: f64| {
            vec![name.to_owned(), format!("{before:.6}"), format!("{after:.6}")]
        };
        let rows = [
            row(self.metric, self.before, self.after),
            row("ms a call", self.ms_before, self.ms_after),
        ];
        let mean = self.mean_squared_difference;
        output::table(&["ON CALIBRATION DATA", "BEFORE", "AFTER"], &rows)
            + &format!("the answers' mean squared difference is {mean:.3e}\n")
    }
}

/// Requests of one file, and what is known of their answers.
struct Samples {
    inputs: Inputs,
    labels: Option<Vec<i64>>,
    expected: Vec<Named>,
}

/// Sums over all files.
#[derive(Default)]
struct Sums {
    examples: usize,
    right: [usize; 2],
    /// Products of what is expected and what came, by side, and squares.
    dot: [f64; 2],
    square: [f64; 2],
    square_expected: f64,
    difference: f64,
    numbers: usize,
    ms: [f64; 2],
}

/// Calls both bundles with the files.
pub(super) fn measure(
    before: &Bundle,
    after: &Bundle,
    files: &[impl AsRef<Path>],
) -> Result<Measured> {
    on_a_server(|client| on(client, before, after, files))
}

/// What the products of a bundle's ONNX files multiply when it is called with the files.
pub(super) fn observe(bundle: &Bundle, files: &[impl AsRef<Path>]) -> Result<Calibration> {
    let mut calibration = Calibration::default();
    if files.is_empty() {
        return Ok(calibration);
    }
    let Some((observed, names)) = compress::observed(bundle)? else { return Ok(calibration) };
    on_a_server(|client| {
        let model = publish(client, &observed, "observed")?;
        let specs = metadata(client, &model)?;
        for file in files {
            let file = file.as_ref();
            let samples = read(file, &specs.inputs, &specs.outputs)
                .with_context(|| format!("the calibration data {}", file.display()))?;
            let mut inputs = samples.inputs;
            inputs.outputs.clear();
            let given = inputs.tensors.clone();
            let answer = infer(client, &model, &inputs)?;
            let seen = answer.outputs.iter().filter(|output| names.contains(&output.name));
            for Named { name, tensor } in seen.chain(&given) {
                if tensor.dtype() == DType::Fp32 {
                    calibration.observe(name, tensor)?;
                }
            }
        }
        Ok(())
    })?;
    Ok(calibration)
}

/// Does something with a server of which nothing is left afterwards.
fn on_a_server<T>(work: impl FnOnce(&Client) -> Result<T>) -> Result<T> {
    let data = tempfile::tempdir().context("cannot make a folder for the measurement")?;
    let runtime = runtime()?;
    let config = test::config(data.path());
    let server = runtime.block_on(Server::start(config, StartOptions::of_this_program()?))?;
    let client = Client::new(&Host { url: format!("http://{}", server.address()), key: None })?;
    let done = work(&client);
    runtime.block_on(server.stop())?;
    done
}

fn on(
    client: &Client,
    before: &Bundle,
    after: &Bundle,
    files: &[impl AsRef<Path>],
) -> Result<Measured> {
    let sides = [publish(client, before, "before")?, publish(client, after, "after")?];
    let specs = metadata(client, &sides[0])?;
    let mut sums = Sums::default();
    let mut labelled = true;
    for file in files {
        let file = file.as_ref();
        let doing = || format!("the calibration data {}", file.display());
        let samples = read(file, &specs.inputs, &specs.outputs).with_context(doing)?;
        labelled &= samples.labels.is_some();
        sums.add(client, &sides, &samples).with_context(doing)?;
    }
    Ok(sums.measured(labelled))
}

fn publish(client: &Client, bundle: &Bundle, version: &str) -> Result<ModelRef> {
    let model = &bundle.manifest.name;
    let path = format!("/api/v1/models/{}/versions/{version}", segment(model));
    let headers = [("content-type", "application/x-tar")];
    client.send(Method::POST, &path, &headers, &bundle.to_bytes()[..])?.success()?;
    Ok(ModelRef { owner: None, model: model.clone(), version: Some(version.to_owned()) })
}

fn read(file: &Path, inputs: &[Spec], outputs: &[Spec]) -> Result<Samples> {
    let path = file.to_string_lossy();
    if path.ends_with(".npz") {
        return arrays(array::npz(file)?, inputs, outputs);
    }
    let read = input::read(&[path.clone().into_owned()], inputs)?;
    let expected = path.strip_suffix(".json").map(|stem| format!("{stem}{}", test::EXPECTED));
    let expected = expected.filter(|expected| Path::new(expected).is_file());
    let expected = expected.map(|path| test::expected(Path::new(&path))).transpose()?;
    Ok(Samples { inputs: read, labels: None, expected: expected.unwrap_or_default() })
}

fn arrays(arrays: Vec<(String, Tensor)>, inputs: &[Spec], outputs: &[Spec]) -> Result<Samples> {
    let mut samples = Samples { inputs: Inputs::default(), labels: None, expected: Vec::new() };
    for (name, tensor) in arrays {
        if inputs.iter().any(|spec| spec.name == name) {
            samples.inputs.tensors.push(Named { name, tensor });
        } else if outputs.iter().any(|spec| spec.name == name) {
            samples.expected.push(Named { name, tensor });
        } else if name == LABELS {
            let labels = values::elements(&tensor).into_iter().map(|label| label.as_i64());
            let labels: Option<Vec<i64>> = labels.collect();
            samples.labels = Some(labels.context("labels must be whole numbers")?);
        } else {
            bail!("the array {name:?} is no input or output of the model, and not `{LABELS}`");
        }
    }
    Ok(samples)
}

impl Sums {
    fn add(&mut self, client: &Client, sides: &[ModelRef; 2], samples: &Samples) -> Result<()> {
        let mut times = [Vec::new(), Vec::new()];
        let mut answers = [Vec::new(), Vec::new()];
        for round in 0..=ROUNDS {
            for (side, model) in sides.iter().enumerate() {
                let began = Instant::now();
                let answer = infer(client, model, &samples.inputs)?;
                // The first round warms up.
                if round > 0 {
                    times[side].push(began.elapsed().as_secs_f64() * 1e3);
                }
                answers[side] = answer.outputs;
            }
        }
        for (side, times) in times.iter_mut().enumerate() {
            times.sort_by(f64::total_cmp);
            self.ms[side] += times[times.len() / 2];
        }
        self.compare(&answers, samples)
    }

    fn compare(&mut self, answers: &[Vec<Named>; 2], samples: &Samples) -> Result<()> {
        if let Some(labels) = &samples.labels {
            self.examples += labels.len();
            for (side, answer) in answers.iter().enumerate() {
                let classes = classes(answer, labels.len())?;
                self.right[side] += classes.iter().zip(labels).filter(|(a, b)| a == b).count();
            }
        }
        for original in answers[0].iter().filter(|output| is_float(&output.tensor)) {
            let name = &original.name;
            let of =
                |all: &[Named]| all.iter().find(|it| it.name == *name).map(|it| floats(&it.tensor));
            let Some(after) = of(&answers[1]) else { bail!("there is no output {name} any more") };
            let before = floats(&original.tensor);
            let expected = of(&samples.expected).unwrap_or_else(|| before.clone());
            if before.len() != after.len() || before.len() != expected.len() {
                bail!("the output {name} has another shape than is expected");
            }
            for ((&before, &after), &expected) in before.iter().zip(&after).zip(&expected) {
                for (side, got) in [before, after].into_iter().enumerate() {
                    self.dot[side] += got * expected;
                    self.square[side] += got * got;
                }
                self.square_expected += expected * expected;
                self.difference += (before - after).powi(2);
            }
            self.numbers += before.len();
        }
        Ok(())
    }

    fn measured(&self, labelled: bool) -> Measured {
        let cosine = |side: usize| {
            let length = (self.square[side] * self.square_expected).sqrt();
            if length > 0.0 { self.dot[side] / length } else { 1.0 }
        };
        let share = |side: usize| self.right[side] as f64 / self.examples.max(1) as f64;
        let (metric, [before, after]) = match labelled {
            true => ("accuracy", [0, 1].map(share)),
            false => ("cosine", [0, 1].map(cosine)),
        };
        let mean_squared_difference = self.difference / self.numbers.max(1) as f64;
        let [ms_before, ms_after] = self.ms;
        Measured { metric, before, after, mean_squared_difference, ms_before, ms_after }
    }
}

/// The class of each example: whole numbers of an output, else where its numbers are largest.
fn classes(answer: &[Named], count: usize) -> Result<Vec<i64>> {
    let whole = answer.iter().find(|output| {
        matches!(output.tensor.dtype(), DType::Int64 | DType::Int32)
            && output.tensor.shape().elements() == count
    });
    if let Some(Named { tensor, .. }) = whole {
        let labels: Option<Vec<i64>> =
            values::elements(tensor).iter().map(|label| label.as_i64()).collect();
        return labels.context("an output of classes does not read");
    }
    let scores = answer.iter().find(|output| {
        let dims = output.tensor.shape().dims();
        is_float(&output.tensor) && dims.len() == 2 && dims[0] == count && dims[1] > 0
    });
    let Some(Named { tensor, .. }) = scores else {
        bail!("the model has no output of {count} classes, nor of scores for {count} examples");
    };
    let scores = floats(tensor);
    let width = tensor.shape().dims()[1];
    let class = |row: &[f64]| {
        let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        best.map_or(0, |(index, _)| index as i64)
    };
    Ok(scores.chunks_exact(width).map(class).collect())
}

fn is_float(tensor: &Tensor) -> bool {
    matches!(tensor.dtype(), DType::Fp32 | DType::Fp64)
}

fn floats(tensor: &Tensor) -> Vec<f64> {
    match tensor.dtype() {
        DType::Fp64 => tensor.elements::<f64>().map(|all| all.into_owned()).unwrap_or_default(),
        _ => {
            let all = tensor.elements::<f32>().unwrap_or_default();
            all.iter().map(|&x| f64::from(x)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_read_as_people_write_them() {
        for (text, wanted) in [("0.5%", 0.005), ("0.005", 0.005), ("0", 0.0), ("100%", 1.0)] {
            assert_eq!(Share::parse(text).unwrap(), Share(wanted));
        }
        for text in ["", "%", "-1%", "101%", "NaN", "much"] {
            assert!(Share::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_fall_is_measured_and_refused() {
        let named = |name: &str, tensor| Named { name: name.into(), tensor };
        let scores = |numbers: [f32; 4]| {
            vec![named("Y", Tensor::from_vec(&[2, 2], numbers.to_vec()).unwrap())]
        };
        let samples =
            Samples { inputs: Inputs::default(), labels: Some(vec![0, 1]), expected: Vec::new() };
        let mut sums = Sums::default();
        let answers = [scores([2.0, 1.0, 0.0, 3.0]), scores([2.0, 1.0, 3.0, 0.0])];
        sums.compare(&answers, &samples).unwrap();
        let measured = sums.measured(true);
        assert_eq!((measured.metric, measured.before, measured.after), ("accuracy", 1.0, 0.5));
        assert_eq!(measured.mean_squared_difference, 4.5);
        assert!(measured.require(Share(0.5)).is_ok());
        let error = measured.require(Share(0.1)).unwrap_err();
        assert_eq!(crate::failure::code_of(&error), Code::Limit);
        let text = error.to_string();
        assert!(text.contains("accuracy fell from 1.000000 to 0.500000, by 50.0000%"), "{text}");
        let measured = sums.measured(false);
        assert_eq!((measured.metric, measured.before), ("cosine", 1.0));
        assert!((measured.after - 5.0 / 14.0).abs() < 1e-9);
        let nan = Measured { after: f64::NAN, ..measured };
        assert!(nan.require(Share(1.0)).is_err());
    }
}
