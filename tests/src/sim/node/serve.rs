//! Requests of clients, as `broker::api` serves them.

use super::{Broker, topic_id};
use crate::sim::network::{ConnectionId, StreamId};
use bytes::{Bytes, BytesMut};
use headwater_broker::drive::{PartitionHandle, ProposedBatch};
use headwater_core::cluster::{
    AddModule, CreateTopic, DeployProcessor, TopicDefaults, add_module, allot_producer_ids, create_topic,
    delete_processor, delete_topic, deploy_processor, set_processor_paused,
};
use headwater_core::producer::Admission;
use headwater_core::replica::Outcome;
use headwater_protocol::batch::{BatchLimits, ProduceRules, check_produced_batch};
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::{TopicId, TopicPartition};
use headwater_protocol::messages::cluster::TopicMetadata;
use headwater_protocol::messages::processor::DeployProcessorRequest;
use headwater_protocol::messages::records::{Acks, ProducedBatch};
use headwater_protocol::messages::topic::NewTopic;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Names a request within a broker's run.
pub type RequestId = u64;

/// What clients ask.
#[expect(missing_docs, reason = "fields are named for what they hold")]
#[derive(Clone, Debug)]
pub enum Request {
    /// Append these.
    Produce { correlation: u32, acks: Acks, batches: Vec<(TopicId, u32, Bytes)> },
    /// Committed batches from this offset on.
    Fetch { partition: TopicPartition, offset: i64, bytes_max: usize },
    /// Which topics there are.
    Metadata,
    /// A producer id.
    InitProducerId,
    /// Make a topic.
    CreateTopic { topic: NewTopic, number: u64 },
    /// Delete it.
    DeleteTopic { name: String },
    /// Make a module known.
    AddModule(Box<AddModule>),
    /// Deploy, for the first time or again.
    Deploy { request: Box<DeployProcessorRequest>, changelog: u64 },
    /// Pause or resume.
    Pause { name: String, paused: bool },
    /// Delete a processor.
    DeleteProcessor { name: String },
    /// Have failed tasks try again.
    RestartFailed,
}

/// What they are answered.
#[expect(missing_docs, reason = "fields are named for what they hold")]
#[derive(Clone, Debug)]
pub enum Response {
    /// To `Produce`.
    Produced { correlation: u32, outcomes: Vec<Result<ProducedBatch, ApiError>> },
    /// To `Fetch`: the batches, and the high watermark; where the log begins.
    Fetched { partition: TopicPartition, offset: i64, log_start: i64, batches: Result<(Bytes, i64, i64), ApiError> },
    /// To `Metadata`.
    Topics(Vec<TopicMetadata>),
    /// To `InitProducerId`.
    ProducerId(Result<i64, ApiError>),
    /// To everything else.
    Done(Result<(), ApiError>),
}

/// A request that waits for its batches.
struct Waiting {
    correlation: u32,
    outcomes: Vec<Option<Result<ProducedBatch, ApiError>>>,
}

type Replies = Arc<Mutex<VecDeque<(RequestId, usize, Outcome)>>>;

/// Requests that are not answered.
#[derive(Default)]
pub(in crate::sim) struct Serving {
    waiting: BTreeMap<RequestId, Waiting>,
    /// Answers go out in the order of the requests of their stream.
    streams: BTreeMap<(ConnectionId, StreamId), VecDeque<RequestId>>,
    replies: Replies,
    next: RequestId,
    producer_ids: std::ops::Range<i64>,
}

impl Broker {
    /// Takes a produce request in; its answer comes out of [`Self::answers`]. Gives its number.
    pub fn produce(
        &mut self,
        place: (ConnectionId, StreamId),
        correlation: u32,
        acks: Acks,
        batches: Vec<(TopicId, u32, Bytes)>,
    ) -> RequestId {
        let request = self.serving.next;
        self.serving.next += 1;
        let mut outcomes = Vec::with_capacity(batches.len());
        for (part, (topic, partition, bytes)) in batches.into_iter().enumerate() {
            let id = TopicPartition { topic, partition };
            outcomes.push(self.propose(request, part, id, acks, &bytes).err().map(Err));
        }
        self.serving.waiting.insert(request, Waiting { correlation, outcomes });
        self.serving.streams.entry(place).or_default().push_back(request);
        request
    }

    fn propose(
        &self,
        request: RequestId,
        part: usize,
        id: TopicPartition,
        acks: Acks,
        bytes: &Bytes,
    ) -> Result<(), ApiError> {
        let handle = self.led(id)?;
        let limits = BatchLimits { batch_bytes_max: handle.batch_bytes_max(), ..BatchLimits::CLIENT };
        let header = check_produced_batch(bytes, &limits, &ProduceRules::default())
            .map_err(|error| ApiError::new(error.code(), error.to_string()))?;
        let replies = Arc::clone(&self.serving.replies);
        let reply = Box::new(move |outcome| replies.lock().push_back((request, part, outcome)));
        let bytes = BytesMut::from(&bytes[..]);
        let admission = Admission::Client;
        handle.propose(ProposedBatch { header, bytes, acks, admission, permit: None, reply })
    }

    /// A partition that is led here.
    ///
    /// # Errors
    /// It isn't.
    pub fn led(&self, id: TopicPartition) -> Result<Arc<PartitionHandle>, ApiError> {
        if let Some(handle) = self.handles.lock().get(&id) {
            return Ok(Arc::clone(handle));
        }
        let image = self.metadata.image();
        let code = match (image.partition(id), self.failed.contains_key(&id)) {
            (None, _) => ErrorCode::UnknownTopicId,
            (Some(_), true) => ErrorCode::KafkaStorageError,
            (Some(_), false) => ErrorCode::NotLeaderOrFollower,
        };
        Err(ApiError::new(code, format!("{id} is not served here")))
    }

    /// Time is over for a request: whoever waits is told so, and does not learn what became of it.
    pub fn time_out(&mut self, request: RequestId) {
        if let Some(waiting) = self.serving.waiting.get_mut(&request) {
            for outcome in &mut waiting.outcomes {
                outcome.get_or_insert_with(|| Err(ApiError::new(ErrorCode::RequestTimedOut, "not in time")));
            }
        }
    }

    /// Answers that are complete and due on their streams.
    pub fn answers(&mut self) -> Vec<((ConnectionId, StreamId), Response)> {
        let serving = &mut self.serving;
        while let Some((request, part, outcome)) = { serving.replies.lock().pop_front() } {
            let Some(waiting) = serving.waiting.get_mut(&request) else { continue };
            let answer = match outcome {
                Outcome::Appended { base_offset, .. } => Ok(ProducedBatch { base_offset, duplicate: false }),
                Outcome::Duplicate { base_offset } => Ok(ProducedBatch { base_offset, duplicate: true }),
                Outcome::Refused(refusal) => Err(refusal.into()),
            };
            waiting.outcomes[part].get_or_insert(answer);
        }
        let mut answers = Vec::new();
        serving.streams.retain(|place, requests| {
            while let Some(request) = requests.front() {
                let complete = |waiting: &Waiting| waiting.outcomes.iter().all(Option::is_some);
                if !serving.waiting.get(request).is_some_and(complete) {
                    break;
                }
                if let Some(Waiting { correlation, outcomes }) = serving.waiting.remove(request) {
                    let outcomes = outcomes.into_iter().flatten().collect();
                    answers.push((*place, Response::Produced { correlation, outcomes }));
                }
                requests.pop_front();
            }
            !requests.is_empty()
        });
        answers
    }

    /// Serves what needs no waiting.
    pub fn serve(&mut self, number: usize, request: Request) -> Response {
        match request {
            Request::Produce { correlation, .. } => Response::Produced { correlation, outcomes: Vec::new() },
            Request::Fetch { partition, offset, bytes_max } => {
                let log_start = self.led(partition).map_or(0, |handle| handle.view().log_start_offset());
                let batches = self.fetch(partition, offset, bytes_max);
                Response::Fetched { partition, offset, log_start, batches }
            }
            Request::Metadata => {
                let image = self.metadata.image();
                Response::Topics(image.topics().map(|topic| topic.describe()).collect())
            }
            Request::InitProducerId => Response::ProducerId(self.producer_id()),
            Request::RestartFailed => {
                self.tasks.values().for_each(super::SimTask::restart_if_failed);
                Response::Done(Ok(()))
            }
            request => {
                let done = self.change(request);
                self.reconcile(number);
                Response::Done(done)
            }
        }
    }

    fn fetch(&self, id: TopicPartition, offset: i64, bytes_max: usize) -> Result<(Bytes, i64, i64), ApiError> {
        let handle = self.led(id)?;
        let view = handle.view();
        let (start, high_watermark) = (view.log_start_offset(), view.high_watermark());
        if offset < start || offset > view.reader().end_offset() {
            return Err(ApiError::new(ErrorCode::OffsetOutOfRange, format!("{offset} is not in {start}..")));
        }
        if offset >= high_watermark {
            return Ok((Bytes::new(), start, high_watermark));
        }
        let read = view.read_committed(offset, bytes_max);
        let bytes = read.map_err(|error| ApiError::new(ErrorCode::KafkaStorageError, error.to_string()))?;
        Ok((bytes, start, high_watermark))
    }

    fn producer_id(&mut self) -> Result<i64, ApiError> {
        if self.serving.producer_ids.is_empty() {
            self.serving.producer_ids = self.metadata.decide_blocking(|image| allot_producer_ids(image, 1))?;
        }
        let next = self.serving.producer_ids.next();
        next.ok_or_else(|| ApiError::new(ErrorCode::UnknownServerError, "no producer id is left"))
    }

    fn change(&mut self, request: Request) -> Result<(), ApiError> {
        match request {
            Request::CreateTopic { topic, number } => {
                let defaults = TopicDefaults { partitions: 1, replication_factor: 1 };
                let create =
                    |image: &_| create_topic(image, CreateTopic { id: topic_id(number), topic: &topic, defaults });
                self.metadata.decide_blocking(create).map(drop)
            }
            Request::DeleteTopic { name } => {
                self.metadata.decide_blocking(|image| delete_topic(image, &name)).map(drop)
            }
            Request::AddModule(module) => self.metadata.decide_blocking(|image| add_module(image, *module)).map(drop),
            Request::Deploy { request, changelog } => self.deploy(&request, changelog),
            Request::Pause { name, paused } => {
                self.metadata.decide_blocking(|image| set_processor_paused(image, &name, paused)).map(drop)
            }
            Request::DeleteProcessor { name } => {
                let deleted = self.metadata.decide_blocking(|image| delete_processor(image, &name))?;
                let image = self.metadata.image();
                self.end_stale_tasks(&image);
                self.forget_processor(deleted.processor);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn deploy(&self, request: &DeployProcessorRequest, changelog: u64) -> Result<(), ApiError> {
        let decide = |image: &headwater_core::cluster::ClusterImage| {
            let mut starts = BTreeMap::new();
            for id in image.start_partitions(request) {
                starts.insert(id, self.led(id)?.view().log_start_offset());
            }
            deploy_processor(image, DeployProcessor { request, starts: &starts, changelog: topic_id(changelog) })
        };
        self.metadata.decide_blocking(decide).map(drop)
    }
}
