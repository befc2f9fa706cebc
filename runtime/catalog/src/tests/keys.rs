//! Tenants and keys.

use super::{Bench, kind, name, outcome};
use crate::{Catalog, CatalogError, Clock, Scope, SystemClock, key_id};

#[tokio::test]
async fn tenants_and_their_limits() {
    let bench = Bench::new().await;
    let catalog = &bench.catalog;
    assert_eq!(catalog.list_tenants().await.expect("tenants"), [name("acme"), name("zeta")]);
    assert_eq!(outcome(catalog.create_tenant(&name("acme")).await), "conflict");
    assert_eq!(catalog.tenant_limits(&name("acme")).await.expect("limits"), None);
    catalog.set_tenant_limits(&name("acme"), "{\"a\":1}").await.expect("set");
    let bench = bench.reopened().await;
    let limits = bench.catalog.tenant_limits(&name("acme")).await.expect("limits");
    assert_eq!(limits.as_deref(), Some("{\"a\":1}"));

    let nobody = name("nobody");
    assert_eq!(outcome(bench.catalog.tenant_limits(&nobody).await), "not found");
    assert_eq!(outcome(bench.catalog.set_tenant_limits(&nobody, "{}").await), "not found");
    assert_eq!(outcome(bench.catalog.usage(&nobody).await), "not found");
    let long = "x".repeat(65_537);
    let outcome = outcome(bench.catalog.set_tenant_limits(&name("acme"), &long).await);
    assert_eq!(outcome, "tenant_limits_bytes_max 65536 65537");
}

#[tokio::test]
async fn a_key_is_checked_by_its_secret_alone() {
    let bench = Bench::new().await;
    let scopes = [Scope::Publish, Scope::Predict, Scope::Publish];
    let made = bench.catalog.create_key(&name("acme"), &scopes, "ci", Some(5_000_000)).await;
    let (key, secret) = made.expect("a key");
    assert_eq!(key_id(&secret), Some(key.id.as_str()));
    assert_eq!(secret.len(), "ink_".len() + 8 + 1 + 43);

    let bench = bench.reopened().await;
    let keys = bench.catalog.keys().await.expect("keys");
    assert_eq!(keys, [key]);
    let key = &keys[0];
    assert_eq!(key.scopes, [Scope::Predict, Scope::Publish]);
    assert_eq!((key.created_ms, key.label.as_str()), (1_000_000, "ci"));
    assert!(key.allows(Scope::Predict) && !key.allows(Scope::Admin));
    assert!(key.matches(&secret));
    for wrong in [&secret[1..], "", &secret.replace("ink_", "INK_"), &format!("{secret} ")] {
        assert!(!key.matches(wrong), "{wrong}");
    }
    for (now_ms, live) in [(0, true), (4_999_999, true), (5_000_000, false), (i64::MAX, false)] {
        assert_eq!(key.is_live(now_ms), live, "{now_ms}");
    }
    assert_no_secret_on_disk(&bench, &secret);
}

fn assert_no_secret_on_disk(bench: &Bench, secret: &str) {
    let random = &secret.as_bytes()[13..];
    for file in ["catalog.sqlite", "catalog.sqlite-wal"] {
        let bytes = std::fs::read(bench.dir.path().join(file)).unwrap_or_default();
        assert!(!bytes.windows(random.len()).any(|window| window == random), "{file}");
    }
}

#[tokio::test]
async fn a_revoked_key_stays_revoked() {
    let bench = Bench::new().await;
    let made = bench.catalog.create_key(&name("acme"), &[Scope::Admin], "", None).await;
    let (key, _) = made.expect("a key");
    assert!(key.is_live(i64::MAX));
    bench.catalog.revoke_key(&key.id).await.expect("revoked");
    bench.clock.set(2_000_000);
    bench.catalog.revoke_key(&key.id).await.expect("revoked again");
    let bench = bench.reopened().await;
    let keys = bench.catalog.keys().await.expect("keys");
    assert_eq!(keys[0].revoked_ms, Some(1_000_000), "the first time counts");
    assert!(!keys[0].is_live(0));
    assert_eq!(outcome(bench.catalog.revoke_key("00000000").await), "not found");
}

#[tokio::test]
async fn keys_have_limits() {
    let bench = Bench::new().await;
    let create = |tenant, label| {
        let catalog = bench.catalog.clone();
        async move { catalog.create_key(&name(tenant), &[], label, None).await }
    };
    let long: &'static str = "x".repeat(201).leak();
    assert_eq!(outcome(create("acme", long).await), "key_label_bytes_max 200 201");
    assert_eq!(outcome(create("nobody", "").await), "not found");
    for _ in 0..1000 {
        create("acme", "").await.expect("a key");
    }
    assert_eq!(outcome(create("acme", "").await), "keys_max 1000 1001");
    assert_eq!(outcome(create("zeta", "").await), "ok");
    let keys = bench.catalog.keys().await.expect("keys");
    let ids = std::collections::HashSet::<_>::from_iter(keys.iter().map(|key| &key.id));
    assert_eq!((keys.len(), ids.len()), (1001, 1001));
}

#[test]
fn only_a_secret_has_an_id() {
    let random = "aB0-_".repeat(9)[..43].to_owned();
    let good = format!("ink_0123abcd_{random}");
    assert_eq!(key_id(&good), Some("0123abcd"));
    let rows = [
        "".to_owned(),
        "ink_".to_owned(),
        good.replace("ink_", "key_"),
        good.replace("abcd", "ABCD"),
        good.replace("0123", "012"),
        good.replace("abcd_", "abcde"),
        good[..good.len() - 1].to_owned(),
        format!("{good}A"),
        good.replace("aB0", "a=0"),
        "ink_012\u{e9}abcd_".to_owned() + &random,
    ];
    for text in rows {
        assert_eq!(key_id(&text), None, "{text}");
    }
}

#[test]
fn scopes_are_written_as_they_are_read() {
    for scope in [Scope::Predict, Scope::Publish, Scope::Admin] {
        assert_eq!(scope.to_string().parse(), Ok(scope));
    }
    let error = "Admin".parse::<Scope>().expect_err("no scope");
    assert!(error.to_string().contains("predict, publish or admin"));
}

#[tokio::test]
async fn one_process_at_a_time() {
    let bench = Bench::new().await;
    let Err(error) = Catalog::open(bench.dir.path()).await else { panic!("opened twice") };
    assert_eq!(kind(&error), "in use");
    assert!(error.to_string().contains("stop that one"), "{error}");
    bench.reopened().await;
}

#[tokio::test]
async fn a_newer_catalog_is_refused_and_left_alone() {
    let bench = Bench::new().await;
    let mut write = bench.catalog.inner.store.write().await.expect("a write");
    sqlx::query("UPDATE _sqlx_migrations SET version = 9999 WHERE version = 1")
        .execute(&mut *write)
        .await
        .expect("changed");
    write.commit().await.expect("committed");
    bench.catalog.close().await;
    let Bench { catalog, dir, .. } = bench;
    drop(catalog);
    let opened = Catalog::open(dir.path()).await;
    assert!(matches!(opened.err(), Some(CatalogError::Database(_))));
}

#[test]
fn the_clock_runs() {
    assert!(SystemClock.now_ms() > 1_700_000_000_000);
}
