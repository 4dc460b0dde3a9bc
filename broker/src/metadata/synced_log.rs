//! The metadata log of a single broker: a log like any partition's, each batch synced before it counts (RAFT-4).
//!
//! One metadata batch is one record batch; each record's value is one encoded metadata record.

use crate::clock::unix_time_ms;
use headwater_core::cluster::{
    ApplyError, ClusterImage, MetadataIndex, MetadataLog, MetadataRecord, ProposeError, RecordError,
};
use headwater_log::{DataDirectory, Log, LogConfig, LogError};
use headwater_mutants::{Mutant, lacks};
use headwater_protocol::batch::{
    BatchBuilder, BatchError, BatchLimits, Compression, ProducerStamp, RecordBatch, stamp,
};
use headwater_protocol::ids::{LeaderEpoch, TopicId};
use headwater_protocol::limits::INTERNAL_BATCH_BYTES_MAX;
use std::collections::BTreeSet;

/// Why the metadata can't be read.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Disk.
    #[error("the metadata log: {0}")]
    Log(#[from] LogError),
    /// Disk: a batch passes its checksum and is no batch of records all the same.
    #[error("the metadata log holds a batch that can't be read: {0}")]
    Batch(#[from] BatchError),
    /// Disk, or a later broker wrote it.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Disk: the records don't add up.
    #[error("the metadata log doesn't add up: {0}")]
    Apply(#[from] ApplyError),
}

/// The log, and how many batches it holds.
pub struct SyncedMetadataLog {
    log: Log,
    committed: MetadataIndex,
    next_offset: i64,
}

/// What the log held when it was opened.
pub struct Replayed {
    /// The sum of all batches.
    pub image: ClusterImage,
    /// Topics that a committed record deleted: what is left of them on disk may go (RAFT-8).
    pub deleted_topics: BTreeSet<TopicId>,
}

impl SyncedMetadataLog {
    /// Opens the log `name` of `directory` (made if it is missing) and adds all of it up.
    ///
    /// # Errors
    /// [`OpenError`]: the broker must not start on metadata it can't read (RAFT-8).
    pub fn open(directory: &DataDirectory, name: &str) -> Result<(Self, Replayed), OpenError> {
        let mut replayed = Replayed { image: ClusterImage::default(), deleted_topics: BTreeSet::new() };
        let mut failure = None;
        let (log, report) = Log::open(directory, name, LogConfig::default(), &mut |batch| {
            if failure.is_none() {
                failure = replay(&mut replayed, batch).err();
            }
        })?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        if let Some(lost) = &report.lost_tail {
            tracing::warn!(bytes = lost.bytes, reason = lost.reason, "the metadata log had a torn end");
        }
        let next_offset = log.log_end_offset();
        let mut opened = Self { log, committed: replayed.image.index(), next_offset };
        // What was read must be durable before anybody acts on it.
        opened.log.flush()?;
        Ok((opened, replayed))
    }

    fn append(&mut self, records: &[MetadataRecord]) -> Result<(), ProposeError> {
        let unknown = |error: LogError| ProposeError::Unknown(error.to_string());
        let mut builder = BatchBuilder::new(Compression::None);
        let now = unix_time_ms();
        let too_large = |bytes| ProposeError::TooLarge { bytes, bytes_max: INTERNAL_BATCH_BYTES_MAX };
        for record in records {
            let value = record.encode();
            if builder.size_bytes() + value.len() > INTERNAL_BATCH_BYTES_MAX {
                return Err(too_large(builder.size_bytes() + value.len()));
            }
            builder.append(now, None, Some(&value), &[]).map_err(|_| too_large(builder.size_bytes()))?;
        }
        let mut batch = builder.build(ProducerStamp::NONE).map_err(|error| ProposeError::Unknown(error.to_string()))?;
        stamp(&mut batch, self.next_offset, LeaderEpoch(0));
        let position = self.log.append(batch.freeze()).map_err(unknown)?;
        self.next_offset = position.next_offset;
        if !lacks(Mutant::MetadataBeforeSync) {
            self.log.flush().map_err(unknown)?;
        }
        Ok(())
    }
}

impl MetadataLog for SyncedMetadataLog {
    fn committed(&self) -> MetadataIndex {
        self.committed
    }

    fn propose(&mut self, after: MetadataIndex, records: &[MetadataRecord]) -> Result<MetadataIndex, ProposeError> {
        if after != self.committed {
            return Err(ProposeError::Stale { committed: self.committed });
        }
        self.append(records)?;
        self.committed = MetadataIndex(after.0 + 1);
        Ok(self.committed)
    }
}

fn replay(replayed: &mut Replayed, batch: &RecordBatch) -> Result<(), OpenError> {
    let mut records = Vec::new();
    for record in batch.records(&BatchLimits::INTERNAL)?.iter() {
        let record = MetadataRecord::decode(record?.value.unwrap_or_default())?;
        if let MetadataRecord::TopicDeleted { topic } = record {
            replayed.deleted_topics.insert(topic);
        }
        records.push(record);
    }
    Ok(replayed.image.apply(&records)?)
}
