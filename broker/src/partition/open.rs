//! Opening a partition: recover its log, rebuild what its producers wrote, begin the reign that metadata names.

use super::PartitionPlace;
use super::driver::LedPartition;
use super::shared::PartitionView;
use crate::metrics as names;
use headwater_core::cluster::{ClusterImage, TopicSettings};
use headwater_core::producer::{PartitionKind, Producers};
use headwater_core::replica::{InvalidRecovery, Leader, LeaderConfig, Recovered};
use headwater_log::snapshot::Derived;
use headwater_log::{Log, LogConfig, LogError};
use headwater_protocol::batch::RecordBatch;
use headwater_protocol::ids::{BrokerId, LeaderEpoch, TopicId, TopicPartition};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A partition to open, as metadata describes it.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Which one.
    pub id: TopicPartition,
    /// Its topic's name.
    pub topic_name: String,
    /// Whether only the broker writes to it.
    pub internal: bool,
    /// What its batches are.
    pub kind: PartitionKind,
    /// Its topic's settings.
    pub settings: TopicSettings,
    /// The reign that begins.
    pub leader: LeaderConfig,
}

/// Why a partition can't be served; the others are.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Disk.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Disk, or metadata and log contradict each other.
    #[error(transparent)]
    Invalid(#[from] InvalidRecovery),
}

/// Everything that `broker` leads.
#[must_use]
pub fn wanted(image: &ClusterImage, broker: BrokerId) -> Vec<Opening> {
    let changelogs: BTreeSet<TopicId> = image.processors().map(|processor| processor.changelog).collect();
    let mut wanted = Vec::new();
    for topic in image.topics() {
        let kind = if changelogs.contains(&topic.id) { PartitionKind::Changelog } else { PartitionKind::Records };
        for (number, partition) in (0_u32..).zip(&topic.partitions) {
            if partition.leader == Some(broker) {
                wanted.push(Opening {
                    id: TopicPartition { topic: topic.id, partition: number },
                    topic_name: topic.name.to_string(),
                    internal: topic.internal,
                    kind,
                    settings: topic.settings.clone(),
                    leader: LeaderConfig::from_image(broker, partition, &topic.settings),
                });
            }
        }
    }
    wanted
}

/// Name of a partition's directory: topic id and number.
pub(super) fn directory_name(id: TopicPartition) -> String {
    id.to_string()
}

/// A topic's settings as its logs go by them.
pub(super) fn log_config(settings: &TopicSettings) -> LogConfig {
    let TopicSettings { segment_bytes, mut segment_ms, .. } = *settings;
    // What grows is not cleaned: it must not grow for longer than a record may stay dirty.
    if let Some(lag_ms_max) = settings.compaction.lag_ms_max.filter(|_| settings.cleanup_policy.compact) {
        segment_ms = segment_ms.min(lag_ms_max);
    }
    LogConfig { segment_bytes, segment_ms, ..LogConfig::default() }
}

/// The producers of a partition, as its log and the snapshots beside it tell of them (LOG-8).
struct Seen {
    kind: PartitionKind,
    producers: Producers,
}

impl Derived for Seen {
    fn begin(&mut self) {
        self.producers = Producers::new(self.kind);
    }

    fn restore(&mut self, log_end: i64, state: &[u8]) -> Result<(), String> {
        self.producers = Producers::restore(self.kind, log_end, state).map_err(|error| error.to_string())?;
        Ok(())
    }

    fn observe(&mut self, batch: &RecordBatch) {
        self.producers.observe(batch.header(), batch.header().base_offset);
    }
}

/// Opens the log and begins to lead it.
///
/// # Errors
/// [`OpenError`]: this partition can't be served.
pub fn open(place: &PartitionPlace, opening: &Opening) -> Result<LedPartition, OpenError> {
    let mut seen = Seen { kind: opening.kind, producers: Producers::new(opening.kind) };
    let name = directory_name(opening.id);
    let (mut log, report) = Log::open_derived(&place.directory, &name, log_config(&opening.settings), &mut seen)?;
    let mut producers = seen.producers;
    // A snapshot may know producers whose batches were deleted since.
    producers.forget_all_before(log.log_start_offset());
    let leader_epoch = log.epochs().newest().map(LeaderEpoch);
    metrics::counter!(names::RECOVERED_BATCHES).increment(report.batches);
    if let Some(lost) = &report.lost_tail {
        metrics::counter!(names::TORN_TAIL_BYTES).increment(lost.bytes);
    }
    // TRN-2: a reign is on record even if it appends nothing.
    log.begin_epoch(opening.leader.leader_epoch)?;
    let recovered = Recovered {
        log_start: log.log_start_offset(),
        log_end: log.log_end_offset(),
        durable_end: log.durable().next_offset().max(log.log_start_offset()),
        leader_epoch,
        producers,
    };
    let leader = Leader::new(&opening.leader, recovered)?;
    let view = PartitionView::new(
        opening.id,
        opening.topic_name.clone(),
        opening.leader.leader_epoch,
        log.reader(),
        log.log_start_offset(),
    );
    Ok(LedPartition::new(leader, log, Arc::new(view), opening.kind))
}

/// Deletes what is left on disk of topics that a committed record deleted, and reports directories that metadata does
/// not know: those are left alone (RAFT-8). `others` are directories of the broker's own.
pub fn clean_up(place: &PartitionPlace, image: &ClusterImage, deleted: &BTreeSet<TopicId>, others: &[&str]) {
    let names = match place.directory.partitions() {
        Ok(names) => names,
        Err(error) => return tracing::error!(%error, "the data directory can't be listed"),
    };
    for name in names.iter().filter(|name| !others.contains(&name.as_str())) {
        let Some(id) = parse(name) else {
            tracing::warn!(directory = name, "not a partition's directory; it is left alone");
            continue;
        };
        if image.partition(id).is_some() {
            continue;
        }
        if !deleted.contains(&id.topic) {
            tracing::warn!(directory = name, "metadata does not know this partition; it is left alone");
            continue;
        }
        match place.directory.delete_partition(name) {
            Ok(()) => tracing::info!(partition = %id, "deleted what a crash left of it"),
            Err(error) => tracing::error!(partition = %id, %error, "its files could not be deleted"),
        }
    }
}

fn parse(name: &str) -> Option<TopicPartition> {
    let (topic, partition) = name.rsplit_once('-')?;
    Some(TopicPartition { topic: topic.parse().ok()?, partition: partition.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_name_says_which_partition_it_is() {
        let id = TopicPartition { topic: TopicId([0x5a; 16]), partition: 17 };
        assert_eq!(parse(&directory_name(id)), Some(id));
        assert_eq!(parse("lost+found"), None);
        assert_eq!(parse("metadata"), None);
    }
}
