//! A crash, and a failure, between any two writes: a journey is stopped at each step in turn and
//! taken up again, and must end where it ends undisturbed.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use tempfile::TempDir;

use super::{Bench, Hand, UPLOADS, files, key, name, new_version, open};
use crate::{Catalog, CatalogError, Digest, NewVersion, Rollout, Share, Sharing, UploadId};

/// The journey, one acknowledged call after another.
#[derive(Clone, Copy, Debug)]
enum Call {
    Put(&'static str, &'static [u8]),
    Begin,
    /// Brings the newest upload to this many of its bytes.
    Append(usize),
    Finish,
    Cancel,
    Publish(&'static str, &'static [&'static str]),
    Alias(&'static str),
    Try(&'static str),
    Promote,
    Share,
    Delete(&'static str),
    Sweep,
}

const UPLOADED: &[u8] = b"a blob in two pieces";

const JOURNEY: &[Call] = &[
    Call::Put("acme", b"weights"),
    Call::Put("zeta", b"weights"),
    Call::Put("acme", b"never published"),
    Call::Begin,
    Call::Append(10),
    Call::Append(20),
    Call::Finish,
    Call::Publish("1", &["stable", "first"]),
    Call::Publish("2", &[]),
    Call::Publish("3", &["canary"]),
    Call::Alias("2"),
    Call::Try("1"),
    Call::Promote,
    Call::Share,
    Call::Delete("3"),
    Call::Begin,
    Call::Append(15),
    Call::Cancel,
    Call::Begin,
    Call::Append(5),
    Call::Sweep,
];

/// Every step that the journey must pass; a new step in the code belongs here.
const STEPS: &[&str] = &[
    "alias: committed",
    "alias: written",
    "blob: recorded",
    "blob: stored",
    "delete version: written",
    "promote: written",
    "publish: committed",
    "publish: written",
    "rollout: written",
    "sharing: written",
    "sweep: blob row",
    "sweep: references",
    "upload: dropped",
    "upload: marked",
    "upload: moved",
    "upload: recorded",
    "upload: settled",
    "upload: verified",
    "upload: written",
];

/// The folder as a crash at one step left it, and what had been acknowledged by then.
struct Crash {
    step: &'static str,
    dir: TempDir,
    calls: usize,
    ids: Vec<UploadId>,
    now_ms: i64,
}

#[tokio::test]
async fn a_crash_at_any_step_is_recovered() {
    let bench = Bench::new().await;
    let crashes: Arc<Mutex<Vec<(&'static str, TempDir)>>> = Arc::default();
    let (dir, taken) = (bench.dir.path().to_owned(), Arc::clone(&crashes));
    bench.watch(move |step| {
        let copy = tempfile::tempdir().expect("a folder");
        copy_folder(&dir, copy.path());
        taken.lock().expect("no panic").push((step, copy));
        Ok(())
    });
    let mut ids = Vec::new();
    let mut states = Vec::new();
    for (calls, call) in JOURNEY.iter().enumerate() {
        let ids_before = ids.clone();
        make(&bench.catalog, &bench.clock, *call, &mut ids).await.expect("undisturbed");
        for (step, dir) in crashes.lock().expect("no panic").drain(..) {
            let now_ms = crate::Clock::now_ms(&bench.clock);
            states.push(Crash { step, dir, calls, ids: ids_before.clone(), now_ms });
        }
    }
    bench.unwatch();
    let wanted = snapshot(&bench.catalog, bench.dir.path()).await;
    let steps = BTreeSet::from_iter(states.iter().map(|crash| crash.step));
    assert_eq!(Vec::from_iter(steps), STEPS);
    for crash in states {
        check(crash, &wanted).await;
    }
}

async fn check(crash: Crash, wanted: &str) {
    let what = format!("a crash at {:?} in {:?}", crash.step, JOURNEY[crash.calls]);
    let clock = Hand::default();
    clock.set(crash.now_ms);
    let catalog = open(crash.dir.path(), &clock).await;
    is_whole(&catalog, crash.dir.path(), &what).await;
    let mut ids = crash.ids;
    for call in &JOURNEY[crash.calls..] {
        make(&catalog, &clock, *call, &mut ids).await.expect(&what);
    }
    assert_eq!(&snapshot(&catalog, crash.dir.path()).await, wanted, "{what}");
    catalog.close().await;
}

#[tokio::test]
async fn a_failure_at_any_step_can_be_tried_again() {
    let undisturbed = Bench::new().await;
    let steps = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&steps);
    undisturbed.watch(move |_| {
        *counted.lock().expect("no panic") += 1;
        Ok(())
    });
    travel(&undisturbed.catalog, &undisturbed.clock, false).await;
    let wanted = snapshot(&undisturbed.catalog, undisturbed.dir.path()).await;
    let steps = *steps.lock().expect("no panic");
    assert!(steps > STEPS.len());
    for failing in 0..steps {
        let bench = Bench::new().await;
        let mut passed = 0;
        bench.watch(move |_| {
            passed += 1;
            if passed == failing + 1 { Err(CatalogError::DiskFull) } else { Ok(()) }
        });
        travel(&bench.catalog, &bench.clock, true).await;
        bench.unwatch();
        // What a failure leaves without a row goes with the next sweep.
        bench.catalog.sweep().await.expect("swept");
        let got = snapshot(&bench.catalog, bench.dir.path()).await;
        assert_eq!(got, wanted, "after a failure at step {failing}");
    }
}

/// Makes the whole journey; a call that fails, which one may, is made once more.
async fn travel(catalog: &Catalog, clock: &Hand, may_fail: bool) {
    let mut ids = Vec::new();
    let mut failures = 0;
    for call in JOURNEY {
        if let Err(error) = make(catalog, clock, *call, &mut ids).await {
            assert!(matches!(error, CatalogError::DiskFull), "{call:?}: {error}");
            failures += 1;
            make(catalog, clock, *call, &mut ids).await.expect("the second time");
        }
    }
    assert_eq!(failures, usize::from(may_fail));
}

/// Makes one call, in a way that it can be made again without knowing whether it was made before.
async fn make(
    catalog: &Catalog,
    clock: &Hand,
    call: Call,
    ids: &mut Vec<UploadId>,
) -> Result<(), CatalogError> {
    let acme = name("acme");
    let newest = ids.last().cloned();
    let newest = || newest.clone().expect("an upload was begun");
    match call {
        Call::Put(tenant, bytes) => {
            catalog.put_blob(&name(tenant), Bytes::from_static(bytes), 1000).await.map(|_| ())
        }
        Call::Begin => {
            ids.push(catalog.begin_upload(&acme, &UPLOADS).await?);
            Ok(())
        }
        Call::Append(end) => {
            let offset = catalog.upload_offset(&acme, &newest()).await?;
            let rest = Bytes::from_static(&UPLOADED[offset as usize..end]);
            catalog.append(&acme, &newest(), offset, rest, &UPLOADS).await.map(|_| ())
        }
        Call::Finish => {
            let digest = Digest::of(UPLOADED);
            catalog.finish_upload(&acme, &newest(), &digest).await.map(|_| ())
        }
        Call::Cancel => gone(catalog.cancel_upload(&acme, &newest()).await),
        Call::Publish(version, aliases) => {
            let new = NewVersion {
                blobs: vec![Digest::of(b"weights"), Digest::of(UPLOADED)],
                aliases: aliases.iter().map(|alias| name(alias)).collect(),
                ..new_version("acme/digits", version, version)
            };
            catalog.publish(&new).await.map(|_| ())
        }
        Call::Alias(version) => {
            catalog.set_alias(&key("acme/digits"), &name("stable"), &name(version)).await
        }
        Call::Try(version) => {
            let rollout = Rollout {
                alias: name("stable"),
                candidate: name(version),
                canary: Share::ALL,
                shadow: Share::NONE,
                sticky: String::new(),
                bounds: String::new(),
                created_ms: 0,
            };
            catalog.set_rollout(&key("acme/digits"), &rollout).await
        }
        Call::Promote => catalog.promote(&key("acme/digits"), &name("stable")).await.map(|_| ()),
        Call::Share => {
            let sharing = Sharing::Tenants(vec![name("zeta")]);
            catalog.set_sharing(&key("acme/digits"), &sharing).await
        }
        Call::Delete(version) => {
            catalog.delete_alias(&key("acme/digits"), &name("canary")).await.or_else(ignore)?;
            gone(catalog.delete_version(&key("acme/digits"), &name(version)).await)
        }
        Call::Sweep => {
            clock.set(2_000_000);
            catalog.sweep().await.map(|_| ())
        }
    }
}

/// What is gone already need not be removed again.
fn gone(removed: Result<(), CatalogError>) -> Result<(), CatalogError> {
    removed.or_else(ignore)
}

fn ignore(error: CatalogError) -> Result<(), CatalogError> {
    if matches!(error, CatalogError::NotFound { .. }) { Ok(()) } else { Err(error) }
}

/// Everything that can be seen from outside, and every file.
async fn snapshot(catalog: &Catalog, dir: &Path) -> String {
    let models = catalog.models().await.expect("models");
    let mut usage = Vec::new();
    for tenant in catalog.list_tenants().await.expect("tenants") {
        usage.push(catalog.usage(&tenant).await.expect("usage"));
    }
    format!("{models:#?} {usage:#?} {:#?}", files(dir))
}

/// What holds after any crash, before anything is done about it.
async fn is_whole(catalog: &Catalog, dir: &Path, what: &str) {
    let mut stored = 0;
    for tenant in ["acme", "zeta"] {
        stored += catalog.usage(&name(tenant)).await.expect(what).stored_bytes;
    }
    for model in catalog.models().await.expect(what) {
        for version in &model.versions {
            version.verify().expect(what);
            assert_eq!(version.blobs.len(), 2, "{what}");
            for blob in &version.blobs {
                catalog.blob(blob).await.expect(what);
            }
        }
        for (alias, version) in &model.aliases {
            let known = model.versions.iter().any(|known| known.version == *version);
            assert!(known, "{what}: {alias} stands for nothing");
        }
    }
    let lying: u64 = walk(dir).iter().map(|path| fs::metadata(path).expect(what).len()).sum();
    // Bytes of a blob that both tenants own lie there once.
    assert!(lying <= stored, "{what}: {lying} bytes lie there, {stored} are counted");
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![dir.join("blobs"), dir.join("uploads")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

/// Copies what `kill -9` leaves: every file as it is now, and no lock.
pub(super) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let to = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_folder(&path, &to);
        } else if !path.ends_with("catalog.lock") && !path.ends_with("catalog.sqlite-shm") {
            fs::copy(&path, to).expect("copied");
        }
    }
}
