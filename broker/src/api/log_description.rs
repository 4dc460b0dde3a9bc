//! What partitions' logs are made of, and how their compaction goes.

use super::log::damaged;
use super::{Api, check_count};
use crate::cleaner::{ByCommitKey, Classifiers, Extractors, policy_of};
use crate::clock::unix_time_ms;
use crate::metadata::blocking;
use crate::partition::PartitionHandle;
use headwater_core::cluster::KeyExtractor;
use headwater_log::cleaner::{ByRecordKey, ClassifierIdentity, RecordClassifier};
use headwater_log::{LogError, SegmentDescription as Described};
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::TopicPartition;
use headwater_protocol::messages::log::{
    CompactionDescription, DamagedRange, DescribeLogRequest, DescribeLogResponse, KeySource, LogDescription,
    SegmentDescription,
};
use std::sync::Arc;

/// Partitions that one request may name.
const DESCRIBED_PARTITIONS_MAX: usize = 20;
/// Segments that one answer tells of, of all its partitions together.
const DESCRIBED_SEGMENTS_MAX: usize = 1000;
/// Ranges in quarantine that one answer tells of, of all its partitions together.
const DESCRIBED_RANGES_MAX: usize = 200;

/// How much an answer tells of each partition.
#[derive(Clone, Copy)]
struct Shares {
    segments: usize,
    ranges: usize,
}

impl Api {
    /// Tells what logs are made of.
    pub(crate) async fn describe_log(
        self: Arc<Self>,
        request: DescribeLogRequest,
    ) -> Result<DescribeLogResponse, ApiError> {
        let count = request.partitions.len();
        check_count("partitions", count, DESCRIBED_PARTITIONS_MAX)?;
        let segments = usize::try_from(request.segments_max).unwrap_or(usize::MAX).min(DESCRIBED_SEGMENTS_MAX);
        let share = |all: usize| all.checked_div(count).unwrap_or(0).max(1);
        let shares = Shares { segments: share(segments), ranges: share(DESCRIBED_RANGES_MAX) };
        blocking(move || {
            let image = self.metadata.image();
            let extractors = Extractors::new(Arc::clone(&self.metadata), Arc::clone(&self.modules));
            let describe = |(topic, partition, from): &(_, u32, i64)| {
                let handle = self.partitions.led(&image, TopicPartition { topic: *topic, partition: *partition })?;
                describe(&handle, *from, shares, &extractors)
                    .map_err(|error| ApiError::new(ErrorCode::KafkaStorageError, error.to_string()))
            };
            Ok(DescribeLogResponse { partitions: request.partitions.iter().map(describe).collect() })
        })
        .await
    }
}

fn describe(
    handle: &PartitionHandle,
    from: i64,
    shares: Shares,
    extractors: &Extractors,
) -> Result<LogDescription, LogError> {
    let view = handle.view();
    let reader = view.reader();
    // In this order: none of these falls, and each is at most what is asked for after it.
    let (high_watermark, described) = (view.high_watermark(), reader.describe(from, shares.segments)?);
    let first = described.segments.first().map_or(i64::MAX, |first| first.base_offset);
    let upto = described.next_offset.unwrap_or(i64::MAX);
    let bad = reader.bad_ranges();
    let in_these = || bad.iter().filter(|range| (first..upto).contains(&range.segment));
    let quarantined: Vec<DamagedRange> =
        in_these().take(shares.ranges).map(|range| damaged(reader.path(), range)).collect();
    let compaction = match handle.settings().cleanup_policy.compact {
        true => Some(compaction(handle, extractors)?),
        false => None,
    };
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Ok(LogDescription {
        directory: reader.path().display().to_string(),
        leader_epoch: view.leader_epoch.0,
        log_start_offset: reader.start_offset(),
        high_watermark,
        recovery_point: reader.recovery_point(),
        log_end_offset: reader.end_offset(),
        size_bytes: reader.size_bytes(),
        segment_count: count(described.segment_count),
        segments: described.segments.iter().map(segment).collect(),
        next_offset: described.next_offset,
        quarantined,
        quarantined_count: count(in_these().count()),
        snapshots: described.snapshots,
        compaction,
    })
}

fn segment(described: &Described) -> SegmentDescription {
    SegmentDescription {
        base_offset: described.base_offset,
        next_offset: described.next_offset,
        size_bytes: described.bytes,
        synced_bytes: described.synced_bytes,
        index_bytes: described.index_bytes,
        first_timestamp: described.first_timestamp,
        max_timestamp: described.max_timestamp,
        is_sealed: described.is_sealed,
    }
}

fn compaction(handle: &PartitionHandle, extractors: &Extractors) -> Result<CompactionDescription, LogError> {
    let (view, settings, note) = (handle.view(), handle.settings(), handle.compaction().get());
    let extractor = settings.compaction.key_extractor.as_ref().filter(|_| !handle.is_changelog());
    let cleaner = view.reader().cleaner();
    let identity = identity(handle, extractor, extractors);
    // Without one nothing is known to have been cleaned by it.
    let by = identity.unwrap_or_default();
    let (standing, is_due) = cleaner.look(&policy_of(&settings), by, view.high_watermark(), unix_time_ms())?;
    Ok(CompactionDescription {
        key: match extractor {
            _ if handle.is_changelog() => KeySource::Changelog,
            None => KeySource::Record,
            Some(extractor) => KeySource::Extractor {
                module: extractor.module.clone(),
                digest: extractors.digest(extractor),
                settings: extractor.settings.clone(),
            },
        },
        cleaned_below: standing.first_dirty,
        checkpoint: cleaner.checkpoint(by)?,
        cleanable_below: standing.end,
        clean_bytes: standing.clean_bytes,
        dirty_bytes: standing.dirty_bytes,
        uncleanable_bytes: standing.uncleanable_bytes,
        is_due: is_due && identity.is_some(),
        last: note.last,
        stopped: note.stopped,
        delayed: note.delayed,
    })
}

/// Who judges its records, if it can be had.
fn identity(
    handle: &PartitionHandle,
    extractor: Option<&KeyExtractor>,
    extractors: &Extractors,
) -> Option<ClassifierIdentity> {
    match extractor {
        _ if handle.is_changelog() => Some(ByCommitKey.identity()),
        None => Some(ByRecordKey.identity()),
        Some(extractor) => extractors.identity(extractor).ok(),
    }
}
