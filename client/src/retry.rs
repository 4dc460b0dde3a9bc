//! Whether a failed request is sent again by this crate. Pure.

use crate::error::ClientError;
use headwater_protocol::error::ErrorCode;
use headwater_protocol::messages::ApiKey;

/// A request that failed.
#[derive(Clone, Debug)]
pub(crate) struct CallFailure {
    /// Why.
    pub(crate) error: ClientError,
    /// Whether a broker may have got the request.
    pub(crate) sent: bool,
}

/// Whether doing it twice is the same as doing it once.
fn is_repeatable(api: ApiKey) -> bool {
    match api {
        ApiKey::Hello
        | ApiKey::Fetch
        | ApiKey::ListOffsets
        | ApiKey::Metadata
        | ApiKey::InitProducerId
        | ApiKey::DeleteRecords
        | ApiKey::VerifyLog
        | ApiKey::DescribeLog
        | ApiKey::DescribeLogDirs
        | ApiKey::ListModules
        | ApiKey::DescribeModule
        | ApiKey::ListProcessors
        | ApiKey::DescribeProcessor
        | ApiKey::ProcessorLogs => true,
        // A produce request is sent again too, by the producer, which keeps order and sequence numbers.
        ApiKey::Produce
        | ApiKey::CreateTopics
        | ApiKey::DeleteTopics
        | ApiKey::AlterTopic
        | ApiKey::UploadModule
        | ApiKey::DeleteModule
        | ApiKey::DeployProcessor
        | ApiKey::RollbackProcessor
        | ApiKey::EndShadow
        | ApiKey::SetProcessorPaused
        | ApiKey::DeleteProcessor => false,
    }
}

/// Whether to send the request again, after a pause and within its time-out. Requests that change something are only
/// repeated when the first one certainly did nothing; otherwise the user decides.
pub(crate) fn should_repeat(api: ApiKey, failure: &CallFailure) -> bool {
    match &failure.error {
        ClientError::Api(error) => match error.code {
            // Refused before anything was done.
            ErrorCode::Busy | ErrorCode::ShuttingDown | ErrorCode::NotLeaderOrFollower => true,
            code => code.is_retriable() && is_repeatable(api),
        },
        ClientError::ConnectionLost { .. } => !failure.sent || is_repeatable(api),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_protocol::error::ApiError;

    fn failure(error: ClientError, sent: bool) -> CallFailure {
        CallFailure { error, sent }
    }

    #[test]
    fn what_changes_something_is_repeated_only_when_it_did_nothing() {
        let lost = || ClientError::ConnectionLost { address: "a".into(), reason: "gone".into() };
        let api = |code| ClientError::Api(ApiError::new(code, ""));
        for (key, error, sent, expected) in [
            (ApiKey::CreateTopics, lost(), true, false),
            (ApiKey::CreateTopics, lost(), false, true),
            (ApiKey::Metadata, lost(), true, true),
            (ApiKey::CreateTopics, api(ErrorCode::Busy), true, true),
            (ApiKey::CreateTopics, api(ErrorCode::RequestTimedOut), true, false),
            (ApiKey::ListOffsets, api(ErrorCode::RequestTimedOut), true, true),
            (ApiKey::ListOffsets, api(ErrorCode::InvalidTopic), true, false),
        ] {
            let failed = failure(error, sent);
            assert_eq!(should_repeat(key, &failed), expected, "{key:?} {failed:?}");
        }
    }

    #[test]
    fn nobody_there_is_told_at_once() {
        let nobody = ClientError::NoBroker { address: "a".into(), reason: "r".into() };
        assert!(!should_repeat(ApiKey::Metadata, &failure(nobody, false)));
    }
}
