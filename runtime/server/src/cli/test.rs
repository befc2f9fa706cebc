//! `innkeeper test`: builds a plugin, publishes it on a server inside this process, with a data folder that is thrown
//! away, and calls it with its samples. What the plugin meets is the real thing: bundle, sandbox, limits, protocol.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use innkeeper_deploy::bundle::pack_to_vec;
use innkeeper_tensor::{Named, Tensor};
use serde::Deserialize;
use serde_json::Value;
use ureq::http::Method;

use super::args::{Host, Test};
use super::build::compile;
use super::client::{Client, segment};
use super::infer::{ModelRef, infer, metadata};
use super::input::{self, Spec, WireTensor};
use super::{output, values};
use crate::failure::{Code, Failure};
use crate::serve::{Config, Server, StartOptions, runtime};

/// What the name of a sample's answer ends in.
pub(super) const EXPECTED: &str = ".expected.json";
/// The version under which the plugin is published for the test.
const VERSION: &str = "test";

pub(super) fn run(args: &Test) -> Result<ExitCode> {
    let samples = samples(&args.dir)?;
    let (plugin, built) = compile(&args.dir)?;
    let bundle = pack_to_vec(&args.dir, &plugin, &built.component)?;

    let data = tempfile::tempdir().context("cannot make a folder for the test")?;
    let runtime = runtime()?;
    let server =
        runtime.block_on(Server::start(config(data.path()), StartOptions::of_this_program()?))?;
    let client = Client::new(&Host { url: format!("http://{}", server.address()), key: None })?;
    let results = publish(&client, &plugin.name, &bundle).and_then(|model| {
        samples.iter().map(|sample| check(&client, &model, sample, args.tolerance)).collect()
    });
    runtime.block_on(server.stop())?;

    report(results?)
}

/// A server of which nothing is left, on a port of its own.
pub(super) fn config(data: &Path) -> Config {
    let mut config = Config::default();
    config.server.data = data.to_string_lossy().into_owned();
    config.server.http = "127.0.0.1:0".into();
    config.server.dev = true;
    (config.server.drain_ms, config.server.drain_idle_ms) = (1_000, 0);
    config
}

fn publish(client: &Client, name: &str, bundle: &[u8]) -> Result<ModelRef> {
    let path = format!("/api/v1/models/{}/versions/{VERSION}", segment(name));
    client
        .send(Method::POST, &path, &[("content-type", "application/x-tar")], bundle)?
        .success()?;
    let model = ModelRef { owner: None, model: name.to_owned(), version: Some(VERSION.to_owned()) };
    let metadata = metadata(client, &model)?;
    output::line(&format!(
        "{name} takes {} and gives {}",
        list(&metadata.inputs),
        list(&metadata.outputs)
    ));
    Ok(model)
}

fn list(specs: &[Spec]) -> String {
    let one = |spec: &Spec| format!("{} {} {:?}", spec.name, spec.datatype, spec.shape);
    specs.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// A request in a file, and where its answer would be.
struct Sample {
    name: String,
    request: PathBuf,
    expected: Option<PathBuf>,
}

fn samples(dir: &Path) -> Result<Vec<Sample>> {
    let folder = dir.join("samples");
    let mut samples = Vec::new();
    let entries = fs::read_dir(&folder).map_err(|_| no_samples(&folder))?;
    for entry in entries {
        let request = entry?.path();
        let file = request.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(name) = file.strip_suffix(".json").filter(|_| !file.ends_with(EXPECTED)) else {
            continue;
        };
        let expected = Some(folder.join(format!("{name}{EXPECTED}"))).filter(|path| path.is_file());
        samples.push(Sample { name: name.to_owned(), request, expected });
    }
    if samples.is_empty() {
        return Err(no_samples(&folder).into());
    }
    samples.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(samples)
}

fn no_samples(folder: &Path) -> Failure {
    let text = format!(
        "{} holds no samples; write NAME.json, an inference request, and NAME{EXPECTED}, its answer",
        folder.display()
    );
    Failure::new(Code::NotFound, text)
}

/// What became of one sample.
struct Outcome {
    sample: String,
    ms: f64,
    verdict: Result<String, String>,
}

fn check(client: &Client, model: &ModelRef, sample: &Sample, tolerance: f64) -> Result<Outcome> {
    let text = fs::read_to_string(&sample.request)
        .with_context(|| format!("cannot read {}", sample.request.display()))?;
    let inputs =
        input::read(&[text], &[]).with_context(|| format!("the sample {}", sample.name))?;
    let expected = sample.expected.as_deref().map(expected).transpose()?;
    let began = Instant::now();
    let answer = infer(client, model, &inputs);
    let ms = began.elapsed().as_secs_f64() * 1e3;
    let verdict = match answer {
        Err(error) => Err(format!("{error:#}")),
        Ok(answer) => match expected {
            None => {
                Ok(format!("answered; there is no {}{EXPECTED} to compare it with", sample.name))
            }
            Some(expected) => compare(&answer.outputs, &expected, tolerance),
        },
    };
    Ok(Outcome { sample: sample.name.clone(), ms, verdict })
}

pub(super) fn expected(path: &Path) -> Result<Vec<Named>> {
    #[derive(Deserialize)]
    struct Answer {
        outputs: Vec<WireTensor>,
    }
    let doing = || format!("{} is no answer to an inference request", path.display());
    let text = fs::read_to_string(path).with_context(doing)?;
    let answer: Answer = serde_json::from_str(&values::quoted(&text)).with_context(doing)?;
    let named = |tensor: WireTensor| {
        tensor.tensor().map(|decoded| Named { name: tensor.name, tensor: decoded })
    };
    answer.outputs.into_iter().map(named).collect::<Result<_>>().with_context(doing)
}

/// Every expected output must be there; others may be.
fn compare(got: &[Named], expected: &[Named], tolerance: f64) -> Result<String, String> {
    let mut worst = 0.0f64;
    for Named { name, tensor: wanted } in expected {
        let Some(output) = got.iter().find(|output| output.name == *name) else {
            return Err(format!("there is no output {name}"));
        };
        worst = worst.max(distance(name, &output.tensor, wanted, tolerance)?);
    }
    Ok(format!("as expected, at most {worst:.1e} off"))
}

/// How far the farthest element is off, or which one is too far.
fn distance(name: &str, got: &Tensor, wanted: &Tensor, tolerance: f64) -> Result<f64, String> {
    let kind = |tensor: &Tensor| format!("{} {:?}", tensor.dtype().name(), tensor.shape().dims());
    if (got.dtype(), got.shape()) != (wanted.dtype(), wanted.shape()) {
        return Err(format!("{name} is {}; wanted {}", kind(got), kind(wanted)));
    }
    let mut worst = 0.0f64;
    let pairs = values::elements(got).into_iter().zip(values::elements(wanted));
    for (index, (got, wanted)) in pairs.enumerate() {
        let off = off(&got, &wanted);
        // Not the other way round: a NaN must not pass.
        let near = off <= tolerance * wanted.as_f64().map_or(1.0, |wanted| wanted.abs().max(1.0));
        if !near {
            return Err(format!("{name}[{index}] is {got}; wanted {wanted}"));
        }
        worst = worst.max(off);
    }
    Ok(worst)
}

fn off(got: &Value, wanted: &Value) -> f64 {
    match (got.as_f64(), wanted.as_f64()) {
        _ if got == wanted => 0.0,
        (Some(got), Some(wanted)) => (got - wanted).abs(),
        _ => f64::INFINITY,
    }
}

fn report(results: Vec<Outcome>) -> Result<ExitCode> {
    let failed = results.iter().filter(|outcome| outcome.verdict.is_err()).count();
    let passed = results.len() - failed;
    let rows: Vec<Vec<String>> = results
        .into_iter()
        .map(|Outcome { sample, ms, verdict }| {
            let (word, why) = match verdict {
                Ok(why) => ("ok", why),
                Err(why) => ("FAILED", why),
            };
            vec![sample, word.to_owned(), format!("{ms:.1}"), why]
        })
        .collect();
    output::print(&output::table(&["SAMPLE", "RESULT", "MS", "DETAIL"], &rows));
    output::line(&format!("{passed} passed, {failed} failed"));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(tensor: Tensor) -> Vec<Named> {
        vec![Named { name: "Y".into(), tensor }]
    }

    fn floats(values: &[f32]) -> Vec<Named> {
        named(Tensor::from_vec(&[values.len()], values.to_vec()).unwrap())
    }

    #[test]
    fn near_is_good_enough_and_far_is_not() {
        let ok = |got: &[f32], wanted: &[f32]| compare(&floats(got), &floats(wanted), 1e-5);
        assert!(ok(&[1.000_001], &[1.0]).is_ok());
        assert!(ok(&[1_000_001.0], &[1_000_000.0]).is_ok());
        assert!(ok(&[f32::NAN], &[f32::NAN]).is_ok());
        let error = ok(&[1.0, 1.1], &[1.0, 1.0]).unwrap_err();
        assert_eq!(error, "Y[1] is 1.1; wanted 1.0");
        assert!(ok(&[f32::NAN], &[1.0]).is_err());
        assert!(ok(&[1.0], &[1.0, 2.0]).unwrap_err().contains("wanted FP32 [2]"));
        assert!(compare(&[], &floats(&[1.0]), 1e-5).unwrap_err().contains("no output Y"));
        let texts = |text: &str| named(Tensor::from_strings(&[1], &[text]).unwrap());
        assert!(compare(&texts("a"), &texts("b"), 1e-5).is_err());
    }

    #[test]
    fn samples_are_found_with_their_answers() {
        let dir = tempfile::tempdir().unwrap();
        assert!(samples(dir.path()).is_err());
        let folder = dir.path().join("samples");
        fs::create_dir(&folder).unwrap();
        assert!(samples(dir.path()).is_err());
        for file in ["b.json", "a.json", "a.expected.json", "note.txt"] {
            fs::write(folder.join(file), "{}").unwrap();
        }
        let found = samples(dir.path()).unwrap();
        let found: Vec<_> = found.iter().map(|s| (&*s.name, s.expected.is_some())).collect();
        assert_eq!(found, [("a", true), ("b", false)]);
    }
}
