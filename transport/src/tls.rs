//! TLS 1.3 with certificates on both sides.
//!
//! Whoever may connect may upload code, so a server asks every peer for a certificate of the cluster's CA. The peer's
//! name is the common name of that certificate. There is no 0-RTT, whose requests could be replayed, and no session
//! resumption, so that a certificate is checked on every connection.

use crate::error::peer_text;
use crate::limits::{ALPN, IDENTITY_FILE_BYTES_MAX, PRINCIPAL_CHARS_MAX};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, version::TLS13};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The three PEM files that make an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// Certificates of the CA that signs every peer's certificate.
    pub ca: PathBuf,
    /// Our certificate chain, our own certificate first.
    pub certificate: PathBuf,
    /// The private key of our certificate; nobody else may read it.
    pub key: PathBuf,
}

/// A server's side of TLS, ready for [`crate::ServerEndpoint::bind`].
#[derive(Clone)]
pub struct ServerTls {
    pub(crate) config: Arc<QuicServerConfig>,
    pub(crate) requires_client_certificate: bool,
}

/// A client's side of TLS, ready for [`crate::ClientEndpoint::new`].
#[derive(Clone)]
pub struct ClientTls {
    pub(crate) config: Arc<QuicClientConfig>,
}

/// Operator: an identity can't be used. Names the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file can't be read.
    #[error("can't read {path}: {source}; check the path and its permissions")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no PEM file of the kind expected.
    #[error("{path} has no {expected} in PEM form (\"-----BEGIN …\"): {problem}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        expected: &'static str,
        /// What was found instead.
        problem: String,
    },
    /// Others may read the private key.
    #[error("the private key {path} can be read by others (mode {mode:04o}): chmod 600 {path}")]
    KeyOpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A CA certificate can't be one.
    #[error("{path} is no usable CA certificate: {problem}")]
    BadCa {
        /// The file.
        path: PathBuf,
        /// What rustls said.
        problem: String,
    },
    /// Certificate and key don't belong together, or are of a kind that TLS doesn't take.
    #[error("certificate {certificate} and key {key} can't be used together: {problem}")]
    BadPair {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
        /// What rustls said.
        problem: String,
    },
    /// Us: the crypto library lacks something.
    #[error("TLS can't be set up: {0}")]
    Setup(String),
}

impl ServerTls {
    /// A server that talks only to peers whose certificate the CA of `files` has signed.
    ///
    /// # Errors
    /// [`TlsError`] names the file at fault and the remedy.
    pub fn load(files: &IdentityFiles) -> Result<Self, TlsError> {
        let provider = provider();
        let roots = Arc::new(Pem::read(&files.ca)?.roots()?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|error| TlsError::BadCa { path: files.ca.clone(), problem: error.to_string() })?;
        let builder = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(setup)?
            .with_client_cert_verifier(verifier);
        Self::finish(builder, &files.certificate, &files.key, true)
    }

    /// A server that lets anybody in. [`crate::ServerEndpoint::bind`] refuses it on any address but a loopback one.
    ///
    /// # Errors
    /// [`TlsError`] names the file at fault and the remedy.
    pub fn load_without_client_auth(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let builder = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(setup)?
            .with_no_client_auth();
        Self::finish(builder, certificate, key, false)
    }

    fn finish(
        builder: rustls::ConfigBuilder<rustls::ServerConfig, rustls::server::WantsServerCert>,
        certificate: &Path,
        key: &Path,
        requires_client_certificate: bool,
    ) -> Result<Self, TlsError> {
        check_key_is_private(key)?;
        let (certificate, key) = (Pem::read(certificate)?, Pem::read(key)?);
        let mut config = builder
            .with_single_cert(certificate.chain()?, key.key()?)
            .map_err(|error| bad_pair(&certificate, &key, &error))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        let config = QuicServerConfig::try_from(config).map_err(setup)?;
        Ok(Self { config: Arc::new(config), requires_client_certificate })
    }
}

impl ClientTls {
    /// A client that shows the certificate of `files` and talks only to servers whose certificate the CA has signed
    /// for the host name or address it connects to.
    ///
    /// # Errors
    /// [`TlsError`] names the file at fault and the remedy.
    pub fn load(files: &IdentityFiles) -> Result<Self, TlsError> {
        check_key_is_private(&files.key)?;
        Self::build(&Pem::read(&files.ca)?, &Pem::read(&files.certificate)?, &Pem::read(&files.key)?)
    }

    /// The same from PEM text in memory; errors name the texts `<ca>`, `<certificate>` and `<key>`.
    ///
    /// # Errors
    /// [`TlsError`] names the text at fault and the remedy.
    pub fn from_pem(ca: &[u8], certificate: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        Self::build(&Pem::named("<ca>", ca), &Pem::named("<certificate>", certificate), &Pem::named("<key>", key))
    }

    fn build(ca: &Pem<'_>, certificate: &Pem<'_>, key: &Pem<'_>) -> Result<Self, TlsError> {
        let mut config = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(setup)?
            .with_root_certificates(ca.roots()?)
            .with_client_auth_cert(certificate.chain()?, key.key()?)
            .map_err(|error| bad_pair(certificate, key, &error))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        config.enable_early_data = false;
        let config = QuicClientConfig::try_from(config).map_err(setup)?;
        Ok(Self { config: Arc::new(config) })
    }
}

/// aws-lc-rs, with AES-128 first: it is the cheaper one and no weaker in practice.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    use aws_lc_rs::cipher_suite as suite;
    let cipher_suites =
        vec![suite::TLS13_AES_128_GCM_SHA256, suite::TLS13_AES_256_GCM_SHA384, suite::TLS13_CHACHA20_POLY1305_SHA256];
    Arc::new(CryptoProvider { cipher_suites, ..aws_lc_rs::default_provider() })
}

fn setup(error: impl fmt::Display) -> TlsError {
    TlsError::Setup(error.to_string())
}

fn bad_pair(certificate: &Pem<'_>, key: &Pem<'_>, error: &rustls::Error) -> TlsError {
    TlsError::BadPair { certificate: certificate.path.clone(), key: key.path.clone(), problem: error.to_string() }
}

/// PEM text and where it comes from.
struct Pem<'a> {
    path: PathBuf,
    text: Cow<'a, [u8]>,
}

impl<'a> Pem<'a> {
    fn named(name: &str, text: &'a [u8]) -> Self {
        Self { path: name.into(), text: text.into() }
    }

    fn read(path: &Path) -> Result<Self, TlsError> {
        let failed = |source| TlsError::Read { path: path.into(), source };
        let mut text = Vec::new();
        File::open(path).map_err(failed)?.take(IDENTITY_FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(failed)?;
        if text.len() as u64 > IDENTITY_FILE_BYTES_MAX {
            return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, "larger than any PEM file")));
        }
        Ok(Self { path: path.into(), text: text.into() })
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let bad = |problem: String| TlsError::Pem { path: self.path.clone(), expected: "certificate", problem };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.text).collect();
        let chain = chain.map_err(|error| bad(error.to_string()))?;
        if chain.is_empty() { Err(bad("there is none".into())) } else { Ok(chain) }
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.chain()? {
            let added = roots.add(certificate);
            added.map_err(|error| TlsError::BadCa { path: self.path.clone(), problem: error.to_string() })?;
        }
        Ok(roots)
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(&self.text).map_err(|error| TlsError::Pem {
            path: self.path.clone(),
            expected: "private key",
            problem: error.to_string(),
        })
    }
}

/// Refuses a private key that its group or everybody can read.
pub(crate) fn check_key_is_private(path: &Path) -> Result<(), TlsError> {
    let metadata = path.metadata().map_err(|source| TlsError::Read { path: path.into(), source })?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(TlsError::KeyOpenToOthers { path: path.into(), mode }) }
}

/// Who is at the other end, as TLS proved it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// The common name of the peer's certificate.
    Named(Arc<str>),
    /// The peer showed no certificate; only on endpoints that don't ask for one.
    Anonymous,
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => write!(f, "User:{name}"),
            Self::Anonymous => f.write_str("User:ANONYMOUS"),
        }
    }
}

/// Peer: its certificate is valid but names nobody we could call by that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer's certificate has no usable common name ({0}): issue one with CN=<name> in its subject")]
pub struct PrincipalError(String);

impl Principal {
    /// The principal of a certificate in DER form: the one common name of its subject, at most
    /// [`PRINCIPAL_CHARS_MAX`] printable characters.
    ///
    /// # Errors
    /// [`PrincipalError`] when there is none, more than one, or one that can't be printed.
    pub fn of_certificate(der: &[u8]) -> Result<Self, PrincipalError> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|error| PrincipalError(peer_text(&error.to_string())))?;
        let mut names = certificate.subject().iter_common_name();
        let (Some(name), None) = (names.next(), names.next()) else {
            return Err(PrincipalError("expected exactly one".into()));
        };
        let name = name.as_str().map_err(|error| PrincipalError(peer_text(&error.to_string())))?;
        let printable = !name.is_empty() && !name.chars().any(char::is_control);
        if !printable || name.chars().count() > PRINCIPAL_CHARS_MAX {
            return Err(PrincipalError(peer_text(name)));
        }
        Ok(Self::Named(name.into()))
    }
}
