//! The management API under `/api/v1`.

mod activity;
pub(crate) mod audit;
mod datasets;
mod jobs;
mod models;
mod policy;
mod publish;
mod tenants;
mod traffic;
mod uploads;
mod usage;

use std::fmt::Display;
use std::str::FromStr;

use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use crate::app::Exchange;
use crate::body::{self, Parts};
use crate::error::Failure;
use crate::query;
use crate::reply::Reply;
use crate::route::Route;
use crate::v1;

pub(crate) use jobs::Act;
pub(crate) use traffic::differences;

/// Bytes of a JSON body here; the largest is a list of tenants to share a model with.
const JSON_BYTES_MAX: u64 = 256 << 10;

/// Answers a request for the management API.
pub(crate) async fn handle(
    at: Exchange<'_>,
    route: Route<'_>,
    body: &mut Incoming,
) -> Result<Reply, Failure> {
    match route {
        Route::ListOwn => Ok(models::list(at)),
        Route::ShowOwn { model } => models::show(at, model).await,
        Route::DeleteOwn { model } => models::delete(at, model).await,
        Route::Publish { model, version } => publish::publish(at, model, version, body).await,
        Route::Bundle { model, slot } => models::bundle(at, model, slot).await,
        Route::ShowVersion { model, version } => models::show_version(at, model, version).await,
        Route::DeleteVersion { model, version } => models::delete_version(at, model, version).await,
        Route::ShowAlias { model, alias } => models::show_alias(at, model, alias).await,
        Route::SetAlias { model, alias } => models::set_alias(at, model, alias, body).await,
        Route::DeleteAlias { model, alias } => models::delete_alias(at, model, alias).await,
        Route::AliasHistory { model, alias } => traffic::history(at, model, alias).await,
        Route::ShowRollout { model, alias } => traffic::show(at, model, alias),
        Route::SetRollout { model, alias } => traffic::set(at, model, alias, body).await,
        Route::Promote { model, alias } => traffic::promote(at, model, alias).await,
        Route::RollBack { model, alias } => traffic::roll_back(at, model, alias, body).await,
        Route::ShowPolicy { model } => policy::show(at, model).await,
        Route::SetPolicy { model } => policy::set(at, model, body).await,
        Route::ShowSharing { model } => models::show_sharing(at, model).await,
        Route::SetSharing { model } => models::set_sharing(at, model, body).await,
        Route::Logs { model } => models::logs(at, model),
        Route::BeginUpload => uploads::begin(at).await,
        Route::UploadOffset { upload } => uploads::offset(at, upload).await,
        Route::Append { upload } => uploads::append(at, upload, body).await,
        Route::FinishUpload { upload } => uploads::finish(at, upload).await,
        Route::CancelUpload { upload } => uploads::cancel(at, upload).await,
        Route::Blob { digest } => uploads::blob(at, digest).await,
        Route::Usage { tenant } => tenants::usage(at, tenant).await,
        Route::ShowLimits { tenant } => tenants::limits(at, tenant).await,
        Route::SetLimits { tenant } => tenants::set_limits(at, tenant, body).await,
        Route::Activity => activity::show(at),
        Route::UsagePeriods => usage::export(at).await,
        Route::Audit => audit::list(at).await,
        Route::Tenants => tenants::list(at).await,
        Route::CreateTenant => tenants::create(at, body).await,
        Route::Keys { tenant } => tenants::keys(at, tenant).await,
        Route::CreateKey { tenant } => tenants::create_key(at, tenant, body).await,
        Route::RevokeKey { id } => tenants::revoke_key(at, id).await,
        Route::WhoAmI => Ok(tenants::who_am_i(at)),
        Route::Datasets => datasets::list(at).await,
        Route::ShowDataset { dataset } => datasets::show(at, dataset).await,
        Route::CreateDataset { dataset } => datasets::create(at, dataset, body).await,
        Route::DeleteDataset { dataset } => datasets::delete(at, dataset).await,
        Route::Jobs => jobs::list(at).await,
        Route::SubmitJob => jobs::submit(at, body).await,
        Route::ShowJob { job } => jobs::show(at, job).await,
        Route::TellJob { job, act } => jobs::tell(at, job, act).await,
        Route::JobEvents { job } => jobs::events(at, job).await,
        // What OpenAI's paths change is audited as the same changes here.
        Route::CreateFile => v1::files::create(at, body).await,
        Route::DeleteFile { file } => v1::files::delete(at, file).await,
        Route::CreateFineTuning => v1::fine_tuning::create(at, body).await,
        Route::TellFineTuning { job, act } => v1::fine_tuning::tell(at, job, act).await,
        Route::Hyperparameters { model, slot } => jobs::hyperparameters(at, model, slot).await,
        // The others are answered before this is asked.
        _ => Err(Failure::no_route()),
    }
}

/// A segment of the path as what it names.
fn segment<T: FromStr>(text: &str) -> Result<T, Failure>
where
    T::Err: Display,
{
    let plain = query::decode(text)
        .ok_or_else(|| Failure::bad_request("the path is not percent-encoded UTF-8"))?;
    plain.parse().map_err(|error: T::Err| Failure::bad_request(error.to_string()))
}

/// The query, which is empty for most routes.
fn no_query(at: Exchange<'_>) -> Result<(), Failure> {
    query::Query::read(at.parts.uri.query(), &[]).map(drop)
}

/// A JSON body.
pub(crate) async fn json_body<T: DeserializeOwned>(
    at: Exchange<'_>,
    body: &mut Incoming,
) -> Result<T, Failure> {
    let held = json_bytes(at, body).await?;
    read_json(&held.bytes)
}

/// A JSON body that may be left out.
async fn json_body_or_default<T: DeserializeOwned + Default>(
    at: Exchange<'_>,
    body: &mut Incoming,
) -> Result<T, Failure> {
    let held = json_bytes(at, body).await?;
    if held.bytes.is_empty() { Ok(T::default()) } else { read_json(&held.bytes) }
}

async fn json_bytes(at: Exchange<'_>, body: &mut Incoming) -> Result<body::Held, Failure> {
    no_query(at)?;
    let parts = Parts::new(body, at.app.config.body_idle_ms);
    let budget = at.app.budget.of(&at.caller.tenant);
    body::read(parts, "json_bytes_max", JSON_BYTES_MAX, &budget).await
}

fn read_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    // A list would be read as the values of an object without their names.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Failure::bad_request("the body must be a JSON object"));
    }
    serde_json::from_slice(bytes)
        .map_err(|error| Failure::bad_request(format!("the body does not read: {error}")))
}
