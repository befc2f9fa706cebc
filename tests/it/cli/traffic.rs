//! Rollouts from the command line.

use super::Shell;
use crate::harness::{Server, guest};
use crate::parts;

#[test]
fn a_rollout_begins_is_shown_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start();
    let shell = Shell::new(folder.path()).with(&server.tenant("acme"));
    let digits = guest("plugins/digits");
    for label in [1, 2] {
        shell.write(&format!("{label}.bundle"), &parts::always(&digits.bundle, label));
    }
    shell.run("push 1.bundle --model m --version 1 --alias stable").ok();
    shell.run("push 2.bundle --model m --version 2").ok();
    shell.run("rollout m").fails(3, &["no version is tried behind the alias stable"]);
    shell.run("rollout m --promote").fails(5, &["begin a rollout first"]);

    let said = shell.run("rollout m --to 2 --canary 10% --max-errors 2% --max-traps never").ok();
    assert!(said.starts_with("m@stable is 1; 2 is tried since 20"), "{said}");
    let rows: Vec<Vec<&str>> = said.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows[2][..4], ["VERSION", "SHARE", "REQUESTS", "ERRORS"]);
    assert_eq!(rows[3][..5], ["current", "1", "90", "%", "0"]);
    assert_eq!(rows[4][..5], ["candidate", "2", "10", "%", "0"]);
    assert!(said.contains("of 50 or more, errors are over 2 %\n"), "{said}");
    assert!(shell.run("list").ok().contains("stable=1 (2: 10.0 %)"));

    // Alone, a share changes nothing else.
    let shown = shell.run("rollout m --canary 50 --json").json();
    assert_eq!(shown["canary_percent"], 50.0);
    assert_eq!(shown["bounds"]["errors_percent_max"], 2.0);
    assert_eq!(shown["bounds"]["traps_percent_max"], serde_json::Value::Null);

    let shown = shell.run("rollout m --shadow 20%").ok();
    assert!(shown.contains("shown 20 % of them besides: 0 run"), "{shown}");
    assert_eq!(shell.run("rollout m --json").json()["canary_percent"], 50.0);

    // Whoever watches sees how it ends.
    let mut watching = shell.command(&["rollout", "m", "--watch", "--json"]);
    let watching = watching.stdout(std::process::Stdio::piped()).spawn().unwrap();
    assert_eq!(shell.run("rollout m --promote").ok(), "m@stable is 2\n");
    let ended = watching.wait_with_output().unwrap();
    assert!(ended.status.success());
    let out = String::from_utf8(ended.stdout).unwrap();
    assert!(out.lines().last().unwrap().contains("\"act\":\"promoted\""), "{out}");

    assert_eq!(shell.run("alias rollback m stable --why slower").ok(), "m@stable is 1 again\n");
    let history = shell.run("alias history m stable").ok();
    let newest = history.lines().nth(1).unwrap();
    assert!(newest.contains("rolled-back") && newest.ends_with("slower"), "{history}");

    // A rollout that is rolled back ends a script.
    shell.run("rollout m --to 2").ok();
    shell.run("rollout m --rollback").ok();
    shell.run("rollout m --watch").fails(1, &["2 is rolled back; m@stable is 1"]);
}

#[test]
fn what_would_break_callers_is_shown_tensor_by_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start();
    let shell = Shell::new(folder.path()).with(&server.tenant("acme"));
    shell.bundle("plugins/add-one", "1.bundle");
    shell.bundle("plugins/digits", "2.bundle");
    shell.run("push 1.bundle --model m --version 1 --alias stable").ok();
    shell.run("push 2.bundle --model m --version 2").ok();
    let row = "input   INPUT0";
    for line in ["alias set m stable 2", "rollout m --to 2 --canary 5%"] {
        shell.run(line).fails(5, &["PROBLEM", row, "FP32 [-1,16]", "FP32 [-1,64]", "force"]);
    }
    shell.run("push 2.bundle --model m --version 3 --alias stable").fails(5, &["PROBLEM", row]);
    assert_eq!(shell.run("alias set m stable 2 --force").ok(), "m@stable is 2\n");
}
