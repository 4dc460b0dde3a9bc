//! The broker's configuration file: typed, every key documented in `broker.sample.toml`, unknown keys refused.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The commented sample with every key at its default; `headwater broker --print-sample-config` prints it.
pub const SAMPLE: &str = include_str!("../broker.sample.toml");

/// A broker's settings, as `broker.sample.toml` documents them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BrokerConfig {
    /// This broker's number in the cluster.
    pub broker_id: u32,
    /// Where everything is stored.
    pub data_dir: PathBuf,
    /// QUIC listener.
    pub listen: SocketAddr,
    /// What clients are told; empty means `listen`.
    pub advertised_address: String,
    /// Admin HTTP listener; empty means none.
    pub admin_listen: String,
    /// Certificates.
    pub tls: TlsConfig,
    /// Topic defaults and limits.
    pub topics: TopicsConfig,
    /// Threads of the storage engine.
    pub log: LogsConfig,
    /// Network limits.
    pub network: NetworkConfig,
    /// Module limits.
    pub modules: ModulesConfig,
    /// Processor limits.
    pub processors: ProcessorsConfig,
    /// Orderly stop.
    pub shutdown: ShutdownConfig,
}

/// `[tls]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsConfig {
    /// The cluster's CA, PEM.
    pub ca: PathBuf,
    /// This broker's certificate chain, PEM.
    pub certificate: PathBuf,
    /// This broker's key, PEM.
    pub key: PathBuf,
    /// Whether clients must show a certificate.
    pub client_authentication: ClientAuthentication,
}

/// Whether clients must show a certificate of the cluster's CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuthentication {
    /// Mutual TLS.
    Required,
    /// Anyone who reaches the port is an admin; loopback only.
    None,
}

/// `[topics]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TopicsConfig {
    /// Partitions of a topic whose creator names no number.
    pub default_partitions: u32,
    /// Replicas of a topic whose creator names no number.
    pub default_replication_factor: u16,
    /// Partitions on this broker.
    pub partitions_max: u32,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogsConfig {
    /// Threads that append.
    pub writer_threads: usize,
    /// Threads that sync.
    pub flush_threads: usize,
    /// Files of partitions that are open at a time.
    pub open_files_max: usize,
    /// Bytes of the newest batches of all partitions that are kept in memory for readers.
    pub tail_bytes_max: u64,
    /// Seconds between two looks at what retention has to delete.
    pub retention_check_seconds: u64,
    /// Seconds between two rounds in which everything is read and checked.
    pub scrub_seconds: u64,
    /// Bytes that this reads in a second.
    pub scrub_bytes_per_second_max: u64,
    /// Seconds between two looks at what is to be compacted.
    pub cleaner_check_seconds: u64,
    /// Bytes that the cleaner reads and writes in a second.
    pub cleaner_bytes_per_second_max: u64,
    /// Bytes of memory for the keys of the partition that is being compacted.
    pub cleaner_dedupe_bytes_max: usize,
}

/// `[network]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkConfig {
    /// Connections at once.
    pub connections_max: usize,
    /// Bytes of request bodies in memory.
    pub request_bytes_max: usize,
    /// Bytes of batches in answers that are not sent yet.
    pub response_bytes_max: usize,
    /// Seconds in which a peer must take an answer.
    pub response_seconds_max: u64,
}

/// `[modules]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModulesConfig {
    /// Size of an uploaded module.
    pub module_bytes_max: usize,
    /// Functions of an uploaded module.
    pub functions_max: usize,
    /// Memory of the compiling child.
    pub compile_memory_bytes_max: u64,
    /// CPU time of the compiling child.
    pub compile_cpu_seconds_max: u64,
    /// Wall-clock time of the compiling child.
    pub compile_seconds_max: u64,
}

/// `[processors]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessorsConfig {
    /// Tasks on this broker.
    pub tasks_max: usize,
    /// Guest log lines kept per processor.
    pub log_lines_kept_max: usize,
}

/// `[shutdown]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShutdownConfig {
    /// Seconds for an orderly stop.
    pub timeout_seconds: u64,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            broker_id: 1,
            data_dir: PathBuf::from("headwater-data"),
            listen: SocketAddr::from(([127, 0, 0, 1], 9092)),
            advertised_address: String::new(),
            admin_listen: "127.0.0.1:9644".to_owned(),
            tls: TlsConfig::default(),
            topics: TopicsConfig::default(),
            log: LogsConfig::default(),
            network: NetworkConfig::default(),
            modules: ModulesConfig::default(),
            processors: ProcessorsConfig::default(),
            shutdown: ShutdownConfig::default(),
        }
    }
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            ca: PathBuf::from("tls/ca.pem"),
            certificate: PathBuf::from("tls/broker.pem"),
            key: PathBuf::from("tls/broker.key"),
            client_authentication: ClientAuthentication::Required,
        }
    }
}

impl Default for TopicsConfig {
    fn default() -> Self {
        Self { default_partitions: 1, default_replication_factor: 1, partitions_max: 10_000 }
    }
}

impl Default for LogsConfig {
    fn default() -> Self {
        Self {
            writer_threads: 2,
            flush_threads: 16,
            open_files_max: headwater_log::limits::OPEN_FILES_MAX_DEFAULT,
            tail_bytes_max: 64 << 20,
            retention_check_seconds: 300,
            scrub_seconds: 604_800,
            scrub_bytes_per_second_max: 16 << 20,
            cleaner_check_seconds: 15,
            cleaner_bytes_per_second_max: 128 << 20,
            cleaner_dedupe_bytes_max: 128 << 20,
        }
    }
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            connections_max: 1000,
            request_bytes_max: 128 << 20,
            response_bytes_max: 128 << 20,
            response_seconds_max: 60,
        }
    }
}

impl Default for ModulesConfig {
    fn default() -> Self {
        Self {
            module_bytes_max: 16 << 20,
            functions_max: headwater_wasm_host::limits::FUNCTIONS_MAX as usize,
            compile_memory_bytes_max: 2 << 30,
            compile_cpu_seconds_max: 120,
            compile_seconds_max: 300,
        }
    }
}

impl Default for ProcessorsConfig {
    fn default() -> Self {
        Self { tasks_max: 1000, log_lines_kept_max: 1000 }
    }
}

impl Default for ShutdownConfig {
    fn default() -> Self {
        Self { timeout_seconds: 30 }
    }
}

/// Why a configuration can't be used. Each names the file or key and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read the configuration {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not TOML, or a value of the wrong kind; the text shows line and column.
    #[error("the configuration is not valid: {0}")]
    Parse(#[from] toml::de::Error),
    /// Keys that no broker knows.
    #[error("{}", unknown_keys_text(.0))]
    UnknownKeys(Vec<UnknownKey>),
    /// A value that makes no sense.
    #[error("configuration key `{key}`: {reason}")]
    Value {
        /// Dotted name.
        key: &'static str,
        /// Why, and what would do.
        reason: String,
    },
}

/// A key that no broker knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownKey {
    /// Dotted name as written.
    pub key: String,
    /// The known key that is most alike, if one is alike.
    pub suggestion: Option<String>,
}

fn unknown_keys_text(keys: &[UnknownKey]) -> String {
    let lines: Vec<String> = keys
        .iter()
        .map(|unknown| match &unknown.suggestion {
            Some(known) => format!("unknown configuration key `{}`: did you mean `{known}`?", unknown.key),
            None => format!(
                "unknown configuration key `{}`: `headwater broker --print-sample-config` shows all keys",
                unknown.key
            ),
        })
        .collect();
    lines.join("\n")
}

impl BrokerConfig {
    /// Reads a file; relative paths in it start at its directory.
    ///
    /// # Errors
    /// The file can't be read, is not TOML, has unknown keys or values that make no sense.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let mut config = Self::parse(&text)?;
        let base = path.parent().unwrap_or(Path::new(""));
        for place in [&mut config.data_dir, &mut config.tls.ca, &mut config.tls.certificate, &mut config.tls.key] {
            *place = base.join(&*place);
        }
        Ok(config)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut unknown = Vec::new();
        let config: Self = serde_ignored::deserialize(toml::Deserializer::parse(text)?, |path| {
            unknown.push(path.to_string());
        })?;
        if !unknown.is_empty() {
            let known = known_keys();
            let keys = unknown.into_iter().map(|key| UnknownKey { suggestion: suggest(&key, &known), key });
            return Err(ConfigError::UnknownKeys(keys.collect()));
        }
        config.check()?;
        Ok(config)
    }

    /// Checks what types alone don't hold.
    ///
    /// # Errors
    /// A value is out of range, or the broker would be open to anyone.
    pub fn check(&self) -> Result<(), ConfigError> {
        let value = |key, reason: &str| Err(ConfigError::Value { key, reason: reason.to_owned() });
        if self.tls.client_authentication == ClientAuthentication::None && !self.listen.ip().is_loopback() {
            return Err(ConfigError::Value {
                key: "tls.client_authentication",
                reason: format!(
                    "`none` is refused because {} is not a loopback address and who may connect may upload code; \
                     set it to \"required\", or listen on 127.0.0.1",
                    self.listen
                ),
            });
        }
        if !self.admin_listen.is_empty() && self.admin_listen.parse::<SocketAddr>().is_err() {
            return value("admin_listen", "must be an address such as 127.0.0.1:9644, or empty for no admin server");
        }
        let counts = [
            ("topics.default_partitions", u64::from(self.topics.default_partitions), 1, 10_000),
            ("topics.default_replication_factor", u64::from(self.topics.default_replication_factor), 1, 100),
            ("topics.partitions_max", u64::from(self.topics.partitions_max), 1, 1_000_000),
            ("log.writer_threads", self.log.writer_threads as u64, 1, 64),
            ("log.flush_threads", self.log.flush_threads as u64, 1, headwater_log::limits::FLUSH_THREADS_MAX as u64),
            ("log.open_files_max", self.log.open_files_max as u64, 64, 1 << 24),
            ("log.tail_bytes_max", self.log.tail_bytes_max, 0, 1 << 40),
            ("log.retention_check_seconds", self.log.retention_check_seconds, 1, 86_400),
            ("log.scrub_seconds", self.log.scrub_seconds, 1, 31_536_000),
            ("log.scrub_bytes_per_second_max", self.log.scrub_bytes_per_second_max, 1 << 16, 1 << 40),
            ("log.cleaner_check_seconds", self.log.cleaner_check_seconds, 1, 86_400),
            ("log.cleaner_bytes_per_second_max", self.log.cleaner_bytes_per_second_max, 1 << 20, 1 << 40),
            (
                "log.cleaner_dedupe_bytes_max",
                self.log.cleaner_dedupe_bytes_max as u64,
                headwater_log::limits::CLEANER_DEDUPE_BYTES_MIN as u64,
                1 << 40,
            ),
            ("network.connections_max", self.network.connections_max as u64, 1, 100_000),
            ("network.request_bytes_max", self.network.request_bytes_max as u64, 32 << 20, 1 << 40),
            ("network.response_bytes_max", self.network.response_bytes_max as u64, 32 << 20, 1 << 40),
            ("network.response_seconds_max", self.network.response_seconds_max, 1, 3600),
            ("modules.module_bytes_max", self.modules.module_bytes_max as u64, 1, 16 << 20),
            ("modules.functions_max", self.modules.functions_max as u64, 1, 1_000_000),
            ("modules.compile_memory_bytes_max", self.modules.compile_memory_bytes_max, 128 << 20, 1 << 40),
            ("modules.compile_cpu_seconds_max", self.modules.compile_cpu_seconds_max, 1, 3600),
            ("modules.compile_seconds_max", self.modules.compile_seconds_max, 1, 3600),
            ("processors.tasks_max", self.processors.tasks_max as u64, 1, 10_000),
            ("processors.log_lines_kept_max", self.processors.log_lines_kept_max as u64, 1, 1_000_000),
            ("shutdown.timeout_seconds", self.shutdown.timeout_seconds, 1, 3600),
        ];
        for (key, number, least, most) in counts {
            if !(least..=most).contains(&number) {
                let reason = format!("{number} is out of range: expected {least} to {most}");
                return Err(ConfigError::Value { key, reason });
            }
        }
        Ok(())
    }
}

/// Every key of the sample, dotted.
fn known_keys() -> Vec<String> {
    fn walk(prefix: &str, table: &toml::Table, keys: &mut Vec<String>) {
        for (name, value) in table {
            let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            if let toml::Value::Table(inner) = value {
                walk(&key, inner, keys);
            }
            keys.push(key);
        }
    }
    let mut keys = Vec::new();
    if let Ok(table) = SAMPLE.parse::<toml::Table>() {
        walk("", &table, &mut keys);
    }
    keys
}

/// The known key most like `key`, by its dotted name or by its last part alone.
fn suggest(key: &str, known: &[String]) -> Option<String> {
    fn last(key: &str) -> &str {
        key.rsplit('.').next().unwrap_or(key)
    }
    let likeness =
        |candidate: &String| strsim::jaro_winkler(key, candidate).max(strsim::jaro_winkler(last(key), last(candidate)));
    known
        .iter()
        .map(|candidate| (likeness(candidate), candidate))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_has_every_key_at_its_default() {
        assert_eq!(BrokerConfig::parse(SAMPLE).unwrap(), BrokerConfig::default());
        let fields = toml::Table::try_from(BrokerConfig::default()).unwrap();
        let sample: toml::Table = SAMPLE.parse().unwrap();
        assert_eq!(fields, sample, "a key is missing in the sample, or has another default");
    }

    #[test]
    fn an_unknown_key_is_an_error_that_suggests_the_right_one() {
        for (text, suggestion) in [
            ("brokerid = 1", "broker_id"),
            ("[log]\nwriter_thread = 1", "log.writer_threads"),
            ("[tls]\nclient_auth = \"none\"", "tls.client_authentication"),
            ("writer_threads = 3", "log.writer_threads"),
        ] {
            let error = BrokerConfig::parse(text).unwrap_err().to_string();
            assert!(error.contains(&format!("did you mean `{suggestion}`")), "{error}");
        }
        let error = BrokerConfig::parse("zzz = 1").unwrap_err().to_string();
        assert!(error.contains("`zzz`") && error.contains("--print-sample-config"), "{error}");
    }

    #[test]
    fn an_open_bind_without_client_authentication_is_refused() {
        let open = "listen = \"0.0.0.0:9092\"\n[tls]\nclient_authentication = \"none\"";
        let error = BrokerConfig::parse(open).unwrap_err().to_string();
        assert!(error.contains("loopback"), "{error}");
        BrokerConfig::parse("listen = \"127.0.0.1:1\"\n[tls]\nclient_authentication = \"none\"").unwrap();
        BrokerConfig::parse("listen = \"0.0.0.0:9092\"").unwrap();
    }

    #[test]
    fn values_out_of_range_and_of_the_wrong_kind_are_refused_by_name() {
        let error = BrokerConfig::parse("[log]\nwriter_threads = 0").unwrap_err().to_string();
        assert!(error.contains("log.writer_threads") && error.contains("1 to 64"), "{error}");
        let flush_threads_max = headwater_log::limits::FLUSH_THREADS_MAX;
        for (text, key, range) in [
            ("[log]\nflush_threads = 0".to_owned(), "log.flush_threads", format!("1 to {flush_threads_max}")),
            (
                format!("[log]\nflush_threads = {}", flush_threads_max + 1),
                "log.flush_threads",
                format!("1 to {flush_threads_max}"),
            ),
            ("[modules]\nfunctions_max = 0".to_owned(), "modules.functions_max", "1 to 1000000".to_owned()),
            ("[modules]\nfunctions_max = 1000001".to_owned(), "modules.functions_max", "1 to 1000000".to_owned()),
        ] {
            let error = BrokerConfig::parse(&text).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(&range), "{text}: {error}");
        }
        assert!(BrokerConfig::parse(&format!("[log]\nflush_threads = {flush_threads_max}")).is_ok());
        let error = BrokerConfig::parse("broker_id = \"one\"").unwrap_err().to_string();
        assert!(error.contains("broker_id"), "{error}");
        let error = BrokerConfig::parse("admin_listen = \"here\"").unwrap_err().to_string();
        assert!(error.contains("admin_listen"), "{error}");
    }
}
