//! Why a batch is refused.

use crate::compression::Compression;
use crate::error::ErrorCode;
use crate::varint::VarintError;

/// Why bytes are not a batch that may be taken. Whoever made or kept the bytes is to blame: at the door that is the
/// client, behind it the disk or a peer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than the batch needs.
    #[error("a record batch needs {needed} bytes but only {have} are there: send whole batches")]
    Truncated {
        /// Bytes needed.
        needed: usize,
        /// Bytes there.
        have: usize,
    },
    /// More bytes than the one batch.
    #[error("{bytes} bytes follow the record batch: send one batch per partition")]
    TrailingBytes {
        /// Bytes left over.
        bytes: usize,
    },
    /// The batch, or the bytes declared for it, are over a limit.
    #[error("a record batch of {bytes} bytes is over the limit of {max}: send smaller batches or records")]
    TooLarge {
        /// Bytes of the batch.
        bytes: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The length field makes no sense.
    #[error("a record batch can't declare a length of {0}: the bytes are no batch, or damaged")]
    BadLength(i32),
    /// Not the format this system keeps.
    #[error("record format with magic {0} is not taken: use a client that sends record batches v2 (magic 2)")]
    UnsupportedMagic(i8),
    /// The checksum says the bytes changed.
    #[error(
        "a record batch fails its CRC-32C (says {stored:#010x}, is {computed:#010x}): it was damaged; send it again"
    )]
    CrcMismatch {
        /// What the header says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// Base offset or last offset delta is negative, or their sum leaves the range of offsets.
    #[error("a record batch can't begin at offset {base_offset} with last offset delta {last_offset_delta}")]
    BadOffsets {
        /// First offset.
        base_offset: i64,
        /// Delta of the last offset.
        last_offset_delta: i32,
    },
    /// The record count is negative, does not fit the offsets, or more than the bytes can hold.
    #[error("a record batch can't hold {record_count} records (last offset delta {last_offset_delta}, {bytes} bytes)")]
    BadCount {
        /// Records declared.
        record_count: i32,
        /// Delta of the last offset.
        last_offset_delta: i32,
        /// Bytes of records, uncompressed where that is known.
        bytes: usize,
    },
    /// More records than a batch may hold.
    #[error("{count} records in one batch are over the limit of {max}: send smaller batches")]
    TooManyRecords {
        /// Records declared, or records that would be in the batch.
        count: u32,
        /// Records allowed.
        max: u32,
    },
    /// A batch without records where records are needed.
    #[error("a record batch without records: nothing to append")]
    Empty,
    /// The attributes name no codec.
    #[error("compression codec {0} does not exist: use lz4, zstd or none")]
    UnknownCompression(u8),
    /// A codec that is named by the format but not read here.
    #[error("compression {0} is not supported: use lz4, zstd or none")]
    UnsupportedCompression(Compression),
    /// The payload is not what its codec makes.
    #[error("the {codec} payload of a record batch can't be decompressed ({reason}): the compressor is at fault")]
    Decompression {
        /// The codec.
        codec: Compression,
        /// What the codec says.
        reason: String,
    },
    /// The payload would become larger than the cap.
    #[error("{compressed} compressed bytes become more than {max} bytes of records: send smaller batches")]
    DecompressedTooLarge {
        /// Bytes of compressed payload.
        compressed: usize,
        /// Bytes of records allowed for that many compressed bytes.
        max: usize,
    },
    /// Attribute bits that a client may not set, or that have no meaning.
    #[error("attributes {attributes:#06x} of a record batch: {reason}")]
    BadAttributes {
        /// The attributes.
        attributes: i16,
        /// Which bit, and why not.
        reason: &'static str,
    },
    /// Producer id, epoch and sequence don't fit together, or the id is not the sender's to use.
    #[error("producer id {producer_id}, epoch {producer_epoch}, sequence {base_sequence}: {reason}")]
    BadProducer {
        /// The id.
        producer_id: i64,
        /// Its epoch.
        producer_epoch: i16,
        /// The batch's first sequence number.
        base_sequence: i32,
        /// What does not fit.
        reason: &'static str,
    },
    /// The header's largest timestamp is not the records' largest.
    #[error("a record batch says its largest timestamp is {stored}, but it is {computed}: the client is at fault")]
    BadMaxTimestamp {
        /// What the header says.
        stored: i64,
        /// What the records give.
        computed: i64,
    },
    /// A record is at fault.
    #[error("record {index} of the batch: {fault}")]
    Record {
        /// Which one, from 0.
        index: u32,
        /// What is wrong with it.
        fault: RecordFault,
    },
}

impl BatchError {
    /// What is wrong, without the advice to whoever sent it: of a batch that lies on a disk.
    pub fn finding(&self) -> String {
        match self {
            Self::Truncated { needed, have } => {
                format!("a record batch needs {needed} bytes but only {have} are there")
            }
            Self::TooLarge { bytes, max } => format!("a record batch of {bytes} bytes is over the limit of {max}"),
            Self::UnsupportedMagic(magic) => format!("magic {magic} is not that of a record batch v2"),
            Self::CrcMismatch { stored, computed } => {
                format!("a record batch fails its CRC-32C (says {stored:#010x}, is {computed:#010x})")
            }
            other => other.to_string(),
        }
    }
}

/// What is wrong with a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordFault {
    /// A number in it is not a varint.
    #[error(transparent)]
    Varint(#[from] VarintError),
    /// Its length, or a length inside it, is more than the bytes there, or negative where that has no meaning.
    #[error("a length of {0} does not fit the bytes that are there")]
    BadLength(i32),
    /// Bytes are left in it after its last header.
    #[error("{0} bytes are left over after its headers")]
    TrailingBytes(usize),
    /// Record attributes have no meaning yet.
    #[error("its attributes {0:#04x} are not 0")]
    BadAttributes(i8),
    /// Offset deltas must count up.
    #[error("its offset delta {0} is out of order")]
    BadOffsetDelta(i32),
    /// Base timestamp plus delta leaves the range, or two timestamps of a batch are too far apart.
    #[error("its timestamp is out of range")]
    TimestampOverflow,
    /// The timestamp lies outside what the topic takes.
    #[error("its timestamp {timestamp} is not between {min} and {max} (ms since the Unix epoch): check the clock")]
    TimestampOutOfRange {
        /// Its timestamp.
        timestamp: i64,
        /// Earliest one taken.
        min: i64,
        /// Latest one taken.
        max: i64,
    },
    /// A compacted topic takes only records with a key (CMP-6).
    #[error("it has no key, which a compacted topic needs")]
    KeyMissing,
    /// More or fewer headers than can be.
    #[error("it can't have {0} headers")]
    BadHeaderCount(i32),
    /// A header's key is text.
    #[error("a header's key is not UTF-8")]
    HeaderKeyNotUtf8,
}

impl BatchError {
    pub(crate) fn record(index: u32, fault: impl Into<RecordFault>) -> Self {
        Self::Record { index, fault: fault.into() }
    }

    /// The code to answer with.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Truncated { .. }
            | Self::TrailingBytes { .. }
            | Self::BadLength(_)
            | Self::UnsupportedMagic(_)
            | Self::CrcMismatch { .. }
            | Self::BadOffsets { .. }
            | Self::BadCount { .. }
            | Self::Decompression { .. } => ErrorCode::CorruptMessage,
            Self::TooLarge { .. } | Self::TooManyRecords { .. } | Self::DecompressedTooLarge { .. } => {
                ErrorCode::MessageTooLarge
            }
            Self::UnknownCompression(_) | Self::UnsupportedCompression(_) => ErrorCode::UnsupportedCompressionType,
            Self::Empty | Self::BadAttributes { .. } | Self::BadProducer { .. } | Self::BadMaxTimestamp { .. } => {
                ErrorCode::InvalidRecord
            }
            Self::Record { fault, .. } => fault.code(),
        }
    }
}

impl RecordFault {
    fn code(self) -> ErrorCode {
        match self {
            Self::Varint(_) | Self::BadLength(_) | Self::TrailingBytes(_) => ErrorCode::CorruptMessage,
            Self::BadAttributes(_)
            | Self::BadOffsetDelta(_)
            | Self::TimestampOverflow
            | Self::TimestampOutOfRange { .. }
            | Self::KeyMissing
            | Self::BadHeaderCount(_)
            | Self::HeaderKeyNotUtf8 => ErrorCode::InvalidRecord,
        }
    }
}
