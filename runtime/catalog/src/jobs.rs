//! Jobs: what was asked for, how far they are, and what happened.

use std::{fmt, str::FromStr};

use sqlx::{Row, sqlite::SqliteRow};

use crate::{
    Catalog, CatalogError, ModelKey, TenantName, VersionName,
    row::{count, parsed},
    tenants::within,
};

type Result<T> = std::result::Result<T, CatalogError>;

/// Events that are kept of one job; the oldest go.
const EVENTS_MAX: i64 = 10_000;
/// Jobs that are kept of one tenant once they have ended; the oldest go.
const ENDED_MAX: i64 = 1_000;

/// How a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobState {
    /// It waits for its turn.
    Queued,
    /// It is being done.
    Running,
    /// It was told to rest.
    Paused,
    /// Its version is published.
    Succeeded,
    /// It cannot be done.
    Failed,
    /// It was told to stop.
    Cancelled,
}

impl JobState {
    const ALL: [JobState; 6] = [
        JobState::Queued,
        JobState::Running,
        JobState::Paused,
        JobState::Succeeded,
        JobState::Failed,
        JobState::Cancelled,
    ];

    /// The state's name.
    pub fn as_str(self) -> &'static str {
        match self {
            JobState::Queued => "queued",
            JobState::Running => "running",
            JobState::Paused => "paused",
            JobState::Succeeded => "succeeded",
            JobState::Failed => "failed",
            JobState::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more will come of it.
    pub fn has_ended(self) -> bool {
        matches!(self, JobState::Succeeded | JobState::Failed | JobState::Cancelled)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for JobState {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<JobState, String> {
        let found = JobState::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is no state of a job"))
    }
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRecord {
    /// Its id.
    pub id: String,
    /// The order in which jobs came.
    pub sequence: i64,
    /// How it stands.
    pub state: JobState,
    /// The model of which it makes a version; its owner is whose job it is.
    pub model: ModelKey,
    /// The version that it makes.
    pub version: VersionName,
    /// What was asked for.
    pub request: String,
    /// How far it is.
    pub progress: String,
    /// What came of it.
    pub result: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// When it was asked for.
    pub created_ms: i64,
    /// When it was first begun.
    pub started_ms: Option<i64>,
    /// When it ended.
    pub ended_ms: Option<i64>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobEvent {
    /// Counts up within the job, from 1.
    pub sequence: i64,
    /// When.
    pub at_ms: i64,
    /// What kind of thing.
    pub kind: String,
    /// JSON that the catalog does not read.
    pub data: String,
}

/// A job to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewJob {
    /// Its id, unique.
    pub id: String,
    /// The model of which it makes a version.
    pub model: ModelKey,
    /// That version.
    pub version: VersionName,
    /// What is asked for; JSON.
    pub request: String,
    /// Jobs that may wait, run or rest at once.
    pub jobs_max: u64,
}

/// What changes with a job's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobChange {
    /// How far it is.
    pub progress: Option<String>,
    /// What came of it.
    pub result: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// What happened, each a kind and JSON.
    pub events: Vec<(String, String)>,
}

impl Catalog {
    /// Writes a job down, to be done some time.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Conflict`] when another job makes the same version, or it is there; [`CatalogError::LimitExceeded`]
    /// for `jobs_max`.
    pub async fn create_job(&self, new: &NewJob) -> Result<JobRecord> {
        let mut write = self.inner.store.write().await?;
        let (owner, model) = (new.model.owner.as_str(), new.model.name.as_str());
        let taken: Option<String> = sqlx::query_scalar(
            "SELECT 'job ' || id FROM jobs
              WHERE tenant = ?1 AND model = ?2 AND version = ?3
                AND state IN ('queued', 'running', 'paused')
             UNION ALL SELECT kind FROM model_names
              WHERE owner = ?1 AND model = ?2 AND name = ?3",
        )
        .bind(owner)
        .bind(model)
        .bind(new.version.as_str())
        .fetch_optional(&mut *write)
        .await?;
        if let Some(by) = taken {
            return Err(CatalogError::Conflict {
                what: format!("version {} of model {}", new.version, new.model),
                why: format!("the name is taken by a {by}; name another version"),
            });
        }
        let open: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM jobs
              WHERE tenant = ? AND state IN ('queued', 'running', 'paused')",
        )
        .bind(owner)
        .fetch_one(&mut *write)
        .await?;
        within("jobs_max", new.jobs_max, count(open) + 1)?;
        sqlx::query(
            "INSERT INTO jobs
                 (id, tenant, sequence, state, model, version, request, progress, created_ms)
             VALUES (?, ?, (SELECT coalesce(max(sequence), 0) + 1 FROM jobs), 'queued', ?, ?, ?,
                     '{}', ?)",
        )
        .bind(&new.id)
        .bind(owner)
        .bind(model)
        .bind(new.version.as_str())
        .bind(&new.request)
        .bind(self.inner.now_ms())
        .execute(&mut *write)
        .await?;
        sqlx::query(
            "DELETE FROM jobs WHERE tenant = ?1 AND sequence <= (
                 SELECT sequence FROM jobs
                  WHERE tenant = ?1 AND state IN ('succeeded', 'failed', 'cancelled')
                  ORDER BY sequence DESC LIMIT 1 OFFSET ?2)
                AND state IN ('succeeded', 'failed', 'cancelled')",
        )
        .bind(owner)
        .bind(ENDED_MAX)
        .execute(&mut *write)
        .await?;
        write.commit().await?;
        self.job(&new.model.owner, &new.id).await
    }

    /// A tenant's job.
    ///
    /// # Errors
    ///
    /// [`CatalogError::NotFound`].
    pub async fn job(&self, tenant: &TenantName, id: &str) -> Result<JobRecord> {
        let mut read = self.inner.store.read().await?;
        let row = sqlx::query("SELECT * FROM jobs WHERE tenant = ? AND id = ?")
            .bind(tenant.as_str())
            .bind(id)
            .fetch_optional(&mut *read)
            .await?;
        row.as_ref().map_or_else(|| Err(no_job(id)), record)
    }

    /// A tenant's jobs before number `before`, the newest first and at most `max`.
    pub async fn jobs(&self, tenant: &TenantName, before: i64, max: u32) -> Result<Vec<JobRecord>> {
        let mut read = self.inner.store.read().await?;
        sqlx::query(
            "SELECT * FROM jobs WHERE tenant = ? AND sequence < ? ORDER BY sequence DESC LIMIT ?",
        )
        .bind(tenant.as_str())
        .bind(before)
        .bind(max)
        .fetch_all(&mut *read)
        .await?
        .iter()
        .map(record)
        .collect()
    }

    /// The jobs of all tenants that have not ended, the oldest first.
    pub async fn open_jobs(&self) -> Result<Vec<JobRecord>> {
        let mut read = self.inner.store.read().await?;
        sqlx::query(
            "SELECT * FROM jobs WHERE state IN ('queued', 'running', 'paused') ORDER BY sequence",
        )
        .fetch_all(&mut *read)
        .await?
        .iter()
        .map(record)
        .collect()
    }

    /// Brings a job from one of some states to another, with what goes with it. False, and nothing is changed, when it is
    /// in none of them.
    pub async fn change_job(
        &self,
        id: &str,
        from: &[JobState],
        to: JobState,
        change: &JobChange,
    ) -> Result<bool> {
        let mut write = self.inner.store.write().await?;
        let state: Option<String> = sqlx::query_scalar("SELECT state FROM jobs WHERE id = ?")
            .bind(id)
            .fetch_optional(&mut *write)
            .await?;
        let Some(state) = state else { return Ok(false) };
        if !from.contains(&parsed::<JobState>(&state)?) {
            return Ok(false);
        }
        let now_ms = self.inner.now_ms();
        sqlx::query(
            "UPDATE jobs SET state = ?2, progress = coalesce(?3, progress),
                    result = coalesce(?4, result), error = coalesce(?5, error),
                    started_ms = CASE WHEN ?2 = 'running' THEN coalesce(started_ms, ?6)
                                      ELSE started_ms END,
                    ended_ms = CASE WHEN ?2 IN ('succeeded', 'failed', 'cancelled') THEN ?6 END
              WHERE id = ?1",
        )
        .bind(id)
        .bind(to.as_str())
        .bind(&change.progress)
        .bind(&change.result)
        .bind(&change.error)
        .bind(now_ms)
        .execute(&mut *write)
        .await?;
        for (kind, data) in &change.events {
            sqlx::query(
                "INSERT INTO job_events (job, sequence, at_ms, kind, data)
                 VALUES (?1, (SELECT coalesce(max(sequence), 0) + 1 FROM job_events WHERE job = ?1),
                         ?2, ?3, ?4)",
            )
            .bind(id)
            .bind(now_ms)
            .bind(kind)
            .bind(data)
            .execute(&mut *write)
            .await?;
        }
        sqlx::query(
            "DELETE FROM job_events WHERE job = ?1
                AND sequence <= (SELECT max(sequence) FROM job_events WHERE job = ?1) - ?2",
        )
        .bind(id)
        .bind(EVENTS_MAX)
        .execute(&mut *write)
        .await?;
        write.commit().await?;
        Ok(true)
    }

    /// What happened to a job after event `after`, at most `max`, in order.
    pub async fn job_events(&self, id: &str, after: i64, max: u32) -> Result<Vec<JobEvent>> {
        let mut read = self.inner.store.read().await?;
        sqlx::query(
            "SELECT * FROM job_events WHERE job = ? AND sequence > ? ORDER BY sequence LIMIT ?",
        )
        .bind(id)
        .bind(after)
        .bind(max)
        .fetch_all(&mut *read)
        .await?
        .iter()
        .map(|row| {
            Ok(JobEvent {
                sequence: row.try_get("sequence")?,
                at_ms: row.try_get("at_ms")?,
                kind: row.try_get("kind")?,
                data: row.try_get("data")?,
            })
        })
        .collect()
    }
}

fn no_job(id: &str) -> CatalogError {
    // An id is short; what is longer was never one.
    CatalogError::not_found(format!("job {}", id.chars().take(64).collect::<String>()))
}

fn record(row: &SqliteRow) -> Result<JobRecord> {
    Ok(JobRecord {
        id: row.try_get("id")?,
        sequence: row.try_get("sequence")?,
        state: parsed(row.try_get("state")?)?,
        model: ModelKey::new(parsed(row.try_get("tenant")?)?, parsed(row.try_get("model")?)?),
        version: parsed(row.try_get("version")?)?,
        request: row.try_get("request")?,
        progress: row.try_get("progress")?,
        result: row.try_get("result")?,
        error: row.try_get("error")?,
        created_ms: row.try_get("created_ms")?,
        started_ms: row.try_get("started_ms")?,
        ended_ms: row.try_get("ended_ms")?,
    })
}
