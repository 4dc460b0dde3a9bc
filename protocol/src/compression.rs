//! Compression of a batch's records, bounded on the way out.
//!
//! What may come out of a payload is decided before anything is decompressed, from its size and the limits; memory
//! grows with what does come out, and stops there. A size that a frame declares is only ever a reason to refuse it
//! early, or to reserve what the cap allows anyway.

use crate::batch::{BatchError, BatchLimits};
use crate::limits;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;
use zstd::zstd_safe;

/// How a batch's records are compressed. The number is the format's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None = 0,
    /// Named by the format, refused here.
    Gzip = 1,
    /// Named by the format, refused here.
    Snappy = 2,
    /// LZ4 frames of independent blocks.
    Lz4 = 3,
    /// Zstandard, one frame.
    Zstd = 4,
}

/// The text names no compression.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is no compression: use none, lz4 or zstd")]
pub struct InvalidCompression(String);

impl Compression {
    const NAMES: [(Self, &str); 5] = [
        (Self::None, "none"),
        (Self::Gzip, "gzip"),
        (Self::Snappy, "snappy"),
        (Self::Lz4, "lz4"),
        (Self::Zstd, "zstd"),
    ];

    /// The compression of the three lowest attribute bits of a batch.
    pub fn from_bits(bits: u8) -> Option<Self> {
        Self::NAMES.iter().map(|(codec, _)| *codec).find(|codec| codec.bits() == bits)
    }

    /// Its number in a batch's attributes.
    pub fn bits(self) -> u8 {
        self as u8
    }

    /// Whether this system reads and writes it.
    pub fn is_supported(self) -> bool {
        matches!(self, Self::None | Self::Lz4 | Self::Zstd)
    }

    pub(crate) fn check_supported(self) -> Result<(), BatchError> {
        if self.is_supported() { Ok(()) } else { Err(BatchError::UnsupportedCompression(self)) }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(codec, _)| codec == self).map_or("", |(_, name)| name);
        f.pad(name)
    }
}

impl FromStr for Compression {
    type Err = InvalidCompression;

    /// Knows gzip and snappy by name too: whether they are supported is another question.
    fn from_str(text: &str) -> Result<Self, InvalidCompression> {
        let known = Self::NAMES.iter().find(|(_, name)| *name == text).map(|(codec, _)| *codec);
        known.ok_or_else(|| InvalidCompression(text.chars().take(32).collect()))
    }
}

/// How many bytes of records `compressed` bytes of payload may become.
pub(crate) fn decompressed_bytes_max(compressed: usize, limits: &BatchLimits) -> usize {
    compressed
        .saturating_mul(limits.decompression_ratio_max)
        .max(limits::RATIO_FREE_BYTES_MAX)
        .min(limits.decompressed_bytes_max)
}

/// Decompresses payloads; keeps the codec's state from one to the next.
#[derive(Default)]
pub(crate) struct Decompressor {
    zstd: Option<zstd_safe::DCtx<'static>>,
}

/// Why a payload did not come out.
enum Stop {
    /// More came out than may.
    TooLarge,
    /// The codec's words.
    Broken(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

impl Stop {
    fn zstd(code: usize) -> Self {
        Self::Broken(zstd_safe::get_error_name(code).to_owned())
    }
}

impl Decompressor {
    /// The records of a compressed payload.
    pub(crate) fn decompress(
        &mut self,
        codec: Compression,
        payload: &[u8],
        limits: &BatchLimits,
    ) -> Result<Vec<u8>, BatchError> {
        let max = decompressed_bytes_max(payload.len(), limits);
        let records = match codec {
            Compression::Lz4 => lz4(payload, max),
            Compression::Zstd => self.zstd(payload, max),
            Compression::None | Compression::Gzip | Compression::Snappy => {
                return Err(BatchError::UnsupportedCompression(codec));
            }
        };
        records.map_err(|stop| match stop {
            Stop::TooLarge => BatchError::DecompressedTooLarge { compressed: payload.len(), max },
            Stop::Broken(reason) => BatchError::Decompression { codec, reason },
        })
    }

    fn zstd(&mut self, payload: &[u8], max: usize) -> Result<Vec<u8>, Stop> {
        // A skippable frame, or a second frame, would be bytes that no record accounts for.
        if !payload.starts_with(&zstd_safe::MAGICNUMBER.to_le_bytes()) {
            return Err(Stop::Broken("not a zstd frame".to_owned()));
        }
        let frame_bytes = zstd_safe::find_frame_compressed_size(payload).map_err(Stop::zstd)?;
        if frame_bytes != payload.len() {
            return Err(Stop::Broken("bytes follow the zstd frame".to_owned()));
        }
        let context = match &mut self.zstd {
            Some(context) => context,
            None => {
                let context = zstd_safe::DCtx::try_create().ok_or_else(|| Stop::Broken("no memory".to_owned()))?;
                self.zstd.insert(context)
            }
        };
        context.reset(zstd_safe::ResetDirective::SessionAndParameters).map_err(Stop::zstd)?;
        match zstd_safe::get_frame_content_size(payload) {
            Ok(Some(declared)) => zstd_whole(context, payload, declared, max),
            Ok(None) => zstd_streamed(context, payload, max),
            Err(_) => Err(Stop::Broken("not a zstd frame".to_owned())),
        }
    }
}

/// The frame says how much it holds: with the cap kept, that much is reserved and filled in one go, and the frame's
/// window costs nothing.
fn zstd_whole(
    context: &mut zstd_safe::DCtx<'static>,
    payload: &[u8],
    declared: u64,
    max: usize,
) -> Result<Vec<u8>, Stop> {
    let declared = usize::try_from(declared).ok().filter(|declared| *declared <= max).ok_or(Stop::TooLarge)?;
    let mut records = Vec::with_capacity(declared);
    context.decompress(&mut records, payload).map_err(Stop::zstd)?;
    Ok(records)
}

fn zstd_streamed(context: &mut zstd_safe::DCtx<'static>, payload: &[u8], max: usize) -> Result<Vec<u8>, Stop> {
    context.set_parameter(zstd_safe::DParameter::WindowLogMax(limits::ZSTD_WINDOW_LOG_MAX)).map_err(Stop::zstd)?;
    let mut input = zstd_safe::InBuffer::around(payload);
    let mut records = Vec::new();
    loop {
        let filled = grow(&mut records, max)?;
        let mut output = zstd_safe::OutBuffer::around_pos(&mut records, filled);
        let wanted = context.decompress_stream(&mut output, &mut input).map_err(Stop::zstd)?;
        let made = output.pos() - filled;
        if wanted == 0 {
            return if records.len() > max { Err(Stop::TooLarge) } else { Ok(records) };
        }
        if made == 0 && input.pos() == payload.len() {
            return Err(Stop::Broken("the zstd frame ends early".to_owned()));
        }
    }
}

/// Makes room for more output, as much again as is there; fails at the cap. Returns how much is there.
fn grow(records: &mut Vec<u8>, max: usize) -> Result<usize, Stop> {
    const STEP_BYTES_MIN: usize = 16 << 10;
    let filled = records.len();
    // One byte beyond the cap, so that a payload of exactly the cap is told from a larger one.
    let room = filled.max(STEP_BYTES_MIN).min((max + 1).saturating_sub(filled));
    if room == 0 {
        return Err(Stop::TooLarge);
    }
    if records.capacity() == filled {
        records.reserve_exact(room);
    }
    Ok(filled)
}

/// Bytes in front of an LZ4 frame's first block size.
const LZ4_MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
const LZ4_INDEPENDENT_BLOCKS: u8 = 1 << 5;

fn lz4(payload: &[u8], max: usize) -> Result<Vec<u8>, Stop> {
    // Kafka's own readers refuse blocks that depend on each other, so does this one. Legacy and skippable frames
    // have other magic numbers.
    let descriptor = payload.strip_prefix(&LZ4_MAGIC).and_then(|rest| rest.first());
    if descriptor.is_none_or(|flags| flags & LZ4_INDEPENDENT_BLOCKS == 0) {
        return Err(Stop::Broken("not an LZ4 frame of independent blocks".to_owned()));
    }
    let source = Source { rest: payload, ran_dry: false };
    let mut decoder = FrameDecoder::new(source);
    let mut records = Vec::new();
    (&mut decoder).take(max as u64 + 1).read_to_end(&mut records)?;
    if records.len() > max {
        return Err(Stop::TooLarge);
    }
    let source = decoder.get_ref();
    if source.ran_dry {
        return Err(Stop::Broken("the LZ4 frame ends early".to_owned()));
    }
    if !source.rest.is_empty() {
        return Err(Stop::Broken("bytes follow the LZ4 frame".to_owned()));
    }
    Ok(records)
}

/// Reads from a slice and remembers whether more was asked for than there was: the decoder takes a missing end mark
/// for an end.
struct Source<'a> {
    rest: &'a [u8],
    ran_dry: bool,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.ran_dry |= self.rest.is_empty() && !buffer.is_empty();
        self.rest.read(buffer)
    }
}

/// Compresses payloads; keeps codec state and output buffer from one to the next.
#[derive(Default)]
pub(crate) struct Compressor {
    zstd: Option<zstd_safe::CCtx<'static>>,
    output: Vec<u8>,
}

/// zstd's default, and Kafka's.
const ZSTD_LEVEL: i32 = 3;

impl Compressor {
    /// The compressed form of `records`, valid until the next call.
    pub(crate) fn compress(&mut self, codec: Compression, records: &[u8]) -> Result<&[u8], BatchError> {
        self.output.clear();
        let done = match codec {
            Compression::Lz4 => self.lz4(records),
            Compression::Zstd => self.zstd(records),
            Compression::None | Compression::Gzip | Compression::Snappy => {
                return Err(BatchError::UnsupportedCompression(codec));
            }
        };
        done.map_err(|reason| BatchError::Decompression { codec, reason })?;
        Ok(&self.output)
    }

    fn lz4(&mut self, records: &[u8]) -> Result<(), String> {
        // What Kafka's Java client writes and reads: 64 KiB blocks, independent, no checksums (the batch has one).
        let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
        let mut encoder = FrameEncoder::with_frame_info(info, &mut self.output);
        encoder.write_all(records).map_err(|error| error.to_string())?;
        encoder.finish().map(drop).map_err(|error| error.to_string())
    }

    fn zstd(&mut self, records: &[u8]) -> Result<(), String> {
        let context = match &mut self.zstd {
            Some(context) => context,
            None => self.zstd.insert(zstd_safe::CCtx::try_create().ok_or("no memory")?),
        };
        self.output.reserve(zstd_safe::compress_bound(records.len()));
        let done = context.compress(&mut self.output, records, ZSTD_LEVEL);
        done.map(drop).map_err(|code| zstd_safe::get_error_name(code).to_owned())
    }
}
