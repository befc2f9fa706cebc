//! `GET /api/v1/usage`: what tenants used, by period, for billing.

use std::fmt::Write as _;

use hyper::StatusCode;
use hyper::header::HeaderValue;
use innkeeper_catalog::{Scope, TenantName, UsageBy, UsagePeriod, utc, utc_ms};
use serde::Serialize;

use crate::app::Exchange;
use crate::error::Failure;
use crate::query::Query;
use crate::reply::{Reply, json, with_type};

const CSV: HeaderValue = HeaderValue::from_static("text/csv; charset=utf-8");

#[derive(Serialize)]
struct Period<'a> {
    tenant: &'a TenantName,
    from: String,
    requests: u64,
    failures: u64,
    compute_us: u64,
    device_us: u64,
    bytes_in: u64,
    bytes_out: u64,
}

impl Period<'_> {
    fn new(period: &UsagePeriod) -> Period<'_> {
        let UsagePeriod { tenant, from_ms, used } = period;
        Period {
            tenant,
            from: utc(*from_ms),
            requests: used.requests,
            failures: used.failures,
            compute_us: used.compute_us,
            device_us: used.device_us,
            bytes_in: used.bytes_in,
            bytes_out: used.bytes_out,
        }
    }
}

/// `?from=&to=&by=hour|day|all&tenant=&format=json|csv`. A tenant reads its own, an administrator all.
pub(super) async fn export(at: Exchange<'_>) -> Result<Reply, Failure> {
    #[derive(Serialize)]
    struct Periods<'a> {
        usage: Vec<Period<'a>>,
    }
    let query = Query::read(at.parts.uri.query(), &["from", "to", "by", "tenant", "format"])?;
    let tenant = match query.one::<String>("tenant")? {
        Some(tenant) => Some(at.caller.may_see(&tenant)?),
        None if at.caller.scopes.contains(&Scope::Admin) => None,
        None => Some(at.caller.tenant.clone()),
    };
    let from_ms = time(&query, "from")?.unwrap_or(0);
    let to_ms = time(&query, "to")?.unwrap_or(i64::MAX);
    let by = match query.one::<String>("by")?.as_deref() {
        None | Some("hour") => UsageBy::Hour,
        Some("day") => UsageBy::Day,
        Some("all") => UsageBy::All,
        Some(_) => return Err(Failure::bad_request("by: wanted hour, day or all")),
    };
    let as_csv = match query.one::<String>("format")?.as_deref() {
        None | Some("json") => false,
        Some("csv") => true,
        Some(_) => return Err(Failure::bad_request("format: wanted json or csv")),
    };
    let periods = at.app.catalog.usage_periods(tenant.as_ref(), from_ms, to_ms, by).await?;
    let usage: Vec<Period<'_>> = periods.iter().map(Period::new).collect();
    if as_csv {
        return Ok(with_type(StatusCode::OK, CSV, csv(&usage).into_bytes().into()));
    }
    Ok(json(&Periods { usage }))
}

/// A date or a time in UTC, on the hour: usage is not kept finer than that.
fn time(query: &Query<'_>, key: &str) -> Result<Option<i64>, Failure> {
    let Some(text) = query.one::<String>(key)? else { return Ok(None) };
    let on_the_hour = utc_ms(&text).filter(|ms| ms % 3_600_000 == 0);
    on_the_hour.map(Some).ok_or_else(|| {
        let message =
            format!("{key}: wanted a date or an hour in UTC, 2026-11-25 or 2026-11-25T17:00:00Z");
        Failure::bad_request(message)
    })
}

/// None of these values can hold a comma or a quote: names of tenants, times and numbers.
fn csv(usage: &[Period<'_>]) -> String {
    let mut text =
        "tenant,from,requests,failures,compute_us,device_us,bytes_in,bytes_out\r\n".to_owned();
    for Period { tenant, from, requests, failures, compute_us, device_us, bytes_in, bytes_out } in
        usage
    {
        let _ = write!(
            text,
            "{tenant},{from},{requests},{failures},{compute_us},{device_us},{bytes_in},{bytes_out}\r\n"
        );
    }
    text
}
