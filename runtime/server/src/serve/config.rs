//! The configuration file: read, checked, and written out with every key explained.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use innkeeper_predict::Limits;
use serde::{Deserialize, Serialize};

use super::settings::{
    CatalogSettings, ComponentSettings, CorsSettings, DeploySettings, EngineSettings, JwtSettings,
    LogSettings, PredictSettings, ServerSettings, TelemetrySettings, TlsSettings,
};
use super::telemetry;

/// The whole configuration of a server. What a file leaves out has its default; what it misspells is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Addresses, folders, waits.
    pub server: ServerSettings,
    /// Encryption.
    pub tls: TlsSettings,
    /// Tokens beside keys.
    pub jwt: JwtSettings,
    /// Browsers.
    pub cors: CorsSettings,
    /// Logging.
    pub log: LogSettings,
    /// Traces.
    pub telemetry: TelemetrySettings,
    /// What each tenant may use that has no limits of its own.
    pub limits: Limits,
    /// The engine that runs guests.
    pub engine: EngineSettings,
    /// What a component may be made of.
    pub component: ComponentSettings,
    /// Publishing.
    pub deploy: DeploySettings,
    /// Predictions.
    pub predict: PredictSettings,
    /// Housekeeping.
    pub catalog: CatalogSettings,
}

/// Where a server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// For every protocol.
    pub http: SocketAddr,
    /// For gRPC alone.
    pub grpc: Option<SocketAddr>,
}

/// A configuration that no server can run with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there, or may not be read.
    #[error("cannot read the configuration {}: {source}; `innkeeper config` prints one to start from", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not as it should be.
    #[error("{}: {problem}; `innkeeper config` prints every key with its meaning", path.display())]
    Toml {
        /// Which file.
        path: PathBuf,
        /// What is wrong where.
        problem: String,
    },
    /// An address that cannot be listened on.
    #[error(
        "the address {given:?} is not one to listen on; wanted IP:PORT, such as 127.0.0.1:8000"
    )]
    Address {
        /// What was given.
        given: String,
    },
    /// A certificate without a key, or the other way round.
    #[error("tls.certificates and tls.key go together, and {missing} is empty")]
    Tls {
        /// Which of the two is not set.
        missing: &'static str,
    },
    /// An issuer whose tokens could not be checked.
    #[error("jwt.issuer is set and {missing} is empty; both are needed to check a token")]
    Jwt {
        /// What is not set.
        missing: &'static str,
    },
    /// A collector that nothing could be sent to.
    #[error(
        "telemetry.traces_endpoint is {given:?}; wanted an address such as http://127.0.0.1:4318/v1/traces"
    )]
    Traces {
        /// What was given.
        given: String,
    },
    /// Any site, with what browsers keep for this one.
    #[error(
        "cors.origins has \"*\" and cors.credentials is true; name the sites that may, or leave credentials false"
    )]
    Cors,
    /// Keys switched off where others can reach the server.
    #[error(
        "--dev switches keys off and is for loopback addresses only, not for {given}; leave --dev out, or listen on 127.0.0.1"
    )]
    DevAddress {
        /// What was given.
        given: SocketAddr,
    },
    /// A value out of its range, or two that do not fit together.
    #[error("{key} is {got}; wanted {wanted}")]
    Value {
        /// Which key.
        key: &'static str,
        /// What was given.
        got: u64,
        /// What is possible.
        wanted: String,
    },
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError::File`], [`ConfigError::Toml`]. Nothing is checked yet, as the command line may change it.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::File { path: path.to_owned(), source })?;
        let problem = |error: toml::de::Error| one_line(&text, &error);
        toml::from_str(&text)
            .map_err(|error| ConfigError::Toml { path: path.to_owned(), problem: problem(error) })
    }

    /// Checks what the types do not, and gives the addresses to listen on.
    ///
    /// # Errors
    /// [`ConfigError::Address`], [`ConfigError::DevAddress`], [`ConfigError::Value`].
    pub fn check(&self) -> Result<Addresses, ConfigError> {
        let http = self.address(&self.server.http)?;
        let grpc = Some(&self.server.grpc).filter(|given| !given.is_empty());
        let grpc = grpc.map(|given| self.address(given)).transpose()?;
        let (certificates, key) = (&self.tls.certificates, &self.tls.key);
        if certificates.is_empty() != key.is_empty() {
            let missing = if key.is_empty() { "tls.key" } else { "tls.certificates" };
            return Err(ConfigError::Tls { missing });
        }
        let needed = [("jwt.audience", &self.jwt.audience), ("jwt.keys", &self.jwt.keys)];
        if !self.jwt.issuer.is_empty()
            && let Some((missing, _)) = needed.into_iter().find(|(_, value)| value.is_empty())
        {
            return Err(ConfigError::Jwt { missing });
        }
        if self.cors.credentials && self.cors.origins.iter().any(|origin| origin == "*") {
            return Err(ConfigError::Cors);
        }
        let endpoint = &self.telemetry.traces_endpoint;
        if !endpoint.is_empty() && !telemetry::is_address(endpoint) {
            return Err(ConfigError::Traces { given: endpoint.clone() });
        }
        let at_least_one = [
            ("server.connections_max", self.server.connections_max as u64),
            ("server.header_read_ms", self.server.header_read_ms),
            ("server.body_idle_ms", self.server.body_idle_ms),
            ("server.http2_streams_max", u64::from(self.server.http2_streams_max)),
            ("tls.look_every_ms", self.tls.look_every_ms),
            ("server.bodies_bytes_max", self.server.bodies_bytes_max),
            ("telemetry.queue_spans_max", self.telemetry.queue_spans_max as u64),
            ("telemetry.export_every_ms", self.telemetry.export_every_ms),
            ("telemetry.export_ms_max", self.telemetry.export_ms_max),
            ("engine.instances_max", u64::from(self.engine.instances_max)),
            ("deploy.compiles_max", self.deploy.compiles_max as u64),
            ("deploy.imports_max", self.deploy.imports_max as u64),
            ("deploy.publishes_max", self.deploy.publishes_max as u64),
            ("catalog.sweep_every_ms", self.catalog.sweep_every_ms),
            ("catalog.usage_flush_ms", self.catalog.usage_flush_ms),
            ("limits.deadline_ms_max", self.limits.deadline_ms_max),
            ("limits.requests_in_flight_max", self.limits.requests_in_flight_max),
        ];
        for (key, got) in at_least_one {
            if got == 0 {
                return Err(ConfigError::Value { key, got, wanted: "at least 1".into() });
            }
        }
        self.check_memory()?;
        Ok(Addresses { http, grpc })
    }

    fn address(&self, given: &str) -> Result<SocketAddr, ConfigError> {
        let address: SocketAddr =
            given.parse().map_err(|_| ConfigError::Address { given: given.to_owned() })?;
        if self.server.dev && !address.ip().is_loopback() {
            return Err(ConfigError::DevAddress { given: address });
        }
        Ok(address)
    }

    fn check_memory(&self) -> Result<(), ConfigError> {
        let (tenants, engine) =
            (self.limits.guest_memory_bytes_max, self.engine.guest_memory_bytes_max);
        if tenants > engine {
            let wanted = format!("at most engine.guest_memory_bytes_max, which is {engine}");
            let key = "limits.guest_memory_bytes_max";
            return Err(ConfigError::Value { key, got: tenants, wanted });
        }
        // A guest's 32-bit memory ends there.
        const WASM_MEMORY_BYTES_MAX: u64 = 4 << 30;
        if engine > WASM_MEMORY_BYTES_MAX {
            let wanted = format!("at most {WASM_MEMORY_BYTES_MAX}");
            let key = "engine.guest_memory_bytes_max";
            return Err(ConfigError::Value { key, got: engine, wanted });
        }
        Ok(())
    }

    /// This configuration as a file, each key under a comment that says what it means.
    pub fn documented(&self) -> String {
        let mut text = String::from(
            "# Innkeeper's configuration. Every key is here with its meaning and its value; leave out what you do\n\
             # not change. The command line has the last word about http, grpc, data, dev and the log's format.\n",
        );
        let values = toml::Table::try_from(self).expect("every value here has a form in TOML");
        section(&mut text, &values, "server", ServerSettings::ABOUT, ServerSettings::MEANINGS);
        section(&mut text, &values, "tls", TlsSettings::ABOUT, TlsSettings::MEANINGS);
        section(&mut text, &values, "jwt", JwtSettings::ABOUT, JwtSettings::MEANINGS);
        section(&mut text, &values, "cors", CorsSettings::ABOUT, CorsSettings::MEANINGS);
        section(&mut text, &values, "log", LogSettings::ABOUT, LogSettings::MEANINGS);
        let about = TelemetrySettings::ABOUT;
        section(&mut text, &values, "telemetry", about, TelemetrySettings::MEANINGS);
        let rows = self.limits.rows();
        let meanings: Vec<(&str, [&str; 1])> = rows.iter().map(|row| (row.0, [row.2])).collect();
        let meanings: Vec<(&str, &[&str])> =
            meanings.iter().map(|(name, lines)| (*name, lines.as_slice())).collect();
        section(&mut text, &values, "limits", LIMITS_ABOUT, &meanings);
        section(&mut text, &values, "engine", EngineSettings::ABOUT, EngineSettings::MEANINGS);
        let about = ComponentSettings::ABOUT;
        section(&mut text, &values, "component", about, ComponentSettings::MEANINGS);
        section(&mut text, &values, "deploy", DeploySettings::ABOUT, DeploySettings::MEANINGS);
        section(&mut text, &values, "predict", PredictSettings::ABOUT, PredictSettings::MEANINGS);
        section(&mut text, &values, "catalog", CatalogSettings::ABOUT, CatalogSettings::MEANINGS);
        text
    }
}

const LIMITS_ABOUT: &[&str] = &[
    "What each tenant may use. An administrator changes them for one tenant with `innkeeper limits TENANT --set`;",
    "a model's own innkeeper.toml may lower them for that model.",
];

fn section(
    text: &mut String,
    values: &toml::Table,
    name: &str,
    about: &[&str],
    meanings: &[(&str, &[&str])],
) {
    text.push('\n');
    comment(text, about);
    let _ = writeln!(text, "[{name}]");
    for (key, meaning) in meanings {
        comment(text, meaning);
        let _ = writeln!(text, "{key} = {}", values[name][*key]);
    }
}

fn comment(text: &mut String, lines: &[&str]) {
    for line in lines {
        let _ = writeln!(text, "# {}", line.trim());
    }
}

/// What is wrong and on which line, without the drawing that the TOML library makes of it.
fn one_line(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().replace('\n', ", ");
    match error.span() {
        Some(span) => {
            let before = text.get(..span.start).unwrap_or(text);
            format!("line {}: {message}", before.matches('\n').count() + 1)
        }
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_reads_back_as_the_defaults() {
        let text = Config::default().documented();
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), Config::default());
    }

    #[test]
    fn every_key_is_explained() {
        let text = Config::default().documented();
        let lines: Vec<&str> = text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            if line.contains(" = ") && !line.starts_with('#') {
                assert!(lines[i - 1].starts_with("# "), "{line}");
            }
        }
        let keys = toml::Table::try_from(Config::default()).unwrap();
        for (section, keys) in &keys {
            for key in keys.as_table().unwrap().keys() {
                assert!(text.contains(&format!("\n{key} = ")), "{section}.{key}");
            }
        }
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            ("[server]\nhtpp = \"127.0.0.1:1\"\n", "line 2: unknown field `htpp`"),
            ("[limits]\n\ndeadline_ms_max = \"long\"\n", "line 3: invalid type"),
            ("[limits]\ndeadline_ms_max = -1\n", "line 2"),
            ("[telemetry]\nsample_ratio = 2.0\n", "line 2: wanted a share from 0 to 1"),
            ("[extra]\n", "unknown field `extra`"),
        ];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("innkeeper.toml");
        for (text, wanted) in cases {
            std::fs::write(&path, text).unwrap();
            let error = Config::read(&path).unwrap_err().to_string();
            assert!(error.contains(wanted), "{text:?}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
        let error = Config::read(&folder.path().join("absent")).unwrap_err().to_string();
        assert!(error.contains("innkeeper config"), "{error}");
    }

    #[test]
    fn what_cannot_run_is_refused() {
        let check = |change: fn(&mut Config), wanted: &str| {
            let mut config = Config::default();
            change(&mut config);
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        };
        check(|c| c.server.http = "8000".into(), "wanted IP:PORT");
        check(
            |c| (c.server.http, c.server.dev) = ("0.0.0.0:8000".into(), true),
            "loopback addresses only",
        );
        check(|c| c.server.grpc = "8001".into(), "wanted IP:PORT");
        check(
            |c| (c.server.grpc, c.server.dev) = ("0.0.0.0:8001".into(), true),
            "loopback addresses only",
        );
        check(|c| c.tls.key = "key.pem".into(), "tls.certificates is empty");
        check(|c| c.jwt.issuer = "https://issuer".into(), "jwt.audience is empty");
        check(|c| (c.cors.origins, c.cors.credentials) = (vec!["*".into()], true), "cors.origins");
        check(|c| c.telemetry.traces_endpoint = "localhost:4318".into(), "/v1/traces");
        check(|c| c.deploy.compiles_max = 0, "deploy.compiles_max is 0; wanted at least 1");
        check(|c| c.deploy.imports_max = 0, "deploy.imports_max is 0; wanted at least 1");
        check(|c| c.limits.guest_memory_bytes_max = 3 << 30, "engine.guest_memory_bytes_max");
        check(|c| c.engine.guest_memory_bytes_max = 5 << 30, "at most 4294967296");

        let mut dev = Config::default();
        dev.server.dev = true;
        assert_eq!(dev.check().unwrap().http.port(), 8000);
        dev.server.http = "[::1]:0".into();
        assert!(dev.check().is_ok());
    }
}
