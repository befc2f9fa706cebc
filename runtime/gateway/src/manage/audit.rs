//! The audit log: an entry before every change, its outcome after it, and reading it.

use innkeeper_catalog::{AuditEntry, AuditRecord, Catalog, Scope, TenantName, key_id};
use serde::Serialize;

use crate::app::{App, Exchange};
use crate::error::Failure;
use crate::gate::Caller;
use crate::journal::Entry;
use crate::manage::Act;
use crate::query::{self, Query};
use crate::reply::{Reply, json};
use crate::route::Route;

/// Entries in one answer.
const ENTRIES_MAX: u32 = 1_000;
/// Characters of what a change is about: more than two names have.
const TARGET_CHARS_MAX: usize = 300;

/// What a route changes, and whose that is: none for one that only looks.
fn change(route: &Route<'_>) -> Option<(&'static str, String, Option<String>)> {
    let plain = |text: &str| {
        let text = query::decode(text).map_or_else(|| text.to_owned(), |text| text.into_owned());
        // Whoever puts a whole key where its id belongs finds the id here.
        let text = key_id(&text).unwrap_or(&text);
        text.chars().take(TARGET_CHARS_MAX).collect::<String>()
    };
    let own = |act, target: String| Some((act, target, None));
    let of = |act, tenant: &str| Some((act, plain(tenant), Some(plain(tenant))));
    let slot = |model: &str, slot: &str| format!("{}@{}", plain(model), plain(slot));
    let owned = |owner: Option<&str>, model: &str| match owner {
        Some(owner) => format!("{}/{}", plain(owner), plain(model)),
        None => plain(model),
    };
    match *route {
        Route::DeleteOwn { model } => own("model.delete", plain(model)),
        Route::Publish { model, version } => own("version.publish", slot(model, version)),
        Route::DeleteVersion { model, version } => own("version.delete", slot(model, version)),
        Route::SetAlias { model, alias } => own("alias.set", slot(model, alias)),
        Route::DeleteAlias { model, alias } => own("alias.delete", slot(model, alias)),
        Route::SetRollout { model, alias } => own("rollout.set", slot(model, alias)),
        Route::Promote { model, alias } => own("rollout.promote", slot(model, alias)),
        Route::RollBack { model, alias } => own("alias.rollback", slot(model, alias)),
        Route::SetPolicy { model } => own("policy.set", plain(model)),
        Route::SetSharing { model } => own("sharing.set", plain(model)),
        Route::FinishUpload { upload } => own("upload.finish", plain(upload)),
        Route::CancelUpload { upload } => own("upload.cancel", plain(upload)),
        Route::SetLimits { tenant } => of("limits.set", tenant),
        Route::CreateTenant => own("tenant.create", String::new()),
        Route::CreateKey { tenant } => of("key.create", tenant),
        Route::RevokeKey { id } => own("key.revoke", plain(id)),
        Route::Load { owner, model } => own("model.load", owned(owner, model)),
        Route::Unload { owner, model } => own("model.unload", owned(owner, model)),
        Route::SetLogging => own("logging.set", String::new()),
        Route::CreateDataset { dataset } => own("dataset.create", plain(dataset)),
        Route::DeleteDataset { dataset } => own("dataset.delete", plain(dataset)),
        Route::SubmitJob => own("job.submit", String::new()),
        Route::TellJob { job, act: Act::Pause } => own("job.pause", plain(job)),
        Route::TellJob { job, act: Act::Resume } => own("job.resume", plain(job)),
        Route::TellJob { job, act: Act::Cancel } => own("job.cancel", plain(job)),
        _ => None,
    }
}

/// A change that is under way. When its caller leaves, the change goes on, and its outcome is told as that.
pub(crate) struct Open {
    catalog: Catalog,
    sequence: i64,
    ended: bool,
}

/// Writes down that a change begins. Whoever has no key for changes at all changes nothing, and leaves no entry.
///
/// # Errors
/// The catalog cannot be written: then nothing is changed either.
pub(crate) async fn begin(
    app: &App,
    caller: &Caller,
    route: &Route<'_>,
    entry: &Entry,
) -> Result<Option<Open>, Failure> {
    let Some((act, target, tenant)) = change(route) else { return Ok(None) };
    let scopes = [Scope::Publish, Scope::Admin];
    if !scopes.iter().any(|scope| caller.scopes.contains(scope)) {
        return Ok(None);
    }
    // Of a tenant that this caller may not see, nothing is written into that tenant's log.
    let tenant = tenant.and_then(|tenant| caller.may_see(&tenant).ok());
    let audited = AuditEntry {
        tenant: tenant.unwrap_or_else(|| caller.tenant.clone()),
        actor: caller.tenant.to_string(),
        key_id: caller.key_id.clone(),
        act: act.to_owned(),
        target,
        request_id: entry.id().to_owned(),
    };
    let catalog = app.catalog.clone();
    let sequence = catalog.begin_audit(&audited).await?;
    Ok(Some(Open { catalog, sequence, ended: false }))
}

impl Open {
    /// Writes the outcome down.
    pub(crate) async fn end<T>(mut self, reply: &Result<T, Failure>) {
        self.ended = true;
        write(&self.catalog, self.sequence, reply.as_ref().map_or_else(|f| f.code, |_| "done"))
            .await;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.ended {
            let (catalog, sequence) = (self.catalog.clone(), self.sequence);
            tokio::spawn(async move { write(&catalog, sequence, "caller_left").await });
        }
    }
}

async fn write(catalog: &Catalog, sequence: i64, outcome: &str) {
    if let Err(error) = catalog.end_audit(sequence, outcome).await {
        tracing::error!(%error, sequence, outcome, "the outcome of a change is not in the audit log");
    }
}

#[derive(Serialize)]
struct Line {
    sequence: i64,
    tenant: TenantName,
    actor: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
    act: String,
    target: String,
    outcome: String,
    request_id: String,
    began_ms: i64,
    ended_ms: Option<i64>,
}

impl From<AuditRecord> for Line {
    fn from(record: AuditRecord) -> Line {
        let AuditRecord { sequence, entry, outcome, began_ms, ended_ms } = record;
        let AuditEntry { tenant, actor, key_id, act, target, request_id } = entry;
        Line {
            sequence,
            tenant,
            actor,
            key_id,
            act,
            target,
            outcome,
            request_id,
            began_ms,
            ended_ms,
        }
    }
}

/// `GET /api/v1/audit?tenant=&before=&max=`: the newest first. A tenant reads its own, an administrator all.
pub(super) async fn list(at: Exchange<'_>) -> Result<Reply, Failure> {
    #[derive(Serialize)]
    struct Lines {
        entries: Vec<Line>,
        /// What to ask for next, as `before`; none when there is no more.
        next: Option<i64>,
    }
    at.caller.require(Scope::Publish).or_else(|_| at.caller.require(Scope::Admin))?;
    let query = Query::read(at.parts.uri.query(), &["tenant", "before", "max"])?;
    let tenant = match query.one::<String>("tenant")? {
        Some(tenant) => Some(at.caller.may_see(&tenant)?),
        None if at.caller.scopes.contains(&Scope::Admin) => None,
        None => Some(at.caller.tenant.clone()),
    };
    let before = query.one("before")?.unwrap_or(i64::MAX);
    let max = query.one("max")?.unwrap_or(ENTRIES_MAX).clamp(1, ENTRIES_MAX);
    let records = at.app.catalog.audit(tenant.as_ref(), before, max).await?;
    let next = records.last().filter(|_| records.len() == max as usize).map(|last| last.sequence);
    Ok(json(&Lines { entries: records.into_iter().map(Line::from).collect(), next }))
}
