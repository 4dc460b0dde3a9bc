//! What can go wrong for a user of this crate. Every message is one line that names the culprit and what to do.

use headwater_protocol::error::{ApiError, ErrorCode};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Why a call failed. Cheap enough to clone: every record of a failed batch gets one.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody answers there.
    #[error("no broker at {address}: run `headwater dev` ({reason})")]
    NoBroker {
        /// The address or addresses tried.
        address: String,
        /// What happened, for the last of them.
        reason: String,
    },
    /// Client or peer: somebody answers, but the certificates don't fit, or can't be read.
    #[error(
        "TLS with {address} failed: {reason}; check that ca, certificate and key of the context are this cluster's"
    )]
    Tls {
        /// The address.
        address: String,
        /// What was refused.
        reason: String,
    },
    /// Client or peer: no common version of something that is needed.
    #[error("{broker} at {address} doesn't speak {api}: use a client and a broker of the same release")]
    Incompatible {
        /// The broker's address.
        address: String,
        /// The program and version that the broker says it is.
        broker: String,
        /// What is missing.
        api: String,
    },
    /// The broker's answer; its message names the culprit.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// No answer in time. What was asked may have happened.
    #[error("{what}: no answer within {}; it may have happened all the same", Seconds(*after))]
    Timeout {
        /// What was asked, and of whom.
        what: String,
        /// How long the answer was waited for.
        after: Duration,
    },
    /// Records were not acknowledged within the delivery time-out.
    #[error("records for {topic}-{partition} were not acknowledged in time ({cause}): {written}")]
    Delivery {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: u32,
        /// Whether they are in the log.
        written: Written,
        /// What stood in the way last.
        cause: String,
    },
    /// Peer or network: the connection ended while the answer was awaited. What was asked may have happened.
    #[error(
        "the connection to {address} was lost ({reason}); what was asked may have happened: look before repeating it"
    )]
    ConnectionLost {
        /// The broker's address.
        address: String,
        /// What ended it.
        reason: String,
    },
    /// Peer: it broke the protocol.
    #[error("the broker at {address} broke the protocol: {reason}; this is a bug in it, or in this client")]
    Protocol {
        /// The broker's address.
        address: String,
        /// Which rule.
        reason: String,
    },
    /// Client, or disk of the broker: a record or batch is not well-formed or too large.
    #[error("{place}: {reason}")]
    Batch {
        /// Where: topic, partition, offset as far as known.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// Client: a setting or argument makes no sense.
    #[error("{0}")]
    Config(String),
    /// Client: this client, producer or consumer was closed.
    #[error("closed: this client was closed while the call was under way, or before it")]
    Closed,
}

/// Whether records whose delivery failed are in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Written {
    /// They never left this client; sending them again is safe.
    No,
    /// They were sent and the answer is missing.
    Unknown,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::No => "they were not sent; send them again",
            Self::Unknown => "they may or may not be written; read the topic before sending them again",
        })
    }
}

impl ClientError {
    /// The broker's error code, where the broker answered with one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Api(error) => Some(error.code),
            _ => None,
        }
    }

    /// Whether the same call may succeed later without anybody changing it: nobody was reached, the connection was
    /// lost, or the broker gave a passing reason. What was asked may have happened already.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::NoBroker { .. } | Self::ConnectionLost { .. } | Self::Timeout { .. } | Self::Delivery { .. } => true,
            Self::Api(error) => error.code.is_retriable(),
            _ => false,
        }
    }
}

/// Prints a duration as a person would: `3 s`, `250 ms`.
pub(crate) struct Seconds(pub(crate) Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.subsec_millis() == 0 && self.0.as_secs() > 0 {
            write!(f, "{} s", self.0.as_secs())
        } else {
            write!(f, "{} ms", self.0.as_millis())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_culprit_and_the_remedy() {
        let nobody = ClientError::NoBroker { address: "127.0.0.1:9092".into(), reason: "timed out after 3 s".into() };
        assert_eq!(nobody.to_string(), "no broker at 127.0.0.1:9092: run `headwater dev` (timed out after 3 s)");
        let lost = ClientError::Delivery {
            topic: "t".into(),
            partition: 3,
            written: Written::Unknown,
            cause: "the connection was lost".into(),
        };
        assert!(lost.to_string().contains("t-3"));
        assert!(lost.to_string().contains("may or may not be written"));
        let api = ClientError::from(ApiError::new(ErrorCode::InvalidTopic, "topic name \"a b\": no spaces"));
        assert_eq!(api.to_string(), "topic name \"a b\": no spaces (InvalidTopic)");
    }

    #[test]
    fn durations_read_like_a_person_says_them() {
        assert_eq!(Seconds(Duration::from_secs(3)).to_string(), "3 s");
        assert_eq!(Seconds(Duration::from_millis(1250)).to_string(), "1250 ms");
        assert_eq!(Seconds(Duration::ZERO).to_string(), "0 ms");
    }

    #[test]
    fn passing_reasons_are_retriable() {
        assert!(ClientError::from(ApiError::new(ErrorCode::Busy, "")).is_retriable());
        assert!(!ClientError::from(ApiError::new(ErrorCode::InvalidTopic, "")).is_retriable());
        assert!(!ClientError::Closed.is_retriable());
    }
}
