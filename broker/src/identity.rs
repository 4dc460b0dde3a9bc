//! Whose data directory it is: cluster, broker and directory id, written once and checked at each start (LOG-10).

use crate::clock::unix_time_ms;
use headwater_log::format::checkpoint::{self, CheckpointError, Kind};
use headwater_log::storage::Storage;
use headwater_log::{LogError, checkpoint_file};
use headwater_protocol::ids::{BrokerId, ClusterId, DirectoryId};
use std::path::{Path, PathBuf};

const KIND: Kind = Kind::new("identity");
const VERSION: u16 = 1;
const FILE: &str = "identity.checkpoint";
/// Cluster id, directory id, broker id (big-endian), time of creation (ms, big-endian).
const PAYLOAD_BYTES: usize = 16 + 16 + 4 + 8;

/// A data directory's owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    /// The cluster it belongs to.
    pub(crate) cluster: ClusterId,
    /// Its own id.
    pub(crate) directory: DirectoryId,
    /// The broker it belongs to.
    pub(crate) broker: BrokerId,
}

/// Why a data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Disk.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The operator gave it to another broker.
    #[error("{} belongs to broker {found}, the configuration says broker_id = {configured}: one of the two is wrong",
        path.display())]
    OtherBroker {
        /// The data directory.
        path: PathBuf,
        /// Whose it is.
        found: u32,
        /// Whose it should be.
        configured: u32,
    },
    /// Disk: there is data without an owner.
    #[error("{} holds logs but its identity file is missing or torn: restore {FILE} from a backup", .0.display())]
    Lost(
        /// The data directory.
        PathBuf,
    ),
}

/// Reads the identity of a data directory, or gives a new directory one.
pub(crate) fn read_or_create(
    storage: &dyn Storage,
    data_dir: &Path,
    broker: BrokerId,
    is_new: bool,
) -> Result<Identity, IdentityError> {
    let path = data_dir.join(FILE);
    match checkpoint_file::read(storage, &path, decode)? {
        Some(found) if found.broker == broker => Ok(found),
        Some(found) => {
            Err(IdentityError::OtherBroker { path: data_dir.to_owned(), found: found.broker.0, configured: broker.0 })
        }
        None if !is_new => Err(IdentityError::Lost(data_dir.to_owned())),
        None => {
            let created = Identity {
                cluster: ClusterId(*uuid::Uuid::new_v4().as_bytes()),
                directory: DirectoryId(*uuid::Uuid::new_v4().as_bytes()),
                broker,
            };
            checkpoint_file::write(storage, &path, &encode(created)).map_err(LogError::from)?;
            Ok(created)
        }
    }
}

fn encode(identity: Identity) -> Vec<u8> {
    let mut payload = Vec::with_capacity(PAYLOAD_BYTES);
    payload.extend_from_slice(&identity.cluster.0);
    payload.extend_from_slice(&identity.directory.0);
    payload.extend_from_slice(&identity.broker.0.to_be_bytes());
    payload.extend_from_slice(&unix_time_ms().to_be_bytes());
    checkpoint::encode(KIND, VERSION, &payload)
}

fn decode(bytes: &[u8]) -> Result<Identity, CheckpointError> {
    let payload = checkpoint::decode(KIND, VERSION, bytes)?.payload;
    let payload: &[u8; PAYLOAD_BYTES] =
        payload.try_into().map_err(|_| CheckpointError::Torn("an identity has 44 bytes"))?;
    let part = |start: usize| -> [u8; 16] { std::array::from_fn(|place| payload[start + place]) };
    let broker = u32::from_be_bytes(std::array::from_fn(|place| payload[32 + place]));
    Ok(Identity { cluster: ClusterId(part(0)), directory: DirectoryId(part(16)), broker: BrokerId(broker) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_log::storage::memory::MemoryStorage;

    #[test]
    fn an_identity_is_kept_and_no_other_broker_takes_the_directory() {
        // covers LOG-10
        let storage = MemoryStorage::new();
        let path = Path::new("/data");
        storage.create_directory(path).unwrap();
        let created = read_or_create(&storage, path, BrokerId(1), true).unwrap();
        assert_eq!(read_or_create(&storage, path, BrokerId(1), false).unwrap(), created);
        let error = read_or_create(&storage, path, BrokerId(2), false).unwrap_err();
        assert!(matches!(error, IdentityError::OtherBroker { found: 1, configured: 2, .. }));
    }

    #[test]
    fn logs_without_an_identity_are_not_taken_for_a_new_directory() {
        let storage = MemoryStorage::new();
        let path = Path::new("/data");
        storage.create_directory(path).unwrap();
        let error = read_or_create(&storage, path, BrokerId(1), false).unwrap_err();
        assert!(matches!(error, IdentityError::Lost(_)));
    }
}
