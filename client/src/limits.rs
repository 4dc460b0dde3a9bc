//! Every bound of this crate, with its unit in its name.

use std::time::Duration;

/// Streams that a producer or consumer opens to one broker; partitions are hashed to them (DESIGN §8).
pub const LANES_MAX: u32 = 32;

/// Produce requests that wait for their response on one stream. With [`PARTITION_BATCHES_IN_FLIGHT_MAX`] it keeps
/// retries within the batches that a broker remembers (IDP-2).
pub const REQUESTS_IN_FLIGHT_MAX: usize = 5;

/// Batches of one partition that were sent and whose outcome is open (IDP-2).
pub const PARTITION_BATCHES_IN_FLIGHT_MAX: usize = 5;

/// Rest after which a producer no longer relies on a broker's memory of its id (IDP-5): it forgets the longest unused.
pub const PRODUCER_ID_TRUST_MAX: Duration = Duration::from_secs(600);

/// Batch bytes that are put into one produce request; a single batch may be larger.
pub const PRODUCE_REQUEST_BYTES_MAX: usize = 1 << 20;

/// Partitions in one produce request.
pub const PRODUCE_REQUEST_PARTITIONS_MAX: usize = 1024;

/// Records in one batch of the producer.
pub const BATCH_RECORDS_MAX: u32 = 1 << 20;

/// Bytes that a record takes in a batch beyond its key, its value and its headers' bytes: length, attributes,
/// deltas and counts, each at its longest.
pub const RECORD_OVERHEAD_BYTES_MAX: usize = 40;

/// Bytes that a header of a record takes beyond its name and its value.
pub const HEADER_OVERHEAD_BYTES_MAX: usize = 10;

/// Smallest value that `ProducerConfig::batch_bytes_max` may have, in bytes.
pub const BATCH_BYTES_MIN: usize = 1 << 10;

/// Batch builders that a producer keeps for reuse.
pub const SPARE_BUILDERS_MAX: usize = 64;

/// Addresses that `ClientConfig::brokers` may hold.
pub const BROKER_ADDRESSES_MAX: usize = 64;

/// Topics that a client keeps metadata of; the longest unused ones go first.
pub const CACHED_TOPICS_MAX: usize = 4096;

/// Partitions of a topic that a client believes a broker about.
pub const TOPIC_PARTITIONS_MAX: usize = 100_000;

/// Partitions in one fetch request.
pub const FETCH_REQUEST_PARTITIONS_MAX: usize = 1024;

/// Smallest share of the prefetch budget that one fetch stream gets, in bytes.
pub const LANE_PREFETCH_BYTES_MIN: usize = 64 << 10;

/// What a broker may send beyond the bytes that were asked for: a first batch is sent whole, however large.
pub const FETCH_EXCESS_BYTES_MAX: usize = 16 << 20;

/// Bytes of a context file.
pub const CONTEXT_FILE_BYTES_MAX: u64 = 64 << 10;

/// Pause between two progress reports of an upload.
pub const UPLOAD_PROGRESS_PAUSE: Duration = Duration::from_millis(50);

/// Time beyond a request's own that a broker may take to compile a module.
pub const COMPILE_TIME_MAX: Duration = Duration::from_secs(120);

/// How long past a request's own time-out its response is still waited for.
pub const RESPONSE_GRACE: Duration = Duration::from_secs(5);

/// Shortest pause between two metadata requests that retries ask for.
pub const METADATA_REFRESH_PAUSE_MIN: Duration = Duration::from_millis(50);

/// First and longest pause before a batch that was refused for a passing reason is sent again.
pub const RETRY_PAUSE_MIN: Duration = Duration::from_millis(20);
/// See [`RETRY_PAUSE_MIN`].
pub const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Bounds of the pause between two looks for batches past their delivery time-out.
pub const EXPIRY_CHECK_PAUSE_MIN: Duration = Duration::from_millis(5);
/// See [`EXPIRY_CHECK_PAUSE_MIN`].
pub const EXPIRY_CHECK_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Shortest time after which silence may count as a lost connection.
pub const SILENCE_TIMEOUT_MIN: Duration = Duration::from_millis(500);

/// How many times within that time a silent connection is asked for a sign of life.
pub const SIGNS_OF_LIFE: u32 = 4;

/// Request bytes on one connection whose responses are open: below the 16 MiB window that a broker grants.
pub const CONNECTION_REQUEST_BYTES_MAX: usize = 12 << 20;

/// Brokers of a cluster that a client keeps connections to.
pub const BROKERS_MAX: usize = 1024;
