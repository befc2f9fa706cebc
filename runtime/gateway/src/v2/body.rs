//! Small bodies of the protocol's extensions: one JSON object, or nothing.

use bytes::Bytes;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use super::infer::check_content_type;
use crate::app::Exchange;
use crate::body::{self, Held, Parts};
use crate::coding;
use crate::error::Failure;

/// Bytes of a body of settings.
pub(super) const SETTINGS_BYTES_MAX: u64 = 64 << 10;

/// Reads a body whole and undoes its content coding.
pub(crate) async fn read(
    at: Exchange<'_>,
    incoming: &mut Incoming,
    limit: &'static str,
    bytes_max: u64,
) -> Result<Held, Failure> {
    check_content_type(&at.parts.headers)?;
    let parts = Parts::new(incoming, at.app.config.body_idle_ms);
    let share = at.app.budget.of(&at.caller.tenant);
    let held = body::read(parts, limit, bytes_max, &share).await?;
    coding::inflate(&at.parts.headers, held, limit, bytes_max).await
}

/// A body of settings; nothing stands for an object without keys.
pub(super) async fn settings<T: DeserializeOwned + Default>(
    at: Exchange<'_>,
    incoming: &mut Incoming,
) -> Result<T, Failure> {
    let held = read(at, incoming, "settings_bytes_max", SETTINGS_BYTES_MAX).await?;
    parse(&held.bytes)
}

/// An object; nothing stands for one without keys.
pub(super) fn parse<T: DeserializeOwned + Default>(bytes: &Bytes) -> Result<T, Failure> {
    match bytes.trim_ascii_start().first() {
        None => Ok(T::default()),
        // A list would be read as the values of an object without their names.
        Some(b'{') => serde_json::from_slice(bytes)
            .map_err(|error| Failure::bad_request(format!("the body does not read: {error}"))),
        Some(_) => Err(Failure::bad_request("the body must be a JSON object")),
    }
}
