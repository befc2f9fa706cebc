//! Rollouts: a version that is tried behind an alias, how both sides do, and what the alias stood for.

use hyper::body::Incoming;
use hyper::header::HeaderName;
use innkeeper_catalog::{AliasChange, AliasName, ModelKey, Scope, Share, VersionName};
use innkeeper_deploy::{Breaks, Compatibility, Difference, RolloutRequest};
use innkeeper_predict::{Bounds, ShadowReport, SideReport, Traffic};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json as value};

use super::models::key;
use super::{json_body, json_body_or_default, no_query, segment};
use crate::app::Exchange;
use crate::error::Failure;
use crate::query::Query;
use crate::reply::{Reply, json};
use crate::route::Target;

/// Changes in one answer.
const CHANGES_MAX: u32 = 1_000;
/// Bytes of a reason.
const WHY_BYTES_MAX: usize = 1_000;

/// What would break callers, for programs.
pub(crate) fn differences(breaks: &Breaks) -> Value {
    let Breaks { model, alias, from, to, differences } = breaks;
    let differences = differences.iter().map(|difference| {
        let Difference { kind, name, problem, was, is } = difference;
        value!({"kind": kind, "name": name, "problem": problem, "was": was, "is": is})
    });
    value!({
        "model": model.name,
        "alias": alias,
        "from": from,
        "to": to,
        "differences": differences.collect::<Value>(),
    })
}

/// What is told of an alias's rollout where the alias is.
#[derive(Serialize)]
pub(super) struct Brief<'a> {
    candidate: &'a str,
    canary_percent: f64,
    shadow_percent: f64,
}

impl<'a> Brief<'a> {
    pub(super) fn new(rollout: &'a innkeeper_catalog::Rollout) -> Brief<'a> {
        Brief {
            candidate: rollout.candidate.as_str(),
            canary_percent: percent(rollout.canary),
            shadow_percent: percent(rollout.shadow),
        }
    }
}

fn percent(share: Share) -> f64 {
    f64::from(share.ten_thousandths()) / 100.0
}

/// A percentage with at most two decimals.
fn share(name: &str, percent: f64) -> Result<Share, Failure> {
    let parts = percent * 100.0;
    let whole = (0.0..=10_000.0).contains(&parts) && (parts - parts.round()).abs() < 1e-6;
    let share = if whole { Share::of_ten_thousand(parts.round() as u16) } else { None };
    share.ok_or_else(|| {
        let message = format!("{name} is {percent}; wanted 0 to 100 with at most two decimals");
        Failure::bad_request(message)
    })
}

#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    alias: &'a str,
    /// What the alias stands for.
    current: &'a str,
    #[serde(flatten)]
    brief: Brief<'a>,
    sticky: &'a str,
    created_ms: i64,
    bounds: &'a Bounds,
    sides: Sides,
    /// What came of the requests that the candidate was shown.
    shadow: ShadowReport,
}

#[derive(Serialize)]
struct Sides {
    current: SideReport,
    candidate: SideReport,
}

/// `GET /api/v1/models/{m}/aliases/{a}/rollout`
pub(super) fn show(at: Exchange<'_>, model: &str, alias: &str) -> Result<Reply, Failure> {
    no_query(at)?;
    let alias: AliasName = segment(alias)?;
    let (endpoint, _) = at.endpoint(Target { owner: None, model, slot: None })?;
    let current = endpoint.aliases.iter().find(|(name, _)| *name == alias);
    let (Some(traffic), Some((_, current))) = (endpoint.rollout(&alias), current) else {
        let message = format!("no version is tried behind the alias {alias} of {}", endpoint.key);
        return Err(Failure::new(hyper::StatusCode::NOT_FOUND, "no_rollout", message));
    };
    Ok(report(&endpoint.key, current, traffic))
}

fn report(key: &ModelKey, current: &VersionName, traffic: &Traffic) -> Reply {
    let rollout = &traffic.rollout;
    let [side, candidate] = traffic.report();
    json(&Report {
        model: key.name.as_str(),
        alias: rollout.alias.as_str(),
        current: current.as_str(),
        brief: Brief::new(rollout),
        sticky: &rollout.sticky,
        created_ms: rollout.created_ms,
        bounds: &traffic.bounds,
        sides: Sides { current: side, candidate },
        shadow: traffic.shadow_report(),
    })
}

/// `PUT /api/v1/models/{m}/aliases/{a}/rollout`: the whole of it; what is left out has its default.
pub(super) async fn set(
    at: Exchange<'_>,
    model: &str,
    alias: &str,
    body: &mut Incoming,
) -> Result<Reply, Failure> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        candidate: VersionName,
        #[serde(default)]
        canary_percent: f64,
        #[serde(default)]
        shadow_percent: f64,
        #[serde(default)]
        sticky: Option<String>,
        #[serde(default)]
        bounds: Bounds,
        #[serde(default)]
        force: bool,
    }
    at.caller.require(Scope::Publish)?;
    let (key, name): (ModelKey, AliasName) = (key(at, model)?, segment(alias)?);
    let body: Body = json_body(at, body).await?;
    body.bounds.check().map_err(|problem| Failure::bad_request(format!("bounds: {problem}")))?;
    let request = RolloutRequest {
        alias: name,
        candidate: body.candidate,
        canary: share("canary_percent", body.canary_percent)?,
        shadow: share("shadow_percent", body.shadow_percent)?,
        sticky: sticky(body.sticky.as_deref().unwrap_or(Traffic::STICKY))?,
        bounds: body.bounds,
        compatibility: compatibility(body.force),
    };
    at.app.deployer.roll_out(&key, request).await?;
    show(at, model, alias)
}

pub(super) fn compatibility(force: bool) -> Compatibility {
    if force { Compatibility::Forced } else { Compatibility::Required }
}

fn sticky(header: &str) -> Result<String, Failure> {
    let name = HeaderName::from_bytes(header.as_bytes());
    let name = name.map_err(|_| Failure::bad_request("sticky is not the name of a header"))?;
    Ok(name.as_str().to_owned())
}

#[derive(Serialize)]
struct Stands<'a> {
    alias: &'a str,
    version: &'a str,
}

/// `POST /api/v1/models/{m}/aliases/{a}/promote`
pub(super) async fn promote(at: Exchange<'_>, model: &str, alias: &str) -> Result<Reply, Failure> {
    at.caller.require(Scope::Publish)?;
    no_query(at)?;
    let alias: AliasName = segment(alias)?;
    let version = at.app.deployer.promote(&key(at, model)?, &alias).await?;
    Ok(json(&Stands { alias: alias.as_str(), version: version.as_str() }))
}

/// `POST /api/v1/models/{m}/aliases/{a}/rollback`
pub(super) async fn roll_back(
    at: Exchange<'_>,
    model: &str,
    alias: &str,
    body: &mut Incoming,
) -> Result<Reply, Failure> {
    #[derive(Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Body {
        why: String,
    }
    at.caller.require(Scope::Publish)?;
    let (key, alias): (ModelKey, AliasName) = (key(at, model)?, segment(alias)?);
    let Body { why } = json_body_or_default(at, body).await?;
    if why.len() > WHY_BYTES_MAX || why.chars().any(char::is_control) {
        let message = format!("why has at most {WHY_BYTES_MAX} bytes and no control characters");
        return Err(Failure::bad_request(message));
    }
    let version = at.app.deployer.roll_back(&key, &alias, &why).await?;
    Ok(json(&Stands { alias: alias.as_str(), version: version.as_str() }))
}

/// `GET /api/v1/models/{m}/aliases/{a}/history?max=`
pub(super) async fn history(at: Exchange<'_>, model: &str, alias: &str) -> Result<Reply, Failure> {
    #[derive(Serialize)]
    struct Change {
        act: &'static str,
        version: Option<VersionName>,
        before: Option<VersionName>,
        #[serde(skip_serializing_if = "Option::is_none")]
        candidate: Option<VersionName>,
        #[serde(skip_serializing_if = "String::is_empty")]
        why: String,
        created_ms: i64,
    }
    #[derive(Serialize)]
    struct Changes {
        /// The newest first.
        changes: Vec<Change>,
    }
    let query = Query::read(at.parts.uri.query(), &["max"])?;
    let max = query.one("max")?.unwrap_or(CHANGES_MAX).min(CHANGES_MAX);
    let changes = at.app.catalog.alias_changes(&key(at, model)?, &segment(alias)?, max).await?;
    let changes = changes.into_iter().map(|change| {
        let AliasChange { act, version, before, candidate, why, created_ms, .. } = change;
        Change { act: act.as_str(), version, before, candidate, why, created_ms }
    });
    Ok(json(&Changes { changes: changes.collect() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_have_two_decimals() {
        for (percent, wanted) in
            [(0.0, 0), (0.01, 1), (10.0, 1_000), (33.33, 3_333), (100.0, 10_000)]
        {
            assert_eq!(share("x", percent).unwrap().ten_thousandths(), wanted);
        }
        for bad in [-0.01, 100.01, 0.001, f64::NAN, f64::INFINITY] {
            assert!(share("x", bad).is_err(), "{bad}");
        }
    }
}
