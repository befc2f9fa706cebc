//! Jobs, and what happens to them.

use super::{Bench, key, name, new_version};
use crate::{CatalogError, JobChange, JobRecord, JobState, NewJob};

/// Why it was refused.
fn told<T>(result: Result<T, CatalogError>) -> String {
    result.map_or_else(|error| error.to_string(), |_| "ok".to_owned())
}

fn new(id: &str, version: &str) -> NewJob {
    NewJob {
        id: id.into(),
        model: key("acme/digits"),
        version: name(version),
        request: "{}".into(),
        jobs_max: 3,
    }
}

impl Bench {
    async fn job(&self, id: &str) -> JobRecord {
        self.catalog.job(&name("acme"), id).await.expect("a job")
    }

    async fn change(&self, id: &str, from: JobState, to: JobState, change: &JobChange) -> bool {
        self.catalog.change_job(id, &[from], to, change).await.expect("changed")
    }
}

#[tokio::test]
async fn a_version_has_one_job() {
    let bench = Bench::new().await;
    bench.publish(new_version("acme/digits", "1", "1")).await;
    let refused = told(bench.catalog.create_job(&new("a", "1")).await);
    assert!(refused.contains("taken by a version"), "{refused}");
    bench.catalog.create_job(&new("a", "2")).await.expect("made");
    let refused = told(bench.catalog.create_job(&new("b", "2")).await);
    assert!(refused.contains("taken by a job a"), "{refused}");
    bench.change("a", JobState::Queued, JobState::Failed, &JobChange::default()).await;
    bench.catalog.create_job(&new("b", "2")).await.expect("the first has ended");
    bench.catalog.create_job(&new("c", "3")).await.expect("made");
    bench.catalog.create_job(&new("d", "4")).await.expect("made");
    let refused = told(bench.catalog.create_job(&new("e", "5")).await);
    assert!(refused.contains("jobs_max is 3"), "{refused}");
}

#[tokio::test]
async fn a_state_changes_only_from_where_it_may() {
    let bench = Bench::new().await;
    bench.catalog.create_job(&new("a", "1")).await.expect("made");
    let change = JobChange {
        progress: Some("{\"step\":1}".into()),
        events: vec![("started".into(), "{}".into())],
        ..JobChange::default()
    };
    assert!(!bench.change("a", JobState::Running, JobState::Paused, &change).await);
    assert_eq!(
        (bench.job("a").await.state, bench.job("a").await.started_ms),
        (JobState::Queued, None)
    );
    assert!(bench.change("a", JobState::Queued, JobState::Running, &change).await);
    bench.clock.set(2_000_000);
    assert!(bench.change("a", JobState::Running, JobState::Succeeded, &JobChange::default()).await);
    let job = bench.job("a").await;
    assert_eq!((job.started_ms, job.ended_ms), (Some(1_000_000), Some(2_000_000)));
    assert_eq!(job.progress, "{\"step\":1}");
    let events = bench.catalog.job_events("a", 0, 10).await.expect("events");
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].sequence, events[0].kind.as_str()), (1, "started"));
    assert!(bench.catalog.job_events("a", 1, 10).await.expect("events").is_empty());
    assert!(bench.catalog.open_jobs().await.expect("open").is_empty());
    // Another tenant has no such job.
    assert!(bench.catalog.job(&name("zeta"), "a").await.is_err());
    assert!(bench.catalog.jobs(&name("zeta"), i64::MAX, 9).await.expect("jobs").is_empty());
}

#[tokio::test]
async fn jobs_outlive_the_process() {
    let bench = Bench::new().await;
    for (id, version) in [("a", "1"), ("b", "2")] {
        bench.catalog.create_job(&new(id, version)).await.expect("made");
    }
    bench.change("a", JobState::Queued, JobState::Running, &JobChange::default()).await;
    let bench = bench.reopened().await;
    let open = bench.catalog.open_jobs().await.expect("open");
    let told: Vec<(&str, JobState)> = open.iter().map(|job| (job.id.as_str(), job.state)).collect();
    assert_eq!(told, [("a", JobState::Running), ("b", JobState::Queued)]);
    let newest = bench.catalog.jobs(&name("acme"), i64::MAX, 1).await.expect("jobs");
    assert_eq!(newest[0].id, "b");
}
