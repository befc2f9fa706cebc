//! Which versions of a model are served and kept.

use hyper::body::Incoming;
use innkeeper_catalog::{Policy, Scope, Serve, VersionName};
use serde::{Deserialize, Serialize};

use super::json_body;
use super::models::{key, record};
use crate::app::Exchange;
use crate::error::Failure;
use crate::reply::{Reply, json};

/// `{"serve": "all" | {"latest": N} | {"versions": [...]}, "keep": N | null}`
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(default)]
    serve: Served,
    #[serde(default)]
    keep: Option<u32>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Served {
    #[default]
    All,
    Latest(u32),
    Versions(Vec<VersionName>),
}

impl From<&Policy> for Body {
    fn from(policy: &Policy) -> Body {
        let serve = match &policy.serve {
            Serve::All => Served::All,
            Serve::Latest(count) => Served::Latest(*count),
            Serve::Listed(versions) => Served::Versions(versions.clone()),
        };
        Body { serve, keep: policy.keep }
    }
}

/// `GET /api/v1/models/{m}/policy`
pub(super) async fn show(at: Exchange<'_>, model: &str) -> Result<Reply, Failure> {
    Ok(json(&Body::from(&record(at, model).await?.policy)))
}

/// `PUT /api/v1/models/{m}/policy`: the whole of it; what is left out is `all`.
pub(super) async fn set(
    at: Exchange<'_>,
    model: &str,
    body: &mut Incoming,
) -> Result<Reply, Failure> {
    #[derive(Serialize)]
    struct Set {
        #[serde(flatten)]
        policy: Body,
        /// Versions that were not kept.
        removed: u64,
    }
    at.caller.require(Scope::Publish)?;
    let key = key(at, model)?;
    let Body { serve, keep } = json_body(at, body).await?;
    let serve = match serve {
        Served::All => Serve::All,
        Served::Latest(0) => return Err(Failure::bad_request("latest is 0; wanted at least 1")),
        Served::Latest(count) => Serve::Latest(count),
        Served::Versions(versions) => Serve::Listed(versions),
    };
    if keep == Some(0) {
        return Err(Failure::bad_request("keep is 0; wanted at least 1, or null for all"));
    }
    let policy = Policy { serve, keep };
    let removed = at.app.deployer.set_policy(&key, &policy).await?;
    Ok(json(&Set { policy: Body::from(&policy), removed }))
}
