//! The certificates of a development broker: a CA of its own, made once, that signs one broker and one client.
//!
//! All files are written into a new directory beside the final one, synced, and moved into place with one rename: after
//! a crash there is the whole set or none of it. What is there is never written again.

use crate::tls::{IdentityFiles, TlsError, check_key_is_private};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use time::{Duration, OffsetDateTime};

/// Days that development certificates are valid.
pub const DEV_CERTIFICATE_DAYS: i64 = 3650;

/// Names that a development broker's certificate is valid for.
pub const DEV_BROKER_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

const CA: [&str; 2] = ["ca.pem", "ca.key"];
const BROKER: [&str; 2] = ["broker.pem", "broker.key"];
const CLIENT: [&str; 2] = ["client.pem", "client.key"];

/// Where the files of a development set-up lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevIdentities {
    /// The broker's.
    pub broker: IdentityFiles,
    /// The command line's.
    pub client: IdentityFiles,
    /// Whether this call made them.
    pub created: bool,
}

/// Why the development certificates are not there.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Disk: a file or directory can't be written or read.
    #[error("can't write certificates at {path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Operator: some files of the set are gone.
    #[error("{directory} lacks {missing}: put it back, or move the directory away and new certificates are made")]
    Incomplete {
        /// The directory of the set.
        directory: PathBuf,
        /// The first file that is missing.
        missing: &'static str,
    },
    /// Operator: a private key is open to others.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Us: a certificate can't be made.
    #[error("can't make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// The development certificates in `directory`; makes them when the directory isn't there (or is empty).
///
/// Files: `ca.pem`, `ca.key`, `broker.pem`, `broker.key` (for `localhost`, `127.0.0.1`, `::1`), `client.pem`,
/// `client.key`; all of mode 0600. The caller holds the lock of the data directory, so nobody else does the same now.
///
/// # Errors
/// [`IdentityError`] when the disk fails, the set is incomplete or a key is open to others.
pub fn create_dev_identities(directory: &Path) -> Result<DevIdentities, IdentityError> {
    let created = is_absent_or_empty(directory)?;
    if created {
        create_set(directory)?;
    }
    for name in [CA, BROKER, CLIENT].into_iter().flatten() {
        let path = directory.join(name);
        if !path.try_exists().map_err(io_at(&path))? {
            return Err(IdentityError::Incomplete { directory: directory.into(), missing: name });
        }
        if name.ends_with(".key") {
            check_key_is_private(&path)?;
        }
    }
    let files = |[certificate, key]: [&str; 2]| IdentityFiles {
        ca: directory.join(CA[0]),
        certificate: directory.join(certificate),
        key: directory.join(key),
    };
    Ok(DevIdentities { broker: files(BROKER), client: files(CLIENT), created })
}

fn is_absent_or_empty(directory: &Path) -> Result<bool, IdentityError> {
    match fs::read_dir(directory) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(source) => Err(IdentityError::Io { path: directory.into(), source }),
    }
}

fn create_set(directory: &Path) -> Result<(), IdentityError> {
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = directory.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let staging = directory.with_file_name(name);
    fs::create_dir_all(parent).map_err(io_at(parent))?;
    // A crash may have left a part of a set here; nothing has ever used it.
    match fs::remove_dir_all(&staging) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_at(&staging)(error)),
        _ => {}
    }
    DirBuilder::new().mode(0o700).create(&staging).map_err(io_at(&staging))?;
    write_set(&staging)?;
    sync_directory(&staging)?;
    fs::rename(&staging, directory).map_err(io_at(directory))?;
    sync_directory(parent)
}

fn write_set(directory: &Path) -> Result<(), IdentityError> {
    let ca_key = KeyPair::generate()?;
    let mut ca = parameters("Headwater development CA", &[])?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_certificate = ca.self_signed(&ca_key)?;
    write_pair(directory, CA, &ca_certificate, &ca_key)?;
    let issuer = Issuer::new(ca, ca_key);

    // A broker is also a client of other brokers.
    let both = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    write_leaf(directory, BROKER, parameters("broker", &DEV_BROKER_NAMES)?, &both, &issuer)?;
    write_leaf(directory, CLIENT, parameters("client", &[])?, &both[1..], &issuer)
}

fn parameters(common_name: &str, names: &[&str]) -> Result<CertificateParams, rcgen::Error> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut parameters = CertificateParams::new(names)?;
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    parameters.use_authority_key_identifier_extension = true;
    // A day of slack for clocks that differ.
    let now = OffsetDateTime::now_utc();
    parameters.not_before = now - Duration::days(1);
    parameters.not_after = now + Duration::days(DEV_CERTIFICATE_DAYS);
    Ok(parameters)
}

fn write_leaf(
    directory: &Path,
    names: [&str; 2],
    mut parameters: CertificateParams,
    usages: &[ExtendedKeyUsagePurpose],
    issuer: &Issuer<'_, KeyPair>,
) -> Result<(), IdentityError> {
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = usages.to_vec();
    let key = KeyPair::generate()?;
    let certificate = parameters.signed_by(&key, issuer)?;
    write_pair(directory, names, &certificate, &key)
}

fn write_pair(
    directory: &Path,
    [certificate_name, key_name]: [&str; 2],
    certificate: &Certificate,
    key: &KeyPair,
) -> Result<(), IdentityError> {
    write_synced(&directory.join(certificate_name), certificate.pem().as_bytes())?;
    write_synced(&directory.join(key_name), key.serialize_pem().as_bytes())
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(io_at(path))
}

fn sync_directory(path: &Path) -> Result<(), IdentityError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(io_at(path))
}

fn io_at(path: &Path) -> impl Fn(io::Error) -> IdentityError {
    move |source| IdentityError::Io { path: path.into(), source }
}
