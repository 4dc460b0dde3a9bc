//! Limits of the command line, with their units.

/// Bytes of one line of input; a longer one is refused, not read into memory.
pub(crate) const LINE_BYTES_MAX: usize = 16 << 20;

/// Bytes of input that are read at once.
pub(crate) const INPUT_CHUNK_BYTES: usize = 256 << 10;

/// Chunks of input that wait between the thread that reads and the one that sends.
pub(crate) const INPUT_CHUNKS_MAX: usize = 8;

/// Bytes of output that are collected before they are written.
pub(crate) const OUTPUT_BUFFER_BYTES: usize = 256 << 10;

/// Bytes of a module file, core or component, that are read; a broker takes less.
pub(crate) const MODULE_FILE_BYTES_MAX: u64 = 256 << 20;

/// Partitions that one request asks to have described; no more than brokers take.
pub(crate) const DESCRIBED_PARTITIONS_MAX: usize = 20;

/// Segments that one request asks to have described, of all its partitions together.
pub(crate) const DESCRIBED_SEGMENTS_MAX: u32 = 1000;

/// Segments that are gathered for one description of logs.
pub(crate) const GATHERED_SEGMENTS_MAX: usize = 200_000;

/// Log lines that are asked for at once.
pub(crate) const LOG_LINES_MAX: u32 = 1000;

/// Milliseconds that one request for log lines waits for a line.
pub(crate) const LOG_WAIT_MS: u64 = 5000;

/// Milliseconds after which something that takes long shows a progress bar.
pub(crate) const PROGRESS_AFTER_MS: u64 = 1000;

/// Bytes of a file of records that `module test` reads.
pub(crate) const TEST_FILE_BYTES_MAX: u64 = 256 << 20;
