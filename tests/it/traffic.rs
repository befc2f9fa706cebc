//! Versions behind aliases: shared out, tried, promoted and rolled back, while callers go on calling.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Server, eventually, guest};
use crate::hostile::{hostile, told};
use crate::parts;
use crate::wire::{Wire, request};

/// Limits under which thousands of requests may wait.
const WIDE: &str = "[limits]\nqueue_requests_max = 100000\nqueue_ms_max = 60000\ndeadline_ms_max = 60000\n\
    requests_per_second_max = 1000000\n";

fn picture() -> Value {
    json!([{ "name": "INPUT0", "datatype": "FP32", "shape": [1, 64], "data": vec![0.0; 64] }])
}

/// A model `m` with the versions `1` and `2`, which say the labels 1 and 2 to everything, and `stable` on the first.
fn two(server: &Server) -> Client {
    let tenant = server.tenant("acme");
    let digits = guest("plugins/digits");
    for label in [1, 2] {
        let bundle = parts::always(&digits.bundle, label);
        tenant.publish("m", &label.to_string(), &bundle).expect_status(201);
    }
    set(&tenant, "1").expect_status(200);
    tenant
}

fn set(client: &Client, version: &str) -> Answer {
    client.put(&path(""), &json!({ "version": version }))
}

fn path(act: &str) -> String {
    format!("/api/v1/models/m/aliases/stable{act}")
}

/// The one version that an answer is of: what it says, its body and its header agree.
#[track_caller]
fn version_of(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    let version = body["model_version"].as_str().unwrap();
    assert_eq!(answer.header("x-innkeeper-version"), Some(version));
    let outputs = body["outputs"].as_array().unwrap();
    let label = outputs.iter().find(|output| output["datatype"] == "INT64").unwrap();
    assert_eq!(label["data"][0].to_string(), version, "of two versions: {body}");
    version.to_owned()
}

fn call(client: &Client, headers: &[(&str, &str)]) -> String {
    let body = json!({ "inputs": picture() }).to_string();
    version_of(&client.send("POST", "/v2/models/m/infer", headers, body.as_bytes()))
}

/// How many of `count` calls the candidate answers.
fn share(client: &Client, count: usize) -> usize {
    (0..count).filter(|_| call(client, &[]) == "2").count()
}

#[test]
fn an_alias_moves_under_ten_thousand_requests_in_flight() {
    const SOCKETS: usize = 200;
    const EACH: usize = 50;
    let server = Server::with_config(WIDE);
    let tenant = two(&server);
    let body = json!({ "inputs": picture() }).to_string();
    let one = request(&tenant.key, "POST", "/v2/models/m/infer", &[], body.as_bytes());
    let all = one.repeat(EACH);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mover = scope.spawn(|| {
            let mut moves = 0;
            while !done.load(Ordering::Relaxed) {
                set(&tenant, ["2", "1"][moves % 2]).expect_status(200);
                moves += 1;
            }
            moves
        });
        let _end = OnDrop(&done);
        // Every request is on its way before the first answer is read.
        let sockets = (0..SOCKETS).map(|_| {
            let mut wire = Wire::open(&tenant);
            wire.send(&all);
            wire
        });
        let mut sockets: Vec<Wire> = sockets.collect();
        let mut readers = Vec::new();
        while !sockets.is_empty() {
            let part = sockets.split_off(sockets.len() - SOCKETS / 8);
            readers.push(scope.spawn(move || {
                let answers = part.into_iter().flat_map(|mut wire| {
                    let versions = (0..EACH).map(|_| version_of(&wire.answer()));
                    versions.collect::<Vec<_>>()
                });
                answers.collect::<Vec<_>>()
            }));
        }
        let seen: Vec<String> = readers.into_iter().flat_map(|r| r.join().unwrap()).collect();
        done.store(true, Ordering::Relaxed);
        let moves = mover.join().unwrap();
        assert_eq!(seen.len(), SOCKETS * EACH);
        assert_eq!(BTreeSet::from_iter(seen).len(), 2, "both versions answered");
        assert!(moves > 2, "it moved {moves} times");
    });
}

/// Ends the other threads of a test that fails.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_candidate_answers_its_share_is_promoted_and_rolled_back() {
    let server = Server::start();
    let tenant = two(&server);
    tenant.get(&path("/rollout")).expect_status(404);
    let wish = |percent: f64| json!({ "candidate": "2", "canary_percent": percent });
    let shown = tenant.put(&path("/rollout"), &wish(30.0)).expect_status(200).json();
    assert_eq!((&shown["current"], &shown["candidate"]), (&json!("1"), &json!("2")));
    let got = share(&tenant, 400);
    assert!((80..160).contains(&got), "{got} of 400 at 30 %");
    let report = tenant.get(&path("/rollout")).expect_status(200).json();
    let sides = &report["sides"];
    assert_eq!(sides["candidate"]["requests"], got);
    assert_eq!(sides["current"]["requests"], 400 - got);
    assert!(sides["current"]["p99_ms"].as_f64().unwrap() > 0.0, "{sides}");
    // Versions that are named themselves are neither shared out nor counted.
    let body = json!({ "inputs": picture() });
    for version in ["1", "2"] {
        let answer = tenant.post(&format!("/v2/models/m/versions/{version}/infer"), &body);
        assert_eq!(version_of(&answer), version);
    }
    assert_eq!(tenant.get(&path("/rollout")).json()["sides"]["candidate"]["requests"], got);

    // A caller with a name stays where it is, also while the share grows.
    let on = |user: usize| call(&tenant, &[("x-innkeeper-sticky", &format!("user-{user}"))]) == "2";
    let tried: Vec<usize> = (0..60).filter(|user| on(*user)).collect();
    assert!((6..35).contains(&tried.len()), "{tried:?}");
    assert_eq!(tried, (0..60).filter(|user| on(*user)).collect::<Vec<_>>());
    tenant.put(&path("/rollout"), &wish(80.0)).expect_status(200);
    assert!(tried.iter().all(|user| on(*user)));
    let counted = tenant.get(&path("/rollout")).json();
    assert!(counted["sides"]["candidate"]["requests"].as_u64().unwrap() > got as u64, "it goes on");

    let promoted = tenant.post(&path("/promote"), &json!({})).expect_status(200).json();
    assert_eq!(promoted["version"], "2");
    assert_eq!(share(&tenant, 20), 20);
    tenant.get(&path("/rollout")).expect_status(404);
    assert_eq!(
        tenant.post(&path("/promote"), &json!({})).expect_status(409).json()["code"],
        "conflict"
    );

    let why = json!({ "why": "it was better before" });
    assert_eq!(tenant.post(&path("/rollback"), &why).expect_status(200).json()["version"], "1");
    assert_eq!(share(&tenant, 20), 0);
    let history = tenant.get(&path("/history")).expect_status(200).json();
    let acts: Vec<&Value> =
        history["changes"].as_array().unwrap().iter().map(|change| &change["act"]).collect();
    assert_eq!(acts, ["rolled-back", "promoted", "tried", "tried", "set"]);
    assert_eq!(history["changes"][0]["why"], "it was better before");
    // A second time brings back what the first took away, without a body too.
    let again = tenant.send("POST", &path("/rollback"), &[], b"").expect_status(200);
    assert_eq!(again.json()["version"], "2");
}

/// What came of the requests that the candidate was shown.
fn shown(client: &Client) -> Value {
    client.get(&path("/rollout")).expect_status(200).json()["shadow"].clone()
}

/// As [`shown`], once `count` requests have been shown or dropped.
fn shown_all(client: &Client, count: u64) -> Value {
    let mut report = Value::Null;
    eventually("all are shown", || {
        report = shown(client);
        report["requests"].as_u64().unwrap() + report["dropped"].as_u64().unwrap() == count
    });
    report
}

#[test]
fn a_candidate_is_shown_requests_and_answers_none_of_them() {
    let server = Server::start();
    let tenant = two(&server);
    let like_1 = parts::always(&guest("plugins/digits").bundle, 1);
    tenant.publish("m", "3", &parts::described(&like_1, "as the first")).expect_status(201);
    let wish = |candidate: &str, percent: f64| {
        let wish = json!({ "candidate": candidate, "shadow_percent": percent });
        tenant.put(&path("/rollout"), &wish).expect_status(200).json()
    };
    for (candidate, alike) in [("2", "different"), ("3", "same")] {
        let begun = wish(candidate, 100.0);
        assert_eq!(
            (&begun["shadow_percent"], &begun["canary_percent"]),
            (&json!(100.0), &json!(0.0))
        );
        for shown in 1..=20 {
            assert_eq!(call(&tenant, &[]), "1");
            let report = shown_all(&tenant, shown);
            assert_eq!(report["dropped"], 0, "one after another is not too much: {report}");
        }
        let report = shown(&tenant);
        assert_eq!((&report["requests"], &report[alike]), (&json!(20), &json!(20)), "{report}");
        assert_eq!(report["largest_difference"].as_f64().unwrap() > 0.0, alike == "different");
        // What it is shown is not what it answers.
        let sides = tenant.get(&path("/rollout")).json()["sides"].clone();
        assert_eq!(
            (&sides["candidate"]["requests"], &sides["current"]["requests"]),
            (&json!(0), &json!(20))
        );
        tenant.post(&path("/rollback"), &json!({})).expect_status(200);
    }
    // A share of them, by chance; what was counted goes on.
    wish("2", 100.0);
    assert_eq!(call(&tenant, &[]), "1");
    shown_all(&tenant, 1);
    wish("2", 25.0);
    assert_eq!(share(&tenant, 200), 0);
    let mut before = Value::Null;
    eventually("it is shown no more", || {
        std::mem::replace(&mut before, shown(&tenant)) == shown(&tenant)
    });
    let count = |field: &str| before[field].as_u64().unwrap();
    let all = count("requests") + count("dropped");
    assert!((20..90).contains(&all), "{all} of 200 at 25 %");
    assert_eq!(count("requests"), count("different"));
}

#[test]
fn what_a_candidate_is_shown_costs_no_caller_anything() {
    let server = Server::start();
    let tenant = crate::hostile::Tenant::new(&server, "acme");
    let publish = |version, limits| {
        tenant.client.publish("m", version, &hostile("tenant", limits)).expect_status(201);
    };
    publish("1", "");
    publish("2", "output_bytes_max = 1048576");
    set(&tenant.client, "1").expect_status(200);
    let wish = json!({ "candidate": "2", "shadow_percent": 100,
        "bounds": { "requests_min": 1, "errors_percent_max": 0.0 } });
    tenant.client.put(&path("/rollout"), &wish).expect_status(200);
    // It fails where the current version answers: that is counted, and ends nothing.
    for failed in 1..=3u64 {
        let answer = tenant.tell("m", "large-output", Some(2.0)).expect_status(200);
        assert_eq!(answer.header("x-innkeeper-version"), Some("1"));
        assert_eq!(shown_all(&tenant.client, failed)["errors"], failed);
    }
    // Who fails himself is not held against anything.
    tenant.tell("m", "internal", None).expect_status(500);
    // Each is shown to a fresh instance: the current version counts its calls, the candidate begins anew.
    for calls in [1.0, 2.0, 3.0] {
        assert_eq!(tenant.number("m", "state", None), calls);
    }
    let report = shown_all(&tenant.client, 6);
    assert_eq!((&report["same"], &report["different"]), (&json!(1), &json!(2)), "{report}");
    assert_eq!(report["largest_difference"], 2.0);
    // With half of the tenant's memory in use, callers have the rest.
    tenant.limit(&json!({ "tensor_bytes_max": 3 << 20 }));
    assert_eq!(tenant.number("m", "keep-bytes", None), 1.0);
    assert_eq!(shown_all(&tenant.client, 7)["dropped"], 0);
    assert_eq!(tenant.number("m", "keep-bytes", None), 2.0);
    assert_eq!(shown_all(&tenant.client, 8)["dropped"], 1);
}

#[test]
fn a_rollout_outlives_the_process_and_its_end_too() {
    let server = Server::start();
    let tenant = two(&server);
    let wish = json!({ "candidate": "2", "canary_percent": 100, "sticky": "x-user",
        "bounds": { "requests_min": 7 } });
    let before = tenant.put(&path("/rollout"), &wish).expect_status(200).json();
    let refused = tenant.delete("/api/v1/models/m/versions/2").expect_status(409);
    assert!(refused.error().contains("stable"), "{}", refused.error());
    let (key, data) = (tenant.key.clone(), server.data.clone());
    let folder = server.kill();
    let server = Server::on(&data, &[]);
    let tenant = server.client(&key);
    assert_eq!(tenant.get(&path("/rollout")).expect_status(200).json(), before);
    assert_eq!(share(&tenant, 5), 5);
    tenant.post(&path("/rollback"), &json!({})).expect_status(200);
    server.kill();
    let server = Server::on(&data, &[]);
    let tenant = server.client(&key);
    tenant.get(&path("/rollout")).expect_status(404);
    assert_eq!(share(&tenant, 5), 0);
    tenant.delete("/api/v1/models/m/versions/2").expect_status(204);
    drop((server, folder));
}

/// The second version of this model goes over a limit where the first answers.
#[test]
fn a_candidate_that_fails_is_rolled_back_by_itself() {
    let server = Server::start();
    let tenant = server.tenant("acme");
    tenant.publish("m", "1", &hostile("tenant", "")).expect_status(201);
    tenant.publish("m", "2", &hostile("tenant", "output_bytes_max = 1048576")).expect_status(201);
    set(&tenant, "1").expect_status(200);
    let wish = json!({ "candidate": "2", "canary_percent": 100,
        "bounds": { "requests_min": 5, "errors_percent_max": null, "traps_percent_max": 20.0 } });
    tenant.put(&path("/rollout"), &wish).expect_status(200);
    let call = || tenant.infer("m", told("large-output", Some(2.0)));
    let mut failed = 0;
    eventually("it is rolled back", || {
        let answer = call();
        failed += usize::from(answer.status != 200);
        assert!(answer.status == 200 || answer.header("x-innkeeper-version") == Some("2"));
        tenant.get(&path("/rollout")).status == 404
    });
    // Calls go on beside the transaction that ends the rollout, on a busy machine some more of them.
    assert!((5..200).contains(&failed), "{failed} callers met it");
    for _ in 0..3 {
        call().expect_status(200);
    }
    let told = tenant.get(&path("/history?max=1")).json()["changes"][0].clone();
    assert_eq!((&told["act"], &told["version"]), (&json!("rolled-back"), &json!("1")));
    assert_eq!(told["candidate"], "2");
    assert!(told["why"].as_str().unwrap().contains("traps were 100.0 % of 5 requests"), "{told}");
    assert!(server.log().contains("a candidate is rolled back"), "{}", server.log());
}

#[test]
fn a_version_that_breaks_callers_is_refused_unless_forced() {
    let server = Server::start();
    let tenant = server.tenant("acme");
    let (add_one, digits) = (guest("plugins/add-one"), guest("plugins/digits"));
    tenant.publish("m", "1", &add_one.bundle).expect_status(201);
    tenant.publish("m", "2", &digits.bundle).expect_status(201);
    set(&tenant, "1").expect_status(200);
    let tar = ("content-type", "application/x-tar");
    let publish = |query: &str| {
        let path = format!("/api/v1/models/m/versions/3?alias=stable{query}");
        tenant.send("POST", &path, &[tar], &parts::described(&digits.bundle, "3"))
    };
    let rollout = json!({ "candidate": "2", "canary_percent": 1 });
    for refused in [set(&tenant, "2"), tenant.put(&path("/rollout"), &rollout), publish("")] {
        let body = refused.expect_status(409).json();
        assert_eq!(body["code"], "breaks_callers");
        let told = &body["details"]["differences"][0];
        assert_eq!((&told["kind"], &told["name"]), (&json!("input"), &json!("INPUT0")));
        assert_eq!(told["problem"], "takes fewer shapes");
        assert_eq!((&told["was"], &told["is"]), (&json!("FP32 [-1,16]"), &json!("FP32 [-1,64]")));
    }
    tenant.get("/api/v1/models/m/versions/3").expect_status(404);
    assert_eq!(tenant.get(&path("")).json(), json!({ "alias": "stable", "version": "1" }));

    let forced = json!({ "candidate": "2", "canary_percent": 1, "force": true });
    tenant.put(&path("/rollout"), &forced).expect_status(200);
    publish("&force=true").expect_status(201);
    tenant.put(&path(""), &json!({ "version": "1", "force": true })).expect_status(200);
}

#[test]
fn what_cannot_be_tried_is_refused() {
    let server = Server::start();
    let tenant = two(&server);
    let other = server.tenant("other");
    let caller = server.key("acme", &["predict"]);
    let good = json!({ "candidate": "2", "canary_percent": 10 });
    let with = |field: &str, value: Value| {
        let mut wish = good.clone();
        wish[field] = value;
        tenant.put(&path("/rollout"), &wish)
    };
    let cases = [
        ("a key for calling alone", caller.put(&path("/rollout"), &good), 403, "publish"),
        ("another tenant's model", other.put(&path("/rollout"), &good), 404, "other/m"),
        ("no such version", with("candidate", json!("9")), 404, "version 9"),
        ("itself", with("candidate", json!("1")), 409, "already"),
        ("too much", with("canary_percent", json!(101)), 400, "canary_percent is 101"),
        ("too much to be shown", with("shadow_percent", json!(101)), 400, "shadow_percent is 101"),
        ("no difference", with("bounds", json!({ "difference_max": 2 })), 400, "difference_max"),
        ("too fine", with("canary_percent", json!(0.001)), 400, "two decimals"),
        ("no header", with("sticky", json!("a b")), 400, "sticky"),
        ("no window", with("bounds", json!({ "window_ms": 0 })), 400, "window_ms"),
        ("a misspelt bound", with("bounds", json!({ "window": 1 })), 400, "window"),
        ("a misspelt field", with("canary", json!(1)), 400, "canary"),
        ("a bad reason", tenant.post(&path("/rollback"), &json!({ "why": "a\nb" })), 400, "why"),
        (
            "nothing to go back to",
            tenant.post(&path("/rollback"), &json!({})),
            409,
            "no other version",
        ),
        (
            "no such alias",
            tenant.put("/api/v1/models/m/aliases/canary/rollout", &good),
            404,
            "alias canary",
        ),
    ];
    for (what, answer, status, text) in cases {
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        assert!(answer.error().contains(text), "{what}: {}", answer.error());
    }
    tenant.get(&path("/rollout")).expect_status(404);
}

#[test]
fn a_policy_says_what_is_served_and_kept() {
    let server = Server::start();
    let tenant = two(&server);
    let digits = guest("plugins/digits");
    let publish = |label: usize| {
        tenant.publish("m", &label.to_string(), &parts::always(&digits.bundle, label))
    };
    publish(3).expect_status(201);
    let policy = |body: Value| tenant.put("/api/v1/models/m/policy", &body);
    let served = || {
        let shown = tenant.get("/api/v1/models/m").expect_status(200).json();
        let versions = shown["versions"].as_array().unwrap().iter();
        let served = versions.filter(|version| version["served"] == true);
        served.map(|version| version["version"].as_str().unwrap().to_owned()).collect::<String>()
    };
    let call = |version: &str| {
        let body = json!({ "inputs": picture() });
        tenant.post(&format!("/v2/models/m/versions/{version}/infer"), &body).status
    };
    assert_eq!(
        tenant.get("/api/v1/models/m/policy").json(),
        json!({ "serve": "all", "keep": null })
    );
    policy(json!({ "serve": { "latest": 1 } })).expect_status(200);
    assert_eq!((served().as_str(), call("2"), call("3")), ("13", 404, 200));
    policy(json!({ "serve": { "versions": ["2"] } })).expect_status(200);
    assert_eq!((served().as_str(), call("2"), call("3")), ("12", 200, 404));
    assert_eq!(call("stable"), 200, "what an alias stands for is served always");

    assert_eq!(policy(json!({ "keep": 1 })).expect_status(200).json()["removed"], 1);
    assert_eq!((served().as_str(), call("2")), ("13", 404));
    tenant.get("/api/v1/models/m/versions/2").expect_status(404);
    publish(4).expect_status(201);
    assert_eq!(served(), "14");
    for bad in [
        json!({ "serve": { "latest": 0 } }),
        json!({ "serve": "some" }),
        json!({ "keep": 0 }),
        json!({ "keeps": 1 }),
    ] {
        policy(bad).expect_status(400);
    }
}
