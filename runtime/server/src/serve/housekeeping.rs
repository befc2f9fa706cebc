//! What is done now and then while the server runs.

use std::time::{Duration, Instant};

use innkeeper_catalog::Catalog;
use innkeeper_predict::Predictor;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::Config;
use crate::clock::now_ms;

/// How often idle models are looked for.
const COOL_EVERY_MS_MAX: u64 = 10_000;

/// Waits for the next hour of UTC, so that what was used in one is not told under the other.
async fn until_the_hour() {
    const HOUR_MS: u64 = 60 * 60 * 1000;
    let now_ms = u64::try_from(now_ms()).unwrap_or(0);
    tokio::time::sleep(Duration::from_millis(HOUR_MS - now_ms % HOUR_MS)).await;
}

/// Moves usage to its hours, lets go of idle instances and code, and of blobs and uploads that nobody wants. Never ends by itself.
pub(super) async fn run(config: Config, predictor: Predictor, catalog: Catalog) {
    let idle = Duration::from_millis(config.predict.warm_idle_ms_max);
    let cool_every = (config.predict.warm_idle_ms_max / 2).clamp(100, COOL_EVERY_MS_MAX);
    let mut cool = interval(Duration::from_millis(cool_every));
    let mut sweep = interval(Duration::from_millis(config.catalog.sweep_every_ms));
    cool.set_missed_tick_behavior(MissedTickBehavior::Delay);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut flush = interval(Duration::from_millis(config.catalog.usage_flush_ms));
    flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The catalog has just swept at its opening.
    sweep.tick().await;
    let mut readying: Option<JoinHandle<u64>> = None;
    loop {
        tokio::select! {
            _ = cool.tick() => {
                let cooled = predictor.cool(idle, Instant::now());
                tracing::debug!(cooled, "idle instances are let go");
                // A model that takes long to load keeps nothing else here waiting.
                if readying.as_ref().is_none_or(JoinHandle::is_finished) {
                    let predictor = predictor.clone();
                    readying = Some(tokio::spawn(async move { predictor.keep_ready().await }));
                }
            }
            _ = flush.tick() => if let Err(error) = catalog.flush_usage().await {
                tracing::warn!(%error, "usage stays in its counters");
            },
            () = until_the_hour() => if let Err(error) = catalog.flush_usage().await {
                tracing::warn!(%error, "usage of the hour that ends may be told under the next");
            },
            _ = sweep.tick() => match catalog.sweep().await {
                Ok(swept) => tracing::debug!(?swept, "the catalog is swept"),
                Err(error) => tracing::warn!(%error, "the catalog cannot be swept"),
            },
        }
    }
}
