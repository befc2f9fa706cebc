//! Which versions are served and kept.

use super::{Bench, key, name, new_version, outcome};
use crate::{ModelRecord, NewVersion, Policy, PublishLimits, Serve};

impl Bench {
    async fn with(&self, policy: Policy) -> ModelRecord {
        let digits = key("acme/digits");
        self.catalog.set_policy(&digits, &policy).await.expect("set");
        self.catalog.model(&digits).await.expect("the model")
    }

    async fn add(&self, version: &str) {
        let limits = PublishLimits { versions_max: 10, models_max: 2, stored_bytes_max: 1 << 20 };
        self.publish(NewVersion { limits, ..new_version("acme/digits", version, version) }).await;
    }
}

/// Five versions, and `stable` on the first.
async fn five() -> Bench {
    let bench = Bench::new().await;
    for version in ["1", "2", "3", "4", "5"] {
        bench.add(version).await;
    }
    let digits = key("acme/digits");
    bench.catalog.set_alias(&digits, &name("stable"), &name("1")).await.expect("set");
    bench
}

fn served(model: &ModelRecord) -> String {
    let served = model.versions.iter().zip(model.served());
    served.filter(|(_, served)| *served).map(|(version, _)| version.version.as_str()).collect()
}

fn kept(model: &ModelRecord) -> String {
    model.versions.iter().map(|version| version.version.as_str()).collect()
}

#[tokio::test]
async fn what_is_served_follows_the_policy_and_the_aliases() {
    let bench = five().await;
    let cases = [
        (Serve::All, "12345"),
        (Serve::Latest(2), "145"),
        (Serve::Latest(100), "12345"),
        (Serve::Listed(vec![name("3"), name("9")]), "13"),
        (Serve::Listed(vec![]), "1"),
    ];
    for (serve, wanted) in cases {
        let policy = Policy { serve, keep: None };
        let model = bench.with(policy.clone()).await;
        assert_eq!((served(&model).as_str(), kept(&model).as_str()), (wanted, "12345"));
        assert_eq!(model.policy, policy);
    }
    let bench = bench.reopened().await;
    let model = bench.catalog.model(&key("acme/digits")).await.expect("the model");
    assert_eq!(served(&model), "1");
}

#[tokio::test]
async fn what_is_not_kept_goes_now_and_with_every_publication() {
    let bench = five().await;
    let keep = |keep| Policy { serve: Serve::All, keep };
    assert_eq!(kept(&bench.with(keep(Some(5))).await), "12345");
    assert_eq!(kept(&bench.with(keep(Some(2))).await), "145", "never what an alias stands for");
    bench.add("6").await;
    let digits = key("acme/digits");
    let model = bench.catalog.model(&digits).await.expect("the model");
    assert_eq!(kept(&model), "156");
    bench.catalog.set_alias(&digits, &name("stable"), &name("5")).await.expect("set");
    bench.add("7").await;
    let model = bench.catalog.model(&digits).await.expect("the model");
    assert_eq!(kept(&model), "567");
    bench.with(keep(None)).await;
    bench.add("8").await;
    let model = bench.catalog.model(&digits).await.expect("the model");
    assert_eq!(kept(&model), "5678");
    let none = bench.catalog.set_policy(&key("acme/none"), &keep(None)).await;
    assert_eq!(outcome(none), "not found");
}
