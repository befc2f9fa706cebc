//! TLS: certificates that change, clients that have to prove themselves, and what is refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use crate::clients::python;
use crate::harness::{Server, eventually, guest, root};
use crate::http2::curl;
use crate::wire::{Next, Wire};

const SOON: Duration = Duration::from_secs(10);

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "an authority of these tests");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate of the authority's for this machine or for a client, and its key, as PEM.
fn certificate(authority: &Authority) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = CertificateParams::new(names).unwrap().signed_by(&key, authority).unwrap();
    (made.pem(), key.serialize_pem())
}

/// A folder with a server's files and its configuration.
struct Files {
    folder: TempDir,
}

impl Files {
    fn new(authority: &Authority, more: &str) -> Files {
        let files = Files { folder: tempfile::tempdir().unwrap() };
        files.replace(authority);
        let [certificates, key] = ["server.pem", "key.pem"].map(|name| files.path(name));
        let text = format!(
            "[tls]\ncertificates = {certificates:?}\nkey = {key:?}\nlook_every_ms = 50\n{more}"
        );
        fs::write(files.path("innkeeper.toml"), text).unwrap();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Gives the server a new certificate of this authority's.
    fn replace(&self, authority: &Authority) {
        let (certificate, key) = certificate(authority);
        for (name, text) in [("server.pem", certificate), ("key.pem", key)] {
            fs::write(self.path("new"), text).unwrap();
            fs::rename(self.path("new"), self.path(name)).unwrap();
        }
    }

    fn server(&self) -> Server {
        let config = self.path("innkeeper.toml");
        Server::on(&self.path("data"), &["--config", config.to_str().unwrap()])
    }
}

/// A client that trusts this authority alone, with a certificate of its own or without. It keeps its connection.
fn agent(trusted: &Authority, own: Option<&(String, String)>) -> ureq::Agent {
    let own = own.map(|(certificate, key)| {
        let key = PrivateKey::from_pem(key.as_bytes()).unwrap();
        ClientCert::new_with_certs(&[Certificate::from_pem(certificate.as_bytes()).unwrap()], key)
    });
    let roots = [Certificate::from_pem(trusted.pem().as_bytes()).unwrap()];
    let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&roots)).client_cert(own);
    ureq::Agent::config_builder().tls_config(tls.build()).build().new_agent()
}

/// The status of liveness, or nothing where no connection comes about.
fn live(agent: &ureq::Agent, server: &Server) -> Option<u16> {
    let mut answer = agent.get(format!("{}/v2/health/live", server.url)).call().ok()?;
    answer.body_mut().read_to_string().ok()?;
    Some(answer.status().as_u16())
}

#[test]
fn a_changed_certificate_is_taken_into_use() {
    let (old, new) = (authority(), authority());
    let files = Files::new(&old, "");
    let server = files.server();
    assert!(server.url.starts_with("https://"), "{}", server.url);
    let connected = agent(&old, None);
    assert_eq!(live(&connected, &server), Some(200));
    assert_eq!(live(&agent(&new, None), &server), None);
    files.replace(&new);
    eventually("the new certificate is in force", || {
        live(&agent(&new, None), &server) == Some(200)
    });
    assert_eq!(live(&agent(&old, None), &server), None);
    assert_eq!(live(&connected, &server), Some(200), "what is open keeps what it has");
    // What cannot be used changes nothing.
    fs::write(files.path("key.pem"), "no key").unwrap();
    eventually("it is told", || server.log().contains("the key cannot be read"));
    assert_eq!(live(&agent(&new, None), &server), Some(200));
}

#[test]
fn clients_prove_themselves_where_they_must() {
    let (ours, others) = (authority(), authority());
    let (good, bad) = (certificate(&ours), certificate(&others));
    for (clients, without) in [("required", None), ("optional", Some(200))] {
        let files = Files::new(&ours, "");
        let (config, authorities) = (files.path("innkeeper.toml"), files.path("clients.pem"));
        fs::write(&authorities, ours.pem()).unwrap();
        let text = fs::read_to_string(&config).unwrap();
        let more = format!("client_authorities = {authorities:?}\nclients = {clients:?}\n");
        fs::write(&config, text + &more).unwrap();
        let server = files.server();
        assert_eq!(live(&agent(&ours, None), &server), without, "{clients}");
        assert_eq!(live(&agent(&ours, Some(&good)), &server), Some(200), "{clients}");
        assert_eq!(live(&agent(&ours, Some(&bad)), &server), None, "{clients}");
    }
}

#[test]
fn what_is_no_tls_of_today_is_refused() {
    let ours = authority();
    let files = Files::new(&ours, "[server]\nheader_read_ms = 500\n");
    let server = files.server();
    // A hello for TLS 1.1 at most, with its ciphers: it is answered by a fatal alert, about the version or the ciphers.
    let hello = b"\x16\x03\x01\0\x2d\x01\0\0\x29\x03\x02abcdefghijklmnopqrstuvwxyz012345\0\0\x02\0\x2f\x01\0";
    let mut wire = Wire::connect(&server.url).unwrap();
    wire.send(hello);
    let said = wire.rest(SOON);
    assert!(
        said.starts_with(&[0x15, 3]) && (said.ends_with(&[2, 70]) || said.ends_with(&[2, 40])),
        "{said:?}"
    );
    for bytes in [&b"GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n"[..], b"", b"\x16\x03\x01"] {
        let mut wire = Wire::connect(&server.url).unwrap();
        wire.send(bytes);
        assert!(wire.ends(SOON), "{bytes:?}");
        assert!(!matches!(wire.next(SOON), Next::Answer(_)), "{bytes:?}");
    }
    assert_eq!(live(&agent(&ours, None), &server), Some(200));
}

#[test]
fn both_versions_of_http_and_grpc_go_over_tls() {
    let ours = authority();
    let files = Files::new(&ours, "");
    let server = files.server();
    let trusted = files.path("trusted.pem");
    fs::write(&trusted, ours.pem()).unwrap();
    let url = format!("{}/v2/health/live", server.url);
    let trusted = trusted.to_str().unwrap();
    for (option, wanted) in [("--http2", "2"), ("--http1.1", "1.1")] {
        for tls in ["1.2", "1.3"] {
            let (version, status, body) =
                curl(&[option, "--tls-max", tls, "--cacert", trusted, &url]);
            assert_eq!((version.as_str(), status), (wanted, 200), "{body}");
        }
    }
    let acme = tenant(&server, &ours);
    let output = Command::new(python())
        .arg(root().join("tests/clients/grpc_tls.py"))
        .env("INNKEEPER_URL", &server.url)
        .env("INNKEEPER_GRPC", &server.grpc)
        .env("TRUSTED", trusted)
        .env("ACME_KEY", acme)
        .env("FRIEND_KEY", "")
        .output()
        .unwrap();
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{said:?}");
}

/// The administrator's key, with `add-one` published for its tenant.
fn tenant(server: &Server, trusted: &Authority) -> String {
    let agent = agent(trusted, None);
    let path = format!("{}/api/v1/models/add-one/versions/1", server.url);
    let key = format!("Bearer {}", server.admin_key);
    let request = agent.post(path).header("authorization", key);
    let request = request.header("content-type", "application/x-tar");
    let answer = request.send(&guest("plugins/add-one").bundle[..]).unwrap();
    assert_eq!(answer.status().as_u16(), 201);
    server.admin_key.clone()
}

#[test]
fn files_that_cannot_be_used_stop_the_start() {
    let files = Files::new(&authority(), "");
    let start = |files: &Files| {
        let output = Command::new(env!("CARGO_BIN_EXE_innkeeper"))
            .args([
                "serve",
                "--http",
                "127.0.0.1:0",
                "--data",
                "data",
                "--config",
                "innkeeper.toml",
            ])
            .current_dir(files.folder.path())
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    fs::write(files.path("key.pem"), certificate(&authority()).1).unwrap();
    let said = start(&files);
    assert!(said.contains("key.pem") && said.contains("cannot be used together"), "{said}");
    fs::remove_file(files.path("key.pem")).unwrap();
    let said = start(&files);
    assert!(said.contains("tls.key") && said.contains("key.pem"), "{said}");
    assert!(!Path::new(&files.path("data")).exists(), "nothing is made before all is right");
}
