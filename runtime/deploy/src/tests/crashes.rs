//! The data folder is copied between two stations, as a crash there would leave it, and a host is started on the copy.

use std::path::{Path, PathBuf};
use std::time::Duration;

use innkeeper_catalog::Published;
use innkeeper_predict::Limits;
use innkeeper_sandbox::Compiler;

use super::guest::Guest;
use super::host::*;
use crate::bundle::Bundle;
use crate::deployer::new_version;
use crate::facts::Facts;

/// What the data folder looked like after each station.
struct Moments {
    dir: tempfile::TempDir,
    folders: Vec<(&'static str, PathBuf, bool)>,
}

impl Moments {
    fn keep(&mut self, station: &'static str, data: &Path, published: bool) {
        let folder = self.dir.path().join(self.folders.len().to_string());
        copy(data, &folder);
        self.folders.push((station, folder, published));
    }
}

/// The stations of [`Deployer::deploy`](crate::Deployer::deploy) by hand.
async fn journey(host: &Host, bundle: &Bundle, data: &Path, moments: &mut Moments) {
    let deployer = &host.deployer;
    let limits = Limits::default();
    let program = deployer.compile(&key(), bundle).await.unwrap();
    moments.keep("compiled", data, false);
    let assets = deployer.assets(&key(), bundle).await.unwrap();
    let signature = deployer.warm_up(&key(), program, assets, bundle, &limits).await.unwrap();
    let facts = Facts::new(&signature).to_text();
    moments.keep("warmed up", data, false);
    deployer.store(&key(), bundle, &limits).await.unwrap();
    moments.keep("blobs durable", data, false);
    let new = new_version(&key(), name("2"), vec![name("stable")], bundle, facts, &limits).unwrap();
    host.catalog.publish(&new).await.unwrap();
    moments.keep("published, not installed", data, true);
}

#[tokio::test]
async fn a_crash_leaves_the_whole_version_or_nothing() {
    let (dir, host) = Host::fresh().await;
    let first = bundle(Guest::default().component(), &[]);
    host.publish("1", &["stable"], &first).await.unwrap();
    let second = bundle(Guest { tag: "x", ..Guest::default() }.component(), &[("a", b"1")]);
    let mut moments = Moments { dir: tempfile::tempdir().unwrap(), folders: Vec::new() };
    journey(&host, &second, dir.path(), &mut moments).await;

    for (station, folder, published) in &moments.folders {
        let host = Host::open(folder, Compiler::in_process()).await;
        let serving = host.resolve(None).version.to_string();
        assert_eq!(serving, if *published { "2" } else { "1" }, "{station}");
        assert_eq!(host.predict(None).await, Ok(vec![1.0, 2.0]), "{station}");
        assert_eq!(host.endpoint().unwrap().resolve(Some("2")).is_ok(), *published, "{station}");
        let again = host.publish("2", &["stable"], &second).await.unwrap();
        let wanted = if *published { Published::Same } else { Published::New };
        assert_eq!(again, wanted, "{station}");
        assert_eq!(host.predict(Some("stable")).await, Ok(vec![1.0, 2.0]), "{station}");
    }
}

#[tokio::test]
async fn a_publisher_who_goes_away_stops_nothing_halfway() {
    let (_dir, host) = Host::fresh().await;
    let bundle = bundle(Guest::default().component(), &[("a", b"1")]);
    host.publish("first", &[], &bundle).await.unwrap();
    // Dropped later and later: what is published is served, and nothing is served that is not.
    for step in 0.. {
        let version = step.to_string();
        let journey = host.publish(&version, &[], &bundle);
        let done = tokio::time::timeout(Duration::from_micros(500) * step, journey).await;
        // While this test has the turn, whatever goes on in the background is through or has not begun.
        let _turn = host.deployer.changing().take(key()).await;
        let served = host.endpoint().is_some_and(|model| model.resolve(Some(&version)).is_ok());
        let catalogued = host.catalog.version(&key(), &name(&version)).await.is_ok();
        assert_eq!(served, catalogued, "after {step} steps");
        if done.is_ok_and(|outcome| outcome.is_ok()) {
            return;
        }
    }
}
