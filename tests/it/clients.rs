//! The client libraries that callers have, unmodified, against a real server. What each does is in `tests/clients`.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::json;

use crate::harness::{Server, guest, root};
use crate::protocol::world;

/// The Python of an environment with the libraries in it, made with pip where it is missing.
pub fn python() -> &'static PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = root().join("target/venv");
        let python = folder.join("bin/python");
        let wanted = std::fs::read(root().join("tests/clients/requirements.txt")).unwrap();
        // Copied there last, so that an environment that was left half made is made again.
        let made = folder.join("requirements.txt");
        if std::fs::read(&made).is_ok_and(|installed| installed == wanted) {
            return python;
        }
        let run = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).current_dir(root()).output();
            let output = output.unwrap_or_else(|error| panic!("{program} does not run: {error}"));
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{program} {arguments:?}: {text}");
        };
        run("python3", &["-m", "venv", "target/venv"]);
        let install = ["-m", "pip", "install", "--quiet", "-r", "tests/clients/requirements.txt"];
        run(python.to_str().unwrap(), &install);
        std::fs::write(made, wanted).unwrap();
        python
    })
}

/// Runs a script of `tests/clients`, which prints a line for each thing it tried.
fn run(script: &str) {
    run_at(script, "");
}

/// The same, of which the script can tell what it is to speak to.
fn run_at(script: &str, at: &str) {
    let world = world();
    run_on(&world.server, [&world.acme.key, &world.friend.key], script, at);
}

/// The same, on a server of its own, with these keys of acme's and friend's.
fn run_on(server: &Server, [acme, friend]: [&str; 2], script: &str, at: &str) {
    let folder = tempfile::tempdir().unwrap();
    let component = folder.path().join("add-one.wasm");
    std::fs::write(&component, &guest("plugins/add-one").component).unwrap();
    let output = Command::new(python())
        .env("AT", at)
        .env("ADD_ONE", &component)
        .env("INNKEEPER_GRPC", &server.grpc)
        .arg(root().join("tests/clients").join(script))
        .env("INNKEEPER_URL", &server.url)
        .env("ACME_KEY", acme)
        .env("FRIEND_KEY", friend)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{}\n{}", said[0], said[1]);
}

#[test]
fn tritonclient_works() {
    run("triton_http.py");
}

#[test]
fn tritonclient_with_asyncio_works() {
    run("triton_aio.py");
}

#[test]
fn tritonclient_over_grpc_works() {
    run_at("triton_grpc.py", "grpc");
}

#[test]
fn tritonclient_over_grpc_works_at_the_port_for_everything() {
    run_at("triton_grpc.py", "http");
}

#[test]
fn tritonclient_over_grpc_with_asyncio_works() {
    run("triton_grpc_aio.py");
}

#[test]
fn grpc_calls_that_no_library_makes_are_answered() {
    run("grpc_odd.py");
}

#[test]
fn tensorflow_servings_and_openais_clients_work() {
    run("other_rest.py");
}

#[test]
fn prometheus_reads_the_metrics() {
    run("metrics.py");
}

#[test]
fn the_kserve_client_works() {
    run("kserve_rest.py");
}

#[test]
fn the_openai_sdk_trains_a_model() {
    let server = Server::start();
    let [acme, friend] = ["acme", "friend"].map(|name| server.tenant(name));
    acme.publish("mlp", "1", &guest("plugins/mlp").bundle).expect_status(201);
    run_on(&server, [&acme.key, &friend.key], "openai_fine_tuning.py", "");
}

/// What needs an administrator is asked for too, so that the key has every scope.
#[test]
fn every_answer_is_as_the_openapi_document_has_it() {
    let server = Server::start();
    let [acme, friend] = ["acme", "friend"].map(|name| server.tenant(name));
    for folder in ["plugins/add-one", "plugins/mlp", "tests/guests/embedding"] {
        let model = folder.rsplit('/').next().unwrap();
        acme.publish(model, "1", &guest(folder).bundle).expect_status(201);
        let stable = format!("/api/v1/models/{model}/aliases/stable");
        acme.put(&stable, &json!({ "version": "1" })).expect_status(200);
    }
    acme.publish("add-one", "2", &guest("plugins/identity").bundle).expect_status(201);
    let acme = server.key("acme", &["predict", "publish", "admin"]);
    run_on(&server, [&acme.key, &friend.key], "openapi.py", "");
}
