//! TLS: certificates that can be replaced while the server runs.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

const H2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";

/// What a listener proves itself with, as PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The server's certificate, and the ones between it and its root behind it.
    pub certificates_pem: Vec<u8>,
    /// The key of the first certificate.
    pub key_pem: Vec<u8>,
    /// Whether clients have to prove themselves too, and by whose word.
    pub clients: ClientCertificates,
}

/// What is wanted of clients.
#[derive(Clone, Debug)]
pub enum ClientCertificates {
    /// Nothing.
    Ignored,
    /// A certificate of one of these authorities, where a client has one.
    Optional(Vec<u8>),
    /// A certificate of one of these authorities.
    Required(Vec<u8>),
}

/// What cannot be used for TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// There is no certificate in the certificates' file, or one that is none.
    #[error("the certificates cannot be read: {0}; wanted PEM with at least one CERTIFICATE")]
    Certificates(String),
    /// There is no key in the key's file, or one that is none.
    #[error("the key cannot be read: {0}; wanted PEM with one PRIVATE KEY that is not encrypted")]
    Key(String),
    /// The two do not belong together, or are of a kind that is not known here.
    #[error("the key and the first certificate cannot be used together: {0}")]
    Pair(String),
    /// There is no certificate in the file of the clients' authorities, or one that is none.
    #[error(
        "the clients' authorities cannot be read: {0}; wanted PEM with at least one CERTIFICATE"
    )]
    Authorities(String),
}

/// TLS for a listener. A clone is the same.
#[derive(Clone)]
pub struct Tls(Arc<ArcSwap<ServerConfig>>);

impl Tls {
    /// TLS 1.2 and 1.3 with these certificates.
    ///
    /// # Errors
    /// [`TlsError`]
    pub fn new(files: &TlsFiles) -> Result<Tls, TlsError> {
        Ok(Tls(Arc::new(ArcSwap::from_pointee(server(files)?))))
    }

    /// Takes other certificates for the connections that come. Those that are open keep what they have.
    ///
    /// # Errors
    /// [`TlsError`]; what was in force stays so.
    pub fn replace(&self, files: &TlsFiles) -> Result<(), TlsError> {
        self.0.store(Arc::new(server(files)?));
        Ok(())
    }

    /// Shakes hands, within this time. `None` where that fails, as it does for whoever speaks no TLS.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
        within: Duration,
    ) -> Option<TlsStream<TcpStream>> {
        let shaking = TlsAcceptor::from(self.0.load_full()).accept(stream);
        match tokio::time::timeout(within, shaking).await {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                tracing::debug!(%error, "no TLS came about");
                None
            }
            Err(_) => None,
        }
    }
}

/// Whether the two have agreed on HTTP/2.
pub(crate) fn chose_http2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(H2)
}

fn server(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let certificates = certificates(&files.certificates_pem).map_err(TlsError::Certificates)?;
    let key = PrivateKeyDer::from_pem_slice(&files.key_pem);
    let key = key.map_err(|error| TlsError::Key(error.to_string()))?;
    let pair = |error: tokio_rustls::rustls::Error| TlsError::Pair(error.to_string());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_client_cert_verifier(verifier(&files.clients, provider)?);
    let mut server = builder.with_single_cert(certificates, key).map_err(pair)?;
    server.alpn_protocols = vec![H2.to_vec(), HTTP_1_1.to_vec()];
    Ok(server)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err("there is none".to_owned()),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(error.to_string()),
    }
}

fn verifier(
    clients: &ClientCertificates,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let (pem, required) = match clients {
        ClientCertificates::Ignored => return Ok(WebPkiClientVerifier::no_client_auth()),
        ClientCertificates::Optional(pem) => (pem, false),
        ClientCertificates::Required(pem) => (pem, true),
    };
    let mut roots = RootCertStore::empty();
    for authority in certificates(pem).map_err(TlsError::Authorities)? {
        roots.add(authority).map_err(|error| TlsError::Authorities(error.to_string()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| TlsError::Authorities(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> (Vec<u8>, Vec<u8>) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        (made.cert.pem().into_bytes(), made.signing_key.serialize_pem().into_bytes())
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let ((certificate, key), (_, other)) = (made(), made());
        let check = |certificates_pem: &[u8], key_pem: &[u8], clients, wanted: &str| {
            let files = TlsFiles {
                certificates_pem: certificates_pem.to_vec(),
                key_pem: key_pem.to_vec(),
                clients,
            };
            let error = Tls::new(&files).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.starts_with(wanted), "wanted {wanted:?}, got {error:?}");
        };
        let ignored = || ClientCertificates::Ignored;
        check(&certificate, &key, ignored(), "");
        check(&certificate, &key, ClientCertificates::Required(certificate.clone()), "");
        check(b"", &key, ignored(), "the certificates cannot be read: there is none");
        check(&key, &key, ignored(), "the certificates cannot be read");
        check(&certificate, b"x", ignored(), "the key cannot be read");
        check(&certificate, &other, ignored(), "the key and the first certificate");
        let none = ClientCertificates::Optional(b"x".to_vec());
        check(&certificate, &key, none, "the clients' authorities cannot be read");
    }
}
