//! Processors: deploy, list, describe, pause, resume, delete, logs.

use super::Api;
use super::topics::new_topic_id;
use crate::metadata::blocking;
use headwater_core::cluster::{
    ClusterImage, Decision, DeployProcessor, Deployed, ProcessorImage, delete_processor, deploy_processor, end_shadow,
    rollback_processor, set_processor_paused, shadow_processor,
};
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::{TopicId, TopicPartition};
use headwater_protocol::messages::processor::{
    DeleteProcessorRequest, DeleteProcessorResponse, DeployProcessorRequest, DeployProcessorResponse,
    DescribeProcessorRequest, EndShadowRequest, EndShadowResponse, ListProcessorsResponse, ProcessorDescription,
    ProcessorLogsRequest, ProcessorLogsResponse, ProcessorSummary, RollbackProcessorRequest, RollbackProcessorResponse,
    SetProcessorPausedRequest, SetProcessorPausedResponse, StartFrom, TaskDescription, TaskState,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Log lines in one answer.
const LOG_LINES_PER_ANSWER_MAX: u32 = 1000;
/// Longest time that a request for log lines waits.
const LOG_WAIT_MS_MAX: u32 = 30_000;

impl Api {
    /// Commits a deployment, makes its changelog on the first one, and starts or swaps its tasks.
    pub(crate) async fn deploy_processor(
        self: Arc<Self>,
        request: DeployProcessorRequest,
    ) -> Result<DeployProcessorResponse, ApiError> {
        let api = Arc::clone(&self);
        let deployed = blocking(move || {
            let decide = |image: &ClusterImage| match request.shadow {
                true => shadow_processor(image, &request),
                false => api.decide_deployment(image, &request),
            };
            api.try_decision(decide, &request.name)?;
            let deployed = api.metadata.decide_blocking(decide)?;
            let image = api.metadata.image();
            api.partitions.reconcile(&image);
            api.processors.reconcile(&image);
            Ok(deployed)
        })
        .await?;
        Ok(DeployProcessorResponse { revision: deployed.revision, digest: deployed.digest, tasks: deployed.tasks })
    }

    fn decide_deployment(
        &self,
        image: &ClusterImage,
        request: &DeployProcessorRequest,
    ) -> Result<Decision<Deployed>, ApiError> {
        let starts = self.starts(image, request)?;
        let changelog = new_topic_id();
        let decision = deploy_processor(image, DeployProcessor { request, starts: &starts, changelog })?;
        self.check_task_count(image, request, decision.answer.tasks)?;
        // A first deployment makes a changelog with a partition for each task.
        if image.find_processor(&request.name).is_err() {
            self.check_partition_count(image, decision.answer.tasks)?;
        }
        Ok(decision)
    }

    /// Tries the module that a decision would have run: one whose `init` fails is refused before anything is committed,
    /// and what ran goes on. Nothing is locked meanwhile; the decision is made once more afterwards.
    fn try_decision<T>(
        &self,
        decide: impl FnOnce(&ClusterImage) -> Result<Decision<T>, ApiError>,
        name: &str,
    ) -> Result<(), ApiError> {
        let image = self.metadata.image();
        let decision = decide(&image)?;
        let mut next = ClusterImage::clone(&image);
        next.apply(&decision.records)
            .map_err(|error| ApiError::new(ErrorCode::UnknownServerError, format!("this broker has a bug: {error}")))?;
        let processor = next.find_processor(name)?;
        self.processors
            .try_deployment(&next, &processor.shadowing().unwrap_or_else(|| ProcessorImage::clone(processor)))
    }

    /// Brings back what ran before, as a new revision.
    pub(crate) async fn rollback_processor(
        self: Arc<Self>,
        request: RollbackProcessorRequest,
    ) -> Result<RollbackProcessorResponse, ApiError> {
        let api = Arc::clone(&self);
        blocking(move || {
            api.try_decision(|image| rollback_processor(image, &request.name), &request.name)?;
            let rolled = api.metadata.decide_blocking(|image| rollback_processor(image, &request.name))?;
            api.processors.reconcile(&api.metadata.image());
            Ok(RollbackProcessorResponse { revision: rolled.revision, module: rolled.module })
        })
        .await
    }

    /// Ends what runs beside a processor.
    pub(crate) async fn end_shadow(self: Arc<Self>, request: EndShadowRequest) -> Result<EndShadowResponse, ApiError> {
        let api = Arc::clone(&self);
        blocking(move || {
            let module = api.metadata.decide_blocking(|image| end_shadow(image, &request.name))?;
            api.processors.reconcile(&api.metadata.image());
            Ok(EndShadowResponse { module })
        })
        .await
    }

    /// Where a first deployment begins, for every input partition that is led here.
    fn starts(
        &self,
        image: &ClusterImage,
        request: &DeployProcessorRequest,
    ) -> Result<BTreeMap<TopicPartition, i64>, ApiError> {
        let mut starts = BTreeMap::new();
        for id in image.start_partitions(request) {
            let led = self.partitions.led(image, id)?;
            let start = match request.from {
                StartFrom::Earliest => led.view().log_start_offset(),
                StartFrom::Latest => led.view().high_watermark(),
            };
            starts.insert(id, start);
        }
        Ok(starts)
    }

    fn check_task_count(
        &self,
        image: &ClusterImage,
        request: &DeployProcessorRequest,
        tasks: u32,
    ) -> Result<(), ApiError> {
        let others = image.processors().filter(|processor| *processor.name != *request.name);
        let total = others.map(|processor| u64::from(processor.tasks())).sum::<u64>() + u64::from(tasks);
        let tasks_max = self.config.processors.tasks_max;
        if total <= tasks_max as u64 {
            return Ok(());
        }
        let message = format!("the broker would run {total} tasks, its processors.tasks_max is {tasks_max}");
        Err(ApiError::new(ErrorCode::InvalidProcessor, message))
    }

    /// Every processor in a line.
    pub(crate) async fn list_processors(self: Arc<Self>) -> Result<ListProcessorsResponse, ApiError> {
        let image = self.metadata.image();
        let summarize = |processor: &Arc<ProcessorImage>| {
            let tasks = self.describe_tasks(&image, processor);
            ProcessorSummary {
                name: processor.name.to_string(),
                module: processor.module.label(),
                revision: processor.revision,
                state: tasks.iter().map(|task| task.state).max().unwrap_or(TaskState::Starting),
                tasks: processor.tasks(),
                lag: tasks.iter().map(|task| task.lag).sum(),
            }
        };
        Ok(ListProcessorsResponse { processors: image.processors().map(summarize).collect() })
    }

    /// One processor, task by task.
    pub(crate) async fn describe_processor(
        self: Arc<Self>,
        request: DescribeProcessorRequest,
    ) -> Result<ProcessorDescription, ApiError> {
        let image = self.metadata.image();
        let processor = image.find_processor(&request.name)?;
        let name_of = |topic: &TopicId| match image.topic(*topic) {
            Some(topic) => topic.name.to_string(),
            None => topic.to_string(),
        };
        Ok(ProcessorDescription {
            name: processor.name.to_string(),
            module: processor.module.label(),
            digest: processor.module.digest,
            revision: processor.revision,
            inputs: processor.inputs.iter().map(name_of).collect(),
            outputs: processor.outputs.iter().map(name_of).collect(),
            stores: processor.stores.clone(),
            settings: processor.settings.clone(),
            changelog: name_of(&processor.changelog),
            limits: processor.limits,
            errors: processor.errors.describe(&image),
            shadow: processor.shadow.as_ref().map(|shadow| shadow.module.label()),
            previous: processor.previous.as_ref().map(|previous| previous.module.label()),
            tasks: self.describe_tasks(&image, processor),
        })
    }

    fn describe_tasks(&self, image: &ClusterImage, processor: &ProcessorImage) -> Vec<TaskDescription> {
        let high_watermark = |input: usize, task: u32| {
            let topic = *processor.inputs.get(input)?;
            let led = self.partitions.led(image, TopicPartition { topic, partition: task }).ok()?;
            Some(led.view().high_watermark())
        };
        self.processors.describe_tasks(processor, high_watermark)
    }

    /// Pauses or resumes; resuming also starts failed tasks again.
    pub(crate) async fn set_processor_paused(
        self: Arc<Self>,
        request: SetProcessorPausedRequest,
    ) -> Result<SetProcessorPausedResponse, ApiError> {
        let api = Arc::clone(&self);
        blocking(move || {
            let SetProcessorPausedRequest { name, paused } = request;
            let changed = api.metadata.decide_blocking(|image| set_processor_paused(image, &name, paused))?;
            let image = api.metadata.image();
            api.processors.reconcile(&image);
            let restarted = !paused && api.processors.restart_failed(image.find_processor(&name)?.number);
            Ok(SetProcessorPausedResponse { changed: changed || restarted })
        })
        .await
    }

    /// Ends a processor and deletes its changelog.
    pub(crate) async fn delete_processor(
        self: Arc<Self>,
        request: DeleteProcessorRequest,
    ) -> Result<DeleteProcessorResponse, ApiError> {
        let api = Arc::clone(&self);
        blocking(move || {
            let deleted = api.metadata.decide_blocking(|image| delete_processor(image, &request.name))?;
            let image = api.metadata.image();
            // Tasks first: a task whose changelog closes under it would report a failure.
            api.processors.reconcile(&image);
            api.partitions.reconcile(&image);
            api.partitions.forget_processor(deleted.processor);
            Ok(DeleteProcessorResponse { changelog: deleted.changelog_name })
        })
        .await
    }

    /// Log lines of a processor's guests.
    pub(crate) async fn processor_logs(
        self: Arc<Self>,
        request: ProcessorLogsRequest,
    ) -> Result<ProcessorLogsResponse, ApiError> {
        let image = self.metadata.image();
        let processor = image.find_processor(&request.name)?;
        let Some(log) = self.processors.log(processor.number) else {
            return Ok(ProcessorLogsResponse { lines: Vec::new() });
        };
        let wait = Duration::from_millis(u64::from(request.wait_ms.min(LOG_WAIT_MS_MAX)));
        // Time over: answer without lines.
        drop(tokio::time::timeout(wait, log.wait_beyond(request.after)).await);
        let lines_max = request.lines_max.min(LOG_LINES_PER_ANSWER_MAX) as usize;
        Ok(ProcessorLogsResponse { lines: log.read(request.after, lines_max) })
    }
}
