//! What broker and compiling process say to each other, once each.
//!
//! ```text
//! request   magic 8 │ engine 32 │ memory bytes u64 │ CPU seconds u64 │ artefact bytes u64 │ component bytes u64
//!           │ component
//! answer    magic 8 │ status u64 │ payload bytes u64 │ SHA-256 of the payload 32 │ payload
//! ```
//!
//! All little-endian. Both ends are one build: there is no version beside the magic, and `engine` tells builds apart.

use crate::runtime::Compatibility;
use sha2::{Digest, Sha256};

const REQUEST_MAGIC: [u8; 8] = *b"HWcmpl1?";
const ANSWER_MAGIC: [u8; 8] = *b"HWcmpl1!";
/// Bytes of a request before the component.
pub(super) const REQUEST_HEADER_BYTES: usize = 8 + 32 + 4 * 8;
/// Bytes of an answer before its payload.
pub(super) const ANSWER_HEADER_BYTES: usize = 8 + 2 * 8 + 32;

/// What the broker asks for; the component follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Request {
    pub(super) compatibility: Compatibility,
    pub(super) memory_bytes_max: u64,
    pub(super) cpu_seconds_max: u64,
    pub(super) artefact_bytes_max: u64,
    pub(super) component_bytes: u64,
}

impl Request {
    pub(super) fn encode(&self) -> [u8; REQUEST_HEADER_BYTES] {
        let mut bytes = [0; REQUEST_HEADER_BYTES];
        bytes[..8].copy_from_slice(&REQUEST_MAGIC);
        bytes[8..40].copy_from_slice(&self.compatibility.0);
        let numbers = [self.memory_bytes_max, self.cpu_seconds_max, self.artefact_bytes_max, self.component_bytes];
        for (place, number) in bytes[40..].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// `None` for anything that no broker of this build sent.
    pub(super) fn decode(bytes: &[u8; REQUEST_HEADER_BYTES]) -> Option<Self> {
        let rest = bytes.strip_prefix(&REQUEST_MAGIC)?;
        let (engine, numbers) = rest.split_first_chunk::<32>()?;
        let mut numbers = numbers.as_chunks::<8>().0.iter().map(|number| u64::from_le_bytes(*number));
        Some(Self {
            compatibility: Compatibility(*engine),
            memory_bytes_max: numbers.next()?,
            cpu_seconds_max: numbers.next()?,
            artefact_bytes_max: numbers.next()?,
            component_bytes: numbers.next()?,
        })
    }
}

/// What became of the component.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer<'a> {
    /// Machine code.
    Compiled(&'a [u8]),
    /// The module's fault, in words.
    Invalid(&'a str),
    /// An allocation was refused.
    OutOfMemory,
    /// More machine code than the limit.
    TooLarge,
    /// The child's engine is not the broker's.
    Mismatch,
}

impl<'a> Answer<'a> {
    fn parts(&self) -> (u64, &'a [u8]) {
        match self {
            Self::Compiled(code) => (0, code),
            Self::Invalid(message) => (1, message.as_bytes()),
            Self::OutOfMemory => (2, &[]),
            Self::TooLarge => (3, &[]),
            Self::Mismatch => (4, &[]),
        }
    }

    /// Header, and the payload that follows it.
    pub(super) fn encode(&self) -> ([u8; ANSWER_HEADER_BYTES], &'a [u8]) {
        let (status, payload) = self.parts();
        let mut header = [0; ANSWER_HEADER_BYTES];
        header[..8].copy_from_slice(&ANSWER_MAGIC);
        header[8..16].copy_from_slice(&status.to_le_bytes());
        header[16..24].copy_from_slice(&(payload.len() as u64).to_le_bytes());
        header[24..].copy_from_slice(&Sha256::digest(payload));
        (header, payload)
    }

    /// Reads all of `bytes` as one answer, or says what is wrong with it.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, &'static str> {
        if bytes.is_empty() {
            return Err("no answer");
        }
        let (header, payload) = bytes.split_first_chunk::<ANSWER_HEADER_BYTES>().ok_or("a short answer")?;
        let rest = header.strip_prefix(&ANSWER_MAGIC).ok_or("an answer of another program")?;
        let (status, rest) = rest.split_first_chunk::<8>().ok_or("a short answer")?;
        let (length, checksum) = rest.split_first_chunk::<8>().ok_or("a short answer")?;
        if u64::from_le_bytes(*length) != payload.len() as u64 {
            return Err("an answer that was cut off");
        }
        if checksum != Sha256::digest(payload).as_slice() {
            return Err("a damaged answer");
        }
        match u64::from_le_bytes(*status) {
            0 => Ok(Self::Compiled(payload)),
            1 => std::str::from_utf8(payload).map(Self::Invalid).map_err(|_| "a message that is not text"),
            2 => Ok(Self::OutOfMemory),
            3 => Ok(Self::TooLarge),
            4 => Ok(Self::Mismatch),
            _ => Err("an unknown answer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_survive() {
        let request = Request {
            compatibility: Compatibility([7; 32]),
            memory_bytes_max: 1,
            cpu_seconds_max: 2,
            artefact_bytes_max: 3,
            component_bytes: u64::MAX,
        };
        assert_eq!(Request::decode(&request.encode()), Some(request));
        let mut foreign = request.encode();
        foreign[0] ^= 1;
        assert_eq!(Request::decode(&foreign), None);
        let answers =
            [Answer::Compiled(b"code"), Answer::Invalid("no"), Answer::OutOfMemory, Answer::TooLarge, Answer::Mismatch];
        for answer in answers {
            let (header, payload) = answer.encode();
            assert_eq!(Answer::decode(&[&header, payload].concat()), Ok(answer));
        }
    }

    #[test]
    fn every_damaged_byte_and_every_cut_is_noticed() {
        let (header, payload) = Answer::Compiled(b"machine code").encode();
        let whole = [&header, payload].concat();
        for at in (0..8).chain(16..whole.len()) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            assert!(Answer::decode(&damaged).is_err(), "byte {at}");
        }
        for length in 0..whole.len() {
            assert!(Answer::decode(&whole[..length]).is_err(), "{length} bytes");
        }
        assert_eq!(Answer::decode(&[whole, vec![0]].concat()), Err("an answer that was cut off"));
    }
}
