//! Usage: counted, moved into hours, and exact whatever happens.

use super::{Bench, Hand, name, open};
use crate::{TenantName, UsageBy, Used};

const HOUR_MS: i64 = 3_600_000;

fn used(requests: u64) -> Used {
    Used { requests, bytes_in: 10 * requests, compute_us: 7, ..Used::default() }
}

impl Bench {
    fn count(&self, tenant: &str, requests: u64) {
        self.catalog.meters().of(&name(tenant)).expect("a meter").add(&used(requests));
    }

    /// Tenant, period and requests.
    async fn periods(&self, tenant: Option<&str>, by: UsageBy) -> Vec<(String, i64, u64)> {
        let tenant: Option<TenantName> = tenant.map(name);
        let periods = self.catalog.usage_periods(tenant.as_ref(), 0, i64::MAX, by).await;
        let periods = periods.expect("usage").into_iter();
        periods.map(|p| (p.tenant.to_string(), p.from_ms / HOUR_MS, p.used.requests)).collect()
    }
}

#[tokio::test]
async fn use_is_told_by_hours_days_and_whole() {
    let bench = Bench::new().await;
    bench.clock.set(23 * HOUR_MS);
    bench.catalog.flush_usage().await.expect("flushed");
    bench.count("acme", 1);
    bench.count("zeta", 100);
    bench.clock.set(24 * HOUR_MS);
    // What was counted up to now belongs to the hour that ends.
    bench.catalog.flush_usage().await.expect("flushed");
    bench.count("acme", 2);
    let row = |tenant: &str, hour, requests| (tenant.to_owned(), hour, requests);
    let hours = [row("acme", 23, 1), row("acme", 24, 2), row("zeta", 23, 100)];
    assert_eq!(bench.periods(None, UsageBy::Hour).await, hours);
    bench.count("acme", 4);
    let days = [row("acme", 0, 1), row("acme", 24, 6)];
    assert_eq!(bench.periods(Some("acme"), UsageBy::Day).await, days);
    assert_eq!(bench.periods(Some("acme"), UsageBy::All).await, [row("acme", 0, 7)]);
    let day =
        bench.catalog.usage_periods(None, 0, 24 * HOUR_MS, UsageBy::All).await.expect("usage");
    assert_eq!(day[0].used, used(1), "every number, and not what comes later");
    assert!(bench.catalog.meters().of(&name("nobody")).is_none());
}

#[tokio::test]
async fn a_kill_between_any_two_steps_loses_and_doubles_nothing() {
    let bench = Bench::new().await;
    bench.clock.set(5 * HOUR_MS);
    bench.catalog.flush_usage().await.expect("flushed");
    bench.count("acme", 3);
    let (copies, dir) =
        (std::sync::Arc::new(std::sync::Mutex::new(Vec::new())), bench.dir.path().to_owned());
    let copy = move || {
        let to = tempfile::tempdir().expect("a folder");
        super::crash::copy_folder(&dir, to.path());
        to
    };
    let (taken, copy_at_step) = (copies.clone(), copy.clone());
    copies.lock().expect("no panic").push(copy());
    bench.watch(move |_| {
        taken.lock().expect("no panic").push(copy_at_step());
        Ok(())
    });
    bench.catalog.flush_usage().await.expect("flushed");
    bench.unwatch();
    copies.lock().expect("no panic").push(copy());
    let copies = std::mem::take(&mut *copies.lock().expect("no panic"));
    assert_eq!(copies.len(), 3, "before, in the midst, and after");
    for dir in copies {
        let clock = Hand::default();
        // It comes back hours later: what it finds belongs to the hour in which the process was last seen.
        clock.set(9 * HOUR_MS);
        let catalog = open(dir.path(), &clock).await;
        let crashed = Bench { catalog, clock, dir };
        assert_eq!(crashed.periods(None, UsageBy::Hour).await, [("acme".to_owned(), 5, 3)],);
        crashed.count("acme", 1);
        assert_eq!(crashed.periods(None, UsageBy::All).await, [("acme".to_owned(), 0, 4)]);
    }
}

#[tokio::test]
async fn counters_that_a_power_loss_took_back_go_on_from_what_was_moved() {
    let bench = Bench::new().await;
    bench.count("acme", 5);
    bench.catalog.flush_usage().await.expect("flushed");
    let Bench { catalog, clock, dir } = bench;
    catalog.close().await;
    drop(catalog);
    std::fs::remove_file(dir.path().join("usage.counters")).expect("removed");
    let bench = Bench { catalog: open(dir.path(), &clock).await, clock, dir };
    assert_eq!(bench.periods(None, UsageBy::All).await[0].2, 5);
    bench.count("acme", 1);
    assert_eq!(bench.periods(None, UsageBy::All).await[0].2, 6);
}

#[tokio::test]
async fn a_close_moves_what_was_counted() {
    let bench = Bench::new().await;
    bench.count("zeta", 2);
    let bench = bench.reopened().await;
    assert_eq!(bench.periods(None, UsageBy::All).await[0].2, 2);
}
