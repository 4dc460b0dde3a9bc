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
    /// Disk: the metadata log is another cluster's.
    #[error("the metadata log in {} is of cluster {metadata}, {FILE} says {found}: one of the two is a foreign copy",
        path.display())]
    OtherCluster {
        /// The data directory.
        path: PathBuf,
        /// What the identity says.
        found: ClusterId,
        /// What the metadata log says.
        metadata: ClusterId,
    },
    /// Disk: the logs of a cluster that was here are gone (LOG-10).
    #[error("{} belongs to cluster {cluster}, but its metadata log is gone or empty: is another disk mounted there? \
        Restore logs/ from a backup, or remove {FILE} to begin a new, empty cluster", path.display())]
    LogsLost {
        /// The data directory.
        path: PathBuf,
        /// Whose it is.
        cluster: ClusterId,
    },
    /// Disk: there is data without an owner.
    #[error("{} holds logs but its identity file is missing or torn: restore {FILE} from a backup", .0.display())]
    Lost(
        /// The data directory.
        PathBuf,
    ),
}

/// The identity of a data directory, if it has one.
pub(crate) fn read(
    storage: &dyn Storage,
    data_dir: &Path,
    broker: BrokerId,
) -> Result<Option<Identity>, IdentityError> {
    match checkpoint_file::read(storage, &data_dir.join(FILE), decode)? {
        Some(found) if found.broker != broker => {
            Err(IdentityError::OtherBroker { path: data_dir.to_owned(), found: found.broker.0, configured: broker.0 })
        }
        found => Ok(found),
    }
}

/// What the metadata log of a data directory says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Beginning {
    /// Its cluster, if one was created.
    pub(crate) cluster: Option<ClusterId>,
    /// Whether a broker ever registered: the end of every first start.
    pub(crate) has_brokers: bool,
    /// Whether other partitions lie beside it.
    pub(crate) has_partitions: bool,
}

/// Whose data directory it is: `found`, or, for a first start or one that a crash cut short, a new identity in the
/// cluster that `beginning` has or in `new_cluster`.
///
/// A first start creates the cluster in the metadata log, then writes the identity, then registers the broker. So an
/// identity without a cluster has lost its logs (LOG-10), and a registered broker without an identity has lost that.
///
/// # Errors
/// [`IdentityError`]; nothing was changed.
pub(crate) fn decide(
    data_dir: &Path,
    found: Option<Identity>,
    beginning: Beginning,
    broker: BrokerId,
    new_cluster: ClusterId,
) -> Result<Identity, IdentityError> {
    match (found, beginning.cluster) {
        (Some(found), Some(cluster)) if found.cluster == cluster => Ok(found),
        (Some(found), Some(cluster)) => {
            Err(IdentityError::OtherCluster { path: data_dir.to_owned(), found: found.cluster, metadata: cluster })
        }
        (Some(found), None) => Err(IdentityError::LogsLost { path: data_dir.to_owned(), cluster: found.cluster }),
        (None, None) if !beginning.has_partitions => Ok(new_identity(new_cluster, broker)),
        (None, Some(cluster)) if !beginning.has_brokers => Ok(new_identity(cluster, broker)),
        (None, _) => Err(IdentityError::Lost(data_dir.to_owned())),
    }
}

fn new_identity(cluster: ClusterId, broker: BrokerId) -> Identity {
    Identity { cluster, directory: DirectoryId(*uuid::Uuid::new_v4().as_bytes()), broker }
}

/// Writes the identity of a data directory, synced.
pub(crate) fn write(storage: &dyn Storage, data_dir: &Path, identity: Identity) -> Result<(), IdentityError> {
    checkpoint_file::write(storage, &data_dir.join(FILE), &encode(identity)).map_err(LogError::from)?;
    Ok(())
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

    const CLUSTER: ClusterId = ClusterId([3; 16]);
    const NOTHING: Beginning = Beginning { cluster: None, has_brokers: false, has_partitions: false };

    fn decided(found: Option<Identity>, beginning: Beginning) -> Result<Identity, IdentityError> {
        decide(Path::new("/data"), found, beginning, BrokerId(1), CLUSTER)
    }

    #[test]
    fn an_identity_is_kept_and_no_other_broker_takes_the_directory() {
        // covers LOG-10
        let storage = MemoryStorage::new();
        let path = Path::new("/data");
        storage.create_directory(path).unwrap();
        assert_eq!(read(&storage, path, BrokerId(1)).unwrap(), None);
        let created = decided(None, NOTHING).unwrap();
        write(&storage, path, created).unwrap();
        assert_eq!(read(&storage, path, BrokerId(1)).unwrap(), Some(created));
        let error = read(&storage, path, BrokerId(2)).unwrap_err();
        assert!(matches!(error, IdentityError::OtherBroker { found: 1, configured: 2, .. }));
    }

    #[test]
    fn a_first_start_that_a_crash_cut_short_is_finished() {
        let before_the_cluster = decided(None, NOTHING).unwrap();
        assert_eq!((before_the_cluster.cluster, before_the_cluster.broker), (CLUSTER, BrokerId(1)));
        let other = ClusterId([4; 16]);
        let before_the_identity = Beginning { cluster: Some(other), ..NOTHING };
        let created = decided(None, before_the_identity).unwrap();
        assert_eq!(created.cluster, other, "the cluster that was created is not created again");
        assert_eq!(decided(Some(created), before_the_identity).unwrap(), created, "before the registration");
    }

    #[test]
    fn a_directory_that_lost_its_logs_or_its_identity_is_not_taken_for_a_new_one() {
        // covers LOG-10, RAFT-8
        let whole = Beginning { cluster: Some(CLUSTER), has_brokers: true, has_partitions: true };
        let identity = new_identity(CLUSTER, BrokerId(1));
        assert_eq!(decided(Some(identity), whole).unwrap(), identity);
        assert!(matches!(decided(Some(identity), NOTHING).unwrap_err(), IdentityError::LogsLost { .. }));
        assert!(matches!(decided(None, whole).unwrap_err(), IdentityError::Lost(_)));
        let without_metadata = Beginning { has_partitions: true, ..NOTHING };
        assert!(matches!(decided(None, without_metadata).unwrap_err(), IdentityError::Lost(_)));
        let foreign = Beginning { cluster: Some(ClusterId([4; 16])), ..whole };
        assert!(matches!(decided(Some(identity), foreign).unwrap_err(), IdentityError::OtherCluster { .. }));
    }
}
