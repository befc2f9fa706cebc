//! Request bodies, read within bounds of size, time and memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::EXPECT;
use hyper::{HeaderMap, StatusCode};
use innkeeper_catalog::TenantName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Failure;

/// The name of the limit on bodies, for error texts.
pub(crate) const BODY_BYTES_MAX: &str = "body_bytes_max";
/// Bodies up to this size are not counted: a connection costs as much.
const UNCOUNTED_BYTES_MAX: usize = 64 << 10;
/// What is left of a body that nobody wanted is read up to this size, so that its connection can go on.
const DRAINED_BYTES_MAX: usize = 64 << 10;
/// What one permit of the budget stands for.
const UNIT_BYTES: usize = 16 << 10;

/// A tenant may hold one part in so many of the memory for bodies, so that no tenant can take it from the others.
const TENANT_PART: usize = 4;

/// Memory for the bodies of all requests. What is full makes others wait for nothing: they are refused.
#[derive(Debug)]
pub(crate) struct Budget {
    all: Arc<Semaphore>,
    own_units: usize,
    own: Mutex<HashMap<TenantName, Arc<Semaphore>>>,
}

/// What one tenant may take of the budget.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    all: Arc<Semaphore>,
    own: Arc<Semaphore>,
}

/// Memory that was taken, given back when dropped.
#[derive(Debug)]
pub(crate) struct Room {
    all: OwnedSemaphorePermit,
    own: OwnedSemaphorePermit,
}

/// A body, and its part of the budget for as long as it is held.
#[derive(Debug)]
pub(crate) struct Held {
    /// The bytes.
    pub(crate) bytes: Bytes,
    room: Option<Room>,
    share: Share,
}

impl Budget {
    pub(crate) fn new(bytes_max: u64) -> Budget {
        let units = usize::try_from(bytes_max).unwrap_or(usize::MAX) / UNIT_BYTES;
        let units = units.min(Semaphore::MAX_PERMITS);
        let all = Arc::new(Semaphore::new(units));
        Budget { all, own_units: units / TENANT_PART, own: Mutex::default() }
    }

    /// A share for what needs no tenant, which is never more than counts for nothing.
    pub(crate) fn nobodys(&self) -> Share {
        Share { all: Arc::clone(&self.all), own: Arc::new(Semaphore::new(0)) }
    }

    /// The share of one tenant.
    pub(crate) fn of(&self, tenant: &TenantName) -> Share {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let own = match own.get(tenant) {
            Some(own) => Arc::clone(own),
            None => {
                let new = Arc::new(Semaphore::new(self.own_units));
                Arc::clone(own.entry(tenant.clone()).or_insert(new))
            }
        };
        Share { all: Arc::clone(&self.all), own }
    }
}

impl Share {
    /// Room for `bytes`, if there is any.
    pub(crate) fn take(&self, bytes: usize) -> Result<Room, Failure> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        let take = |from: &Arc<Semaphore>, text| {
            let permit = Arc::clone(from).try_acquire_many_owned(units);
            permit.map_err(|_| Failure::busy(text).closing())
        };
        Ok(Room {
            own: take(&self.own, "the tenant sends as many bytes at once as it may")?,
            all: take(&self.all, "the server holds as many request bodies as it may")?,
        })
    }
}

impl Held {
    /// A body that counts for nothing yet.
    pub(crate) fn uncounted(bytes: Bytes, share: &Share) -> Held {
        Held { bytes, room: None, share: share.clone() }
    }

    /// Makes the counted part of the budget cover `len` bytes.
    pub(crate) fn cover(&mut self, len: usize) -> Result<(), Failure> {
        let covered = self.room.as_ref().map_or(0, |room| room.all.num_permits() * UNIT_BYTES);
        if len <= UNCOUNTED_BYTES_MAX || len <= covered {
            return Ok(());
        }
        let more = self.share.take(len - covered)?;
        match &mut self.room {
            Some(room) => {
                room.all.merge(more.all);
                room.own.merge(more.own);
            }
            None => self.room = Some(more),
        }
        Ok(())
    }

    /// Other bytes in the place of these, such as the same ones inflated.
    pub(crate) fn replaced(mut self, bytes: Bytes) -> Result<Held, Failure> {
        self.cover(bytes.len())?;
        if let Some(room) = &mut self.room {
            let wanted = bytes.len().div_ceil(UNIT_BYTES);
            let spare = room.all.num_permits().saturating_sub(wanted);
            drop((room.all.split(spare), room.own.split(spare)));
        }
        self.bytes = bytes;
        Ok(self)
    }
}

/// The parts of a body as they come in.
pub(crate) struct Parts<'a> {
    incoming: &'a mut Incoming,
    idle: Duration,
}

impl<'a> Parts<'a> {
    pub(crate) fn new(incoming: &'a mut Incoming, idle_ms: u64) -> Parts<'a> {
        Parts::waiting(incoming, Duration::from_millis(idle_ms))
    }

    /// Parts that may each take so long to come.
    pub(crate) fn waiting(incoming: &'a mut Incoming, idle: Duration) -> Parts<'a> {
        Parts { incoming, idle }
    }

    /// How long the body is, if that was said.
    pub(crate) fn declared(&self) -> Option<u64> {
        self.incoming.size_hint().exact()
    }

    /// The next part.
    ///
    /// # Errors
    /// 408 when none comes for too long, 400 when the body breaks off.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let frame = tokio::time::timeout(self.idle, self.incoming.frame()).await;
            let frame = frame.map_err(|_| {
                Failure::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "slow_client",
                    format!("no part of the body came for {} ms", self.idle.as_millis()),
                )
                .closing()
            })?;
            match frame {
                None => return Ok(None),
                // Trailers say nothing here.
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Some(Err(error)) => {
                    return Err(
                        Failure::bad_request(format!("the body broke off: {error}")).closing()
                    );
                }
            }
        }
    }
}

/// Reads a body whole. One that comes in a single part is not copied.
///
/// # Errors
/// 413 over `bytes_max`, which `limit` names; as [`Parts::next`]; 503 when the budget is spent.
pub(crate) async fn read(
    mut parts: Parts<'_>,
    limit: &'static str,
    bytes_max: u64,
    share: &Share,
) -> Result<Held, Failure> {
    let declared = parts.declared();
    if declared.is_some_and(|len| len > bytes_max) {
        return Err(Failure::too_large(limit, bytes_max));
    }
    let Some(first) = parts.next().await? else {
        return Ok(Held::uncounted(Bytes::new(), share));
    };
    if declared == Some(first.len() as u64) {
        let mut held = Held::uncounted(first, share);
        held.cover(held.bytes.len())?;
        return Ok(held);
    }
    let mut held = Held::uncounted(Bytes::new(), share);
    // Room for what was promised only once some of it has come: promises cost the client nothing.
    let mut whole = BytesMut::with_capacity(first.len().saturating_mul(2));
    whole.extend_from_slice(&first);
    while let Some(part) = parts.next().await? {
        if (whole.len() + part.len()) as u64 > bytes_max {
            return Err(Failure::too_large(limit, bytes_max));
        }
        if whole.capacity() - whole.len() < part.len() {
            let rest =
                declared.map_or(usize::MAX, |len| len as usize - whole.len().min(len as usize));
            let more = whole.len().min(rest).max(part.len());
            held.cover(whole.len() + more)?;
            whole.reserve(more);
        }
        whole.extend_from_slice(&part);
    }
    held.replaced(whole.freeze())
}

/// Reads what is left of a body, and answers whether that was all. A client that waits to be asked for the body is not
/// asked.
pub(crate) async fn drain(incoming: &mut Incoming, headers: &HeaderMap, idle_ms: u64) -> bool {
    if incoming.is_end_stream() {
        return true;
    }
    let too_large = |left: &Incoming| left.size_hint().lower() > DRAINED_BYTES_MAX as u64;
    if headers.contains_key(EXPECT) || too_large(incoming) {
        return false;
    }
    let mut parts = Parts::new(incoming, idle_ms);
    let mut drained = 0;
    loop {
        match parts.next().await {
            Ok(None) => return true,
            Ok(Some(part)) if drained + part.len() <= DRAINED_BYTES_MAX => drained += part.len(),
            Ok(Some(_)) | Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_bounds_what_is_held() {
        let budget = Budget::new(4 << 20);
        let tenant = |name: &str| name.parse().unwrap();
        let full = |held: &mut Held| held.cover(700 << 10).unwrap_err().status;
        let mut first = Held::uncounted(Bytes::new(), &budget.of(&tenant("acme")));
        first.cover(700 << 10).unwrap();
        first.cover(600 << 10).unwrap();
        let mut second = Held::uncounted(Bytes::new(), &budget.of(&tenant("acme")));
        assert!(second.cover(64 << 10).is_ok(), "small ones are free");
        assert_eq!(full(&mut second), StatusCode::SERVICE_UNAVAILABLE, "over the tenant's part");

        let others = ["b", "c", "d", "e"].map(|name| budget.of(&tenant(name)));
        let mut held = others.map(|share| Held::uncounted(Bytes::new(), &share));
        held[0].cover(700 << 10).unwrap();
        held[1..3].iter_mut().for_each(|held| held.cover(1 << 20).unwrap());
        assert_eq!(full(&mut held[3]), StatusCode::SERVICE_UNAVAILABLE, "over all");
        drop(first);
        assert!(second.cover(700 << 10).is_ok());
    }
}
