//! What tenants use: counted in a mapped file, moved into hours in the database now and then.
//!
//! A count is made before the answer that it is for leaves, and the kernel has it then: killing the process loses none.
//! What of the counters has been moved is written in the transaction that moves it, so that none is counted twice.
//! After a power loss the counters may stand where the kernel last wrote them, but never before what was moved.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use sqlx::{Row, Sqlite, Transaction, sqlite::SqliteRow};

use crate::{
    Catalog, CatalogError, TenantName,
    mapped::Counters,
    row::{column, count, parsed},
    tenants::within,
};

type Result<T> = std::result::Result<T, CatalogError>;

/// The file of the counters, in the data folder.
const FILE: &str = "usage.counters";
/// Tenants that can be counted; the first slot is the file's own.
const SLOTS: usize = 16_384;
/// Counters of a slot, of which six are used: one line of the processor's cache.
const SLOT_WORDS: usize = 8;
/// When the process was last seen to run, in the first slot.
const ALIVE_MS: usize = 0;
const HOUR_MS: i64 = 60 * 60 * 1000;

/// What predictions used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Predictions that ran.
    pub requests: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// Microseconds that guests ran.
    pub compute_us: u64,
    /// Microseconds that devices ran.
    pub device_us: u64,
    /// Bytes of tensors that came.
    pub bytes_in: u64,
    /// Bytes of tensors that went.
    pub bytes_out: u64,
}

impl Used {
    fn words(&self) -> [u64; 6] {
        let Used { requests, failures, compute_us, device_us, bytes_in, bytes_out } = *self;
        [requests, failures, compute_us, device_us, bytes_in, bytes_out]
    }

    fn of_words(words: [u64; 6]) -> Used {
        let [requests, failures, compute_us, device_us, bytes_in, bytes_out] = words;
        Used { requests, failures, compute_us, device_us, bytes_in, bytes_out }
    }

    fn since(&self, before: &Used) -> Used {
        let (now, before) = (self.words(), before.words());
        Used::of_words(std::array::from_fn(|i| now[i].saturating_sub(before[i])))
    }
}

/// What a tenant used in one period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsagePeriod {
    /// Who.
    pub tenant: TenantName,
    /// When the period began, in milliseconds since 1970.
    pub from_ms: i64,
    /// What it used.
    pub used: Used,
}

/// How usage is put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageBy {
    /// By hours of UTC.
    Hour,
    /// By days of UTC.
    Day,
    /// All of it as one, under the time from which it was asked for.
    All,
}

/// Counts what tenants use. A clone counts the same.
#[derive(Clone)]
pub struct Meters {
    counters: Arc<Counters>,
    slots: Arc<RwLock<HashMap<TenantName, usize>>>,
}

/// Counts what one tenant uses.
#[derive(Clone)]
pub struct Meter {
    counters: Arc<Counters>,
    slot: usize,
}

impl Meter {
    /// Counts this; it costs no more than the additions.
    pub fn add(&self, used: &Used) {
        for (i, more) in used.words().into_iter().enumerate() {
            if more > 0
                && let Some(counter) = self.counter(i)
            {
                counter.fetch_add(more, Ordering::Relaxed);
            }
        }
    }

    /// All that was ever counted.
    pub fn total(&self) -> Used {
        let load = |i| self.counter(i).map_or(0, |counter| counter.load(Ordering::Relaxed));
        Used::of_words(std::array::from_fn(load))
    }

    fn counter(&self, i: usize) -> Option<&AtomicU64> {
        self.counters.get(self.slot * SLOT_WORDS + i)
    }

    /// Sets what lies behind what was moved already to that.
    fn catch_up(&self, moved: &Used) {
        for (i, moved) in moved.words().into_iter().enumerate() {
            if let Some(counter) = self.counter(i) {
                counter.fetch_max(moved, Ordering::Relaxed);
            }
        }
    }
}

impl Meters {
    /// The counters in the data folder, none of them a tenant's yet.
    pub(crate) fn open(dir: &Path) -> Result<Meters> {
        let path = dir.join(FILE);
        let open = || -> std::io::Result<Counters> {
            let mut options = OpenOptions::new();
            let mut file =
                options.create(true).truncate(false).read(true).write(true).open(&path)?;
            make_room(&mut file)?;
            Counters::map(&file)
        };
        let counters = open()
            .map_err(|error| CatalogError::io(format!("opening {}", path.display()), error))?;
        Ok(Meters { counters: Arc::new(counters), slots: Arc::default() })
    }

    /// The meter of a tenant that exists.
    pub fn of(&self, tenant: &TenantName) -> Option<Meter> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let slot = *slots.get(tenant)?;
        Some(Meter { counters: Arc::clone(&self.counters), slot })
    }

    pub(crate) fn assign(&self, tenant: TenantName, slot: usize) {
        self.slots.write().unwrap_or_else(PoisonError::into_inner).insert(tenant, slot);
    }

    fn alive_ms(&self) -> i64 {
        let alive = self.counters.get(ALIVE_MS);
        alive.map_or(0, |alive| alive.load(Ordering::Relaxed).try_into().unwrap_or(0))
    }

    fn set_alive_ms(&self, now_ms: i64) {
        if let Some(alive) = self.counters.get(ALIVE_MS) {
            alive.store(now_ms.try_into().unwrap_or(0), Ordering::Relaxed);
        }
    }
}

/// Writes zeros up to the file's size: a hole would have to find room on the disk when a count falls into it, and a full
/// disk would then kill the process.
fn make_room(file: &mut File) -> std::io::Result<()> {
    let wanted = (SLOTS * SLOT_WORDS * size_of::<u64>()) as u64;
    let there = file.seek(SeekFrom::End(0))?;
    if there < wanted {
        file.write_all(&vec![0; (wanted - there) as usize])?;
        file.sync_all()?;
    }
    Ok(())
}

impl Catalog {
    /// What counts the use of this host's tenants.
    pub fn meters(&self) -> &Meters {
        &self.inner.meters
    }

    /// Moves what was counted since the last time into its hour. To be called every few seconds, and called by
    /// [`close`](Self::close).
    ///
    /// What was counted before a crash goes into the hour in which the process was last seen.
    pub async fn flush_usage(&self) -> Result<()> {
        let _one_at_a_time = self.inner.flushing.lock().await;
        let (meters, now_ms) = (&self.inner.meters, self.inner.now_ms());
        let seen_ms = match meters.alive_ms() {
            0 => now_ms,
            seen_ms => seen_ms,
        };
        let mut write = self.inner.store.write().await?;
        let slots = sqlx::query("SELECT * FROM usage_slots").fetch_all(&mut *write).await?;
        let mut moved = false;
        for row in &slots {
            let tenant: TenantName = parsed(row.try_get("tenant")?)?;
            let Some(meter) = meters.of(&tenant) else { continue };
            let total = meter.total();
            let new = total.since(&used(row)?);
            if new != Used::default() {
                move_into(&mut write, &tenant, seen_ms.div_euclid(HOUR_MS) * HOUR_MS, &new).await?;
                remember(&mut write, &tenant, &total).await?;
                moved = true;
            }
        }
        // Nothing is written, and no disk waited for, while nobody uses anything.
        if moved {
            self.inner.step("usage: written")?;
            write.commit().await?;
        }
        meters.set_alive_ms(now_ms);
        Ok(())
    }

    /// Gives every tenant its counters, and moves what a crash left in them.
    pub(crate) async fn recover_usage(&self) -> Result<()> {
        let mut read = self.inner.store.read().await?;
        let slots = sqlx::query("SELECT * FROM usage_slots").fetch_all(&mut *read).await?;
        drop(read);
        for row in &slots {
            let tenant: TenantName = parsed(row.try_get("tenant")?)?;
            let slot: i64 = row.try_get("slot")?;
            self.inner.meters.assign(tenant.clone(), usize::try_from(slot).unwrap_or(usize::MAX));
            if let Some(meter) = self.inner.meters.of(&tenant) {
                meter.catch_up(&used(row)?);
            }
        }
        self.flush_usage().await
    }

    /// What a tenant, or every tenant, used in the hours that begin from `from_ms` on and before `to_ms`: by tenant, the
    /// earliest first.
    pub async fn usage_periods(
        &self,
        tenant: Option<&TenantName>,
        from_ms: i64,
        to_ms: i64,
        by: UsageBy,
    ) -> Result<Vec<UsagePeriod>> {
        self.flush_usage().await?;
        let mut read = self.inner.store.read().await?;
        let rows = sqlx::query(
            "SELECT tenant, CASE WHEN ?4 = 0 THEN ?2 ELSE from_ms - from_ms % ?4 END AS period,
                    sum(requests) AS requests, sum(failures) AS failures,
                    sum(compute_us) AS compute_us, sum(device_us) AS device_us,
                    sum(bytes_in) AS bytes_in, sum(bytes_out) AS bytes_out
               FROM usage_periods
              WHERE from_ms >= ?2 AND from_ms < ?3 AND (?1 IS NULL OR tenant = ?1)
              GROUP BY tenant, period ORDER BY tenant, period",
        )
        .bind(tenant.map(TenantName::as_str))
        .bind(from_ms)
        .bind(to_ms)
        .bind(match by {
            UsageBy::Hour => HOUR_MS,
            UsageBy::Day => 24 * HOUR_MS,
            UsageBy::All => 0,
        })
        .fetch_all(&mut *read)
        .await?;
        let period = |row: &SqliteRow| {
            let (tenant, from_ms) = (parsed(row.try_get("tenant")?)?, row.try_get("period")?);
            Ok(UsagePeriod { tenant, from_ms, used: used(row)? })
        };
        rows.iter().map(period).collect()
    }
}

/// Gives a new tenant a slot.
pub(crate) async fn take_slot(
    write: &mut Transaction<'static, Sqlite>,
    tenant: &TenantName,
) -> Result<usize> {
    let slot: i64 = sqlx::query_scalar(
        "INSERT INTO usage_slots (slot, tenant)
         VALUES ((SELECT coalesce(max(slot), 0) + 1 FROM usage_slots), ?) RETURNING slot",
    )
    .bind(tenant.as_str())
    .fetch_one(&mut **write)
    .await?;
    within("tenants_max", SLOTS as u64 - 1, count(slot))?;
    Ok(usize::try_from(slot).unwrap_or(usize::MAX))
}

async fn move_into(
    write: &mut Transaction<'static, Sqlite>,
    tenant: &TenantName,
    from_ms: i64,
    new: &Used,
) -> Result<()> {
    let mut query = sqlx::query(
        "INSERT INTO usage_periods
             (tenant, from_ms, requests, failures, compute_us, device_us, bytes_in, bytes_out)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (tenant, from_ms) DO UPDATE SET
                 requests = requests + excluded.requests, failures = failures + excluded.failures,
                 compute_us = compute_us + excluded.compute_us,
                 device_us = device_us + excluded.device_us,
                 bytes_in = bytes_in + excluded.bytes_in, bytes_out = bytes_out + excluded.bytes_out",
    )
    .bind(tenant.as_str())
    .bind(from_ms);
    for word in new.words() {
        query = query.bind(column(word));
    }
    query.execute(&mut **write).await?;
    Ok(())
}

async fn remember(
    write: &mut Transaction<'static, Sqlite>,
    tenant: &TenantName,
    total: &Used,
) -> Result<()> {
    let mut query = sqlx::query(
        "UPDATE usage_slots SET requests = ?, failures = ?, compute_us = ?, device_us = ?,
             bytes_in = ?, bytes_out = ? WHERE tenant = ?",
    );
    for word in total.words() {
        query = query.bind(column(word));
    }
    query.bind(tenant.as_str()).execute(&mut **write).await?;
    Ok(())
}

fn used(row: &SqliteRow) -> Result<Used> {
    let number = |name: &str| -> Result<u64> { Ok(count(row.try_get(name)?)) };
    Ok(Used {
        requests: number("requests")?,
        failures: number("failures")?,
        compute_us: number("compute_us")?,
        device_us: number("device_us")?,
        bytes_in: number("bytes_in")?,
        bytes_out: number("bytes_out")?,
    })
}
