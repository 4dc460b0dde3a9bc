//! The context file: where a cluster is and who we are to it, so that a command line finds both.
//!
//! ```toml
//! brokers = ["127.0.0.1:9092"]
//! ca = "certificates/ca.pem"            # relative paths count from this file's directory
//! certificate = "certificates/client.pem"
//! key = "certificates/client.key"
//! ```

use crate::config::{ClientConfig, ClientTls};
use crate::limits::CONTEXT_FILE_BYTES_MAX;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// What a context file says. Paths in it are absolute, or count from the working directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// `host:port` of one or more brokers.
    pub brokers: Vec<String>,
    /// PEM file with the certificate of the cluster's CA.
    pub ca: PathBuf,
    /// PEM file with the client's certificate chain.
    pub certificate: PathBuf,
    /// PEM file with the client's private key.
    pub key: PathBuf,
}

/// The file as it is written; relative paths count from its directory.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ContextFile {
    brokers: Vec<String>,
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

/// Why a context can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// Disk: the file can't be read.
    #[error("no context at {path} ({source}): run `headwater dev`, which writes one, or name another file")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Disk: the file can't be written.
    #[error("can't write the context {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Client: the file is not a context.
    #[error("{path} is not a context: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where it is wrong and what was expected there.
        reason: String,
    },
}

impl Context {
    /// Reads the context at `path`.
    ///
    /// # Errors
    /// [`ContextError::Read`], or [`ContextError::Malformed`] for anything but the four keys.
    pub fn load(path: &Path) -> Result<Self, ContextError> {
        let malformed = |reason: String| ContextError::Malformed { path: path.into(), reason };
        let text = read_bounded(path).map_err(|source| ContextError::Read { path: path.into(), source })?;
        let file: ContextFile = toml::from_str(&text).map_err(|error| malformed(error.to_string()))?;
        if file.brokers.is_empty() {
            return Err(malformed("`brokers` is empty: name at least one, as \"host:port\"".to_owned()));
        }
        let directory = directory_of(path);
        Ok(Self {
            brokers: file.brokers,
            ca: directory.join(file.ca),
            certificate: directory.join(file.certificate),
            key: directory.join(file.key),
        })
    }

    /// Writes the context to `path`, whole or not at all. Paths below the file's directory are written relative to it,
    /// so that the directory can be moved.
    ///
    /// # Errors
    /// [`ContextError::Write`].
    pub fn store(&self, path: &Path) -> Result<(), ContextError> {
        let failed = |source| ContextError::Write { path: path.into(), source };
        let directory = directory_of(path);
        let file = ContextFile {
            brokers: self.brokers.clone(),
            ca: as_stored(&self.ca, directory).map_err(failed)?,
            certificate: as_stored(&self.certificate, directory).map_err(failed)?,
            key: as_stored(&self.key, directory).map_err(failed)?,
        };
        let text = toml::to_string(&file).map_err(|error| failed(io::Error::other(error)))?;
        replace_file(path, directory, text.as_bytes()).map_err(failed)
    }

    /// Client settings that reach this cluster.
    pub fn client_config(&self) -> ClientConfig {
        let tls =
            ClientTls::Files { ca: self.ca.clone(), certificate: self.certificate.clone(), key: self.key.clone() };
        ClientConfig::new(self.brokers.clone(), tls)
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A path below `directory` as seen from there; any other one absolute.
fn as_stored(path: &Path, directory: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let directory = std::path::absolute(directory)?;
    Ok(path.strip_prefix(&directory).map(Path::to_path_buf).unwrap_or(path))
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(CONTEXT_FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > CONTEXT_FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than any context"));
    }
    Ok(text)
}

/// Writes beside the file, syncs, renames over it.
fn replace_file(path: &Path, directory: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_os_string();
    name.push(".new");
    let fresh = directory.join(name);
    let mut file = File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(directory: &Path) -> Context {
        Context {
            brokers: vec!["127.0.0.1:9092".into(), "[::1]:9093".into()],
            ca: directory.join("certificates/ca.pem"),
            certificate: directory.join("certificates/client.pem"),
            key: "/elsewhere/client.key".into(),
        }
    }

    #[test]
    fn what_is_stored_is_loaded_even_after_the_directory_has_moved() {
        let root = tempfile::tempdir().unwrap();
        let old = root.path().join("old");
        fs::create_dir(&old).unwrap();
        context(&old).store(&old.join("context.toml")).unwrap();
        assert_eq!(Context::load(&old.join("context.toml")).unwrap(), context(&old));
        context(&old).store(&old.join("context.toml")).unwrap();
        assert_eq!(fs::read_dir(&old).unwrap().count(), 1, "nothing is left beside the file");

        let new = root.path().join("new");
        fs::rename(&old, &new).unwrap();
        assert_eq!(Context::load(&new.join("context.toml")).unwrap(), context(&new));
    }

    #[test]
    fn a_file_that_is_no_context_is_refused_with_the_reason() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("context.toml");
        let missing = Context::load(&path).unwrap_err().to_string();
        assert!(missing.contains("headwater dev") && missing.contains("context.toml"), "{missing}");

        let good = "brokers = [\"a:1\"]\nca = \"a\"\ncertificate = \"b\"\nkey = \"c\"\n";
        fs::write(&path, good).unwrap();
        assert_eq!(Context::load(&path).unwrap().ca, root.path().join("a"));
        for (text, expected) in [
            (format!("{good}certificat = \"d\"\n"), "certificat"),
            (good.replace("key", "kee"), "kee"),
            (good.replace("\"a:1\"", ""), "brokers"),
            ("x".repeat(70_000), "larger"),
        ] {
            fs::write(&path, text).unwrap();
            let refused = Context::load(&path).unwrap_err().to_string();
            assert!(refused.contains(expected), "{refused}");
        }
    }
}
