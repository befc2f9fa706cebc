use std::sync::Arc;
use std::time::{Duration, Instant};

use innkeeper_catalog::Published;
use innkeeper_predict::{Fault, LimitOverrides};
use innkeeper_sandbox::{Assets, CompileLimits, Compiler};

use super::guest::*;
use super::host::*;
use crate::{Compatibility, DeployError, DeployRequest, Source};

/// A file of one tensor, `w`.
const WEIGHTS: &[u8] = b"\x38\0\0\0\0\0\0\0{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}  \0\0\x80\x3f";

fn echo() -> Guest {
    Guest::default()
}

fn broken_compiler() -> Compiler {
    Compiler::child(vec!["/bin/false".into()], CompileLimits::default())
}

#[tokio::test]
async fn a_version_is_served() {
    let (_dir, host) = Host::fresh().await;
    let guest = Guest { load: OPEN, ..echo() }.component();
    let bundle = bundle(guest, &[("w.safetensors", WEIGHTS)]);
    let deployed = host.deploy("1", &["stable"], &bundle).await.unwrap();
    assert_eq!(deployed.outcome, Published::New);
    assert_eq!(deployed.record.digest, bundle.digest());
    assert_eq!(deployed.signature.inputs[0].to_string(), "FP32 [-1,2]");
    for slot in [None, Some("1"), Some("stable")] {
        assert_eq!(host.predict(slot).await, Ok(vec![1.0, 2.0]));
    }
    assert_eq!(host.resolve(None).description, "an echo");
}

#[tokio::test]
async fn a_bare_component_is_served() {
    let (_dir, host) = Host::fresh().await;
    let request = DeployRequest {
        tenant: name("a"),
        model: name("m"),
        version: name("1"),
        aliases: vec![],
        compatibility: Compatibility::Required,
        source: Source::Component(echo().component().into(), Vec::new()),
    };
    host.deployer.deploy(request).await.unwrap();
    assert_eq!(host.predict(None).await, Ok(vec![1.0, 2.0]));
}

#[tokio::test]
async fn the_same_again_only_sets_aliases() {
    let (dir, host) = Host::fresh().await;
    let bundle = bundle(echo().component(), &[]);
    host.publish("1", &[], &bundle).await.unwrap();
    let served = host.resolve(None);
    let outcome = host.publish("1", &["canary"], &bundle).await.unwrap();
    assert_eq!(outcome, Published::Same);
    assert!(std::sync::Arc::ptr_eq(&served, &host.resolve(Some("canary"))), "it stays warm");
    drop(served);
    // A compiler that cannot be run shows that nothing is compiled.
    let host = host.restart(dir.path(), broken_compiler()).await;
    assert_eq!(host.publish("1", &[], &bundle).await.unwrap(), Published::Same);
    assert_eq!(host.publish("2", &[], &bundle).await.unwrap(), Published::New);
}

#[tokio::test]
async fn other_bytes_under_a_name_are_refused() {
    let (_dir, host) = Host::fresh().await;
    let first = bundle(echo().component(), &[]);
    host.publish("1", &[], &first).await.unwrap();
    let other = bundle(Guest { tag: "x", ..echo() }.component(), &[]);
    let error = host.publish("1", &["stable"], &other).await.unwrap_err();
    assert!(matches!(error, DeployError::Conflict { .. }));
    assert!(error.to_string().contains(&first.digest().to_string()), "{error}");
    assert_eq!(host.endpoint().unwrap().aliases, []);
}

#[tokio::test]
async fn bad_models_are_refused_and_leave_nothing() {
    let core = wat::parse_str("(module)").unwrap();
    let empty = wat::parse_str("(component)").unwrap();
    let guest = |guest: Guest| guest.component();
    let rows: Vec<(Vec<u8>, Fault, &str)> = vec![
        (b"#!/bin/sh".to_vec(), Fault::Caller, "not a WebAssembly component"),
        (core, Fault::Caller, "core WebAssembly module"),
        (empty, Fault::Caller, "does not export innkeeper:model/model@0.1"),
        (guest(Guest { load: TRAP, ..echo() }), Fault::Plugin, "did not come through load: "),
        (guest(Guest { load: SPIN, ..echo() }), Fault::Plugin, "load_ms_max of 200 ms"),
        (guest(Guest { load: FAIL, ..echo() }), Fault::Plugin, "load: the model failed: no luck"),
        (guest(Guest { load: LOG_AND_TRAP, ..echo() }), Fault::Plugin, "its log ends: INPUT0"),
        (guest(Guest { load: OPEN, ..echo() }), Fault::Plugin, "did not come through load"),
        (guest(Guest { describe: TRAP, ..echo() }), Fault::Plugin, "come through describe"),
        (guest(Guest { describe: SPIN, ..echo() }), Fault::Plugin, "come through describe"),
        (guest(Guest { describe: NO_OUTPUTS, ..echo() }), Fault::Plugin, "it has no outputs"),
        (guest(Guest { input: (1 << 40, 1 << 40), ..echo() }), Fault::Plugin, "no tensor can be"),
        (guest(Guest { predict: TRAP, ..echo() }), Fault::Plugin, "a first predict on zeros"),
        (guest(Guest { predict: SPIN, ..echo() }), Fault::Plugin, "deadline_ms_max of 200 ms"),
        (guest(Guest { gives: "OUTPUTX", ..echo() }), Fault::Plugin, "no output named \"OUTPUTX\""),
        (guest(Guest { input: (1, 3), ..echo() }), Fault::Plugin, "shape [-1,2], got [1,3]"),
    ];
    let (_dir, host) = Host::fresh().await;
    for (component, fault, wanted) in rows {
        let error =
            host.publish("1", &["stable"], &bundle(component, &[])).await.expect_err(wanted);
        let text = error.to_string();
        assert!(text.contains(wanted), "wanted {wanted:?}, got {text:?}");
        assert_eq!(error.fault(), fault, "{text}");
        assert!(host.endpoint().is_none() && host.catalog.model(&key()).await.is_err(), "{text}");
    }
    // The host is as good as before.
    host.publish("1", &[], &bundle(echo().component(), &[])).await.unwrap();
}

#[tokio::test]
async fn a_model_may_refuse_zeros_or_take_anything() {
    let (_dir, host) = Host::fresh().await;
    for (version, guest) in [
        ("1", Guest { predict: REFUSE, ..echo() }),
        ("2", Guest { predict: FAIL, ..echo() }),
        // What shapes it takes cannot be guessed, so it is not tried.
        ("3", Guest { predict: TRAP, describe: ANY_SHAPE, ..echo() }),
        ("4", Guest { predict: TRAP, input: (1 << 20, 1 << 20), ..echo() }),
    ] {
        host.publish(version, &[], &bundle(guest.component(), &[])).await.unwrap();
    }
}

#[tokio::test]
async fn an_asset_may_have_been_sent_before_by_its_owner() {
    let (_dir, host) = Host::fresh().await;
    let guest = Guest { load: OPEN, ..echo() }.component();
    let mut bundle = bundle(guest, &[("w.safetensors", WEIGHTS)]);
    bundle.assets = vec![None];
    let missing = host.publish("1", &[], &bundle).await.unwrap_err();
    assert!(matches!(missing, DeployError::AssetMissing { .. }), "{missing}");
    upload(&host, "b", WEIGHTS).await;
    let anothers = host.publish("1", &[], &bundle).await.unwrap_err();
    assert_eq!(anothers.to_string(), missing.to_string());
    upload(&host, "a", WEIGHTS).await;
    host.publish("1", &[], &bundle).await.unwrap();
    assert_eq!(host.predict(None).await, Ok(vec![1.0, 2.0]));

    bundle.manifest.assets[0].size += 1;
    bundle.manifest_bytes = bundle.manifest.to_text().into();
    let lie = host.publish("2", &[], &bundle).await.unwrap_err().to_string();
    assert!(lie.contains("the manifest says 69"), "{lie}");
}

/// Many names cost no more memory than one, whatever version they stand in.
#[tokio::test]
async fn weights_are_read_once_however_many_names_they_have() {
    let (_dir, host) = Host::fresh().await;
    let names = ["a.safetensors", "b.safetensors", "plain"];
    let one = bundle(echo().component(), &names.map(|name| (name, WEIGHTS)));
    let deployer = &host.deployer;
    let first = deployer.assets(&key(), &one).await.unwrap();
    let second = deployer.assets(&key(), &one).await.unwrap();
    let tensors = |assets: &Assets, name| Arc::clone(&assets.get(name).unwrap().tensors);
    let shared = tensors(&first, "a.safetensors");
    assert_eq!(shared.len(), 1);
    assert!(Arc::ptr_eq(&shared, &tensors(&first, "b.safetensors")));
    assert!(Arc::ptr_eq(&shared, &tensors(&second, "a.safetensors")));
    assert!(tensors(&first, "plain").is_empty());
    // They count once against their owner, and no more when nobody holds them.
    let used = || host.predictor.usage(&name("a")).asset_memory_bytes;
    assert_eq!(used(), WEIGHTS.len() as u64);
    drop((first, second, shared));
    assert_eq!(used(), 0);
}

#[tokio::test]
async fn a_device_that_is_not_there_is_refused() {
    let (_dir, host) = Host::fresh().await;
    for (device, is_there) in [("auto", true), ("cpu", true), ("cuda:0", false)] {
        let mut bundle = bundle(echo().component(), &[]);
        bundle.manifest.device = device.parse().unwrap();
        bundle.manifest_bytes = bundle.manifest.to_text().into();
        let published = host.publish(&device.replace(':', "-"), &[], &bundle).await;
        let told = published.map_err(|error| error.to_string());
        assert_eq!(told.is_ok(), is_there, "{told:?}");
        let says = told.err().is_none_or(|text| text.contains("cuda:0") && text.contains("cpu"));
        assert!(says, "{device}");
    }
}

#[tokio::test]
async fn assets_in_memory_have_a_limit() {
    let (_dir, host) = Host::fresh().await;
    let max = WEIGHTS.len() as u64;
    let limits = LimitOverrides { asset_memory_bytes_max: Some(max), ..LimitOverrides::default() };
    host.predictor.set_limits(&name("a"), &limits);
    let fits = bundle(echo().component(), &[("w.safetensors", WEIGHTS)]);
    host.publish("1", &[], &fits).await.unwrap();
    let over = bundle(echo().component(), &[("more", b"more"), ("w.safetensors", WEIGHTS)]);
    let error = host.publish("2", &[], &over).await.unwrap_err().to_string();
    let wanted = format!("asset_memory_bytes_max of {max}");
    assert!(error.contains(&wanted), "{error}");
    // What does not fit later is told to whoever calls.
    let less = LimitOverrides { asset_memory_bytes_max: Some(max - 1), ..limits };
    host.predictor.set_limits(&name("a"), &less);
    let error = host.predict(None).await.unwrap_err().to_string();
    assert!(error.contains("asset_memory_bytes_max"), "{error}");
}

/// The versions `1` to `count`, each with weights of its own of `WEIGHTS.len()` bytes.
async fn with_weights(host: &Host, count: u8) -> u64 {
    for version in 1..=count {
        let mut weights = WEIGHTS.to_vec();
        *weights.last_mut().unwrap() = version;
        let bundle = bundle(echo().component(), &[("w.safetensors", weights.as_slice())]);
        host.publish(&version.to_string(), &[], &bundle).await.unwrap();
    }
    WEIGHTS.len() as u64
}

/// The versions that are in memory.
fn in_memory(host: &Host) -> String {
    let versions = host.endpoint().unwrap().versions.clone();
    let loaded = versions.iter().filter(|version| version.loaded_asset_bytes().is_some());
    loaded.map(|version| version.version.to_string()).collect()
}

#[tokio::test]
async fn versions_that_were_not_used_for_longest_make_room_and_come_back() {
    let (_dir, host) = Host::fresh().await;
    let one = with_weights(&host, 3).await;
    host.predictor.cool(std::time::Duration::ZERO, std::time::Instant::now());
    let limits =
        LimitOverrides { asset_memory_bytes_max: Some(2 * one), ..LimitOverrides::default() };
    host.predictor.set_limits(&name("a"), &limits);
    // Each call, and what is in memory after it.
    for (version, wanted) in
        [("1", "1"), ("2", "12"), ("1", "12"), ("3", "13"), ("2", "23"), ("2", "23"), ("1", "12")]
    {
        host.predict(Some(version)).await.unwrap();
        assert_eq!(in_memory(&host), wanted, "after {version}");
    }
    assert_eq!(host.predictor.usage(&name("a")).asset_memory_bytes, 2 * one);
    // Publishing makes room, too.
    with_weights(&host, 4).await;
    assert_eq!(host.predict(Some("4")).await.unwrap(), [1.0, 2.0]);
}

#[tokio::test]
async fn all_tenants_together_have_a_budget() {
    let dir = tempfile::tempdir().unwrap();
    let one = WEIGHTS.len() as u64;
    let host = Host::within(dir.path(), 2 * one).await;
    host.catalog.create_tenant(&name("a")).await.unwrap();
    with_weights(&host, 3).await;
    host.predictor.cool(std::time::Duration::ZERO, std::time::Instant::now());
    for (version, wanted) in [("1", 1), ("2", 2), ("3", 2), ("1", 2)] {
        host.predict(Some(version)).await.unwrap();
        assert_eq!(in_memory(&host).len(), wanted, "after {version}: {}", in_memory(&host));
        assert!(in_memory(&host).contains(version));
    }
}

#[tokio::test]
async fn broken_weights_are_refused() {
    let (_dir, host) = Host::fresh().await;
    let bundle = bundle(echo().component(), &[("w.safetensors", b"nothing")]);
    let error = host.publish("1", &[], &bundle).await.unwrap_err();
    let wanted = "the asset \"w.safetensors\" cannot be used: it is not a safetensors file";
    assert!(error.to_string().starts_with(wanted), "{error}");
}

#[tokio::test]
async fn two_publishers_of_one_version_come_one_after_the_other() {
    let (_dir, host) = Host::fresh().await;
    let one = bundle(echo().component(), &[]);
    let other = bundle(Guest { tag: "x", ..echo() }.component(), &[]);
    let (first, second) = tokio::join!(host.publish("1", &[], &one), host.publish("1", &[], &one));
    let mut outcomes = [first.unwrap(), second.unwrap()];
    outcomes.sort_by_key(|outcome| *outcome == Published::Same);
    assert_eq!(outcomes, [Published::New, Published::Same]);

    let (first, second) =
        tokio::join!(host.publish("2", &[], &one), host.publish("2", &[], &other));
    let refused = [first, second].into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert!(matches!(refused[..], [DeployError::Conflict { .. }]), "{refused:?}");
}

#[tokio::test]
async fn a_tenant_publishes_only_so_much_at_once() {
    let (_dir, host) = Host::fresh().await;
    let bundle = bundle(echo().component(), &[]);
    let p = |version| host.publish(version, &[], &bundle);
    let outcomes = tokio::join!(p("1"), p("2"), p("3"), p("4"), p("5"));
    let error = outcomes.4.unwrap_err();
    assert_eq!((error.fault(), outcomes.0.is_ok()), (Fault::Load, true));
    assert!(error.to_string().starts_with("4 versions of tenant a are being published"), "{error}");
    host.publish("5", &[], &bundle).await.unwrap();
}

/// Each first run may hold as much as the tenant's limits say, so there is one at a time.
#[tokio::test]
async fn first_runs_of_a_tenant_come_one_after_the_other() {
    let (_dir, host) = Host::fresh().await;
    let bundle = bundle(Guest { load: SPIN, ..echo() }.component(), &[]);
    let p = |version| host.publish(version, &[], &bundle);
    p("0").await.unwrap_err();
    let began = Instant::now();
    let outcomes = tokio::join!(p("1"), p("2"), p("3"), p("4"));
    // Each runs on for the 200 ms that `load` may take.
    assert!(began.elapsed() >= Duration::from_millis(800), "{:?}", began.elapsed());
    for outcome in [outcomes.0, outcomes.1, outcomes.2, outcomes.3] {
        assert!(outcome.unwrap_err().to_string().contains("load_ms_max"));
    }
}

#[tokio::test]
async fn what_is_known_of_versions_counts_as_stored() {
    let (_dir, host) = Host::fresh().await;
    let bundle = bundle(echo().component(), &[]);
    let blob = bundle.component.len() as u64;
    let limit = |max| {
        let limits = LimitOverrides { stored_bytes_max: Some(max), ..LimitOverrides::default() };
        host.predictor.set_limits(&name("a"), &limits);
    };
    limit(blob);
    let error = host.publish("1", &[], &bundle).await.unwrap_err().to_string();
    assert!(error.contains("stored_bytes_max"), "{error}");
    limit(blob + 10_000);
    host.publish("1", &[], &bundle).await.unwrap();
}

#[tokio::test]
async fn an_alias_may_not_have_a_versions_name() {
    let (_dir, host) = Host::fresh().await;
    let bundle = bundle(echo().component(), &[]);
    let error = host.publish("1", &["1"], &bundle).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Caller);
    assert!(host.endpoint().is_none_or(|endpoint| endpoint.versions.is_empty()));
}

#[tokio::test]
async fn changed_code_is_compiled_again() {
    let (dir, host) = Host::fresh().await;
    host.publish("1", &[], &bundle(echo().component(), &[])).await.unwrap();
    flip(&file(dir.path(), &["artefacts", ".artefact"]));
    let host = host.restart(dir.path(), broken_compiler()).await;
    let error = host.predict(None).await.unwrap_err();
    assert!(error.contains("the compiler's process ended"), "{error}");
    // It was thrown away, and is made anew from the component.
    let host = host.restart(dir.path(), Compiler::in_process()).await;
    assert_eq!(host.predict(None).await, Ok(vec![1.0, 2.0]));
    let host = host.restart(dir.path(), broken_compiler()).await;
    assert_eq!(host.predict(None).await, Ok(vec![1.0, 2.0]));
}

#[tokio::test]
async fn a_changed_blob_is_not_served_and_can_be_mended() {
    let (dir, host) = Host::fresh().await;
    let guest = Guest { load: OPEN, ..echo() }.component();
    let bundle = bundle(guest, &[("w.safetensors", WEIGHTS)]);
    host.publish("1", &[], &bundle).await.unwrap();
    let asset = bundle.manifest.assets[0].digest;
    flip(&file(dir.path(), &["blobs", &asset.hex()[8..]]));
    let host = host.restart(dir.path(), Compiler::in_process()).await;
    let error = host.predict(None).await.unwrap_err();
    assert!(error.contains(&asset.to_string()), "{error}");
    assert_eq!(host.publish("1", &[], &bundle).await.unwrap(), Published::Same);
    assert_eq!(host.predict(None).await, Ok(vec![1.0, 2.0]));
}

#[tokio::test]
async fn a_changed_component_is_not_compiled() {
    let (dir, host) = Host::fresh().await;
    let bundle = bundle(echo().component(), &[]);
    host.publish("1", &[], &bundle).await.unwrap();
    let component = bundle.manifest.component.digest;
    flip(&file(dir.path(), &["blobs", &component.hex()[8..]]));
    std::fs::remove_file(file(dir.path(), &["artefacts", ".artefact"])).unwrap();
    let host = host.restart(dir.path(), Compiler::in_process()).await;
    let error = host.predict(None).await.unwrap_err();
    assert!(error.contains(&component.to_string()), "{error}");
}
