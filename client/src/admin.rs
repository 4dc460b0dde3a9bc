//! Administration: topics, offsets, modules, processors. Requests and responses are `headwater-protocol`'s structs.

use crate::client::{Shared, Target, unknown_topic};
use crate::error::ClientError;
use crate::limits::{COMPILE_TIME_MAX, UPLOAD_PROGRESS_PAUSE};
use bytes::Bytes;
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::{BrokerId, TopicId};
use headwater_protocol::limits::MODULE_BYTES_MAX;
use headwater_protocol::messages::Request;
use headwater_protocol::messages::cluster::{MetadataRequest, MetadataResponse, SettingMetadata, TopicMetadata};
use headwater_protocol::messages::log::{DescribeLogRequest, LogDescription, VerifiedPiece, VerifyLogRequest};
use headwater_protocol::messages::module::{
    DeleteModuleRequest, DescribeModuleRequest, ListModulesRequest, ModuleDescription, UploadModuleRequest,
};
use headwater_protocol::messages::processor::{
    DeleteProcessorRequest, DeployProcessorRequest, DeployProcessorResponse, DescribeProcessorRequest,
    EndShadowRequest, ListProcessorsRequest, ProcessorDescription, ProcessorLogLine, ProcessorLogsRequest,
    ProcessorSummary, RollbackProcessorRequest, RollbackProcessorResponse, SetProcessorPausedRequest,
};
use headwater_protocol::messages::records::{FoundOffset, ListOffsetsRequest, OffsetSpec};
use headwater_protocol::messages::topic::{
    AlterTopicRequest, CreateTopicsRequest, CreatedTopic, DeleteRecordsRequest, DeleteTopicsRequest,
    DescribeLogDirsRequest, DescribeLogDirsResponse, NewTopic,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Calls that look at the cluster or change it; each on a stream of its own. Made by
/// [`Client::admin`](crate::Client::admin).
///
/// Unless said otherwise a call fails with [`ClientError::Api`] when the broker refuses (its message says why),
/// [`ClientError::Timeout`] and [`ClientError::ConnectionLost`] when the answer didn't come (what was asked may have
/// happened), [`ClientError::NoBroker`] when nobody was reached. Calls that only look are repeated meanwhile.
#[derive(Clone, Debug)]
pub struct Admin {
    shared: Arc<Shared>,
}

impl Admin {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Creates topics, each on its own; answers in their order. `validate_only` checks all and creates none.
    ///
    /// # Errors
    /// See [`Admin`]; a topic that is refused is an `Err` inside the answer.
    pub async fn create_topics(
        &self,
        topics: Vec<NewTopic>,
        validate_only: bool,
    ) -> Result<Vec<Result<CreatedTopic, ApiError>>, ClientError> {
        let request = CreateTopicsRequest { topics, validate_only };
        let response = self.shared.call(Target::Any, &request).await?;
        check_count(request.topics.len(), response.topics.len())?;
        Ok(response.topics)
    }

    /// Deletes topics by name, each on its own; answers in their order.
    ///
    /// # Errors
    /// See [`Admin`]; a topic that is not deleted is an `Err` inside the answer.
    pub async fn delete_topics(&self, names: Vec<String>) -> Result<Vec<Result<TopicId, ApiError>>, ClientError> {
        let request = DeleteTopicsRequest { names };
        let response = self.shared.call(Target::Any, &request).await?;
        check_count(request.names.len(), response.topics.len())?;
        for name in &request.names {
            self.shared.forget_topic(name);
        }
        Ok(response.topics)
    }

    /// Changes settings of a topic; answers with all that it has afterwards.
    ///
    /// # Errors
    /// See [`Admin`]; `InvalidConfig` says what is wrong with which setting, and nothing was changed.
    pub async fn alter_topic(&self, request: &AlterTopicRequest) -> Result<Vec<SettingMetadata>, ClientError> {
        Ok(self.shared.call(Target::Any, request).await?.settings)
    }

    /// Brokers, and the named topics or all. A name that isn't in the answer doesn't exist. `include_internal` adds
    /// changelogs to "all".
    ///
    /// # Errors
    /// See [`Admin`].
    pub async fn metadata(
        &self,
        topics: Option<Vec<String>>,
        include_internal: bool,
    ) -> Result<MetadataResponse, ClientError> {
        let request = MetadataRequest { topics, include_internal };
        let response = self.shared.call(Target::Any, &request).await?;
        self.shared.learn(request.topics.as_deref().unwrap_or_default(), &response)?;
        Ok(response)
    }

    /// One topic.
    ///
    /// # Errors
    /// See [`Admin`]; [`ErrorCode::UnknownTopicOrPartition`] when there is none of that name.
    pub async fn describe_topic(&self, name: &str) -> Result<TopicMetadata, ClientError> {
        let response = self.metadata(Some(vec![name.to_owned()]), true).await?;
        response.topics.into_iter().find(|topic| topic.name == name).ok_or_else(|| unknown_topic(name))
    }

    /// Looks up offsets; answers in the order of `partitions`. Each is asked of the partition's leader.
    ///
    /// # Errors
    /// See [`Admin`]; a partition that has no answer is an `Err` inside the answer.
    pub async fn list_offsets(
        &self,
        partitions: Vec<(TopicId, u32, OffsetSpec)>,
    ) -> Result<Vec<Result<FoundOffset, ApiError>>, ClientError> {
        let ask = |asked| ListOffsetsRequest { partitions: asked };
        let place = |(topic, partition, _): &(TopicId, u32, OffsetSpec)| (*topic, *partition);
        self.by_leader(&partitions, place, ask, |response| response.partitions).await
    }

    /// Deletes the oldest records of partitions: (topic, partition, offset), those below the offset; -1 for all that
    /// are committed. Answers, in order, where each partition begins now.
    ///
    /// # Errors
    /// See [`Admin`]; a partition of which nothing was deleted is an `Err` inside the answer.
    pub async fn delete_records(
        &self,
        partitions: Vec<(TopicId, u32, i64)>,
    ) -> Result<Vec<Result<i64, ApiError>>, ClientError> {
        let ask = |asked| DeleteRecordsRequest { partitions: asked };
        let place = |(topic, partition, _): &(TopicId, u32, i64)| (*topic, *partition);
        self.by_leader(&partitions, place, ask, |response| response.partitions).await
    }

    /// Has about `bytes_max` bytes of each partition read and checked by its leader: (topic, partition, offset), from
    /// the batch that holds the offset on. Answers in order; go on where they end.
    ///
    /// # Errors
    /// See [`Admin`]; a partition that was not looked at is an `Err` inside the answer.
    pub async fn verify_log(
        &self,
        partitions: Vec<(TopicId, u32, i64)>,
        bytes_max: u32,
    ) -> Result<Vec<Result<VerifiedPiece, ApiError>>, ClientError> {
        let ask = |partitions| VerifyLogRequest { partitions, bytes_max };
        let place = |(topic, partition, _): &(TopicId, u32, i64)| (*topic, *partition);
        self.by_leader(&partitions, place, ask, |response| response.partitions).await
    }

    /// What partitions' logs are made of: (topic, partition, offset), from the segment that holds the offset on, at
    /// most so many segments of all together, but one of each. Answers in order; go on where they end.
    ///
    /// # Errors
    /// See [`Admin`]; a partition of which nothing is known is an `Err` inside the answer.
    pub async fn describe_log(
        &self,
        partitions: Vec<(TopicId, u32, i64)>,
        segments_max: u32,
    ) -> Result<Vec<Result<LogDescription, ApiError>>, ClientError> {
        let ask = |partitions| DescribeLogRequest { partitions, segments_max };
        let place = |(topic, partition, _): &(TopicId, u32, i64)| (*topic, *partition);
        self.by_leader(&partitions, place, ask, |response| response.partitions).await
    }

    /// Asks each partition's leader, one request a leader; answers in the order of `items`.
    async fn by_leader<I: Copy, R: Request, T>(
        &self,
        items: &[I],
        place_of: impl Fn(&I) -> (TopicId, u32),
        request_of: impl Fn(Vec<I>) -> R,
        answers_of: impl Fn(R::Response) -> Vec<Result<T, ApiError>>,
    ) -> Result<Vec<Result<T, ApiError>>, ClientError> {
        let leaders = self.leaders().await?;
        let mut by_leader: BTreeMap<BrokerId, Vec<usize>> = BTreeMap::new();
        let mut answers: Vec<Result<T, ApiError>> = Vec::with_capacity(items.len());
        for (number, item) in items.iter().enumerate() {
            let (topic, partition) = place_of(item);
            let (answer, leader) = match leaders.get(&(topic, partition)) {
                Some(Some(leader)) => (Err(unanswered()), Some(*leader)),
                Some(None) => (Err(ApiError::new(ErrorCode::NotLeaderOrFollower, no_leader(partition))), None),
                None => (Err(ApiError::new(ErrorCode::UnknownTopicOrPartition, no_partition(topic, partition))), None),
            };
            answers.push(answer);
            if let Some(leader) = leader {
                by_leader.entry(leader).or_default().push(number);
            }
        }
        for (leader, numbers) in by_leader {
            let request = request_of(numbers.iter().filter_map(|number| items.get(*number).copied()).collect());
            let found = answers_of(self.shared.call(Target::Broker(leader), &request).await?);
            check_count(numbers.len(), found.len())?;
            for (number, found) in numbers.into_iter().zip(found) {
                if let Some(answer) = answers.get_mut(number) {
                    *answer = found;
                }
            }
        }
        Ok(answers)
    }

    /// Sizes of partitions on the disks of every broker; of the named topics, or of all.
    ///
    /// # Errors
    /// See [`Admin`].
    pub async fn log_dirs(&self, topics: Option<Vec<String>>) -> Result<Vec<DescribeLogDirsResponse>, ClientError> {
        let cluster = self.metadata(Some(Vec::new()), false).await?;
        let request = DescribeLogDirsRequest { topics };
        let mut responses = Vec::with_capacity(cluster.brokers.len());
        for broker in &cluster.brokers {
            responses.push(self.shared.call(Target::Broker(broker.id), &request).await?);
        }
        Ok(responses)
    }

    /// Uploads a module, a component of a Headwater world, at most 16 MiB. `version` `None`: one more than the highest
    /// number in use. `progress` is called now and then with about how many bytes were sent, and the bytes there are.
    ///
    /// # Errors
    /// See [`Admin`]; [`ErrorCode::InvalidModule`] says why the broker can't run it.
    pub async fn upload_module(
        &self,
        name: &str,
        version: Option<&str>,
        module: Bytes,
        progress: impl FnMut(u64, u64) + Send,
    ) -> Result<ModuleDescription, ClientError> {
        let module_bytes = u32::try_from(module.len()).ok().filter(|bytes| *bytes <= MODULE_BYTES_MAX);
        let Some(module_bytes) = module_bytes else {
            let message = format!("module {name:?} has {} bytes: at most {MODULE_BYTES_MAX} are taken", module.len());
            return Err(ApiError::new(ErrorCode::RequestTooLarge, message).into());
        };
        let request = UploadModuleRequest { name: name.to_owned(), version: version.map(str::to_owned), module_bytes };
        let connection = self.shared.connection(Target::Any).await?;
        // Compiling takes its time; the broker's own limit on it is shorter.
        let deadline = Instant::now() + self.shared.config.request_timeout + COMPILE_TIME_MAX;
        let body = [module];
        let work =
            async { connection.call_with_body(&request, &body, deadline).await.map_err(|failure| failure.error) };
        report_while(u64::from(module_bytes), || connection.sent_bytes(), progress, work).await
    }

    /// All modules, by name, then upload order.
    ///
    /// # Errors
    /// See [`Admin`].
    pub async fn list_modules(&self) -> Result<Vec<ModuleDescription>, ClientError> {
        Ok(self.shared.call(Target::Any, &ListModulesRequest {}).await?.modules)
    }

    /// One module, by `name` (its newest version), `name@version` or digest.
    ///
    /// # Errors
    /// See [`Admin`]; [`ErrorCode::UnknownModule`].
    pub async fn describe_module(&self, reference: &str) -> Result<ModuleDescription, ClientError> {
        self.shared.call(Target::Any, &DescribeModuleRequest { reference: reference.to_owned() }).await
    }

    /// Forgets a module, or all versions of a bare name; gives what was forgotten.
    ///
    /// # Errors
    /// See [`Admin`]; [`ErrorCode::UnknownModule`], [`ErrorCode::ModuleInUse`].
    pub async fn delete_module(&self, reference: &str) -> Result<Vec<ModuleDescription>, ClientError> {
        let request = DeleteModuleRequest { reference: reference.to_owned() };
        Ok(self.shared.call(Target::Any, &request).await?.modules)
    }

    /// Starts a processor, or swaps module and settings of the one of that name.
    ///
    /// # Errors
    /// See [`Admin`]; [`ErrorCode::InvalidProcessor`], [`ErrorCode::UnknownModule`] and what topics are missing.
    pub async fn deploy_processor(
        &self,
        request: DeployProcessorRequest,
    ) -> Result<DeployProcessorResponse, ClientError> {
        let timeout = self.shared.config.request_timeout + COMPILE_TIME_MAX;
        self.shared.call_within(Target::Any, &request, timeout).await
    }

    /// Brings back the deployment before the present one, as a new revision; the state stays.
    ///
    /// # Errors
    /// See [`Admin`]; [`ErrorCode::UnknownProcessor`]; [`ErrorCode::InvalidProcessor`] when there is none.
    pub async fn rollback_processor(&self, name: &str) -> Result<RollbackProcessorResponse, ClientError> {
        let timeout = self.shared.config.request_timeout + COMPILE_TIME_MAX;
        let request = RollbackProcessorRequest { name: name.to_owned() };
        self.shared.call_within(Target::Any, &request, timeout).await
    }

    /// Ends the shadow of a processor; gives the module that ran as one.
    ///
    /// # Errors
    /// See [`Admin`]; [`ErrorCode::UnknownProcessor`]; [`ErrorCode::InvalidProcessor`] when there is none.
    pub async fn end_shadow(&self, name: &str) -> Result<String, ClientError> {
        Ok(self.shared.call(Target::Any, &EndShadowRequest { name: name.to_owned() }).await?.module)
    }

    /// All processors, by name.
    ///
    /// # Errors
    /// See [`Admin`].
    pub async fn list_processors(&self) -> Result<Vec<ProcessorSummary>, ClientError> {
        Ok(self.shared.call(Target::Any, &ListProcessorsRequest {}).await?.processors)
    }

    /// One processor, task by task.
    ///
    /// # Errors
    /// See [`Admin`]; [`ErrorCode::UnknownProcessor`].
    pub async fn describe_processor(&self, name: &str) -> Result<ProcessorDescription, ClientError> {
        self.shared.call(Target::Any, &DescribeProcessorRequest { name: name.to_owned() }).await
    }

    /// Pauses all tasks of a processor; tells whether that changed anything.
    ///
    /// # Errors
    /// See [`Admin`]; [`ErrorCode::UnknownProcessor`].
    pub async fn pause_processor(&self, name: &str) -> Result<bool, ClientError> {
        self.set_paused(name, true).await
    }

    /// Resumes a paused processor and starts its failed tasks again; tells whether that changed anything.
    ///
    /// # Errors
    /// See [`Admin`]; [`ErrorCode::UnknownProcessor`].
    pub async fn resume_processor(&self, name: &str) -> Result<bool, ClientError> {
        self.set_paused(name, false).await
    }

    async fn set_paused(&self, name: &str, paused: bool) -> Result<bool, ClientError> {
        let request = SetProcessorPausedRequest { name: name.to_owned(), paused };
        Ok(self.shared.call(Target::Any, &request).await?.changed)
    }

    /// Ends a processor; gives the name of its changelog topic, which is gone too.
    ///
    /// # Errors
    /// See [`Admin`]; [`ErrorCode::UnknownProcessor`].
    pub async fn delete_processor(&self, name: &str) -> Result<String, ClientError> {
        Ok(self.shared.call(Target::Any, &DeleteProcessorRequest { name: name.to_owned() }).await?.changelog)
    }

    /// Log lines of a processor's guests with numbers above `after`, at most `lines_max`. Waits up to `wait` (cut to
    /// half the request time-out) for a first one; none is no error.
    ///
    /// # Errors
    /// See [`Admin`]; [`ErrorCode::UnknownProcessor`].
    pub async fn processor_logs(
        &self,
        name: &str,
        after: u64,
        lines_max: u32,
        wait: Duration,
    ) -> Result<Vec<ProcessorLogLine>, ClientError> {
        let wait = wait.min(self.shared.config.request_timeout / 2);
        let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        let request = ProcessorLogsRequest { name: name.to_owned(), after, lines_max, wait_ms };
        Ok(self.shared.call(Target::Any, &request).await?.lines)
    }

    /// The leader of every partition, asked for anew: requests name topics by id, so names can't be looked up.
    async fn leaders(&self) -> Result<BTreeMap<(TopicId, u32), Option<BrokerId>>, ClientError> {
        let cluster = self.metadata(None, true).await?;
        let partitions = cluster.topics.into_iter().flat_map(|topic| {
            let id = topic.id;
            (0..).zip(topic.partitions).map(move |(number, partition)| ((id, number), partition.leader))
        });
        Ok(partitions.collect())
    }
}

fn unanswered() -> ApiError {
    ApiError::new(ErrorCode::UnknownServerError, "the broker gave no answer for this partition")
}

fn no_leader(partition: u32) -> String {
    format!("partition {partition} has no leader at the moment: try again")
}

fn no_partition(topic: TopicId, partition: u32) -> String {
    format!("no partition {partition} in topic {topic}: list the topics again")
}

fn check_count(asked: usize, answered: usize) -> Result<(), ClientError> {
    if asked == answered {
        return Ok(());
    }
    let message = format!("the broker answered {answered} of {asked} questions: it breaks the protocol");
    Err(ApiError::new(ErrorCode::UnknownServerError, message).into())
}

/// Runs `work`, telling `tell` now and then how much of `total` `sent_bytes` says was sent.
async fn report_while<T>(
    total: u64,
    sent_bytes: impl Fn() -> u64 + Send,
    mut tell: impl FnMut(u64, u64) + Send,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    tokio::pin!(work);
    let mut progress = Progress { before: sent_bytes(), told: 0, total };
    loop {
        match timeout(UPLOAD_PROGRESS_PAUSE, &mut work).await {
            Ok(outcome) => {
                if outcome.is_ok() {
                    tell(total, total);
                }
                return outcome;
            }
            Err(_) => {
                if let Some(sent) = progress.advance(sent_bytes()) {
                    tell(sent, total);
                }
            }
        }
    }
}

/// What to tell of an upload, from a counter of everything that the connection sends.
struct Progress {
    before: u64,
    told: u64,
    total: u64,
}

impl Progress {
    /// The bytes to tell, if they are news. What is sent again, or beside the upload, counts too: so never more than
    /// all, and never less than before.
    fn advance(&mut self, counter: u64) -> Option<u64> {
        let sent = counter.saturating_sub(self.before).min(self.total);
        let news = sent > self.told;
        self.told = self.told.max(sent);
        news.then_some(sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_rises_and_never_passes_the_total() {
        let mut progress = Progress { before: 500, told: 0, total: 1000 };
        let told: Vec<_> = [500, 900, 900, 400, 1200, 9000, 9001].map(|counter| progress.advance(counter)).into();
        assert_eq!(told, [None, Some(400), None, None, Some(700), Some(1000), None]);
    }
}
