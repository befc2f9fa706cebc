//! What is removed, and when.

use std::fs;

use bytes::Bytes;

use super::{Bench, UPLOADS, blob_file, key, name, new_version, outcome};
use crate::{Digest, NewVersion, Swept};

#[tokio::test]
async fn blobs_live_as_long_as_a_version_refers_to_them() {
    let bench = Bench::new().await;
    let kept = bench.put("acme", b"kept").await;
    let loose = bench.put("acme", b"loose").await;
    let shared = bench.put("acme", b"shared").await;
    bench.put("zeta", b"shared").await;
    bench.publish(NewVersion { blobs: vec![kept], ..new_version("acme/a", "1", "1") }).await;
    bench.publish(NewVersion { blobs: vec![shared], ..new_version("zeta/a", "1", "1") }).await;
    let none = Swept::default();
    // At 1000 ms the blobs are not yet older than their lifetime.
    for (now_ms, wanted, left) in [
        (1_001_000, none, 3),
        (1_001_001, Swept { references: 2, blobs: 1, ..none }, 2),
        (9_000_000, none, 2),
    ] {
        bench.clock.set(now_ms);
        assert_eq!(bench.catalog.sweep().await.expect("swept"), wanted, "at {now_ms}");
        assert_eq!(bench.files().len(), left, "at {now_ms}");
    }
    assert_eq!(outcome(bench.catalog.blob(&loose).await), "not found");
    assert_eq!(bench.catalog.blob(&shared).await.expect("zeta's"), "shared");
    // Beside the blob, 3 bytes of manifest and facts each.
    assert_eq!((bench.stored("acme").await, bench.stored("zeta").await), (4 + 3, 6 + 3));

    bench.catalog.delete_version(&key("acme/a"), &name("1")).await.expect("deleted");
    bench.catalog.delete_model(&key("zeta/a")).await.expect("deleted");
    let swept = bench.catalog.sweep().await.expect("swept");
    assert_eq!(swept, Swept { references: 2, blobs: 2, ..none });
    assert_eq!(bench.files(), [""; 0]);
    assert_eq!((bench.stored("acme").await, bench.stored("zeta").await), (0, 0));
}

#[tokio::test]
async fn asking_for_a_blob_keeps_it() {
    let bench = Bench::new().await;
    let blob = bench.put("acme", b"weights").await;
    for now_ms in [1_000_900, 1_001_800, 1_002_700] {
        bench.clock.set(now_ms);
        assert_eq!(bench.catalog.has_blob(&name("acme"), &blob).await.expect("asked"), Some(7));
        assert_eq!(bench.catalog.sweep().await.expect("swept"), Swept::default());
    }
    // Another tenant's asking does not.
    bench.clock.set(1_003_900);
    assert_eq!(bench.catalog.has_blob(&name("zeta"), &blob).await.expect("asked"), None);
    assert_eq!(bench.catalog.sweep().await.expect("swept").blobs, 1);
    assert_eq!(bench.catalog.has_blob(&name("acme"), &blob).await.expect("asked"), None);
}

#[tokio::test]
async fn uploads_that_nobody_continues_are_dropped() {
    let bench = Bench::new().await;
    let acme = name("acme");
    let idle = bench.catalog.begin_upload(&acme, &UPLOADS).await.expect("an upload");
    let busy = bench.catalog.begin_upload(&acme, &UPLOADS).await.expect("an upload");
    for (id, now_ms) in [(&idle, 1_000_000), (&busy, 1_000_400)] {
        bench.clock.set(now_ms);
        let chunk = Bytes::from_static(b"abc");
        bench.catalog.append(&acme, id, 0, chunk, &UPLOADS).await.expect("appended");
    }
    bench.clock.set(1_000_501);
    let swept = bench.catalog.sweep().await.expect("swept");
    assert_eq!(swept, Swept { uploads: 1, ..Swept::default() });
    assert_eq!(outcome(bench.catalog.upload_offset(&acme, &idle).await), "not found");
    assert_eq!(bench.catalog.upload_offset(&acme, &busy).await.expect("the offset"), 3);
    assert_eq!(bench.files(), [busy.to_string()]);
    assert_eq!(bench.stored("acme").await, 3);
}

#[tokio::test]
async fn leftovers_of_a_crash_are_removed_at_the_start() {
    let bench = Bench::new().await;
    let blob = bench.put("acme", b"weights").await;
    let orphan = blob_file(bench.dir.path(), &Digest::of(b"orphan"));
    let half = bench.blob_file(&blob).with_extension("").display().to_string() + "#1";
    let stray = bench.dir.path().join("uploads").join("0123456789abcdef0123456789abcdef");
    let foreign = bench.dir.path().join("blobs").join("README");
    for file in [&orphan, &half.into(), &stray, &foreign] {
        fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        fs::write(file, b"orphan").expect("written");
    }
    let bench = bench.reopened().await;
    assert_eq!(bench.files(), [blob.hex(), "README".to_owned()], "and nothing else is touched");
    fs::write(&orphan, b"orphan").expect("written");
    fs::write(&stray, b"orphan").expect("written");
    let swept = bench.catalog.sweep().await.expect("swept");
    assert_eq!(swept, Swept { files: 2, ..Swept::default() });
}

#[tokio::test]
async fn sweeping_beside_putting_loses_nothing() {
    let bench = Bench::new().await;
    let mut tasks = Vec::new();
    for round in 0..40_u8 {
        // Each sweep finds everything too old, so that it fights over the blob that is being put.
        bench.clock.set(2_000_000 + i64::from(round) * 10_000);
        let (one, two) = (bench.catalog.clone(), bench.catalog.clone());
        tasks.push(tokio::spawn(async move {
            let put = one.put_blob(&name("acme"), Bytes::from_static(b"weights"), 100).await;
            put.map(|_| ())
        }));
        tasks.push(tokio::spawn(async move { two.sweep().await.map(|_| ()) }));
    }
    for task in tasks {
        task.await.expect("no panic").expect("no failure");
    }
    let blob = bench.put("acme", b"weights").await;
    assert_eq!(bench.catalog.blob(&blob).await.expect("the blob"), "weights");
    bench.catalog.sweep().await.expect("swept");
    let has = bench.catalog.has_blob(&name("acme"), &blob).await.expect("asked");
    assert_eq!(has.is_some(), bench.blob_file(&blob).exists(), "row and file go together");
}
