//! What is done now and then while the server runs.

use std::time::{Duration, Instant};

use innkeeper_catalog::Catalog;
use innkeeper_predict::Predictor;
use tokio::time::{MissedTickBehavior, interval};

use super::Config;

/// How often idle models are looked for.
const COOL_EVERY_MS_MAX: u64 = 10_000;

/// Lets go of idle instances and code, and of blobs and uploads that nobody wants. Never ends by itself.
pub(super) async fn run(config: Config, predictor: Predictor, catalog: Catalog) {
    let idle = Duration::from_millis(config.predict.warm_idle_ms_max);
    let cool_every = (config.predict.warm_idle_ms_max / 2).clamp(100, COOL_EVERY_MS_MAX);
    let mut cool = interval(Duration::from_millis(cool_every));
    let mut sweep = interval(Duration::from_millis(config.catalog.sweep_every_ms));
    cool.set_missed_tick_behavior(MissedTickBehavior::Delay);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The catalog has just swept at its opening.
    sweep.tick().await;
    loop {
        tokio::select! {
            _ = cool.tick() => {
                let cooled = predictor.cool(idle, Instant::now());
                tracing::debug!(cooled, "idle instances are let go");
            }
            _ = sweep.tick() => match catalog.sweep().await {
                Ok(swept) => tracing::debug!(?swept, "the catalog is swept"),
                Err(error) => tracing::warn!(%error, "the catalog cannot be swept"),
            },
        }
    }
}
