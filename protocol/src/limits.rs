//! Named limits of what crosses the wire. The unit is the name's last word before `MAX`.

/// Bytes of a frame's header (the postcard part).
pub const FRAME_HEADER_BYTES_MAX: u32 = 1 << 20;

/// Bytes of a frame's body (record batches, or a module).
pub const FRAME_BODY_BYTES_MAX: u32 = 16 << 20;

/// Bytes of a module that is uploaded in one frame's body.
pub const MODULE_BYTES_MAX: u32 = FRAME_BODY_BYTES_MAX;

/// Bytes of header and of body, each, before hello was answered (DESIGN §8).
pub const UNAUTHENTICATED_FRAME_BYTES_MAX: u32 = 64 << 10;

/// Bytes of the name in [`HelloRequest::client`](crate::messages::cluster::HelloRequest).
pub const CLIENT_NAME_BYTES_MAX: usize = 256;

/// Bytes of one record batch of a client as it travels, header included. A topic may set its own.
pub const BATCH_BYTES_MAX: usize = 1 << 20;

/// Bytes of any record batch, header included: the limit of internal topics, and what a header may declare at all.
pub const INTERNAL_BATCH_BYTES_MAX: usize = 16 << 20;

/// Records of one batch.
pub const RECORDS_PER_BATCH_MAX: u32 = 1 << 20;

/// Headers of one record.
pub const HEADERS_PER_RECORD_MAX: u32 = 1024;

/// Bytes that one batch's records may have after decompression.
pub const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;

/// Bytes of records per byte of compressed payload, once there are more than [`RATIO_FREE_BYTES_MAX`].
pub const DECOMPRESSION_RATIO_MAX: usize = 100;

/// Decompressed bytes up to which no ratio is asked for: a batch of zeros of ordinary size is nobody's attack.
pub const RATIO_FREE_BYTES_MAX: usize = BATCH_BYTES_MAX;

/// Base-2 logarithm of the window that a zstd frame without a content size may ask its reader to hold: 8 MiB, what
/// RFC 8878 tells every decoder to support. Levels above 19 can ask for more and are refused.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 23;
