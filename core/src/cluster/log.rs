//! The metadata log as deciders see it, and the decisions that belong to nothing else.

use super::{ClusterImage, MetadataRecord};
use crate::limits;
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::{ClusterId, ProducerId};
use std::ops::Range;

/// How many metadata batches are committed (or applied): 0 for an empty log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct MetadataIndex(
    /// The count.
    pub u64,
);

/// A request's records and its answer, true once the records are committed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision<T> {
    /// One metadata batch: committed and applied together. Empty when nothing has to change.
    pub records: Vec<MetadataRecord>,
    /// What to answer then.
    pub answer: T,
}

/// The log that makes decisions true: one synced file today, a quorum of controllers later.
///
/// An implementation holds its batches durably (RAFT-4) before `propose` returns `Ok`, and hands every committed batch
/// to its reader in order, exactly once.
pub trait MetadataLog {
    /// How many batches are committed.
    fn committed(&self) -> MetadataIndex;

    /// Commits `records` as one batch, all or none, if exactly `after` batches are committed: compare-and-set, so a
    /// decision made on an older image changes nothing. Returns the index after it, `after + 1`.
    ///
    /// # Errors
    /// [`ProposeError`]; only [`ProposeError::Unknown`] leaves open whether the batch was committed.
    fn propose(&mut self, after: MetadataIndex, records: &[MetadataRecord]) -> Result<MetadataIndex, ProposeError>;
}

/// Why a batch was not committed, or is not known to be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProposeError {
    /// Somebody else's batch came first: decide again on the new image.
    #[error("the cluster's metadata has changed meanwhile (to batch {})", committed.0)]
    Stale {
        /// What is committed now.
        committed: MetadataIndex,
    },
    /// Client, or us: one batch can't hold it. Nothing was committed.
    #[error("the change takes {bytes} bytes in the metadata log, one batch holds {bytes_max}")]
    TooLarge {
        /// Bytes of the records.
        bytes: usize,
        /// Bytes of the largest batch.
        bytes_max: usize,
    },
    /// Disk or network: it may or may not be committed. A disk's failure poisons the log (LOG-7).
    #[error("whether the change was committed is not known: {0}")]
    Unknown(
        /// What happened.
        String,
    ),
}

impl From<ProposeError> for ApiError {
    fn from(error: ProposeError) -> Self {
        let code = match &error {
            ProposeError::Stale { .. } => ErrorCode::Busy,
            ProposeError::TooLarge { .. } => ErrorCode::InvalidRequest,
            ProposeError::Unknown(_) => ErrorCode::KafkaStorageError,
        };
        Self::new(code, error.to_string())
    }
}

/// The first batch of a new cluster.
///
/// # Errors
/// `InvalidRequest` if `image` is of a cluster already, or the id is that of none.
pub fn create_cluster(image: &ClusterImage, cluster: ClusterId) -> Result<Decision<()>, ApiError> {
    if image.cluster() != ClusterId::NONE || cluster == ClusterId::NONE {
        let message = format!("the metadata log is that of cluster {} already", image.cluster());
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    Ok(Decision { records: vec![MetadataRecord::ClusterCreated { cluster }], answer: () })
}

/// Allots a block of `count` producer ids that nobody else has or will have (IDP-7).
///
/// # Errors
/// `InvalidRequest` for a block that is empty or too large, and when the ids have run out.
pub fn allot_producer_ids(image: &ClusterImage, count: u32) -> Result<Decision<Range<i64>>, ApiError> {
    let first = image.next_producer_id();
    let next = first + i64::from(count);
    let error = |message| Err(ApiError::new(ErrorCode::InvalidRequest, message));
    if count == 0 || count > limits::PRODUCER_ID_BLOCK_MAX {
        return error(format!("a block has 1 to {} producer ids, not {count}", limits::PRODUCER_ID_BLOCK_MAX));
    }
    if ProducerId(next).is_task() {
        return error("the cluster has no producer ids left".to_owned());
    }
    Ok(Decision { records: vec![MetadataRecord::ProducerIdsAllotted { next }], answer: first..next })
}
