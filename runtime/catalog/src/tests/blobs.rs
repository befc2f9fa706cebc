//! Blobs: whose they are, what they count, and what becomes of damage.

use std::{error::Error, fs, io};

use bytes::Bytes;
use futures_util::FutureExt;

use super::{Bench, kind, name, new_version, outcome};
use crate::{CatalogError, Digest};

#[tokio::test]
async fn a_blob_belongs_to_those_who_sent_it() {
    let bench = Bench::new().await;
    let blob = bench.put("acme", b"weights").await;
    assert_eq!(blob, Digest::of(b"weights"));
    assert_eq!(bench.catalog.has_blob(&name("acme"), &blob).await.expect("asked"), Some(7));
    assert_eq!(bench.catalog.has_blob(&name("zeta"), &blob).await.expect("asked"), None);
    assert_eq!((bench.stored("acme").await, bench.stored("zeta").await), (7, 0));
    bench.put("zeta", b"weights").await;
    bench.put("zeta", b"weights").await;
    let bench = bench.reopened().await;
    assert_eq!((bench.stored("acme").await, bench.stored("zeta").await), (7, 7));
    assert_eq!(bench.files(), [blob.hex()], "one file for both");
    assert_eq!(bench.catalog.blob(&blob).await.expect("the blob"), "weights");
}

#[tokio::test]
async fn the_stored_bytes_have_a_limit() {
    let bench = Bench::new().await;
    let rows: [(&str, &'static [u8], u64, &str); 7] = [
        ("acme", b"12345", 4, "stored_bytes_max 4 5"),
        ("acme", b"12345", 5, "ok"),
        ("acme", b"12345", 5, "ok"),
        ("acme", b"67890", 9, "stored_bytes_max 9 10"),
        ("acme", b"", 5, "ok"),
        ("zeta", b"12345", 4, "stored_bytes_max 4 5"),
        ("nobody", b"12345", 5, "not found"),
    ];
    for (tenant, bytes, max, wanted) in rows {
        let put = bench.catalog.put_blob(&name(tenant), Bytes::from_static(bytes), max).await;
        assert_eq!(outcome(put), wanted, "{tenant} {bytes:?}");
    }
    assert_eq!(bench.files().len(), 2, "what was refused leaves no file");
}

#[tokio::test]
async fn the_limit_holds_for_many_at_once() {
    let bench = Bench::new().await;
    let puts = (0..20_u8).map(|i| {
        let catalog = bench.catalog.clone();
        let bytes = Bytes::from(vec![i; 10]);
        tokio::spawn(async move { catalog.put_blob(&name("acme"), bytes, 100).await })
    });
    let mut stored = 0;
    for put in puts.collect::<Vec<_>>() {
        match put.await.expect("no panic") {
            Ok(_) => stored += 1,
            Err(error) => assert!(kind(&error).starts_with("stored_bytes_max 100"), "{error}"),
        }
    }
    assert_eq!((stored, bench.stored("acme").await), (10, 100));
    assert_eq!(bench.files().len(), 10, "files written for nothing are removed");
}

#[tokio::test]
async fn damage_is_found_and_mended() {
    let bench = Bench::new().await;
    type Harm = fn(&std::path::Path) -> io::Result<()>;
    let harms: [(&str, Harm); 5] = [
        ("a flipped bit", |file| {
            fs::read(file).and_then(|mut b| {
                b[3] ^= 1;
                fs::write(file, b)
            })
        }),
        ("a missing end", |file| fs::write(file, b"weigh")),
        ("more at the end", |file| fs::write(file, b"weights!")),
        ("an empty file", |file| fs::write(file, b"")),
        ("no file", |file| fs::remove_file(file)),
    ];
    for (what, harm) in harms {
        let blob = bench.put("acme", b"weights").await;
        harm(&bench.blob_file(&blob)).expect("harmed");
        let error = bench.catalog.blob(&blob).await.expect_err(what);
        assert_eq!(kind(&error), "corrupt", "{what}");
        assert!(error.to_string().contains(&blob.to_string()), "{what}: {error}");
        // The owner's sending it again mends it, though it counts no further byte.
        let put = bench.catalog.put_blob(&name("acme"), Bytes::from_static(b"weights"), 7).await;
        assert_eq!(outcome(put), "ok", "{what}");
        assert_eq!(bench.catalog.blob(&blob).await.expect(what), "weights");
        // So does another tenant's.
        harm(&bench.blob_file(&blob)).expect("harmed");
        bench.put("zeta", b"weights").await;
        assert_eq!(bench.catalog.blob(&blob).await.expect(what), "weights");
    }
    assert_eq!(outcome(bench.catalog.blob(&Digest::of(b"?")).await), "not found");
}

#[tokio::test]
async fn a_large_blob_is_whole_and_outlives_its_file() {
    let bench = Bench::new().await;
    let bytes: Vec<u8> = (0..3u32 << 20).map(|n| (n ^ (n >> 8)) as u8).collect();
    let put = async || {
        let (acme, bytes) = (name("acme"), Bytes::copy_from_slice(&bytes));
        bench.catalog.put_blob(&acme, bytes, u64::MAX >> 1).await.expect("stored")
    };
    let blob = put().await;
    let mapped = bench.catalog.blob(&blob).await.expect("the blob");
    assert!(mapped == bytes);
    fs::remove_file(bench.blob_file(&blob)).expect("removed");
    assert!(mapped == bytes, "what is mapped stays");
    // Damage is found here too: the digest is checked over what was mapped.
    put().await;
    let mut damaged = bytes.clone();
    damaged[2 << 20] ^= 1;
    fs::write(bench.blob_file(&blob), damaged).expect("harmed");
    let error = bench.catalog.blob(&blob).await.expect_err("a flipped bit");
    assert_eq!(kind(&error), "corrupt");
}

#[tokio::test]
async fn a_put_ends_even_if_nobody_waits_for_it() {
    let bench = Bench::new().await;
    let acme = name("acme");
    let put = bench.catalog.put_blob(&acme, Bytes::from_static(b"weights"), 100);
    assert!(put.now_or_never().is_none(), "the client is gone before the end");
    // The next one waits for the lock of the first, or comes before it; both leave the same.
    bench.put("acme", b"weights").await;
    let bench = bench.reopened().await;
    assert_eq!(bench.stored("acme").await, 7);
    assert_eq!(bench.files(), [Digest::of(b"weights").hex()]);
}

#[tokio::test]
async fn a_full_database_is_a_full_disk() {
    let bench = Bench::new().await;
    let mut write = bench.catalog.inner.store.write().await.expect("a write");
    sqlx::query("PRAGMA max_page_count = 1").execute(&mut *write).await.expect("set");
    drop(write);
    let manifest = "x".repeat(500_000);
    let published = bench.catalog.publish(&new_version("acme/a", "1", &manifest)).await;
    assert_eq!(outcome(published), "disk full");
    let bench = bench.reopened().await;
    assert_eq!(bench.catalog.models().await.expect("models"), []);
    bench.publish(new_version("acme/a", "1", &manifest)).await;
}

#[test]
fn a_full_disk_is_told_from_other_failures() {
    let store = |source: Box<dyn Error + Send + Sync>| {
        CatalogError::from(object_store::Error::Generic { store: "test", source })
    };
    let full = || io::Error::from(io::ErrorKind::StorageFull);
    let quota = io::Error::from(io::ErrorKind::QuotaExceeded);
    let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
    let nested = object_store::Error::Generic { store: "test", source: full().into() };
    let rows = [
        ("blob", store(full().into()), true),
        ("blob, deeper", store(nested.into()), true),
        ("blob, otherwise", store(denied().into()), false),
        ("file", CatalogError::io("writing", full()), true),
        ("file, quota", CatalogError::io("writing", quota), true),
        ("file, otherwise", CatalogError::io("writing", denied()), false),
        ("database", sqlx::Error::Io(full()).into(), true),
        ("database, otherwise", sqlx::Error::Io(denied()).into(), false),
    ];
    for (what, error, is_full) in rows {
        assert_eq!(matches!(error, CatalogError::DiskFull), is_full, "{what}: {error}");
    }
}
