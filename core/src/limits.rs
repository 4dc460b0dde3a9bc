//! Every limit of this crate: its name ends in its unit, or counts the things it is named for.

/// Bytes of a topic's name, as in Kafka.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;
/// What a processor's name is followed by in the name of its changelog topic.
pub const CHANGELOG_SUFFIX: &str = "-changelog";
/// Bytes of a processor's name: room is left for [`CHANGELOG_SUFFIX`].
pub const PROCESSOR_NAME_BYTES_MAX: usize = TOPIC_NAME_BYTES_MAX - CHANGELOG_SUFFIX.len();
/// Bytes of a module's name.
pub const MODULE_NAME_BYTES_MAX: usize = TOPIC_NAME_BYTES_MAX;
/// Bytes of a module's version.
pub const MODULE_VERSION_BYTES_MAX: usize = 64;
/// Bytes of a state store's name.
pub const STORE_NAME_BYTES_MAX: usize = 64;

/// Brokers in a cluster.
pub const BROKERS_MAX: usize = 1_000;
/// Data directories of one broker.
pub const DIRECTORIES_PER_BROKER_MAX: usize = 256;
/// Bytes of a broker's address, host and port.
pub const ADDRESS_BYTES_MAX: usize = 300;
/// Partitions of one topic.
pub const PARTITIONS_PER_TOPIC_MAX: u32 = 10_000;
/// Partitions in a cluster, counted once however many replicas they have.
pub const PARTITIONS_PER_CLUSTER_MAX: usize = 100_000;
/// Replicas of one partition.
pub const REPLICATION_FACTOR_MAX: u16 = 15;
/// Module names and versions in a cluster.
pub const MODULES_MAX: usize = 10_000;
/// Interfaces one module imports.
pub const MODULE_IMPORTS_MAX: usize = 256;
/// Bytes of one imported interface's name, or of a world's.
pub const INTERFACE_NAME_BYTES_MAX: usize = 512;
/// Processors in a cluster.
pub const PROCESSORS_MAX: usize = 1_000;
/// Inputs of one processor.
pub const INPUTS_PER_PROCESSOR_MAX: usize = 16;
/// Outputs of one processor.
pub const OUTPUTS_PER_PROCESSOR_MAX: usize = 64;
/// State stores of one processor.
pub const STORES_PER_PROCESSOR_MAX: usize = 16;
/// (name, value) pairs of one processor's settings, or of a topic's.
pub const SETTINGS_MAX: usize = 256;
/// Bytes of a setting's name.
pub const SETTING_NAME_BYTES_MAX: usize = 256;
/// Bytes of all names and values of one processor's settings.
pub const SETTINGS_BYTES_MAX: usize = 64 << 10;
/// Bytes of user-written text that an error message repeats.
pub const QUOTED_BYTES_MAX: usize = 100;
/// Producer ids in one block (IDP-7).
pub const PRODUCER_ID_BLOCK_MAX: u32 = 100_000;

/// Linear memory of one task's instance: at least one WebAssembly page, at most what 32-bit guests can address.
pub const TASK_MEMORY_BYTES: (u64, u64) = (64 << 10, 4 << 30);
/// CPU milliseconds per record: lowest and highest.
pub const TASK_CPU_MS_PER_RECORD: (u32, u32) = (1, 60_000);
/// Output bytes of a step: lowest, and highest (a commit is one batch of an internal topic, 16 MiB, outputs included).
pub const TASK_OUTPUT_BYTES_PER_STEP: (u64, u64) = (1 << 10, 15 << 20);
/// State bytes of a task: lowest and highest.
pub const TASK_STATE_BYTES: (u64, u64) = (1 << 10, 1 << 40);
/// Log lines a second of a task: lowest and highest.
pub const TASK_LOG_LINES_PER_SECOND: (u32, u32) = (0, 10_000);
/// How often a record that failed is tried again, at most.
pub const ERROR_RETRIES_MAX: u32 = 100;
/// Records handed to a guest in one call: lowest and highest.
pub const TASK_RECORDS_PER_STEP: (u32, u32) = (1, 100_000);

/// Bytes of a topic's `compaction.key.extractor.settings`.
pub const EXTRACTOR_SETTINGS_BYTES_MAX: usize = 4_096;

/// Ordinary producers that a partition remembers; beyond it the one whose last batch is oldest is forgotten.
pub const PRODUCERS_PER_PARTITION_MAX: usize = 4_096;
/// Batches of one ordinary producer that a partition remembers (IDP-2).
pub const BATCHES_PER_PRODUCER: usize = 5;

/// Batches proposed to a partition and not yet written to its log.
pub const APPENDS_MAX: usize = 4_096;
/// Bytes of those batches.
pub const APPEND_BYTES_MAX: u64 = 64 << 20;
/// Replies of a partition that wait for a write, a flush or the high watermark.
pub const WAITING_REPLIES_MAX: usize = 65_536;
