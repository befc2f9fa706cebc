//! Models, versions, aliases, sharing.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use super::{Bench, key, name, new_version, outcome};
use crate::{CatalogError, Digest, NewVersion, PublishLimits, Published, Sharing};

#[tokio::test]
async fn a_published_version_is_read_back() {
    let bench = Bench::new().await;
    let (one, two) = (bench.put("acme", b"one").await, bench.put("acme", b"two").await);
    let new = NewVersion {
        blobs: vec![two, one, two],
        facts: "{\"signature\":1}".to_owned(),
        aliases: vec![name("stable"), name("canary")],
        ..new_version("acme/digits", "1", "manifest 1")
    };
    assert_eq!(bench.catalog.publish(&new).await.expect("published"), Published::New);
    bench.clock.set(1_000_007);
    bench.publish(new_version("acme/digits", "0.9", "manifest 2")).await;
    bench.publish(new_version("zeta/digits", "1", "manifest 3")).await;

    let bench = bench.reopened().await;
    let models = bench.catalog.models().await.expect("models");
    assert_eq!(models.len(), 2);
    let model = &models[0];
    assert_eq!(model, &bench.catalog.model(&key("acme/digits")).await.expect("the model"));
    assert_eq!((&model.key, &model.sharing), (&key("acme/digits"), &Sharing::Private));
    assert_eq!(model.created_ms, 1_000_000);
    assert_eq!(model.aliases, [(name("canary"), name("1")), (name("stable"), name("1"))]);
    let versions: Vec<&str> = model.versions.iter().map(|v| v.version.as_str()).collect();
    assert_eq!(versions, ["1", "0.9"], "in the order of publishing");
    let version = &model.versions[0];
    assert_eq!(version.blobs, [two, one]);
    assert_eq!(
        (version.manifest.as_str(), version.facts.as_str()),
        ("manifest 1", new.facts.as_str())
    );
    assert_eq!((version.digest, version.created_ms), (new.digest, 1_000_000));
    assert_eq!(model.versions[1].created_ms, 1_000_007);
    let again = bench.catalog.version(&key("acme/digits"), &name("1")).await.expect("the version");
    assert_eq!(&again, version);
    again.verify().expect("the manifest is whole");
    assert_eq!(models[1].key, key("zeta/digits"));
}

#[tokio::test]
async fn publishing_outcomes() {
    let bench = Bench::new().await;
    let mine = bench.put("acme", b"mine").await;
    let theirs = bench.put("zeta", b"theirs").await;
    let first = NewVersion {
        blobs: vec![mine],
        aliases: vec![name("stable")],
        ..new_version("acme/digits", "1", "one")
    };
    bench.publish(first.clone()).await;
    let rows: [(&str, NewVersion, &str); 13] = [
        ("the same", first.clone(), "ok"),
        ("other bytes", new_version("acme/digits", "1", "other"), "conflict"),
        ("an alias's name", new_version("acme/digits", "stable", "one"), "conflict"),
        ("same digest, other name", new_version("acme/digits", "2", "one"), "ok"),
        ("an alias named as a version", with_alias("acme/digits", "3", "2"), "conflict"),
        ("an alias named as itself", with_alias("acme/digits", "3", "3"), "conflict"),
        ("a digest that lies", lying(), "wrong digest"),
        ("no such owner", new_version("nobody/digits", "1", "one"), "not found"),
        ("another tenant's blob", with_blob("acme/digits", "3", theirs), "not found"),
        ("a blob nobody sent", with_blob("acme/digits", "3", Digest::of(b"?")), "not found"),
        ("a third version", new_version("acme/digits", "3", "three"), "ok"),
        ("a fourth version", new_version("acme/digits", "4", "four"), "versions_max 3 4"),
        ("the same at the limit", first, "ok"),
    ];
    for (what, new, wanted) in rows {
        assert_eq!(outcome(bench.catalog.publish(&new).await), wanted, "{what}");
    }
    let model = bench.catalog.model(&key("acme/digits")).await.expect("the model");
    let versions: Vec<&str> = model.versions.iter().map(|v| v.version.as_str()).collect();
    assert_eq!(versions, ["1", "2", "3"], "nothing is left of what failed");
    assert_eq!(model.aliases, [(name("stable"), name("1"))]);
    let nobody = bench.catalog.model(&key("zeta/digits")).await;
    assert_eq!(outcome(nobody), "not found", "a failed publish makes no model");
}

fn with_alias(model: &str, version: &str, alias: &str) -> NewVersion {
    NewVersion { aliases: vec![name(alias)], ..new_version(model, version, "any") }
}

fn with_blob(model: &str, version: &str, blob: Digest) -> NewVersion {
    NewVersion { blobs: vec![blob], ..new_version(model, version, "any") }
}

fn lying() -> NewVersion {
    NewVersion { digest: Digest::of(b"else"), ..new_version("acme/digits", "3", "any") }
}

#[tokio::test]
async fn publishing_has_limits() {
    let bench = Bench::new().await;
    let big = "x".repeat(1024 * 1024 + 1);
    let digest = Digest::of(b"x");
    let facts = NewVersion { facts: big.clone(), ..new_version("acme/a", "1", "") };
    let blobs = NewVersion { blobs: vec![digest; 4097], ..new_version("acme/a", "1", "") };
    let aliases = NewVersion {
        aliases: (0..101).map(|i| name(&format!("a{i}"))).collect(),
        ..new_version("acme/a", "1", "")
    };
    let none = PublishLimits { versions_max: 0, models_max: 1, stored_bytes_max: 1000 };
    let rows = [
        (new_version("acme/a", "1", &big), "manifest_bytes_max 1048576 1048577"),
        (facts, "facts_bytes_max 1048576 1048577"),
        (blobs, "version_blobs_max 4096 4097"),
        (aliases, "aliases_max 100 101"),
        (NewVersion { limits: none, ..new_version("acme/a", "1", "") }, "versions_max 0 1"),
        (new_version("acme/a", "1", ""), "ok"),
        (new_version("acme/b", "1", ""), "ok"),
        (new_version("acme/c", "1", ""), "models_max 2 3"),
        (new_version("zeta/c", "1", ""), "ok"),
    ];
    for (new, wanted) in rows {
        assert_eq!(outcome(bench.catalog.publish(&new).await), wanted);
    }
    let usage = bench.catalog.usage(&name("acme")).await.expect("usage");
    assert_eq!((usage.models, usage.versions), (2, 2));
}

#[tokio::test]
async fn manifests_and_facts_are_stored_bytes() {
    let bench = Bench::new().await;
    let new = |version: &str, stored_bytes_max| {
        let mut new = new_version("acme/a", version, "four byte \u{1f980}");
        new.limits.stored_bytes_max = stored_bytes_max;
        new
    };
    bench.put("acme", b"12345").await;
    let rows = [
        ("1", 20, "stored_bytes_max 20 21", 5),
        ("1", 21, "ok", 21),
        ("2", 36, "stored_bytes_max 36 37", 21),
        ("1", 0, "ok", 21),
        ("2", 37, "ok", 37),
    ];
    for (version, max, wanted, after) in rows {
        let published = bench.catalog.publish(&new(version, max)).await;
        assert_eq!((&*outcome(published), bench.stored("acme").await), (wanted, after));
    }
    assert_eq!(bench.stored("zeta").await, 0);
    bench.catalog.delete_version(&key("acme/a"), &name("1")).await.expect("deleted");
    assert_eq!(bench.stored("acme").await, 21);
    bench.catalog.delete_model(&key("acme/a")).await.expect("deleted");
    assert_eq!(bench.stored("acme").await, 5);
}

#[tokio::test]
async fn two_publishers_of_one_name_get_one_winner() {
    let bench = Bench::new().await;
    let publish = |manifest: &'static str| {
        let catalog = bench.catalog.clone();
        tokio::spawn(async move { catalog.publish(&new_version("acme/a", "1", manifest)).await })
    };
    let tasks: Vec<_> = ["a", "b", "a", "b", "a", "b"].map(publish).into();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(match task.await.expect("no panic") {
            Ok(published) => format!("{published:?}"),
            Err(error) => super::kind(&error),
        });
    }
    outcomes.sort();
    assert_eq!(outcomes, ["New", "Same", "Same", "conflict", "conflict", "conflict"]);
}

#[tokio::test]
async fn a_publish_that_nobody_waits_for_is_whole_or_absent() {
    let bench = Bench::new().await;
    let limits = PublishLimits { versions_max: 100, models_max: 1, stored_bytes_max: 10_000 };
    for polls in 0..60 {
        let version = format!("v{polls}");
        let new = NewVersion {
            aliases: vec![name("stable")],
            limits,
            ..new_version("acme/a", &version, &version)
        };
        {
            let mut publish = pin!(bench.catalog.publish(&new));
            for _ in 0..polls {
                if poll_fn(|cx| Poll::Ready(publish.as_mut().poll(cx))).await.is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        // The next writer is not in its way, and sees all of it or nothing.
        let again = bench.catalog.publish(&new).await.expect("published");
        let model = bench.catalog.model(&key("acme/a")).await.expect("the model");
        assert_eq!(model.versions.len(), polls + 1, "{again:?}");
        assert_eq!(model.aliases, [(name("stable"), name(&version))]);
    }
}

#[tokio::test]
async fn aliases_move() {
    let bench = Bench::new().await;
    for version in ["1", "2"] {
        bench.publish(new_version("acme/a", version, version)).await;
    }
    let catalog = &bench.catalog;
    // alias, version, outcome, the aliases after it
    type Row = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)]);
    let rows: [Row; 6] = [
        ("stable", "1", "ok", &[("stable", "1")]),
        ("stable", "2", "ok", &[("stable", "2")]),
        ("canary", "1", "ok", &[("canary", "1"), ("stable", "2")]),
        ("canary", "3", "not found", &[("canary", "1"), ("stable", "2")]),
        ("1", "2", "conflict", &[("canary", "1"), ("stable", "2")]),
        ("next", "stable", "not found", &[("canary", "1"), ("stable", "2")]),
    ];
    for (alias, version, wanted, after) in rows {
        let set = catalog.set_alias(&key("acme/a"), &name(alias), &name(version)).await;
        assert_eq!(outcome(set), wanted, "{alias} -> {version}");
        let model = catalog.model(&key("acme/a")).await.expect("the model");
        let after: Vec<_> = after.iter().map(|(a, v)| (name(a), name(v))).collect();
        assert_eq!(model.aliases, after, "{alias} -> {version}");
    }
    let other = catalog.set_alias(&key("zeta/a"), &name("stable"), &name("1")).await;
    assert_eq!(outcome(other), "not found");
    catalog.delete_alias(&key("acme/a"), &name("stable")).await.expect("deleted");
    for alias in ["stable", "1", "nothing"] {
        let deleted = catalog.delete_alias(&key("acme/a"), &name(alias)).await;
        assert_eq!(outcome(deleted), "not found", "{alias}");
    }
    bench.publish(new_version("acme/a", "stable", "its name is free again")).await;
}

#[tokio::test]
async fn publishing_again_moves_the_aliases_asked_for() {
    let bench = Bench::new().await;
    let one = NewVersion { aliases: vec![name("stable")], ..new_version("acme/a", "1", "1") };
    bench.publish(one.clone()).await;
    bench.publish(NewVersion { version: name("2"), ..one.clone() }).await;
    assert_eq!(bench.catalog.publish(&one).await.expect("published"), Published::Same);
    let model = bench.catalog.model(&key("acme/a")).await.expect("the model");
    assert_eq!(model.aliases, [(name("stable"), name("1"))]);
}

#[tokio::test]
async fn deleting() {
    let bench = Bench::new().await;
    let catalog = &bench.catalog;
    let with = |version| NewVersion {
        aliases: vec![name("stable")],
        ..new_version("acme/a", version, version)
    };
    bench.publish(with("1")).await;
    let deleted = catalog.delete_version(&key("acme/a"), &name("1")).await;
    let Err(CatalogError::Conflict { why, .. }) = deleted else { panic!("{deleted:?}") };
    assert!(why.contains("alias stable"), "{why}");
    bench.publish(with("2")).await;
    let rows = [
        ("acme/a", "1", "ok"),
        ("acme/a", "1", "not found"),
        ("acme/a", "stable", "not found"),
        ("zeta/a", "2", "not found"),
    ];
    for (model, version, wanted) in rows {
        let deleted = catalog.delete_version(&key(model), &name(version)).await;
        assert_eq!(outcome(deleted), wanted, "{model} {version}");
    }
    bench.publish(new_version("acme/a", "1", "a new 1 may differ")).await;
    let model = catalog.model(&key("acme/a")).await.expect("the model");
    let versions: Vec<&str> = model.versions.iter().map(|v| v.version.as_str()).collect();
    assert_eq!(versions, ["2", "1"]);

    catalog.set_sharing(&key("acme/a"), &Sharing::Tenants(vec![name("zeta")])).await.expect("set");
    catalog.delete_model(&key("acme/a")).await.expect("deleted");
    for outcome in [
        outcome(catalog.delete_model(&key("acme/a")).await),
        outcome(catalog.model(&key("acme/a")).await),
        outcome(catalog.version(&key("acme/a"), &name("1")).await),
    ] {
        assert_eq!(outcome, "not found");
    }
    assert_eq!(catalog.models().await.expect("models"), []);
    bench.publish(new_version("acme/a", "1", "1")).await;
    let model = catalog.model(&key("acme/a")).await.expect("the model");
    assert_eq!(model.sharing, Sharing::Private, "a new model inherits nothing");
}

#[tokio::test]
async fn sharing() {
    let bench = Bench::new().await;
    let catalog = &bench.catalog;
    catalog.create_tenant(&name("beta")).await.expect("a tenant");
    bench.publish(new_version("acme/a", "1", "1")).await;
    let tenants = |names: &[&str]| Sharing::Tenants(names.iter().map(|n| name(n)).collect());
    let rows = [
        (tenants(&["zeta", "beta", "zeta"]), "ok", tenants(&["beta", "zeta"])),
        (tenants(&["beta", "nobody"]), "not found", tenants(&["beta", "zeta"])),
        (tenants(&["beta"; 1001]), "shares_max 1000 1001", tenants(&["beta", "zeta"])),
        (tenants(&["beta"]), "ok", tenants(&["beta"])),
        (tenants(&[]), "ok", tenants(&[])),
        (Sharing::All, "ok", Sharing::All),
        (Sharing::Private, "ok", Sharing::Private),
    ];
    for (sharing, wanted, after) in rows {
        let set = catalog.set_sharing(&key("acme/a"), &sharing).await;
        assert_eq!(outcome(set), wanted, "{sharing:?}");
        let model = catalog.model(&key("acme/a")).await.expect("the model");
        assert_eq!(model.sharing, after);
    }
    assert_eq!(outcome(catalog.set_sharing(&key("zeta/a"), &Sharing::All).await), "not found");
}

#[tokio::test]
async fn a_changed_manifest_is_noticed() {
    let bench = Bench::new().await;
    bench.publish(new_version("acme/a", "1", "the manifest")).await;
    let mut write = bench.catalog.inner.store.write().await.expect("a write");
    sqlx::query("UPDATE versions SET manifest = 'the manifesT'")
        .execute(&mut *write)
        .await
        .expect("changed");
    write.commit().await.expect("committed");
    let version = bench.catalog.version(&key("acme/a"), &name("1")).await.expect("the version");
    assert_eq!(outcome(version.verify()), "damaged");
}
