//! Frames: what a stream is made of.
//!
//! ```text
//! 0        2         4             8            12           16
//! ┌────────┬─────────┬─────────────┬────────────┬────────────┬── header bytes ──┬── body bytes ──┐
//! │ api    │ version │ correlation │ header     │ body       │ postcard struct  │ raw batches    │
//! │ u16    │ u16     │ u32         │ bytes, u32 │ bytes, u32 │                  │                │
//! └────────┴─────────┴─────────────┴────────────┴────────────┴──────────────────┴────────────────┘
//! ```
//! All numbers of the prefix are big-endian. A response repeats api, version and correlation of its request.

use crate::error::ErrorCode;
use crate::limits;
use serde::{Serialize, de::DeserializeOwned};

/// The first 16 bytes of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FramePrefix {
    /// Number of the api (see [`ApiKey`](crate::messages::ApiKey)); unknown ones decode too.
    pub api: u16,
    /// Version of the api.
    pub version: u16,
    /// The requester's number for the request; the response carries it back.
    pub correlation: u32,
    /// Bytes of header that follow the prefix.
    pub header_bytes: u32,
    /// Bytes of body that follow the header.
    pub body_bytes: u32,
}

/// How large a frame may be here and now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameLimits {
    /// Largest header.
    pub header_bytes_max: u32,
    /// Largest body.
    pub body_bytes_max: u32,
}

impl FrameLimits {
    /// Before hello: header and body of at most 64 KiB each.
    pub const UNAUTHENTICATED: Self = Self {
        header_bytes_max: limits::UNAUTHENTICATED_FRAME_BYTES_MAX,
        body_bytes_max: limits::UNAUTHENTICATED_FRAME_BYTES_MAX,
    };
    /// After hello.
    pub const AUTHENTICATED: Self =
        Self { header_bytes_max: limits::FRAME_HEADER_BYTES_MAX, body_bytes_max: limits::FRAME_BODY_BYTES_MAX };
}

impl Default for FrameLimits {
    fn default() -> Self {
        Self::AUTHENTICATED
    }
}

/// Why a frame is refused. The peer made it, so the peer is to blame; nothing was read beyond what the error names.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// The prefix declares a larger header than is taken.
    #[error("a frame's header of {bytes} bytes is over the limit of {max}: send smaller requests")]
    HeaderTooLarge {
        /// Bytes declared, or bytes that a message of ours has.
        bytes: u64,
        /// Bytes allowed.
        max: u32,
    },
    /// The prefix declares a larger body than is taken.
    #[error("a frame's body of {bytes} bytes is over the limit of {max}: send smaller batches")]
    BodyTooLarge {
        /// Bytes declared.
        bytes: u64,
        /// Bytes allowed.
        max: u32,
    },
    /// The header is not the struct that its api and version promise.
    #[error("a frame's header is not the struct of its api and version ({0}): the sender encodes it wrongly")]
    Malformed(postcard::Error),
    /// The header has bytes left after its struct.
    #[error("a frame's header has {bytes} bytes after its struct: the sender encodes another version than it says")]
    TrailingBytes {
        /// Bytes left over.
        bytes: usize,
    },
}

impl FrameError {
    /// The code to answer with.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::HeaderTooLarge { .. } | Self::BodyTooLarge { .. } => ErrorCode::RequestTooLarge,
            Self::Malformed(_) | Self::TrailingBytes { .. } => ErrorCode::InvalidRequest,
        }
    }
}

impl FramePrefix {
    /// Bytes of the prefix.
    pub const BYTES: usize = 16;

    /// Reads a prefix. Every 16 bytes are one; [`Self::check`] says whether to go on.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Self {
        let [a0, a1, v0, v1, c0, c1, c2, c3, h0, h1, h2, h3, b0, b1, b2, b3] = *bytes;
        Self {
            api: u16::from_be_bytes([a0, a1]),
            version: u16::from_be_bytes([v0, v1]),
            correlation: u32::from_be_bytes([c0, c1, c2, c3]),
            header_bytes: u32::from_be_bytes([h0, h1, h2, h3]),
            body_bytes: u32::from_be_bytes([b0, b1, b2, b3]),
        }
    }

    /// Writes the prefix.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let [a0, a1] = self.api.to_be_bytes();
        let [v0, v1] = self.version.to_be_bytes();
        let [c0, c1, c2, c3] = self.correlation.to_be_bytes();
        let [h0, h1, h2, h3] = self.header_bytes.to_be_bytes();
        let [b0, b1, b2, b3] = self.body_bytes.to_be_bytes();
        [a0, a1, v0, v1, c0, c1, c2, c3, h0, h1, h2, h3, b0, b1, b2, b3]
    }

    /// Compares the declared sizes with the limits: to be called before anything is read or allocated for them.
    ///
    /// # Errors
    /// [`FrameError::HeaderTooLarge`] or [`FrameError::BodyTooLarge`]; the stream can't be used any more.
    pub fn check(&self, limits: &FrameLimits) -> Result<(), FrameError> {
        if self.header_bytes > limits.header_bytes_max {
            let bytes = u64::from(self.header_bytes);
            return Err(FrameError::HeaderTooLarge { bytes, max: limits.header_bytes_max });
        }
        if self.body_bytes > limits.body_bytes_max {
            let bytes = u64::from(self.body_bytes);
            return Err(FrameError::BodyTooLarge { bytes, max: limits.body_bytes_max });
        }
        Ok(())
    }
}

/// Encodes a frame's header.
///
/// # Errors
/// [`FrameError::HeaderTooLarge`] when no receiver would take it.
pub fn encode_header<T: Serialize>(header: &T) -> Result<Vec<u8>, FrameError> {
    let bytes = postcard::to_stdvec(header).map_err(FrameError::Malformed)?;
    if bytes.len() > limits::FRAME_HEADER_BYTES_MAX as usize {
        return Err(FrameError::HeaderTooLarge { bytes: bytes.len() as u64, max: limits::FRAME_HEADER_BYTES_MAX });
    }
    Ok(bytes)
}

/// Decodes a frame's header, which must be the struct and nothing more. Counts inside it are not trusted: memory
/// grows with the elements that are there, not with the number declared.
///
/// # Errors
/// [`FrameError::Malformed`] and [`FrameError::TrailingBytes`].
pub fn decode_header<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FrameError> {
    let (header, rest) = postcard::take_from_bytes(bytes).map_err(FrameError::Malformed)?;
    if !rest.is_empty() {
        return Err(FrameError::TrailingBytes { bytes: rest.len() });
    }
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::cluster::HelloRequest;
    use crate::tests::measure;
    use proptest::prelude::*;

    const PREFIX: FramePrefix =
        FramePrefix { api: 0x0102, version: 0x0304, correlation: 0x0506_0708, header_bytes: 16, body_bytes: 0x0d0e };

    #[test]
    fn a_prefix_has_these_bytes() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 16, 0, 0, 0x0d, 0x0e];
        assert_eq!(PREFIX.encode(), bytes);
        assert_eq!(FramePrefix::decode(&bytes), PREFIX);
    }

    #[test]
    fn sizes_over_the_limit_are_refused_before_anything_is_read() {
        // covers reliability §4.4 (frame length)
        let limits = FrameLimits { header_bytes_max: 16, body_bytes_max: 0x0d0e };
        assert_eq!(PREFIX.check(&limits), Ok(()));
        for bytes in [17, 1 << 31, u32::MAX] {
            let error = FramePrefix { header_bytes: bytes, ..PREFIX }.check(&limits).unwrap_err();
            assert_eq!(error, FrameError::HeaderTooLarge { bytes: bytes.into(), max: 16 });
            assert_eq!(error.code(), ErrorCode::RequestTooLarge);
        }
        for bytes in [0x0d0f, 1 << 31, u32::MAX] {
            let error = FramePrefix { body_bytes: bytes, ..PREFIX }.check(&limits).unwrap_err();
            assert_eq!(error, FrameError::BodyTooLarge { bytes: bytes.into(), max: 0x0d0e });
        }
        let large = FramePrefix { header_bytes: 64 << 10, body_bytes: (64 << 10) + 1, ..PREFIX };
        assert!(large.check(&FrameLimits::UNAUTHENTICATED).is_err());
        assert_eq!(large.check(&FrameLimits::default()), Ok(()));
    }

    #[test]
    fn a_header_is_its_struct_and_nothing_more() {
        let hello = HelloRequest { client: "me".into(), versions: vec![(0, 0, 0)] };
        let mut bytes = encode_header(&hello).unwrap();
        assert_eq!(decode_header(&bytes), Ok(hello));
        bytes.push(0);
        let error = decode_header::<HelloRequest>(&bytes).unwrap_err();
        assert_eq!(error, FrameError::TrailingBytes { bytes: 1 });
        assert_eq!(error.code(), ErrorCode::InvalidRequest);
        for length in 0..bytes.len() - 1 {
            assert!(matches!(decode_header::<HelloRequest>(&bytes[..length]), Err(FrameError::Malformed(_))));
        }
        let not_text = [2, 0xff, 0xff, 0];
        assert!(matches!(decode_header::<HelloRequest>(&not_text), Err(FrameError::Malformed(_))));
    }

    #[test]
    fn a_declared_count_costs_no_memory() {
        // covers reliability §4.4 (array and string counts): 2^60 elements, none of them there
        let count = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10];
        let elements = [&[0][..], &count[..]].concat();
        let (outcome, usage) = measure(|| decode_header::<HelloRequest>(&elements));
        assert!(matches!(outcome, Err(FrameError::Malformed(_))));
        // serde reserves at most 1 MiB ahead, whatever is declared; postcard keeps even that back where more elements
        // are declared than bytes are left.
        assert!(usage.peak_bytes < 1000, "{usage:?}");
        let (outcome, usage) = measure(|| decode_header::<Vec<u64>>(&[&count[..], &[1; 100]].concat()));
        assert!(matches!(outcome, Err(FrameError::Malformed(_))));
        assert!(usage.peak_bytes < 4000, "{usage:?}");
        let (outcome, usage) = measure(|| decode_header::<String>(&count));
        assert!(matches!(outcome, Err(FrameError::Malformed(_))));
        assert!(usage.peak_bytes < 1000, "{usage:?}");
    }

    #[test]
    fn a_header_that_no_receiver_would_take_is_not_made() {
        let large = "x".repeat(limits::FRAME_HEADER_BYTES_MAX as usize);
        let error = encode_header(&large).unwrap_err();
        assert!(matches!(error, FrameError::HeaderTooLarge { .. }));
    }

    proptest! {
        #[test]
        fn every_prefix_survives(bytes: [u8; 16]) {
            prop_assert_eq!(FramePrefix::decode(&bytes).encode(), bytes);
            let prefix = FramePrefix::decode(&bytes);
            let fits = prefix.header_bytes <= 1 << 20 && prefix.body_bytes <= 16 << 20;
            prop_assert_eq!(prefix.check(&FrameLimits::AUTHENTICATED).is_ok(), fits);
        }
    }
}
