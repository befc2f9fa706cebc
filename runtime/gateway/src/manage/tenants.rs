//! Tenants, their keys, limits and use.

use std::future::Future;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::body::Incoming;
use innkeeper_catalog::{CatalogError, KeyInfo, Scope, TenantName};
use innkeeper_predict::{LimitOverrides, Limits};
use serde::{Deserialize, Serialize};

use super::{json_body, no_query, segment};
use crate::app::Exchange;
use crate::error::Failure;
use crate::reply::{Reply, empty, json, json_as};

/// Bytes of a key's label.
const LABEL_BYTES_MAX: usize = 256;

/// Does something to its end even if the client goes away: what is in the catalog must also be in force.
async fn to_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, CatalogError>> + Send + 'static,
) -> Result<T, Failure> {
    Ok(tokio::spawn(work).await.map_err(Failure::internal)??)
}

/// `GET /api/v1/whoami`
pub(super) fn who_am_i(at: Exchange<'_>) -> Reply {
    #[derive(Serialize)]
    struct WhoAmI<'a> {
        tenant: &'a str,
        scopes: Vec<String>,
        key: Option<&'a str>,
        server: &'a str,
        server_version: &'a str,
    }
    json(&WhoAmI {
        tenant: at.caller.tenant.as_str(),
        scopes: at.caller.scopes.iter().map(Scope::to_string).collect(),
        key: at.caller.key_id.as_deref(),
        server: &at.app.config.name,
        server_version: &at.app.config.version,
    })
}

/// The limits that are set for a tenant; also finds out that there is such a tenant.
async fn overrides(at: Exchange<'_>, tenant: &TenantName) -> Result<LimitOverrides, Failure> {
    match at.app.catalog.tenant_limits(tenant).await? {
        Some(text) => serde_json::from_str(&text).map_err(Failure::internal),
        None => Ok(LimitOverrides::default()),
    }
}

/// `GET /api/v1/tenants/{t}/usage`
pub(super) async fn usage(at: Exchange<'_>, tenant: &str) -> Result<Reply, Failure> {
    #[derive(Serialize)]
    struct Use {
        requests_in_flight: u64,
        requests_queued: u64,
        tensor_bytes: u64,
        asset_memory_bytes: u64,
        warm_instances: u64,
        sequences: u64,
        cache_bytes: u64,
        requests: u64,
        failures: u64,
        compute_us: u64,
        stored_bytes: u64,
        models: u64,
        versions: u64,
        uploads: u64,
    }
    #[derive(Serialize)]
    struct Answer<'a> {
        tenant: &'a str,
        usage: Use,
        limits: &'a Limits,
    }
    let tenant = at.caller.may_see(tenant)?;
    no_query(at)?;
    overrides(at, &tenant).await?;
    let kept = at.app.catalog.usage(&tenant).await?;
    let now = at.app.predictor.usage(&tenant);
    let limits = at.app.predictor.limits(&tenant);
    let usage = Use {
        requests_in_flight: now.requests_in_flight,
        requests_queued: now.requests_queued,
        tensor_bytes: now.tensor_bytes,
        asset_memory_bytes: now.asset_memory_bytes,
        warm_instances: now.warm_instances,
        sequences: now.sequences,
        cache_bytes: now.cache_bytes,
        requests: now.requests,
        failures: now.failures,
        compute_us: now.compute_us,
        stored_bytes: kept.stored_bytes,
        models: kept.models,
        versions: kept.versions,
        uploads: kept.uploads,
    };
    Ok(json(&Answer { tenant: tenant.as_str(), usage, limits: &limits }))
}

#[derive(Serialize)]
struct LimitsAnswer<'a> {
    tenant: &'a str,
    /// What holds.
    limits: &'a Limits,
    /// What of it is set for this tenant.
    set: LimitOverrides,
}

/// `GET /api/v1/tenants/{t}/limits`
pub(super) async fn limits(at: Exchange<'_>, tenant: &str) -> Result<Reply, Failure> {
    let tenant = at.caller.may_see(tenant)?;
    no_query(at)?;
    let set = overrides(at, &tenant).await?;
    let limits = at.app.predictor.limits(&tenant);
    Ok(json(&LimitsAnswer { tenant: tenant.as_str(), limits: &limits, set }))
}

/// `PUT /api/v1/tenants/{t}/limits`: the body is the limits that are to be set, and all others are the host's.
pub(super) async fn set_limits(
    at: Exchange<'_>,
    tenant: &str,
    body: &mut Incoming,
) -> Result<Reply, Failure> {
    // A tenant may know that it cannot raise its own limits, and nothing about another's.
    let tenant = at.caller.may_see(tenant)?;
    at.caller.require(Scope::Admin)?;
    let set: LimitOverrides = json_body(at, body).await?;
    let text = serde_json::to_string(&set).map_err(Failure::internal)?;
    let (app, name, wanted) = (Arc::clone(at.app), tenant.clone(), set.clone());
    to_end(async move {
        app.catalog.set_tenant_limits(&name, &text).await?;
        app.predictor.set_limits(&name, &wanted);
        Ok(())
    })
    .await?;
    let limits = at.app.predictor.limits(&tenant);
    Ok(json(&LimitsAnswer { tenant: tenant.as_str(), limits: &limits, set }))
}

/// `GET /api/v1/tenants`
pub(super) async fn list(at: Exchange<'_>) -> Result<Reply, Failure> {
    #[derive(Serialize)]
    struct Tenants {
        tenants: Vec<TenantName>,
    }
    at.caller.require(Scope::Admin)?;
    no_query(at)?;
    Ok(json(&Tenants { tenants: at.app.catalog.list_tenants().await? }))
}

/// `POST /api/v1/tenants`
pub(super) async fn create(at: Exchange<'_>, body: &mut Incoming) -> Result<Reply, Failure> {
    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Tenant {
        name: TenantName,
    }
    at.caller.require(Scope::Admin)?;
    let tenant: Tenant = json_body(at, body).await?;
    let (app, name) = (Arc::clone(at.app), tenant.name.clone());
    to_end(async move {
        app.catalog.create_tenant(&name).await?;
        app.gate.refresh(&app.catalog).await
    })
    .await?;
    Ok(json_as(StatusCode::CREATED, &tenant))
}

#[derive(Serialize)]
struct Key<'a> {
    id: &'a str,
    tenant: &'a str,
    label: &'a str,
    scopes: Vec<String>,
    created_ms: i64,
    expires_ms: Option<i64>,
    revoked_ms: Option<i64>,
    /// The secret, in the answer that makes the key and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
}

fn key<'a>(info: &'a KeyInfo, secret: Option<&'a str>) -> Key<'a> {
    Key {
        id: &info.id,
        tenant: info.tenant.as_str(),
        label: &info.label,
        scopes: info.scopes.iter().map(Scope::to_string).collect(),
        created_ms: info.created_ms,
        expires_ms: info.expires_ms,
        revoked_ms: info.revoked_ms,
        key: secret,
    }
}

/// `GET /api/v1/tenants/{t}/keys`
pub(super) async fn keys(at: Exchange<'_>, tenant: &str) -> Result<Reply, Failure> {
    #[derive(Serialize)]
    struct Keys<'a> {
        keys: Vec<Key<'a>>,
    }
    let tenant = at.caller.may_see(tenant)?;
    at.caller.require(Scope::Admin)?;
    no_query(at)?;
    overrides(at, &tenant).await?;
    let keys = at.app.catalog.keys().await?;
    let own = keys.iter().filter(|info| info.tenant == tenant);
    Ok(json(&Keys { keys: own.map(|info| key(info, None)).collect() }))
}

/// `POST /api/v1/tenants/{t}/keys`
pub(super) async fn create_key(
    at: Exchange<'_>,
    tenant: &str,
    body: &mut Incoming,
) -> Result<Reply, Failure> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        scopes: Vec<String>,
        #[serde(default)]
        label: String,
        #[serde(default)]
        expires_ms: Option<i64>,
    }
    let tenant = at.caller.may_see(tenant)?;
    at.caller.require(Scope::Admin)?;
    let body: Body = json_body(at, body).await?;
    let scopes: Result<Vec<Scope>, _> = body.scopes.iter().map(|scope| scope.parse()).collect();
    let scopes = scopes
        .map_err(|error: innkeeper_catalog::ScopeError| Failure::bad_request(error.to_string()))?;
    if scopes.is_empty() {
        return Err(Failure::bad_request(
            "a key needs at least one scope: predict, publish or admin",
        ));
    }
    if body.label.len() > LABEL_BYTES_MAX || body.label.chars().any(char::is_control) {
        let message =
            format!("a label has at most {LABEL_BYTES_MAX} bytes and no control characters");
        return Err(Failure::bad_request(message));
    }
    let (app, label) = (Arc::clone(at.app), body.label);
    let made = to_end(async move {
        let made = app.catalog.create_key(&tenant, &scopes, &label, body.expires_ms).await?;
        app.gate.refresh(&app.catalog).await?;
        Ok(made)
    });
    let (info, secret) = made.await?;
    Ok(json_as(StatusCode::CREATED, &key(&info, Some(&secret))))
}

/// `DELETE /api/v1/keys/{id}`
pub(super) async fn revoke_key(at: Exchange<'_>, id: &str) -> Result<Reply, Failure> {
    at.caller.require(Scope::Admin)?;
    no_query(at)?;
    let (app, id): (_, String) = (Arc::clone(at.app), segment(id)?);
    to_end(async move {
        app.catalog.revoke_key(&id).await?;
        app.gate.refresh(&app.catalog).await
    })
    .await?;
    Ok(empty(StatusCode::NO_CONTENT))
}
