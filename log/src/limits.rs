//! Every limit of the storage engine, each with its unit as its suffix.

/// The most bytes that one [`Log::append_many`](crate::Log::append_many) writes.
pub const APPEND_BYTES_MAX: usize = 64 * MIB;
/// The most bytes that one [`LogReader::read`](crate::LogReader::read) returns, but for a single longer batch.
pub const READ_BYTES_MAX: usize = 64 * MIB;
/// What a batch that is kept in memory for readers at the log's end costs besides its own bytes.
pub const TAIL_BATCH_OVERHEAD_BYTES: usize = 128;
/// The least bytes fetched by one read of a segment: small reads cost as much as this one.
pub const READ_BYTES_MIN: usize = 4 * 1024;
/// How much of a segment is in memory while it is scanned, but for a single longer batch.
pub const SCAN_BYTES_MAX: usize = 2 * MIB;
/// How much is in memory while bytes are copied to `lost+found`.
pub const COPY_BYTES_MAX: usize = MIB;
/// After so many bytes appended to a log, what is derived from it is kept in a snapshot, the beginning of its last
/// segment's index is saved, and recovery points are written: an unclean start reads about as much of each log again.
pub const CHECKPOINT_INTERVAL_BYTES: u64 = 64 * MIB as u64;
/// The largest state that a snapshot holds.
pub const SNAPSHOT_BYTES_MAX: usize = CHECKPOINT_BYTES_MAX - 8;
/// How many snapshots of a log are kept: the newest, and another one should that be damaged.
pub const SNAPSHOTS_MAX: usize = 2;
/// The longest payload of a checkpoint file.
pub const CHECKPOINT_BYTES_MAX: usize = 64 * MIB;
/// The smallest segment size that may be configured.
pub const SEGMENT_BYTES_MIN: u64 = 1024;
/// The largest segment size that may be configured. Positions in an index are 32 bits wide; a segment ends at most
/// [`APPEND_BYTES_MAX`] above this.
pub const SEGMENT_BYTES_MAX: u64 = 2 * 1024 * MIB as u64;
/// The most entries that an index of a segment holds; the index of a segment with more batches is sparser.
pub const INDEX_ENTRIES_MAX: usize = 1 << 20;
/// The most sealed segments of one log whose indexes are in memory at a time.
pub const LOADED_INDEXES_MAX: usize = 4;
/// The most leader epochs that a log remembers; the oldest are forgotten first.
pub const LEADER_EPOCHS_MAX: usize = 65_536;
/// How many files of a data directory are open at a time where nobody says otherwise, but for those that have to be.
pub const OPEN_FILES_MAX_DEFAULT: usize = 4096;
/// So many open files are looked at, at most, to close one.
pub const OPEN_FILES_SCANNED_MAX: usize = 64;
/// The most partitions that one data directory holds.
pub const PARTITIONS_MAX: usize = 200_000;
/// The longest name of a partition's directory, leaving room for suffixes within a file name's 255 bytes.
pub const PARTITION_NAME_BYTES_MAX: usize = 200;
/// The most threads that one flush pool runs.
pub const FLUSH_THREADS_MAX: usize = 64;
/// The most slices that one vectored write hands to the kernel (`IOV_MAX` on Linux).
pub const WRITE_SLICES_MAX: usize = 1024;
/// The least memory of the cleaner in which the records of every batch fit.
pub const CLEANER_DEDUPE_BYTES_MIN: usize = 32 * MIB;
/// Of the cleaner's memory one part in so many is for marks, two bits an offset; the rest is for keys.
pub(crate) const CLEANER_MARKS_PART: usize = 16;
/// The longest reason that is kept with a range in quarantine.
pub const REASON_BYTES_MAX: usize = 500;
/// After so many bad ranges one call of [`LogReader::verify`](crate::LogReader::verify) ends, to be called again.
pub const VERIFIED_BAD_MAX: usize = 50;
/// The most ranges of one log in quarantine; more of them means that the disk is no good.
pub const BAD_RANGES_MAX: usize = 1000;
/// The most names tried for one file in `lost+found`.
pub const LOST_FOUND_NAMES_MAX: u32 = 10_000;

const MIB: usize = 1024 * 1024;
