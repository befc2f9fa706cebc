//! The audit log.

use super::{Bench, name};
use crate::AuditEntry;

fn entry(tenant: &str, act: &str) -> AuditEntry {
    AuditEntry {
        tenant: name(tenant),
        actor: "admin".to_owned(),
        key_id: Some("0123abcd".to_owned()),
        act: act.to_owned(),
        target: "digits@stable".to_owned(),
        request_id: "r-1".to_owned(),
    }
}

#[tokio::test]
async fn entries_are_read_back_by_pages_and_by_tenant() {
    let bench = Bench::new().await;
    let mut sequences = Vec::new();
    for (tenant, act) in [("acme", "alias.set"), ("zeta", "key.create"), ("acme", "alias.delete")] {
        sequences.push(bench.catalog.begin_audit(&entry(tenant, act)).await.expect("begun"));
    }
    bench.clock.set(1_000_007);
    bench.catalog.end_audit(sequences[0], "done").await.expect("ended");
    let bench = bench.reopened().await;
    let all = bench.catalog.audit(None, i64::MAX, 2).await.expect("read");
    let acts: Vec<&str> = all.iter().map(|record| record.entry.act.as_str()).collect();
    assert_eq!(acts, ["alias.delete", "key.create"], "the newest first");
    assert_eq!((all[0].outcome.as_str(), all[0].ended_ms), ("begun", None));
    let rest = bench.catalog.audit(None, all[1].sequence, 2).await.expect("read");
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0].entry, entry("acme", "alias.set"));
    assert_eq!((rest[0].outcome.as_str(), rest[0].ended_ms), ("done", Some(1_000_007)));
    let own = bench.catalog.audit(Some(&name("zeta")), i64::MAX, 10).await.expect("read");
    assert_eq!(own.len(), 1);
}

#[tokio::test]
async fn old_entries_and_too_many_go() {
    let bench = Bench::new().await;
    let add = async |tenant: &str| {
        bench.catalog.begin_audit(&entry(tenant, "x")).await.expect("begun");
    };
    add("zeta").await;
    bench.clock.set(1_009_000);
    for _ in 0..5 {
        add("acme").await;
    }
    assert_eq!(bench.catalog.sweep().await.expect("swept").audit, 2, "three are kept of each");
    bench.clock.set(1_011_000);
    assert_eq!(bench.catalog.sweep().await.expect("swept").audit, 1, "the old one of another");
    let left = bench.catalog.audit(None, i64::MAX, 10).await.expect("read");
    assert_eq!(left.iter().map(|record| record.sequence).collect::<Vec<_>>(), [6, 5, 4]);
}
