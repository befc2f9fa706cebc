//! Data to learn from.

use super::{Bench, name};
use crate::{CatalogError, DatasetRecord, Digest};

/// Why it was refused.
fn told<T>(result: Result<T, CatalogError>) -> String {
    result.map_or_else(|error| error.to_string(), |_| "ok".to_owned())
}

async fn record(bench: &Bench, tenant: &str, dataset: &str, rows: &'static [u8]) -> DatasetRecord {
    DatasetRecord {
        tenant: name(tenant),
        name: name(dataset),
        source: Digest::of(rows),
        options: "{}".into(),
        digest: bench.put(tenant, rows).await,
        schema: "[]".into(),
        created_ms: 1_000_000,
    }
}

#[tokio::test]
async fn a_dataset_is_the_same_or_another() {
    let bench = Bench::new().await;
    let new = record(&bench, "acme", "iris", b"rows").await;
    assert!(bench.catalog.create_dataset(&new, 1).await.expect("made"));
    assert!(!bench.catalog.create_dataset(&new, 1).await.expect("the same"));
    let other = record(&bench, "acme", "iris", b"other rows").await;
    let refused = told(bench.catalog.create_dataset(&other, 1).await);
    assert!(refused.contains("a dataset never changes"), "{refused}");
    let second = record(&bench, "acme", "second", b"rows").await;
    let refused = told(bench.catalog.create_dataset(&second, 1).await);
    assert!(refused.contains("datasets_max is 1"), "{refused}");
    // Another tenant's bytes are not to be had by their digest.
    let stolen = DatasetRecord { tenant: name("zeta"), ..new.clone() };
    let refused = told(bench.catalog.create_dataset(&stolen, 1).await);
    assert!(refused.contains("does not exist"), "{refused}");

    assert_eq!(bench.catalog.dataset(&name("acme"), &name("iris")).await.expect("there"), new);
    assert!(bench.catalog.dataset(&name("zeta"), &name("iris")).await.is_err());
    assert_eq!(bench.catalog.datasets(&name("acme")).await.expect("all"), [new]);
}

#[tokio::test]
async fn the_rows_of_a_dataset_stay_until_it_is_deleted() {
    let bench = Bench::new().await;
    let new = record(&bench, "acme", "iris", b"rows").await;
    bench.catalog.create_dataset(&new, 9).await.expect("made");
    bench.clock.set(9_000_000);
    bench.catalog.sweep().await.expect("swept");
    assert!(bench.catalog.blob(&new.digest).await.is_ok());
    bench.catalog.delete_dataset(&name("acme"), &name("iris")).await.expect("deleted");
    assert!(bench.catalog.delete_dataset(&name("acme"), &name("iris")).await.is_err());
    bench.catalog.sweep().await.expect("swept");
    assert!(bench.catalog.blob(&new.digest).await.is_err());
}
