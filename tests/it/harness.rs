//! A real server in a process of its own, its guests built from source, and a client.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use innkeeper::guest::{self, BuildOptions};
use innkeeper_deploy::bundle::{self, PluginToml};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A plugin or guest, built once per test run.
pub struct Guest {
    /// The component.
    pub component: Vec<u8>,
    /// The bundle.
    pub bundle: Vec<u8>,
}

/// The guest in this folder of the repository, such as `plugins/digits`.
pub fn guest(folder: &str) -> Arc<Guest> {
    type Built = HashMap<String, Arc<Guest>>;
    static BUILT: OnceLock<Mutex<Built>> = OnceLock::new();
    // One build at a time: they share a target folder.
    let mut built = BUILT.get_or_init(Mutex::default).lock().unwrap();
    let guest = built.entry(folder.to_owned()).or_insert_with(|| Arc::new(build(folder)));
    Arc::clone(guest)
}

fn build(folder: &str) -> Guest {
    let dir = root().join(folder);
    let target =
        BuildOptions::from_env().target_dir.unwrap_or_else(|| root().join("target/guests"));
    let options = BuildOptions { target_dir: Some(target), ..BuildOptions::default() };
    let built = guest::build(&dir, &options).unwrap_or_else(|error| panic!("{folder}: {error:#}"));
    let plugin = PluginToml::parse(&std::fs::read_to_string(&built.manifest).unwrap()).unwrap();
    let bundle = bundle::pack_to_vec(&dir, &plugin, &built.component).unwrap();
    Guest { component: built.component, bundle }
}

/// A bundle of this component, described by `toml` and with these assets.
pub fn pack(component: &[u8], toml: &str, assets: &[(&str, &[u8])]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let mut toml = toml.to_owned();
    for (name, bytes) in assets {
        std::fs::write(folder.path().join(name), bytes).unwrap();
        toml.push_str(&format!("[[assets]]\nname = \"{name}\"\npath = \"{name}\"\n"));
    }
    let plugin = PluginToml::parse(&toml).unwrap();
    bundle::pack_to_vec(folder.path(), &plugin, component).unwrap()
}

/// A running server, killed by its pid when dropped.
pub struct Server {
    child: Child,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// Its port for gRPC, as `127.0.0.1:PORT`.
    pub grpc: String,
    /// Its data folder.
    pub data: PathBuf,
    /// The administrator's key, empty with `--dev`.
    pub admin_key: String,
    _folder: Option<TempDir>,
}

impl Server {
    /// A server with an empty data folder and default settings.
    pub fn start() -> Server {
        Server::with_config("")
    }

    /// A server with an empty data folder and this configuration file.
    pub fn with_config(config: &str) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let file = folder.path().join("innkeeper.toml");
        std::fs::write(&file, config).unwrap();
        let mut server = Server::on(&data, &["--config", file.to_str().unwrap()]);
        server._folder = Some(folder);
        server
    }

    /// A server on this data folder.
    pub fn on(data: &Path, arguments: &[&str]) -> Server {
        let mut child = Command::new(env!("CARGO_BIN_EXE_innkeeper"))
            .args(["serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--data"])
            .arg(data)
            .args(arguments)
            .env_remove("INNKEEPER_KEY")
            .env_remove("INNKEEPER_URL")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(std::fs::File::create(log_file(data)).unwrap()))
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut grpc = String::new();
        let url = stdout.lines().map_while(Result::ok).find_map(|line| {
            let at = line.split_once("listening on ")?.1.trim().to_owned();
            match at.strip_prefix("grpc://") {
                // It comes before the other.
                Some(address) => {
                    grpc = address.to_owned();
                    None
                }
                None => Some(at),
            }
        });
        let Some(url) = url else {
            let log = std::fs::read_to_string(log_file(data)).unwrap_or_default();
            panic!("the server did not start: {:?}\n{log}", child.wait());
        };
        let key = std::fs::read_to_string(data.join("admin.key")).unwrap_or_default();
        let admin_key = key.trim().to_owned();
        Server { child, url, grpc, data: data.into(), admin_key, _folder: None }
    }

    /// A client with the administrator's key.
    pub fn admin(&self) -> Client {
        self.client(&self.admin_key)
    }

    /// A client with this key.
    pub fn client(&self, key: &str) -> Client {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)))
            .build()
            .new_agent();
        Client { agent, url: self.url.clone(), key: key.to_owned() }
    }

    /// A new tenant, and a client with a key of its own that may publish and predict.
    pub fn tenant(&self, name: &str) -> Client {
        let admin = self.admin();
        admin.post("/api/v1/tenants", &json!({ "name": name })).expect_status(201);
        self.key(name, &["predict", "publish"])
    }

    /// A client with a new key of this tenant's.
    pub fn key(&self, tenant: &str, scopes: &[&str]) -> Client {
        let wish = json!({ "scopes": scopes, "label": "test" });
        let made = self.admin().post(&format!("/api/v1/tenants/{tenant}/keys"), &wish);
        let secret = made.expect_status(201).json()["key"].as_str().unwrap().to_owned();
        self.client(&secret)
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a crash would.
    pub fn kill(mut self) -> Option<TempDir> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self._folder.take()
    }

    /// Asks it to end, and waits until it has.
    pub fn terminate(&mut self) -> std::process::ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.child.wait().unwrap()
    }

    /// What it has written to standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(log_file(&self.data)).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log_file(data: &Path) -> PathBuf {
    data.with_extension("log")
}

/// Speaks HTTP to a server, with a key.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    /// Where the server is.
    pub url: String,
    /// The key, none when empty.
    pub key: String,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// This answer, if its status is the one that was wanted.
    #[track_caller]
    pub fn expect_status(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The text under `error`, or in OpenAI's form under `error.message`.
    #[track_caller]
    pub fn error(&self) -> String {
        let error = &self.json()["error"];
        error
            .as_str()
            .or(error["message"].as_str())
            .unwrap_or_else(|| panic!("{}", self.text()))
            .to_owned()
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl Client {
    /// Any request.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let uri = format!("{}{path}", self.url);
        let mut request = ureq::http::Request::builder().method(method).uri(uri);
        if !self.key.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.key));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let agent = self.agent.configure_request(request.body(body).unwrap());
        let response = self.agent.run(agent.allow_non_standard_methods(true).build());
        let mut response = response.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let headers = response.headers().iter().map(|(name, value)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        });
        let headers = headers.collect();
        let body = response.body_mut().with_config().limit(1 << 30).read_to_vec().unwrap();
        Answer { status: response.status().as_u16(), headers, body }
    }

    /// GET.
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }

    /// DELETE.
    pub fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], b"")
    }

    /// POST of JSON.
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(
            "POST",
            path,
            &[("content-type", "application/json")],
            body.to_string().as_bytes(),
        )
    }

    /// PUT of JSON.
    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.send("PUT", path, &[("content-type", "application/json")], body.to_string().as_bytes())
    }

    /// Publishes a bundle.
    pub fn publish(&self, model: &str, version: &str, bundle: &[u8]) -> Answer {
        let path = format!("/api/v1/models/{model}/versions/{version}");
        self.send("POST", &path, &[("content-type", "application/x-tar")], bundle)
    }

    /// Publishes a bare component.
    pub fn publish_component(&self, model: &str, version: &str, component: &[u8]) -> Answer {
        let path = format!("/api/v1/models/{model}/versions/{version}");
        self.send("POST", &path, &[("content-type", "application/wasm")], component)
    }

    /// Calls a model in JSON.
    pub fn infer(&self, model: &str, inputs: Value) -> Answer {
        self.post(&format!("/v2/models/{model}/infer"), &json!({ "inputs": inputs }))
    }
}

/// Looks again and again, for at most ten seconds, until something holds. For what another process does in its own
/// time; it waits no longer than it must.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < give_up, "not within ten seconds: {what}");
        std::thread::yield_now();
    }
}
