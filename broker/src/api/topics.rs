//! Topics and the disk they take.

use super::{Api, PARTITIONS_PER_REQUEST_MAX, TOPICS_PER_REQUEST_MAX, check_count};
use crate::clock::unix_time_ms;
use crate::metadata::blocking;
use crate::partition::PartitionHandle;
use headwater_core::cluster::{ClusterImage, CreateTopic, TopicDefaults, alter_topic, create_topic, delete_topic};
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::{TopicId, TopicPartition};
use headwater_protocol::messages::topic::{
    AlterTopicRequest, AlterTopicResponse, CreateTopicsRequest, CreateTopicsResponse, CreatedTopic,
    DeleteRecordsRequest, DeleteRecordsResponse, DeleteTopicsRequest, DeleteTopicsResponse, DescribeLogDirsRequest,
    DescribeLogDirsResponse, LogDirectory, LogDirectoryPartition, NewTopic,
};
use std::sync::Arc;

/// A topic id that nobody has.
pub(super) fn new_topic_id() -> TopicId {
    TopicId(*uuid::Uuid::new_v4().as_bytes())
}

/// Where the partition begins then.
fn delete_before(handle: &PartitionHandle, before: i64) -> Result<i64, ApiError> {
    let view = handle.view();
    if handle.is_internal() {
        let message = format!("topic {:?} is internal; its records are the broker's", view.topic_name);
        return Err(ApiError::new(ErrorCode::InternalTopic, message));
    }
    let (log_start, high_watermark) = (view.log_start_offset(), view.high_watermark());
    let to = if before == -1 { high_watermark } else { before };
    if to < 0 || to > high_watermark {
        let name = format!("{}-{}", view.topic_name, view.id.partition);
        let message = format!(
            "{name} has offsets {log_start} to {high_watermark}: records before {before} can't be deleted; \
             `latest` deletes all there are"
        );
        return Err(ApiError::new(ErrorCode::OffsetOutOfRange, message));
    }
    if to <= log_start {
        return Ok(log_start);
    }
    handle.trim_blocking(to, unix_time_ms()).map(|(log_start, _)| log_start)
}

impl Api {
    /// Creates topics; when this answers, their partitions take records.
    pub(crate) async fn create_topics(
        self: Arc<Self>,
        request: CreateTopicsRequest,
    ) -> Result<CreateTopicsResponse, ApiError> {
        check_count("topics", request.topics.len(), TOPICS_PER_REQUEST_MAX)?;
        let api = Arc::clone(&self);
        blocking(move || {
            let topics = request.topics.iter().map(|topic| api.create_topic(topic, request.validate_only)).collect();
            api.partitions.reconcile(&api.metadata.image());
            Ok(CreateTopicsResponse { topics })
        })
        .await
    }

    fn create_topic(&self, topic: &NewTopic, validate_only: bool) -> Result<CreatedTopic, ApiError> {
        let defaults = TopicDefaults {
            partitions: self.config.topics.default_partitions,
            replication_factor: self.config.topics.default_replication_factor,
        };
        self.metadata.decide_blocking(|image| {
            let mut decision = create_topic(image, CreateTopic { id: new_topic_id(), topic, defaults })?;
            self.check_partition_count(image, decision.answer.partitions)?;
            if validate_only {
                decision.records.clear();
            }
            Ok(decision)
        })
    }

    /// Whether this broker has room for so many partitions more.
    pub(super) fn check_partition_count(&self, image: &ClusterImage, more: u32) -> Result<(), ApiError> {
        let partitions = image.partition_count() + more as usize;
        let partitions_max = self.config.topics.partitions_max as usize;
        if partitions <= partitions_max {
            return Ok(());
        }
        let message = format!(
            "the broker would hold {partitions} partitions, its topics.partitions_max is {partitions_max}: delete \
             topics, \
             or raise it"
        );
        Err(ApiError::new(ErrorCode::InvalidPartitions, message))
    }

    /// Deletes topics; when this answers, their files are gone.
    pub(crate) async fn delete_topics(
        self: Arc<Self>,
        request: DeleteTopicsRequest,
    ) -> Result<DeleteTopicsResponse, ApiError> {
        check_count("topics", request.names.len(), TOPICS_PER_REQUEST_MAX)?;
        let api = Arc::clone(&self);
        blocking(move || {
            let delete = |name: &String| api.metadata.decide_blocking(|image| delete_topic(image, name));
            let topics = request.names.iter().map(delete).collect();
            api.partitions.reconcile(&api.metadata.image());
            Ok(DeleteTopicsResponse { topics })
        })
        .await
    }

    /// Changes settings of a topic; when this answers, its partitions go by them.
    pub(crate) async fn alter_topic(
        self: Arc<Self>,
        request: AlterTopicRequest,
    ) -> Result<AlterTopicResponse, ApiError> {
        let api = Arc::clone(&self);
        blocking(move || {
            let settings = api.metadata.decide_blocking(|image| alter_topic(image, &request))?;
            api.partitions.reconcile(&api.metadata.image());
            Ok(AlterTopicResponse { settings })
        })
        .await
    }

    /// Deletes the oldest records of partitions; when this answers, their new starts are durable.
    pub(crate) async fn delete_records(
        self: Arc<Self>,
        request: DeleteRecordsRequest,
    ) -> Result<DeleteRecordsResponse, ApiError> {
        check_count("partitions", request.partitions.len(), PARTITIONS_PER_REQUEST_MAX)?;
        blocking(move || {
            let image = self.metadata.image();
            let delete = |(topic, partition, before): &(TopicId, u32, i64)| {
                let id = TopicPartition { topic: *topic, partition: *partition };
                delete_before(&*self.partitions.led(&image, id)?, *before)
            };
            Ok(DeleteRecordsResponse { partitions: request.partitions.iter().map(delete).collect() })
        })
        .await
    }

    /// What lies in the data directory.
    pub(crate) async fn describe_log_dirs(
        self: Arc<Self>,
        request: DescribeLogDirsRequest,
    ) -> Result<DescribeLogDirsResponse, ApiError> {
        if let Some(names) = &request.topics {
            check_count("topics", names.len(), TOPICS_PER_REQUEST_MAX)?;
            let image = self.metadata.image();
            if let Some(unknown) = names.iter().find(|name| image.topic_by_name(name).is_none()) {
                let message = format!("there is no topic {unknown:?}: `headwater topic list` shows those there are");
                return Err(ApiError::new(ErrorCode::UnknownTopicOrPartition, message));
            }
        }
        let wanted = |name: &str| request.topics.as_ref().is_none_or(|names| names.iter().any(|asked| asked == name));
        let mut partitions: Vec<LogDirectoryPartition> = Vec::new();
        for handle in self.partitions.all() {
            let view = handle.view();
            if wanted(&view.topic_name) {
                let reader = view.reader();
                partitions.push(LogDirectoryPartition {
                    topic: view.topic_name.clone(),
                    partition: view.id.partition,
                    size_bytes: reader.size_bytes(),
                    log_start_offset: reader.start_offset(),
                    log_end_offset: reader.end_offset(),
                    segments: u32::try_from(reader.segment_count()).unwrap_or(u32::MAX),
                });
            }
        }
        partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        let place = self.partitions.place();
        let directory = LogDirectory {
            path: self.config.data_dir.display().to_string(),
            id: place.id,
            error: place.failure(),
            partitions,
        };
        Ok(DescribeLogDirsResponse { broker: self.broker, directories: vec![directory] })
    }
}
