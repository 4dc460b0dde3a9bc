//! The cleaning of one partition, for the cleaner's thread and for the simulator.

use super::changelog::{ChangelogError, first_uncleanable};
use crate::partition::PartitionHandle;
use headwater_core::cluster::TopicSettings;
use headwater_core::replica::Cleanable;
use headwater_log::cleaner::{
    CleanError, CleaningOrder, CleaningPolicy, CleaningReport, Interrupted, RecordClassifier,
};
use headwater_mutants::{Mutant, lacks};

/// What a cleaning is given besides the partition.
#[derive(Clone, Copy, Debug)]
pub struct CleaningSetup {
    /// Bytes of memory for keys.
    pub dedupe_bytes_max: usize,
    /// Drawn for this broker: keys are hashed with it.
    pub seed: u64,
    /// Ms since the Unix epoch.
    pub now_ms: i64,
}

/// Why a partition is not clean now.
#[derive(Debug, thiserror::Error)]
pub enum PartitionCleanError {
    /// Its log.
    #[error(transparent)]
    Clean(#[from] CleanError),
    /// Its changelog does not say what it still needs.
    #[error(transparent)]
    Changelog(#[from] ChangelogError),
}

/// How a topic's settings have its partitions cleaned.
#[must_use]
pub fn policy_of(settings: &TopicSettings) -> CleaningPolicy {
    let compaction = &settings.compaction;
    CleaningPolicy {
        dirty_ratio_min: compaction.dirty_ratio_min.as_f64(),
        lag_ms_min: compaction.lag_ms_min,
        lag_ms_max: compaction.lag_ms_max,
        delete_retention_ms: compaction.delete_retention_ms,
    }
}

/// Cleans what `cleanable` allows. Blocks.
///
/// # Errors
/// `PartitionCleanError`; what has been put in place stays.
pub fn clean(
    handle: &PartitionHandle,
    cleanable: &Cleanable,
    setup: CleaningSetup,
    classifier: &mut dyn RecordClassifier,
    pace: &mut dyn FnMut(u64) -> Result<(), Interrupted>,
) -> Result<CleaningReport, PartitionCleanError> {
    let settings = handle.settings();
    let reader = handle.view().reader();
    let upto = match handle.is_changelog() && !lacks(Mutant::CleanedAboveFloor) {
        true => first_uncleanable(reader, cleanable)?.map_or(0, |first| first.min(cleanable.upto)),
        false => cleanable.upto,
    };
    let order = CleaningOrder {
        policy: policy_of(&settings),
        upto,
        headers_kept: &cleanable.headers_kept,
        segment_bytes: settings.segment_bytes,
        dedupe_bytes_max: setup.dedupe_bytes_max,
        seed: setup.seed,
        now_ms: setup.now_ms,
    };
    Ok(reader.cleaner().clean(&order, classifier, pace)?)
}
