//! `cargo xtask demo`: the main job of Innkeeper on real input.

use anyhow::{Result, ensure};

use crate::digits::{Digits, answers, drawn};
use crate::host::{self, Server};
use crate::run::{Step, command, quietly, root};
use crate::tools;

/// Images that are drawn.
const SHOWN: usize = 2;
/// The part of the held-out images that the model must read.
const ACCURACY_MIN: f64 = 0.95;
/// The exit code of the command line for what does not exist.
const NOT_FOUND: i32 = 3;

/// With a host that is built.
pub(crate) fn run(exit: bool) -> Result<()> {
    let bundle = host::bundle("digits")?;

    let mut server = step("starting a server with a throw-away data folder", Server::start)?;
    println!(
        "   {} is process {}, its data and log are in {}",
        server.url,
        server.pid(),
        server.data().display()
    );
    let (acme, other) = step("creating the tenants acme and other, with a key each", || {
        Ok((tenant(&server, "acme")?, tenant(&server, "other")?))
    })?;
    let bundle = bundle.to_string_lossy();
    let push = ["push", &bundle, "--alias", "stable"];
    let published = step("publishing digits for acme", || server.cli(&acme, &push))?;
    println!("   {}", published.replace('\n', "\n   "));

    classify(&server, &acme)?;
    refused(&server, &other)?;
    let line = curl(&server, &acme)?;
    try_line(&line)?;
    println!("\nThe endpoint is {}/v2/models/digits/infer. Call it:\n\n{line}\n", server.url);
    if exit {
        return Ok(());
    }
    println!("The server runs until Ctrl-C.");
    server.wait()
}

fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let step = Step::begin(name);
    let done = work();
    step.end(if done.is_ok() { "ok" } else { "FAILED" });
    done
}

/// A new tenant's key.
fn tenant(server: &Server, name: &str) -> Result<String> {
    server.cli(&server.admin_key, &["tenant", "create", name])?;
    let create = ["key", "create", "--tenant", name, "--scopes", "predict,publish"];
    server.cli(&server.admin_key, &create)
}

/// Reads digits that people wrote and the model has never seen.
fn classify(server: &Server, key: &str) -> Result<()> {
    let digits = Digits::held_out(&root().join("plugins/digits/samples"))?;
    let input = server.data().join("digits.json");
    std::fs::write(&input, digits.json())?;
    let input = input.to_string_lossy();
    let name = format!("classifying {} images that the model has not seen", digits.images.len());
    let predict = ["predict", "digits", "--input", &input, "--json"];
    let answers = answers(&step(&name, || server.cli(key, &predict))?)?;
    ensure!(answers.len() == digits.images.len(), "{} answers came", answers.len());
    for (image, (label, probability)) in digits.images.iter().zip(&answers).take(SHOWN) {
        println!("\n{}    is a {label}, with probability {probability:.4}\n", drawn(image));
    }
    let right = answers.iter().zip(&digits.labels).filter(|(answer, label)| answer.0 == **label);
    let accuracy = right.count() as f64 / answers.len() as f64;
    println!("   {:.1} % of them are read as their writers meant them", 100.0 * accuracy);
    ensure!(accuracy >= ACCURACY_MIN, "the accuracy is {accuracy:.3}; wanted {ACCURACY_MIN}");
    Ok(())
}

/// What is not shared does not exist for another tenant.
fn refused(server: &Server, key: &str) -> Result<()> {
    for model in ["digits", "acme/digits"] {
        let output = server.try_cli(key, &["predict", model, "--input", "[[0]]"])?;
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let code = output.status.code();
        ensure!(code == Some(NOT_FOUND), "the other tenant gets {code:?} for {model}: {text}");
        println!("   the tenant other asks for {model} and gets 404: {text}");
    }
    Ok(())
}

/// A line that works in any shell.
fn curl(server: &Server, key: &str) -> Result<String> {
    let digits = Digits::held_out(&root().join("plugins/digits/samples"))?;
    let body = serde_json::json!({ "inputs": [{
        "name": "INPUT0", "datatype": "FP32", "shape": [1, 64], "data": digits.images[0].to_vec(),
    }]});
    let url = format!("{}/v2/models/digits/infer", server.url);
    Ok(format!("curl -sS -H 'Authorization: Bearer {key}' {url} -d '{body}'"))
}

/// The line is not only printed: where there is curl, it has worked.
fn try_line(line: &str) -> Result<()> {
    if !tools::works("curl", &["--version"]) {
        return Ok(());
    }
    let answer = quietly("calling it with curl", &mut command("sh", &["-c", line]))?;
    ensure!(answer.contains("PROBABILITIES"), "curl gets {answer}");
    Ok(())
}
