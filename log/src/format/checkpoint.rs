//! The frame around every small file that is written as a whole: what it is, its version, its length, its checksum.
//!
//! ```text
//!  0          4          6          8          16        20        24
//!  ┌──────────┬──────────┬──────────┬──────────┬─────────┬─────────┬─────────
//!  │ "HWCP"   │ frame    │ payload  │ kind,    │ payload │ CRC-32C │ payload
//!  │          │ version  │ version  │ 0-padded │ length  │         │
//!  └──────────┴──────────┴──────────┴──────────┴─────────┴─────────┴─────────
//! ```
//! Big-endian. The checksum covers bytes 0–19 and the payload. Nothing follows the payload.
//!
//! A file that is cut short or fails its checksum counts as missing (LOG-6): [`crate::checkpoint_file`] writes it so
//! that no crash can leave such a file under the real name. One of a newer version is refused by name.

use std::fmt;

/// Bytes in front of the payload.
pub const FRAME_BYTES: usize = 24;

const MAGIC: &[u8; 4] = b"HWCP";
const FRAME_VERSION: u16 = 1;
const KIND_BYTES: usize = 8;
const CRC_START: usize = 20;

/// What a file is, so that one is never read as another: up to eight ASCII letters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kind([u8; KIND_BYTES]);

impl Kind {
    /// The kind of that name.
    ///
    /// # Panics
    /// When the name is not of one to eight bytes; in a constant that is an error of the compiler's.
    pub const fn new(name: &str) -> Self {
        let name = name.as_bytes();
        assert!(!name.is_empty() && name.len() <= KIND_BYTES, "a kind has one to eight letters");
        let mut kind = [0; KIND_BYTES];
        let mut place = 0;
        while place < name.len() {
            kind[place] = name[place];
            place += 1;
        }
        Self(kind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take_while(|byte| **byte != 0).try_for_each(|byte| write!(f, "{}", byte.escape_ascii()))
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a good file holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checkpoint<'a> {
    /// The payload's version, 1 or more and not above what the reader asked for.
    pub version: u16,
    /// The payload.
    pub payload: &'a [u8],
}

/// Why a file can't be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Disk or a crash: the bytes are not what was written; the file counts as missing (LOG-6).
    #[error("the file is torn or damaged: {0}")]
    Torn(&'static str),
    /// Whoever runs an older program on a newer one's files.
    #[error("{kind} file of version {found}, but this program reads up to {supported}: run the newer program again")]
    Newer {
        /// What the file is; `frame` for the frame itself.
        kind: String,
        /// The file's version.
        found: u16,
        /// The newest that this program reads.
        supported: u16,
    },
    /// Whoever moved files: it is good, but another one.
    #[error("the file is of kind {found} where {expected} was expected: put the right file in its place")]
    WrongKind {
        /// What was expected.
        expected: Kind,
        /// What the file says that it is.
        found: Kind,
    },
}

impl CheckpointError {
    /// Whether the file counts as missing.
    pub fn is_torn(&self) -> bool {
        matches!(self, Self::Torn(_))
    }
}

/// The bytes of a file of `kind` with that payload, whose version is 1 or more.
///
/// The payload is at most [`CHECKPOINT_BYTES_MAX`](crate::limits::CHECKPOINT_BYTES_MAX): longer files are not read
/// back.
pub fn encode(kind: Kind, version: u16, payload: &[u8]) -> Vec<u8> {
    debug_assert!(version > 0, "versions count from 1");
    debug_assert!(payload.len() <= crate::limits::CHECKPOINT_BYTES_MAX, "a payload that would not be read back");
    let mut bytes = Vec::with_capacity(FRAME_BYTES + payload.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FRAME_VERSION.to_be_bytes());
    bytes.extend_from_slice(&version.to_be_bytes());
    bytes.extend_from_slice(&kind.0);
    bytes.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes), payload);
    bytes.extend_from_slice(&crc.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Reads a file of `kind` whose payload is of version `supported` or older.
///
/// # Errors
/// [`CheckpointError`].
pub fn decode(kind: Kind, supported: u16, bytes: &[u8]) -> Result<Checkpoint<'_>, CheckpointError> {
    let mut fields = Fields(bytes);
    if fields.take::<4>()? != *MAGIC {
        return Err(CheckpointError::Torn("it does not begin with HWCP"));
    }
    let frame_version = u16::from_be_bytes(fields.take()?);
    if frame_version > FRAME_VERSION {
        return Err(CheckpointError::Newer {
            kind: "frame".to_owned(),
            found: frame_version,
            supported: FRAME_VERSION,
        });
    }
    let version = u16::from_be_bytes(fields.take()?);
    let found = Kind(fields.take()?);
    let payload_bytes = u32::from_be_bytes(fields.take()?);
    let crc = u32::from_be_bytes(fields.take()?);
    let payload = fields.0;
    if payload.len() as u64 != u64::from(payload_bytes) {
        return Err(CheckpointError::Torn("its length is not the one it declares"));
    }
    if crc32c::crc32c_append(crc32c::crc32c(&bytes[..CRC_START]), payload) != crc {
        return Err(CheckpointError::Torn("it fails its CRC-32C"));
    }
    if frame_version == 0 || version == 0 {
        return Err(CheckpointError::Torn("there is no version 0"));
    }
    if found != kind {
        return Err(CheckpointError::WrongKind { expected: kind, found });
    }
    if version > supported {
        return Err(CheckpointError::Newer { kind: kind.to_string(), found: version, supported });
    }
    Ok(Checkpoint { version, payload })
}

/// Takes big-endian fields off the front of bytes.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], CheckpointError> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or(CheckpointError::Torn("it ends early"))?;
        self.0 = rest;
        Ok(*field)
    }

    pub(crate) fn take_slice(&mut self, length: usize) -> Result<&'a [u8], CheckpointError> {
        let (slice, rest) = self.0.split_at_checked(length).ok_or(CheckpointError::Torn("it ends early"))?;
        self.0 = rest;
        Ok(slice)
    }

    pub(crate) fn end(self) -> Result<(), CheckpointError> {
        if self.0.is_empty() { Ok(()) } else { Err(CheckpointError::Torn("bytes are left over")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind::new("test");

    #[test]
    fn golden_bytes() {
        let golden = b"HWCP\x00\x01\x00\x02test\0\0\0\0\x00\x00\x00\x03\x7d\xb5\xf9\xa5abc";
        let bytes = encode(KIND, 2, b"abc");
        assert_eq!(bytes.escape_ascii().to_string(), golden.escape_ascii().to_string());
        assert_eq!(decode(KIND, 2, golden), Ok(Checkpoint { version: 2, payload: b"abc" }));
    }

    // covers LOG-6
    #[test]
    fn a_file_cut_at_any_byte_or_with_any_bit_flipped_is_not_believed() {
        let bytes = encode(KIND, 1, b"some payload");
        for length in 0..bytes.len() {
            let torn = decode(KIND, 1, &bytes[..length]);
            assert!(torn.as_ref().is_err_and(CheckpointError::is_torn), "cut at {length}: {torn:?}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(KIND, 1, &flipped).is_err(), "bit {bit}");
        }
        let longer = [bytes.as_slice(), b"!"].concat();
        assert!(decode(KIND, 1, &longer).is_err_and(|error| error.is_torn()));
    }

    #[test]
    fn a_newer_version_and_another_kind_are_refused_by_name() {
        let newer = decode(KIND, 2, &encode(KIND, 3, b"")).unwrap_err().to_string();
        assert_eq!(newer, "test file of version 3, but this program reads up to 2: run the newer program again");
        let other = encode(Kind::new("othernam"), 1, b"");
        assert_eq!(
            decode(KIND, 1, &other),
            Err(CheckpointError::WrongKind { expected: KIND, found: Kind::new("othernam") })
        );
        let mut frame = encode(KIND, 1, b"");
        frame[5] = 9;
        let expected = CheckpointError::Newer { kind: "frame".to_owned(), found: 9, supported: 1 };
        assert_eq!(decode(KIND, 1, &frame), Err(expected));
    }
}
