//! How a client reaches its cluster.

use crate::error::{ClientError, Seconds};
use crate::limits::{BROKER_ADDRESSES_MAX, SIGNS_OF_LIFE, SILENCE_TIMEOUT_MIN};
use headwater_protocol::limits::CLIENT_NAME_BYTES_MAX;
use headwater_transport::{IdentityFiles, TransportLimits};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of a [`Client`](crate::Client). Make one with [`ClientConfig::new`] and change what should differ.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `host:port` of one or more brokers; tried in order until one answers. The rest of the cluster is learned.
    pub brokers: Vec<String>,
    /// Who this client is and whom it trusts.
    pub tls: ClientTls,
    /// Name for the broker's log, at most 256 bytes. Default: this crate and its version.
    pub client_name: String,
    /// How long one attempt to connect to one address may take. Default 3 s.
    pub connect_timeout: Duration,
    /// Silence after which a connection counts as lost: a broker that was killed says nothing, not even after it has
    /// restarted. Live ones are asked for a sign of life several times within it. Default 5 s; brokers allow 30 s.
    pub silence_timeout: Duration,
    /// How long a request may take, retries included; also how long a broker waits for `acks`. Default 30 s.
    pub request_timeout: Duration,
    /// First pause after a connection was lost or refused; doubles with each failure. Default 50 ms.
    pub reconnect_backoff: Duration,
    /// Longest such pause. Default 1 s.
    pub reconnect_backoff_max: Duration,
    /// Age at which what is known of topics and leaders is asked for again. Default 5 min.
    pub metadata_age_max: Duration,
}

/// The identity of a client. Brokers ask every peer for a certificate of the cluster's CA.
#[derive(Clone, PartialEq, Eq)]
pub enum ClientTls {
    /// PEM files.
    Files {
        /// Certificate of the cluster's CA.
        ca: PathBuf,
        /// This client's certificate chain.
        certificate: PathBuf,
        /// Its private key; nobody else may read the file.
        key: PathBuf,
    },
    /// The same as PEM text.
    Pem {
        /// Certificate of the cluster's CA.
        ca: Vec<u8>,
        /// This client's certificate chain.
        certificate: Vec<u8>,
        /// Its private key.
        key: Vec<u8>,
    },
}

impl fmt::Debug for ClientTls {
    /// Without key material.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files { ca, certificate, key } => {
                f.debug_struct("Files").field("ca", ca).field("certificate", certificate).field("key", key).finish()
            }
            Self::Pem { .. } => f.debug_struct("Pem").finish_non_exhaustive(),
        }
    }
}

impl ClientTls {
    /// Reads what is named.
    pub(crate) fn load(&self, address: &str) -> Result<headwater_transport::ClientTls, ClientError> {
        let loaded = match self {
            Self::Files { ca, certificate, key } => headwater_transport::ClientTls::load(&IdentityFiles {
                ca: ca.clone(),
                certificate: certificate.clone(),
                key: key.clone(),
            }),
            Self::Pem { ca, certificate, key } => headwater_transport::ClientTls::from_pem(ca, certificate, key),
        };
        loaded.map_err(|error| ClientError::Tls { address: address.to_owned(), reason: error.to_string() })
    }
}

impl ClientConfig {
    /// The defaults for these brokers and this identity.
    pub fn new(brokers: Vec<String>, tls: ClientTls) -> Self {
        Self {
            brokers,
            tls,
            client_name: concat!("headwater-client/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect_timeout: Duration::from_secs(3),
            silence_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            reconnect_backoff: Duration::from_millis(50),
            reconnect_backoff_max: Duration::from_secs(1),
            metadata_age_max: Duration::from_secs(300),
        }
    }

    /// What this side grants and asks of a connection.
    pub(crate) fn transport_limits(&self) -> TransportLimits {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        TransportLimits {
            handshake_ms_max: ms(self.connect_timeout),
            idle_ms_max: u32::try_from(ms(self.silence_timeout)).unwrap_or(u32::MAX),
            keep_alive_ms: ms(self.silence_timeout / SIGNS_OF_LIFE),
            ..TransportLimits::default()
        }
    }

    /// Refuses what makes no sense, in words.
    pub(crate) fn check(&self) -> Result<(), ClientError> {
        let refuse = |reason: String| Err(ClientError::Config(reason));
        if self.brokers.is_empty() || self.brokers.len() > BROKER_ADDRESSES_MAX {
            let count = self.brokers.len();
            return refuse(format!("{count} broker addresses: give 1 to {BROKER_ADDRESSES_MAX}, each as host:port"));
        }
        if self.client_name.len() > CLIENT_NAME_BYTES_MAX {
            let bytes = self.client_name.len();
            return refuse(format!("client_name has {bytes} bytes: at most {CLIENT_NAME_BYTES_MAX} are sent"));
        }
        if self.connect_timeout.is_zero() || self.request_timeout.is_zero() {
            return refuse("connect_timeout and request_timeout must be longer than 0".to_owned());
        }
        if self.silence_timeout < SILENCE_TIMEOUT_MIN {
            return refuse(format!("silence_timeout must be at least {}", Seconds(SILENCE_TIMEOUT_MIN)));
        }
        if self.reconnect_backoff.is_zero() || self.reconnect_backoff > self.reconnect_backoff_max {
            return refuse("reconnect_backoff must be above 0 and at most reconnect_backoff_max".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(brokers: &[&str]) -> ClientConfig {
        let files = ClientTls::Files { ca: "ca".into(), certificate: "c".into(), key: "k".into() };
        ClientConfig::new(brokers.iter().map(|broker| (*broker).to_owned()).collect(), files)
    }

    #[test]
    fn settings_that_make_no_sense_are_refused_in_words() {
        assert!(config(&["127.0.0.1:9092"]).check().is_ok());
        assert!(config(&[]).check().unwrap_err().to_string().contains("host:port"));
        let mut long = config(&["a:1"]);
        long.client_name = "n".repeat(257);
        assert!(long.check().unwrap_err().to_string().contains("257"));
        let mut hasty = config(&["a:1"]);
        hasty.request_timeout = Duration::ZERO;
        assert!(hasty.check().is_err());
        let mut nervous = config(&["a:1"]);
        nervous.silence_timeout = Duration::from_millis(10);
        assert!(nervous.check().unwrap_err().to_string().contains("silence_timeout"));
        let mut hot = config(&["a:1"]);
        hot.reconnect_backoff = Duration::ZERO;
        assert!(hot.check().is_err());
    }

    #[test]
    fn a_silent_broker_is_asked_several_times_before_it_counts_as_lost() {
        let limits = config(&["a:1"]).transport_limits();
        assert_eq!((limits.handshake_ms_max, limits.idle_ms_max), (3000, 5000));
        assert!(limits.keep_alive_ms * 3 < u64::from(limits.idle_ms_max));
    }

    #[test]
    fn files_that_are_not_there_are_named() {
        let pem = ClientTls::Pem { ca: b"secret".to_vec(), certificate: vec![], key: b"secret".to_vec() };
        assert!(!format!("{pem:?}").contains("115"), "no key material in logs");
        assert!(pem.load("a:1").is_err());
        let error = config(&["a:1"]).tls.load("a:1").err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("ca") && error.contains("a:1"), "{error}");
    }
}
