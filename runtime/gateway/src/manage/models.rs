//! Models, versions, aliases, sharing and logs, all in the caller's own namespace.

use std::collections::{BTreeMap, VecDeque};

use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use innkeeper_catalog::{
    AliasName, ModelKey, ModelRecord, Rollout, Scope, Sharing, TenantName, VersionName,
    VersionRecord,
};
use innkeeper_predict::{Batching, Deployment, Isolation, LimitOverrides};
use innkeeper_tensor::TensorSpec;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::traffic::{Brief, compatibility};
use super::{json_body, no_query, segment};
use crate::app::Exchange;
use crate::error::Failure;
use crate::query::Query;
use crate::reply::{Reply, empty, json, with_type};
use crate::route::Target;

/// Tenants that one model may be shared with by name.
const SHARED_WITH_MAX: usize = 1_000;
/// Log lines in one answer.
const LINES_MAX: usize = 1_000;

#[derive(Serialize)]
struct Model<'a> {
    name: &'a str,
    owner: &'a str,
    sharing: With,
    aliases: BTreeMap<&'a str, &'a str>,
    /// What is tried behind aliases.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    rollouts: BTreeMap<&'a str, Brief<'a>>,
    /// In the order they were published.
    versions: Vec<Version<'a>>,
    created_ms: i64,
}

#[derive(Serialize)]
struct Version<'a> {
    version: &'a str,
    digest: String,
    created_ms: i64,
    /// False when the version is kept but cannot be served; the server's log says why.
    served: bool,
}

#[derive(Serialize)]
struct Whole<'a> {
    model: &'a str,
    #[serde(flatten)]
    version: Version<'a>,
    aliases: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    facts: Option<Facts<'a>>,
    manifest: Option<Box<RawValue>>,
}

/// What is known of a version that is served.
#[derive(Serialize)]
struct Facts<'a> {
    description: &'a str,
    isolation: Isolation,
    limits: &'a LimitOverrides,
    #[serde(skip_serializing_if = "Option::is_none")]
    batching: Option<&'a Batching>,
    inputs: Vec<Spec<'a>>,
    outputs: Vec<Spec<'a>>,
}

#[derive(Serialize)]
struct Spec<'a> {
    name: &'a str,
    datatype: &'a str,
    shape: Vec<i64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    optional: bool,
}

/// Whom a model is shared with: `"nobody"`, `"all"` or a list of tenants.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum With {
    Word(Word),
    Tenants(Vec<TenantName>),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Nobody,
    All,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SharingBody {
    with: With,
}

pub(super) fn key(at: Exchange<'_>, model: &str) -> Result<ModelKey, Failure> {
    Ok(ModelKey::new(at.caller.tenant.clone(), segment(model)?))
}

pub(super) async fn record(at: Exchange<'_>, model: &str) -> Result<ModelRecord, Failure> {
    no_query(at)?;
    Ok(at.app.catalog.model(&key(at, model)?).await?)
}

/// `GET /api/v1/models`
pub(super) fn list(at: Exchange<'_>) -> Reply {
    #[derive(Serialize)]
    struct Models<'a> {
        models: Vec<Model<'a>>,
    }
    let own = &at.caller.tenant;
    let endpoints = at.app.predictor.endpoints(own, own.as_str());
    let models = endpoints.iter().map(|endpoint| Model {
        name: endpoint.key.name.as_str(),
        owner: own.as_str(),
        sharing: with(&endpoint.sharing),
        aliases: aliases(&endpoint.aliases),
        rollouts: rollouts(endpoint.rollouts.iter().map(|traffic| &traffic.rollout)),
        versions: endpoint.versions.iter().map(|deployment| served(deployment)).collect(),
        created_ms: endpoint.versions.first().map_or(0, |deployment| deployment.created_ms),
    });
    json(&Models { models: models.collect() })
}

fn served(deployment: &Deployment) -> Version<'_> {
    Version {
        version: deployment.version.as_str(),
        digest: deployment.digest.to_string(),
        created_ms: deployment.created_ms,
        served: true,
    }
}

fn aliases(aliases: &[(AliasName, VersionName)]) -> BTreeMap<&str, &str> {
    aliases.iter().map(|(alias, version)| (alias.as_str(), version.as_str())).collect()
}

fn rollouts<'a>(rollouts: impl IntoIterator<Item = &'a Rollout>) -> BTreeMap<&'a str, Brief<'a>> {
    rollouts.into_iter().map(|rollout| (rollout.alias.as_str(), Brief::new(rollout))).collect()
}

/// `GET /api/v1/models/{m}`
pub(super) async fn show(at: Exchange<'_>, model: &str) -> Result<Reply, Failure> {
    let record = record(at, model).await?;
    Ok(json(&Model {
        name: record.key.name.as_str(),
        owner: record.key.owner.as_str(),
        sharing: with(&record.sharing),
        aliases: aliases(&record.aliases),
        rollouts: rollouts(&record.rollouts),
        versions: record.versions.iter().map(|version| kept(at, version)).collect(),
        created_ms: record.created_ms,
    }))
}

fn kept<'a>(at: Exchange<'_>, record: &'a VersionRecord) -> Version<'a> {
    Version {
        version: record.version.as_str(),
        digest: record.digest.to_string(),
        created_ms: record.created_ms,
        served: deployment(at, record).is_some(),
    }
}

fn deployment(at: Exchange<'_>, record: &VersionRecord) -> Option<std::sync::Arc<Deployment>> {
    let (own, model) = (&at.caller.tenant, record.model.name.as_str());
    let endpoint = at.app.predictor.endpoint(own, own.as_str(), model).ok()?;
    endpoint.versions.iter().find(|deployment| deployment.version == record.version).cloned()
}

/// `DELETE /api/v1/models/{m}`
pub(super) async fn delete(at: Exchange<'_>, model: &str) -> Result<Reply, Failure> {
    at.caller.require(Scope::Publish)?;
    no_query(at)?;
    at.app.deployer.delete_model(&key(at, model)?).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// `GET /api/v1/models/{m}/versions/{v}`
pub(super) async fn show_version(
    at: Exchange<'_>,
    model: &str,
    version: &str,
) -> Result<Reply, Failure> {
    let model = record(at, model).await?;
    let version: VersionName = segment(version)?;
    let version = at.app.catalog.version(&model.key, &version).await?;
    let deployment = deployment(at, &version);
    let names = model.aliases.iter().filter(|(_, to)| *to == version.version);
    Ok(json(&Whole {
        model: model.key.name.as_str(),
        aliases: names.map(|(alias, _)| alias.as_str()).collect(),
        facts: deployment.as_deref().map(facts),
        manifest: RawValue::from_string(version.manifest.clone()).ok(),
        version: kept(at, &version),
    }))
}

/// `GET /api/v1/models/{m}/versions/{v or alias}/bundle`
pub(super) async fn bundle(at: Exchange<'_>, model: &str, slot: &str) -> Result<Reply, Failure> {
    at.caller.require(Scope::Publish)?;
    let model = record(at, model).await?;
    let slot: String = segment(slot)?;
    let alias = model.aliases.iter().find(|(alias, _)| alias.as_str() == slot);
    let version = match alias {
        Some((_, version)) => version.clone(),
        None => segment(&slot)?,
    };
    let version = at.app.catalog.version(&model.key, &version).await?;
    let chunks = VecDeque::from(at.app.deployer.bundle(&version).await?.chunks());
    Ok(with_type(StatusCode::OK, HeaderValue::from_static("application/x-tar"), chunks.into()))
}

fn facts(deployment: &Deployment) -> Facts<'_> {
    Facts {
        description: &deployment.description,
        isolation: deployment.isolation,
        limits: &deployment.limits,
        batching: deployment.batching(),
        inputs: deployment.signature.inputs.iter().map(spec).collect(),
        outputs: deployment.signature.outputs.iter().map(spec).collect(),
    }
}

fn spec(spec: &TensorSpec) -> Spec<'_> {
    Spec {
        name: &spec.name,
        datatype: spec.dtype.name(),
        shape: spec.wire_shape(),
        optional: spec.optional,
    }
}

/// `DELETE /api/v1/models/{m}/versions/{v}`
pub(super) async fn delete_version(
    at: Exchange<'_>,
    model: &str,
    version: &str,
) -> Result<Reply, Failure> {
    at.caller.require(Scope::Publish)?;
    no_query(at)?;
    at.app.deployer.delete_version(&key(at, model)?, &segment(version)?).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

#[derive(Serialize)]
struct Alias<'a> {
    alias: &'a str,
    version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rollout: Option<Brief<'a>>,
}

/// `GET /api/v1/models/{m}/aliases/{a}`
pub(super) async fn show_alias(
    at: Exchange<'_>,
    model: &str,
    alias: &str,
) -> Result<Reply, Failure> {
    let wanted: AliasName = segment(alias)?;
    let record = record(at, model).await?;
    let found = record.aliases.iter().find(|(alias, _)| *alias == wanted);
    let (alias, version) = found.ok_or_else(|| {
        let message = format!("model {} has no alias {wanted}", record.key);
        Failure::new(StatusCode::NOT_FOUND, "not_found", message)
    })?;
    let rollout = record.rollouts.iter().find(|rollout| rollout.alias == wanted);
    let rollout = rollout.map(Brief::new);
    Ok(json(&Alias { alias: alias.as_str(), version: version.as_str(), rollout }))
}

/// `PUT /api/v1/models/{m}/aliases/{a}`
pub(super) async fn set_alias(
    at: Exchange<'_>,
    model: &str,
    alias: &str,
    body: &mut Incoming,
) -> Result<Reply, Failure> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        version: VersionName,
        #[serde(default)]
        force: bool,
    }
    at.caller.require(Scope::Publish)?;
    let (key, alias): (ModelKey, AliasName) = (key(at, model)?, segment(alias)?);
    let Body { version, force } = json_body(at, body).await?;
    at.app.deployer.set_alias(&key, &alias, &version, compatibility(force)).await?;
    Ok(json(&Alias { alias: alias.as_str(), version: version.as_str(), rollout: None }))
}

/// `DELETE /api/v1/models/{m}/aliases/{a}`
pub(super) async fn delete_alias(
    at: Exchange<'_>,
    model: &str,
    alias: &str,
) -> Result<Reply, Failure> {
    at.caller.require(Scope::Publish)?;
    no_query(at)?;
    at.app.deployer.delete_alias(&key(at, model)?, &segment(alias)?).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

fn with(sharing: &Sharing) -> With {
    match sharing {
        Sharing::Private => With::Word(Word::Nobody),
        Sharing::All => With::Word(Word::All),
        Sharing::Tenants(tenants) => With::Tenants(tenants.clone()),
    }
}

/// `GET /api/v1/models/{m}/sharing`
pub(super) async fn show_sharing(at: Exchange<'_>, model: &str) -> Result<Reply, Failure> {
    Ok(json(&SharingBody { with: with(&record(at, model).await?.sharing) }))
}

/// `PUT /api/v1/models/{m}/sharing`
pub(super) async fn set_sharing(
    at: Exchange<'_>,
    model: &str,
    body: &mut Incoming,
) -> Result<Reply, Failure> {
    at.caller.require(Scope::Publish)?;
    let key = key(at, model)?;
    let SharingBody { with: wanted } = json_body(at, body).await?;
    let sharing = match wanted {
        With::Word(Word::Nobody) => Sharing::Private,
        With::Word(Word::All) => Sharing::All,
        With::Tenants(tenants) if tenants.len() > SHARED_WITH_MAX => {
            let message = format!("at most {SHARED_WITH_MAX} tenants; share with \"all\" instead");
            return Err(Failure::bad_request(message));
        }
        With::Tenants(tenants) if tenants.is_empty() => Sharing::Private,
        With::Tenants(tenants) => Sharing::Tenants(tenants),
    };
    at.app.deployer.set_sharing(&key, &sharing).await?;
    Ok(json(&SharingBody { with: with(&sharing) }))
}

/// `GET /api/v1/models/{m}/logs?since=&max=`
pub(super) fn logs(at: Exchange<'_>, model: &str) -> Result<Reply, Failure> {
    #[derive(Serialize)]
    struct Line<'a> {
        seq: u64,
        time_ms: u64,
        version: &'a str,
        request_id: &'a str,
        level: &'a str,
        message: &'a str,
    }
    #[derive(Serialize)]
    struct Lines<'a> {
        lines: Vec<Line<'a>>,
        /// What to ask for next, as `since`.
        next: u64,
    }
    // What a model writes may quote what its callers sent, so that a key for calling alone does not read it.
    at.caller.require(Scope::Publish)?;
    let query = Query::read(at.parts.uri.query(), &["since", "max"])?;
    let since = query.one("since")?.unwrap_or(0);
    let max = query.one("max")?.unwrap_or(LINES_MAX).min(LINES_MAX);
    let (endpoint, _) = at.endpoint(Target { owner: None, model, slot: None })?;
    let lines = at.app.predictor.logs(&endpoint.key).since(since, max);
    let next = lines.last().map_or(since, |line| line.seq);
    let lines = lines.iter().map(|line| Line {
        seq: line.seq,
        time_ms: line.time_ms,
        version: &line.version,
        request_id: &line.request_id,
        level: line.level,
        message: &line.message,
    });
    Ok(json(&Lines { lines: lines.collect(), next }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sharing_is_a_word_or_a_list() {
        let read = |text: &str| serde_json::from_str::<SharingBody>(text);
        for text in [r#"{"with":"nobody"}"#, r#"{"with":"all"}"#, r#"{"with":["t1","t2"]}"#] {
            let body = read(text).unwrap();
            assert_eq!(serde_json::to_string(&body).unwrap(), text);
        }
        for bad in
            [r#"{"with":"some"}"#, r#"{"with":["NOT A NAME"]}"#, r#"{"with":"all","x":1}"#, "{}"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
