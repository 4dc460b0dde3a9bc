//! What becomes of records that a processor can't process.

use super::record::ErrorEnd;
use super::{ClusterImage, MetadataRecord, TopicImage};
use crate::limits;
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::{ProcessorNumber, TopicId};
use headwater_protocol::messages::processor::{ErrorPolicy, OnError};

/// A processor's error policy, its topic found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ErrorHandling {
    /// How often a record is tried again.
    pub retries: u32,
    /// What happens then.
    pub then: ErrorEnd,
}

impl Default for ErrorHandling {
    fn default() -> Self {
        Self { retries: ErrorPolicy::default().retries, then: ErrorEnd::Fail }
    }
}

impl ErrorHandling {
    /// Where dead letters go.
    pub fn dead_letters(&self) -> Option<TopicId> {
        match self.then {
            ErrorEnd::DeadLetter(topic) => Some(topic),
            ErrorEnd::Fail | ErrorEnd::Skip => None,
        }
    }

    /// As clients see it.
    pub fn describe(&self, image: &ClusterImage) -> ErrorPolicy {
        let then = match self.then {
            ErrorEnd::Fail => OnError::Fail,
            ErrorEnd::Skip => OnError::Skip,
            ErrorEnd::DeadLetter(id) => {
                let topic = image.topic(id).map_or_else(|| id.to_string(), |topic| topic.name.to_string());
                OnError::DeadLetter { topic }
            }
        };
        ErrorPolicy { retries: self.retries, then }
    }

    /// The record that says so behind a deployment; none for the default.
    pub(super) fn record(self, processor: ProcessorNumber) -> Option<MetadataRecord> {
        let Self { retries, then } = self;
        (self != Self::default()).then_some(MetadataRecord::ProcessorErrorsSet { processor, retries, then })
    }
}

/// Finds the dead letter topic and checks that the policy can be.
pub(super) fn check_errors(
    image: &ClusterImage,
    policy: &ErrorPolicy,
    inputs: &[&TopicImage],
) -> Result<ErrorHandling, ApiError> {
    let (retries, retries_max) = (policy.retries, limits::ERROR_RETRIES_MAX);
    if retries > retries_max {
        let message = format!("retries={retries} is out of range; it is 0 to {retries_max}");
        return Err(ApiError::new(ErrorCode::InvalidProcessor, message));
    }
    let then = match &policy.then {
        OnError::Fail => ErrorEnd::Fail,
        OnError::Skip => ErrorEnd::Skip,
        OnError::DeadLetter { topic: name } => {
            let topic = image.find_topic(name)?;
            if topic.internal {
                let message = format!("dead letter topic {name:?} is internal: a changelog holds commits, not records");
                return Err(ApiError::new(ErrorCode::InternalTopic, message));
            }
            if inputs.iter().any(|input| input.id == topic.id) {
                let message =
                    format!("dead letter topic {name:?} is an input: the processor would read its dead letters again");
                return Err(ApiError::new(ErrorCode::InvalidProcessor, message));
            }
            ErrorEnd::DeadLetter(topic.id)
        }
    };
    Ok(ErrorHandling { retries, then })
}
