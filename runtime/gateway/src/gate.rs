//! The one gate: who a caller is, and what its key allows.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue, ORIGIN};
use hyper::{HeaderMap, StatusCode, Uri};
use innkeeper_catalog::{Catalog, CatalogError, KeyInfo, Scope, TenantName, key_id};

use crate::error::Failure;
use crate::jwt::{TokenIssuer, Tokens};

/// What every key begins with.
const KEY_PREFIX: &str = "ink_";

/// Everybody who may come in.
pub(crate) struct Gate {
    keys: ArcSwap<HashMap<String, (KeyInfo, Arc<Caller>)>>,
    /// Whoever has a key or a token of a tenant that is not here has one of a tenant that is gone.
    tenants: ArcSwap<HashSet<TenantName>>,
    developer: Option<Arc<Caller>>,
    tokens: Option<Tokens>,
    /// Held while keys are read and put in force, so that an older list never takes the place of a newer.
    refreshing: tokio::sync::Mutex<()>,
}

/// Whoever has come in.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Whose key it is.
    pub(crate) tenant: TenantName,
    /// What the key allows.
    pub(crate) scopes: Vec<Scope>,
    /// Which key it is; none in development.
    pub(crate) key_id: Option<String>,
}

impl Caller {
    /// # Errors
    /// 403 when the key does not allow it.
    pub(crate) fn require(&self, scope: Scope) -> Result<(), Failure> {
        if self.scopes.contains(&scope) { Ok(()) } else { Err(Failure::missing_scope(scope)) }
    }

    /// The tenant, for whoever asks about its own things or runs the host.
    ///
    /// # Errors
    /// 404 for another tenant, whether there is one of that name or not.
    pub(crate) fn may_see(&self, tenant: &str) -> Result<TenantName, Failure> {
        if tenant == self.tenant.as_str() {
            return Ok(self.tenant.clone());
        }
        if self.scopes.contains(&Scope::Admin) {
            return tenant.parse().map_err(|_| Failure::no_tenant());
        }
        Err(Failure::no_tenant())
    }
}

impl Gate {
    pub(crate) fn new(dev_tenant: Option<TenantName>, issuer: Option<TokenIssuer>) -> Gate {
        let scopes = vec![Scope::Predict, Scope::Publish, Scope::Admin];
        let developer = dev_tenant.map(|tenant| Arc::new(Caller { tenant, scopes, key_id: None }));
        Gate {
            keys: ArcSwap::default(),
            tenants: ArcSwap::default(),
            developer,
            tokens: issuer.map(Tokens::new),
            refreshing: tokio::sync::Mutex::default(),
        }
    }

    /// Takes every tenant and key from the catalog. To be called whenever one was made or revoked.
    pub(crate) async fn refresh(&self, catalog: &Catalog) -> Result<(), CatalogError> {
        let _one_at_a_time = self.refreshing.lock().await;
        let tenants = catalog.list_tenants().await?;
        self.tenants.store(Arc::new(tenants.into_iter().collect()));
        let keys = catalog.keys().await?.into_iter().map(|key| {
            let (tenant, scopes) = (key.tenant.clone(), key.scopes.clone());
            let caller = Arc::new(Caller { tenant, scopes, key_id: Some(key.id.clone()) });
            (key.id.clone(), (key, caller))
        });
        self.keys.store(Arc::new(keys.collect()));
        Ok(())
    }

    /// Lets the caller in.
    ///
    /// # Errors
    /// 401 without a valid key or token; the text does not say what is wrong with it. 403 for another site's page in a browser,
    /// where no keys are asked for.
    pub(crate) async fn admit(
        &self,
        headers: &HeaderMap,
        uri: &Uri,
    ) -> Result<Arc<Caller>, Failure> {
        if let Some(developer) = &self.developer {
            check_local(headers, uri)?;
            return Ok(Arc::clone(developer));
        }
        let secret = headers.get(AUTHORIZATION).and_then(bearer).ok_or_else(|| {
            Failure::unauthorized("send a key: \"Authorization: Bearer ink_...\"")
        })?;
        match &self.tokens {
            Some(tokens) if !secret.starts_with(KEY_PREFIX) => self.check(tokens, secret).await,
            _ => self
                .find(secret, now_ms())
                .ok_or_else(|| Failure::unauthorized("this key is not valid")),
        }
    }

    async fn check(&self, tokens: &Tokens, token: &str) -> Result<Arc<Caller>, Failure> {
        let caller = tokens.caller(token).await.map_err(|why| {
            tracing::debug!(%why, "a token is refused");
            Failure::unauthorized("this token is not valid")
        })?;
        if self.tenants.load().contains(&caller.tenant) {
            return Ok(Arc::new(caller));
        }
        tracing::debug!(tenant = %caller.tenant, "a token is for a tenant that is not here");
        Err(Failure::unauthorized("this token is not valid"))
    }

    fn find(&self, secret: &str, now_ms: i64) -> Option<Arc<Caller>> {
        let keys = self.keys.load();
        // The id is no secret; the comparison that matters takes the same time however nearly the rest is right.
        let (key, caller) = keys.get(key_id(secret)?)?;
        (key.matches(secret) && key.is_live(now_ms)).then(|| Arc::clone(caller))
    }
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, secret) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// A page of another site must not reach a server without keys, neither directly nor by a name that it lets point at
/// this machine: what a browser sends for it carries that site's name.
fn check_local(headers: &HeaderMap, uri: &Uri) -> Result<(), Failure> {
    let host = headers.get(HOST).map(|host| host.to_str().is_ok_and(is_local));
    // HTTP/2 has the host there.
    let authority = uri.authority().map(|authority| is_local(authority.as_str()));
    let origin = headers.get(ORIGIN).map(|origin| {
        let origin = origin.to_str().unwrap_or("");
        origin.split_once("://").is_some_and(|(_, host)| is_local(host))
    });
    if host.unwrap_or(true) && authority.unwrap_or(true) && origin.unwrap_or(true) {
        return Ok(());
    }
    Err(Failure::new(
        StatusCode::FORBIDDEN,
        "foreign_host",
        "a server in development mode answers only to localhost, 127.0.0.1 and [::1]",
    ))
}

fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.eq_ignore_ascii_case("localhost") || name == "127.0.0.1" || name == "[::1]"
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// Who is admitted, which takes no time where no token is checked.
    fn now<T>(admitted: impl Future<Output = T>) -> T {
        admitted.now_or_never().unwrap()
    }

    #[test]
    fn only_this_machine_by_its_own_names() {
        for host in
            ["localhost", "localhost:8000", "127.0.0.1:1", "[::1]", "[::1]:8000", "LocalHost"]
        {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.nip.io:8000",
            "127.0.0.2",
            "[::1].x",
            "localhost:x",
            "null",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }

    #[test]
    fn another_sites_page_is_refused_in_development() {
        let gate = Gate::new(Some("dev".parse().unwrap()), None);
        let admit = |pairs: &[(hyper::header::HeaderName, &'static str)]| {
            let pairs = pairs.iter().map(|(k, v)| (k.clone(), HeaderValue::from_static(v)));
            now(gate.admit(&pairs.collect(), &Uri::from_static("/v2")))
                .map(|caller| caller.tenant.to_string())
                .map_err(|f| f.status.as_u16())
        };
        assert_eq!(admit(&[]), Ok("dev".into()));
        assert_eq!(admit(&[(HOST, "localhost:8000")]), Ok("dev".into()));
        assert_eq!(
            admit(&[(HOST, "localhost"), (ORIGIN, "http://localhost:3000")]),
            Ok("dev".into())
        );
        assert_eq!(admit(&[(HOST, "evil.example")]), Err(403));
        assert_eq!(admit(&[(HOST, "localhost"), (ORIGIN, "https://evil.example")]), Err(403));
        assert_eq!(admit(&[(HOST, "localhost"), (ORIGIN, "null")]), Err(403));
        let over_http2 = |uri| now(gate.admit(&HeaderMap::new(), &Uri::from_static(uri))).is_ok();
        assert!(over_http2("https://localhost:8000/v2"));
        assert!(!over_http2("https://evil.example/v2"));
    }

    #[test]
    fn without_a_key_nobody_comes_in() {
        let gate = Gate::new(None, None);
        for value in
            [None, Some("Bearer"), Some("Bearer ink_00000000_x"), Some("Basic eDp5"), Some("ink_1")]
        {
            let headers = value.map(|value| (AUTHORIZATION, HeaderValue::from_static(value)));
            let headers = headers.into_iter().collect();
            let failure = now(gate.admit(&headers, &Uri::from_static("/v2"))).unwrap_err();
            assert_eq!(failure.status, StatusCode::UNAUTHORIZED, "{value:?}");
        }
    }

    #[test]
    fn tenants_see_themselves_and_administrators_all() {
        let caller = |scopes: &[Scope]| Caller {
            tenant: "acme".parse().unwrap(),
            scopes: scopes.to_vec(),
            key_id: None,
        };
        let status = |caller: &Caller, tenant: &str| {
            caller.may_see(tenant).map_err(|f| f.status.as_u16()).is_ok()
        };
        assert!(status(&caller(&[]), "acme"));
        assert!(!status(&caller(&[Scope::Publish]), "other"));
        assert!(status(&caller(&[Scope::Admin]), "other"));
        assert!(!status(&caller(&[Scope::Admin]), "NOT A NAME"));
        assert!(caller(&[Scope::Publish]).require(Scope::Predict).is_err());
    }
}
