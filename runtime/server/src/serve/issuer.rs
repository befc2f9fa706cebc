//! The keys of a token issuer: from a file, or from the issuer by HTTP.

use std::sync::Arc;
use std::time::Duration;

use innkeeper_gateway::{Fetching, JwtConfig, KeySource, TokenIssuer};

use super::JwtSettings;

/// Bytes of a key set.
const KEYS_BYTES_MAX: u64 = 1 << 20;
/// How long fetching it may take.
const FETCH_TIME: Duration = Duration::from_secs(10);

/// The issuer as it is set, or none.
pub(super) fn open(settings: &JwtSettings) -> Option<TokenIssuer> {
    if settings.issuer.is_empty() {
        return None;
    }
    let keys: Arc<dyn KeySource> = if is_address(&settings.keys) {
        Arc::new(Fetched(settings.keys.clone()))
    } else {
        Arc::new(Filed(settings.keys.clone()))
    };
    let config = JwtConfig {
        issuer: settings.issuer.clone(),
        audience: settings.audience.clone(),
        tenant_claim: settings.tenant_claim.clone(),
        scopes_claim: settings.scopes_claim.clone(),
        leeway_s: settings.leeway_s,
    };
    Some(TokenIssuer { config, keys })
}

fn is_address(keys: &str) -> bool {
    keys.starts_with("https://") || keys.starts_with("http://")
}

#[derive(Debug)]
struct Filed(String);

impl KeySource for Filed {
    fn fetch(&self) -> Fetching<'_> {
        Box::pin(async {
            let doing = |error: std::io::Error| format!("{}: {error}", self.0);
            let len = tokio::fs::metadata(&self.0).await.map_err(doing)?.len();
            if len > KEYS_BYTES_MAX {
                return Err(format!("{}: larger than {KEYS_BYTES_MAX} bytes", self.0));
            }
            tokio::fs::read(&self.0).await.map_err(doing)
        })
    }
}

#[derive(Debug)]
struct Fetched(String);

impl KeySource for Fetched {
    fn fetch(&self) -> Fetching<'_> {
        Box::pin(async {
            let address = self.0.clone();
            let fetched = tokio::task::spawn_blocking(move || fetch(&address)).await;
            fetched
                .map_err(|error| error.to_string())?
                .map_err(|error| format!("{}: {error}", self.0))
        })
    }
}

fn fetch(address: &str) -> Result<Vec<u8>, ureq::Error> {
    let agent = ureq::Agent::config_builder().timeout_global(Some(FETCH_TIME)).build().new_agent();
    let mut response = agent.get(address).call()?;
    response.body_mut().with_config().limit(KEYS_BYTES_MAX).read_to_vec()
}
