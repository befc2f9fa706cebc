//! Rollouts and the history of aliases.

use super::{Bench, key, name, new_version, outcome};
use crate::{AliasAct, NewVersion, Rollout, RolloutId, Share};

fn rollout(candidate: &str, canary: u16) -> Rollout {
    Rollout {
        alias: name("stable"),
        candidate: name(candidate),
        canary: Share::of_ten_thousand(canary).expect("a share"),
        shadow: Share::NONE,
        sticky: "x-user".to_owned(),
        bounds: "{}".to_owned(),
        created_ms: 0,
    }
}

/// A model with three versions, and `stable` on the first.
async fn three() -> Bench {
    let bench = Bench::new().await;
    let first = new_version("acme/digits", "1", "one");
    bench.publish(NewVersion { aliases: vec![name("stable")], ..first }).await;
    for version in ["2", "3"] {
        bench.publish(new_version("acme/digits", version, version)).await;
    }
    bench
}

impl Bench {
    async fn stable(&self) -> (String, Option<Rollout>) {
        let model = self.catalog.model(&key("acme/digits")).await.expect("the model");
        (model.aliases[0].1.to_string(), model.rollouts.first().cloned())
    }

    async fn acts(&self) -> Vec<AliasAct> {
        let changes = self.catalog.alias_changes(&key("acme/digits"), &name("stable"), 100).await;
        changes.expect("the history").iter().map(|change| change.act).collect()
    }
}

#[tokio::test]
async fn a_rollout_is_begun_changed_and_promoted() {
    let bench = three().await;
    let (digits, stable) = (key("acme/digits"), name("stable"));
    bench.catalog.set_rollout(&digits, &rollout("2", 1_000)).await.expect("begun");
    bench.clock.set(1_000_007);
    bench.catalog.set_rollout(&digits, &rollout("2", 5_000)).await.expect("changed");
    let bench = bench.reopened().await;
    let wanted = Rollout { created_ms: 1_000_000, ..rollout("2", 5_000) };
    assert_eq!(bench.stable().await, ("1".to_owned(), Some(wanted)), "it is the same rollout");
    let refused = bench.catalog.delete_version(&digits, &name("2")).await;
    assert_eq!(outcome(refused), "conflict");
    assert_eq!(bench.catalog.promote(&digits, &stable).await.expect("promoted"), name("2"));
    assert_eq!(bench.stable().await, ("2".to_owned(), None));
    use AliasAct::{Promoted, Set, Tried};
    assert_eq!(bench.acts().await, [Promoted, Tried, Tried, Set]);
}

#[tokio::test]
async fn an_alias_goes_back_and_forth() {
    let bench = three().await;
    let (digits, stable) = (key("acme/digits"), name("stable"));
    let back = async || outcome(bench.catalog.roll_back(&digits, &stable, "why").await);
    assert_eq!(back().await, "conflict", "it stood for nothing else");
    bench.catalog.set_rollout(&digits, &rollout("2", 1_000)).await.expect("begun");
    assert_eq!(back().await, "ok");
    assert_eq!(bench.stable().await, ("1".to_owned(), None), "the candidate is taken away");
    for version in ["2", "3"] {
        bench.catalog.set_alias(&digits, &stable, &name(version)).await.expect("set");
    }
    for wanted in ["2", "3", "2"] {
        assert_eq!(back().await, "ok");
        assert_eq!(bench.stable().await.0, wanted);
    }
    // What is gone is not gone back to.
    bench.catalog.delete_version(&digits, &name("3")).await.expect("deleted");
    assert_eq!(back().await, "ok");
    assert_eq!(bench.stable().await.0, "1");
}

#[tokio::test]
async fn only_the_rollout_that_is_meant_ends() {
    let bench = three().await;
    let digits = key("acme/digits");
    bench.catalog.set_rollout(&digits, &rollout("2", 1_000)).await.expect("begun");
    let id = |candidate: &str, created_ms| RolloutId {
        alias: name("stable"),
        candidate: name(candidate),
        created_ms,
    };
    for other in [id("3", 1_000_000), id("2", 999_999)] {
        assert!(!bench.catalog.end_rollout(&digits, &other, "bad").await.expect("looked"));
    }
    let meant = id("2", 1_000_000);
    assert!(bench.catalog.end_rollout(&digits, &meant, "bad").await.expect("ended"));
    assert!(!bench.catalog.end_rollout(&digits, &meant, "bad").await.expect("looked"));
    assert_eq!(bench.stable().await, ("1".to_owned(), None));
    let newest = bench.catalog.alias_changes(&digits, &name("stable"), 1).await.expect("read");
    assert_eq!((newest[0].why.as_str(), &newest[0].candidate), ("bad", &Some(name("2"))));
}

#[tokio::test]
async fn setting_and_deleting_an_alias_ends_what_is_tried() {
    let bench = three().await;
    let (digits, stable) = (key("acme/digits"), name("stable"));
    bench.catalog.set_rollout(&digits, &rollout("2", 1_000)).await.expect("begun");
    bench.catalog.set_alias(&digits, &stable, &name("3")).await.expect("set");
    assert_eq!(bench.stable().await, ("3".to_owned(), None));
    bench.catalog.set_rollout(&digits, &rollout("2", 1_000)).await.expect("begun");
    bench.catalog.delete_alias(&digits, &stable).await.expect("deleted");
    assert_eq!(bench.catalog.model(&digits).await.expect("the model").rollouts, []);
    assert_eq!(bench.acts().await[0], AliasAct::Deleted, "the history stays");
    bench.catalog.delete_model(&digits).await.expect("deleted, with all of that");
}

#[tokio::test]
async fn what_cannot_be_tried() {
    let bench = three().await;
    let digits = key("acme/digits");
    let cases = [
        (key("acme/none"), rollout("2", 1), "not found"),
        (digits.clone(), Rollout { alias: name("canary"), ..rollout("2", 1) }, "not found"),
        (digits.clone(), rollout("4", 1), "not found"),
        (digits.clone(), rollout("stable", 1), "not found"),
        (digits.clone(), rollout("1", 1), "conflict"),
    ];
    for (key, rollout, wanted) in cases {
        assert_eq!(outcome(bench.catalog.set_rollout(&key, &rollout).await), wanted);
    }
    assert_eq!(outcome(bench.catalog.promote(&digits, &name("stable")).await), "conflict");
    assert_eq!(Share::of_ten_thousand(10_001), None);
}
