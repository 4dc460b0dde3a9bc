//! Names of all metrics in one table, and the Prometheus text of them.

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::sync::OnceLock;

/// Bytes of batches appended to logs, by clients and by tasks.
pub(crate) const APPENDED_BYTES: &str = "headwater_appended_bytes_total";
/// Batches appended to logs.
pub(crate) const APPENDED_BATCHES: &str = "headwater_appended_batches_total";
/// Bytes of batches read for fetch requests.
pub(crate) const FETCHED_BYTES: &str = "headwater_fetched_bytes_total";
/// Reads of logs, by `source`: `memory` or `file`.
pub(crate) const LOG_READS: &str = "headwater_log_reads_total";
/// Bytes of the newest batches that are in memory for readers.
pub(crate) const TAIL_BYTES: &str = "headwater_log_tail_bytes";
/// Flushes of partitions that succeeded; compare with `headwater_flush_rounds_total`.
pub(crate) const FLUSHED_LOGS: &str = "headwater_flushed_logs_total";
/// Flush rounds.
pub(crate) const FLUSH_ROUNDS: &str = "headwater_flush_rounds_total";
/// Requests by api.
pub(crate) const REQUESTS: &str = "headwater_requests_total";
/// Requests answered with an error, by api and code.
pub(crate) const REQUEST_ERRORS: &str = "headwater_request_errors_total";
/// Connections that are open.
pub(crate) const CONNECTIONS: &str = "headwater_connections";
/// Partitions that this broker leads.
pub(crate) const PARTITIONS: &str = "headwater_partitions";
/// Files of partitions that are open.
pub(crate) const LOG_OPEN_FILES: &str = "headwater_log_open_files";
/// Files that the system lets this process hold open.
pub(crate) const OPEN_FILES_MAX: &str = "headwater_open_files_max";
/// Bytes cut off a log's end into lost+found after an unclean stop.
pub(crate) const RECOVERED_BATCHES: &str = "headwater_log_recovered_batches_total";
pub(crate) const SCRUBBED_BYTES: &str = "headwater_log_scrubbed_bytes_total";
pub(crate) const QUARANTINED_RANGES: &str = "headwater_log_quarantined_ranges";
pub(crate) const TORN_TAIL_BYTES: &str = "headwater_log_torn_tail_bytes_total";
/// Bytes of segments that retention and deleted records removed.
pub(crate) const DELETED_BYTES: &str = "headwater_log_deleted_bytes_total";
/// Bytes that the cleaner read and wrote.
pub(crate) const CLEANER_BYTES: &str = "headwater_cleaner_bytes_total";
/// Partitions cleaned.
pub(crate) const CLEANER_CLEANINGS: &str = "headwater_cleaner_cleanings_total";
/// Bytes by which cleaned partitions got smaller.
pub(crate) const CLEANER_REMOVED_BYTES: &str = "headwater_cleaner_removed_bytes_total";
/// Cleanings that a key extractor's failure ended, by topic.
pub(crate) const CLEANER_FAILURES: &str = "headwater_cleaner_failures_total";
/// Partitions that are not cleaned any more until their extractor changes.
pub(crate) const CLEANER_STOPPED: &str = "headwater_cleaner_stopped_partitions";
/// The largest dirty ratio of all compacted partitions.
pub(crate) const CLEANER_DIRTY_RATIO: &str = "headwater_cleaner_dirty_ratio_max";
/// Steps that tasks committed, by processor.
pub(crate) const STEPS: &str = "headwater_processor_steps_total";
/// Records that tasks processed, by processor.
pub(crate) const PROCESSED_RECORDS: &str = "headwater_processor_records_in_total";
/// Records that tasks emitted, by processor.
pub(crate) const EMITTED_RECORDS: &str = "headwater_processor_records_out_total";
/// Tasks that stopped, by processor.
pub(crate) const TASK_FAILURES: &str = "headwater_processor_failures_total";
/// Calls of guests that failed, by processor and kind.
pub(crate) const GUEST_FAILURES: &str = "headwater_processor_call_failures_total";
/// Records that the error policy left out, by processor.
pub(crate) const SKIPPED_RECORDS: &str = "headwater_processor_skipped_records_total";
/// Records that the error policy wrote to a dead letter topic, by processor.
pub(crate) const DEAD_LETTERS: &str = "headwater_processor_dead_letters_total";
/// Modules swapped between two steps, by processor.
pub(crate) const SWAPS: &str = "headwater_processor_swaps_total";
/// CPU time of guests, by processor, in microseconds.
pub(crate) const GUEST_CPU_US: &str = "headwater_processor_cpu_microseconds_total";

/// Every metric with its help text.
const TABLE: &[(&str, Kind, &str)] = &[
    (APPENDED_BYTES, Kind::Counter, "Bytes of record batches appended to logs"),
    (APPENDED_BATCHES, Kind::Counter, "Record batches appended to logs"),
    (FETCHED_BYTES, Kind::Counter, "Bytes of record batches read for fetch requests"),
    (LOG_READS, Kind::Counter, "Reads of logs for fetches and tasks, by source: memory or file"),
    (TAIL_BYTES, Kind::Gauge, "Bytes of the newest batches that are kept in memory for readers"),
    (FLUSHED_LOGS, Kind::Counter, "Logs synced to disk"),
    (FLUSH_ROUNDS, Kind::Counter, "Flush rounds: groups of logs synced together"),
    (REQUESTS, Kind::Counter, "Requests by api"),
    (REQUEST_ERRORS, Kind::Counter, "Requests answered with an error, by api and code"),
    (CONNECTIONS, Kind::Gauge, "Open client connections"),
    (PARTITIONS, Kind::Gauge, "Partitions that this broker leads"),
    (LOG_OPEN_FILES, Kind::Gauge, "Files of partitions that are open"),
    (OPEN_FILES_MAX, Kind::Gauge, "Files that the system lets this process hold open"),
    (RECOVERED_BATCHES, Kind::Counter, "Batches that were read again when partitions were opened"),
    (SCRUBBED_BYTES, Kind::Counter, "Bytes that the scrubber has checked"),
    (QUARANTINED_RANGES, Kind::Gauge, "Damaged ranges that the scrubber's last round knew of"),
    (TORN_TAIL_BYTES, Kind::Counter, "Bytes moved from a torn log end to lost+found"),
    (DELETED_BYTES, Kind::Counter, "Bytes of segments removed by retention and deleted records"),
    (CLEANER_BYTES, Kind::Counter, "Bytes that the cleaner read and wrote"),
    (CLEANER_CLEANINGS, Kind::Counter, "Partitions compacted"),
    (CLEANER_REMOVED_BYTES, Kind::Counter, "Bytes by which compaction made partitions smaller"),
    (CLEANER_FAILURES, Kind::Counter, "Compactions that a key extractor's failure stopped, by topic"),
    (CLEANER_STOPPED, Kind::Gauge, "Partitions whose compaction has stopped until their key extractor changes"),
    (CLEANER_DIRTY_RATIO, Kind::Gauge, "Largest part of a compacted partition that is dirty, 0 to 1"),
    (STEPS, Kind::Counter, "Steps committed, by processor"),
    (PROCESSED_RECORDS, Kind::Counter, "Records processed, by processor"),
    (EMITTED_RECORDS, Kind::Counter, "Records emitted, by processor"),
    (TASK_FAILURES, Kind::Counter, "Tasks that stopped until somebody acts, by processor"),
    (GUEST_FAILURES, Kind::Counter, "Calls of guests that failed, by processor and kind"),
    (SKIPPED_RECORDS, Kind::Counter, "Records that the error policy left out, by processor"),
    (DEAD_LETTERS, Kind::Counter, "Records that the error policy wrote to a dead letter topic, by processor"),
    (SWAPS, Kind::Counter, "Modules swapped between two steps, task by task, by processor"),
    (GUEST_CPU_US, Kind::Counter, "CPU time of guests in microseconds, by processor"),
];

enum Kind {
    Counter,
    Gauge,
}

/// The process's recorder, installed by the first broker in it. `None` if the process has another recorder already.
pub(crate) fn recorder() -> Option<&'static PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let recorder = PrometheusBuilder::new().build_recorder();
            let handle = recorder.handle();
            metrics::set_global_recorder(recorder).ok()?;
            for (name, kind, help) in TABLE {
                match kind {
                    Kind::Counter => metrics::describe_counter!(*name, *help),
                    Kind::Gauge => metrics::describe_gauge!(*name, *help),
                }
            }
            Some(handle)
        })
        .as_ref()
}
