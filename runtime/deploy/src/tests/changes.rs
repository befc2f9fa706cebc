use std::sync::Arc;

use innkeeper_catalog::Sharing;
use innkeeper_sandbox::Compiler;

use super::guest::Guest;
use super::host::*;
use crate::Compatibility;

/// A host with two versions of `a/m`, and the alias `stable` on the first.
async fn two() -> (tempfile::TempDir, Host) {
    let (dir, host) = Host::fresh().await;
    for (version, tag, alias) in [("1", "x", &["stable"][..]), ("2", "y", &[])] {
        let component = Guest { tag, ..Guest::default() }.component();
        host.publish(version, alias, &bundle(component, &[])).await.unwrap();
    }
    (dir, host)
}

#[tokio::test]
async fn an_alias_moves_and_what_is_warm_stays() {
    let (_dir, host) = two().await;
    let (first, second) = (host.resolve(Some("1")), host.resolve(Some("2")));
    assert!(Arc::ptr_eq(&host.resolve(None), &first));
    host.deployer
        .set_alias(&key(), &name("stable"), &name("2"), Compatibility::Required)
        .await
        .unwrap();
    assert!(Arc::ptr_eq(&host.resolve(None), &second));
    assert!(Arc::ptr_eq(&host.resolve(Some("1")), &first));
    host.deployer.delete_alias(&key(), &name("stable")).await.unwrap();
    assert!(Arc::ptr_eq(&host.resolve(None), &second), "the newest serves");
    assert!(host.endpoint().unwrap().resolve(Some("stable")).is_err());
}

#[tokio::test]
async fn what_is_refused_changes_nothing() {
    let (_dir, host) = two().await;
    let deployer = &host.deployer;
    for (alias, version) in [("stable", "3"), ("2", "1")] {
        let (key, to) = (key(), (name(alias), name(version)));
        let set = deployer.set_alias(&key, &to.0, &to.1, Compatibility::Required).await;
        assert!(set.is_err(), "{alias}");
    }
    assert!(deployer.delete_alias(&key(), &name("canary")).await.is_err());
    assert!(deployer.delete_version(&key(), &name("3")).await.is_err());
    let error = deployer.delete_version(&key(), &name("1")).await.unwrap_err();
    assert!(error.to_string().contains("the alias stable stands for it"), "{error}");
    assert_eq!(&*host.resolve(None).version.to_string(), "1");
    assert_eq!(host.endpoint().unwrap().versions.len(), 2);
}

#[tokio::test]
async fn a_deleted_version_is_gone() {
    let (_dir, host) = two().await;
    host.deployer.delete_version(&key(), &name("2")).await.unwrap();
    assert!(host.endpoint().unwrap().resolve(Some("2")).is_err());
    // Its name is free again.
    let other = Guest { tag: "z", ..Guest::default() }.component();
    host.publish("2", &[], &bundle(other, &[])).await.unwrap();
    assert_eq!(host.predict(Some("2")).await, Ok(vec![1.0, 2.0]));
}

#[tokio::test]
async fn a_deleted_model_is_gone_also_after_a_restart() {
    let (dir, host) = two().await;
    host.deployer.delete_model(&key()).await.unwrap();
    assert!(host.endpoint().is_none());
    assert!(host.deployer.delete_model(&key()).await.is_err());
    let host = host.restart(dir.path(), Compiler::in_process()).await;
    assert!(host.endpoint().is_none());
}

#[tokio::test]
async fn sharing_decides_who_finds_a_model() {
    let (_dir, host) = two().await;
    let seen = || host.predictor.endpoint(&name("b"), "a", "m").is_ok();
    for (sharing, wanted) in [
        (Sharing::All, true),
        (Sharing::Private, false),
        (Sharing::Tenants(vec![name("b")]), true),
        (Sharing::Tenants(vec![]), false),
    ] {
        host.deployer.set_sharing(&key(), &sharing).await.unwrap();
        assert_eq!(seen(), wanted, "{sharing:?}");
    }
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let (dir, host) = two().await;
    host.deployer.set_sharing(&key(), &Sharing::All).await.unwrap();
    let facts = |host: &Host| {
        let d = host.resolve(None);
        let texts = (d.version.to_string(), d.digest, d.signature.clone(), d.description.clone());
        (texts, d.isolation, d.limits.clone(), d.created_ms)
    };
    let before = facts(&host);
    let host = host.restart(dir.path(), Compiler::in_process()).await;
    assert_eq!(facts(&host), before);
    assert_eq!(host.endpoint().unwrap().sharing, Sharing::All);
    assert_eq!(host.predict(Some("2")).await, Ok(vec![1.0, 2.0]));
}

#[tokio::test]
async fn code_that_no_version_needs_goes_at_a_start() {
    let (dir, host) = two().await;
    host.deployer.delete_version(&key(), &name("2")).await.unwrap();
    let host = host.restart(dir.path(), Compiler::in_process()).await;
    file(dir.path(), &["artefacts", ".artefact"]);
    assert_eq!(host.predict(None).await, Ok(vec![1.0, 2.0]));
}
