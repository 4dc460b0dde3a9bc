//! Topics and the disk they take.

use super::{Api, TOPICS_PER_REQUEST_MAX, check_count};
use crate::metadata::blocking;
use headwater_core::cluster::{CreateTopic, TopicDefaults, alter_topic, create_topic, delete_topic};
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::TopicId;
use headwater_protocol::messages::topic::{
    AlterTopicRequest, AlterTopicResponse, CreateTopicsRequest, CreateTopicsResponse, CreatedTopic,
    DeleteTopicsRequest, DeleteTopicsResponse, DescribeLogDirsRequest, DescribeLogDirsResponse, LogDirectory,
    LogDirectoryPartition, NewTopic,
};
use std::sync::Arc;

/// A topic id that nobody has.
pub(super) fn new_topic_id() -> TopicId {
    TopicId(*uuid::Uuid::new_v4().as_bytes())
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
        let partitions_max = self.config.topics.partitions_max as usize;
        self.metadata.decide_blocking(|image| {
            let mut decision = create_topic(image, CreateTopic { id: new_topic_id(), topic, defaults })?;
            let partitions = image.partition_count() + decision.answer.partitions as usize;
            if partitions > partitions_max {
                let message = format!(
                    "the broker would hold {partitions} partitions, its topics.partitions_max is {partitions_max}"
                );
                return Err(ApiError::new(ErrorCode::InvalidPartitions, message));
            }
            if validate_only {
                decision.records.clear();
            }
            Ok(decision)
        })
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
