//! The files of TLS: read at the start, and again whenever one changes.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use innkeeper_gateway::{ClientCertificates, Tls, TlsFiles};
use serde::{Deserialize, Serialize};

use super::TlsSettings;
use crate::failure::Failure;

/// Whether clients have to have a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clients {
    /// Whoever has none may come in, and needs a key as ever.
    Optional,
    /// Whoever has none is refused before HTTP.
    Required,
}

/// TLS as it is set, or none.
///
/// # Errors
/// A file that cannot be read or used.
pub(super) fn open(settings: &TlsSettings) -> Result<Option<Tls>> {
    if settings.certificates.is_empty() && settings.key.is_empty() {
        return Ok(None);
    }
    let doing = || {
        format!(
            "cannot serve TLS with tls.certificates {} and tls.key {}",
            settings.certificates, settings.key
        )
    };
    let tls = Tls::new(&read(settings)?)
        .map_err(|error| Failure::usage(format!("{}: {error}", doing())))?;
    Ok(Some(tls))
}

/// Takes changed files into use. Never ends by itself.
pub(super) async fn renew(settings: TlsSettings, tls: Tls) {
    let mut seen = look(&settings);
    loop {
        tokio::time::sleep(Duration::from_millis(settings.look_every_ms)).await;
        let now = look(&settings);
        if now == seen {
            continue;
        }
        let replaced = read(&settings).and_then(|files| Ok(tls.replace(&files)?));
        match replaced {
            Ok(()) => tracing::info!("the files of TLS have changed and are in force"),
            // Mostly one of two files is there already and the other not yet.
            Err(error) => {
                tracing::warn!(
                    "the files of TLS have changed and cannot be used; the old stay in force: {error:#}"
                );
            }
        }
        seen = now;
    }
}

fn read(settings: &TlsSettings) -> Result<TlsFiles> {
    let file = |key: &str, path: &str| {
        std::fs::read(path).with_context(|| format!("cannot read {key}, which is {path:?}"))
    };
    let clients = match (settings.client_authorities.as_str(), settings.clients) {
        ("", _) => ClientCertificates::Ignored,
        (path, clients) => {
            let pem = file("tls.client_authorities", path)?;
            match clients {
                Clients::Optional => ClientCertificates::Optional(pem),
                Clients::Required => ClientCertificates::Required(pem),
            }
        }
    };
    Ok(TlsFiles {
        certificates_pem: file("tls.certificates", &settings.certificates)?,
        key_pem: file("tls.key", &settings.key)?,
        clients,
    })
}

/// What shows that a file is another than before.
type Look = Option<(u64, i64, i64, u64)>;

fn look(settings: &TlsSettings) -> [Look; 3] {
    let state = |file: Metadata| (file.ino(), file.mtime(), file.mtime_nsec(), file.len());
    [&settings.certificates, &settings.key, &settings.client_authorities]
        .map(|path| std::fs::metadata(Path::new(path)).ok().map(state))
}
