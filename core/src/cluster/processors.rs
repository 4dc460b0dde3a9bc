//! Decisions about processors.

use super::errors::check_errors;
use super::names::{Named, check_name, did_you_mean};
use super::record::{ProcessorDeployed, TopicCreated};
use super::settings::quoted;
use super::topics::{check_new_name, check_partitions};
use super::{ClusterImage, Decision, MetadataRecord, ProcessorImage, TopicImage};
use crate::limits;
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::{ModuleDigest, ProcessorNumber, TaskProducer, TopicId, TopicPartition};
use headwater_protocol::messages::processor::{DeployProcessorRequest, ProcessorLimits};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A deployment to decide on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeployProcessor<'a> {
    /// What the client asks for.
    pub request: &'a DeployProcessorRequest,
    /// Where to begin in each partition of [`ClusterImage::start_partitions`].
    pub starts: &'a BTreeMap<TopicPartition, i64>,
    /// The id that the changelog topic gets if it has to be made, drawn by the caller.
    pub changelog: TopicId,
}

/// A deployment that was decided on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deployed {
    /// The processor.
    pub processor: ProcessorNumber,
    /// Counts deployments of this name, from 1.
    pub revision: u32,
    /// The module that runs.
    pub digest: ModuleDigest,
    /// How many tasks there are.
    pub tasks: u32,
}

/// A processor that goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeletedProcessor {
    /// The processor.
    pub processor: ProcessorNumber,
    /// Its changelog topic, which goes with it.
    pub changelog: TopicId,
    /// The name of that topic.
    pub changelog_name: String,
}

/// Deploys a processor for the first time (the changelog topic comes with it) or again (revision + 1; state, changelog
/// and pause stay).
///
/// # Errors
/// `InvalidProcessor`, `UnknownModule`, `UnknownTopicOrPartition`, `InternalTopic`, `TopicAlreadyExists`: each names
/// what is wrong and what would be right.
pub fn deploy_processor(image: &ClusterImage, deploy: DeployProcessor<'_>) -> Result<Decision<Deployed>, ApiError> {
    let request = deploy.request;
    check_name(Named::Processor, &request.name)?;
    let module = image.resolve_module(&request.module)?;
    check_world(&module.world, &request.module)?;
    let inputs = find_topics(image, &request.inputs, "input")?;
    let outputs = find_topics(image, &request.outputs, "output")?;
    check_topics(&inputs, &outputs)?;
    check_stores(&request.stores)?;
    check_settings(&request.settings)?;
    check_limits(&request.limits)?;
    let errors = check_errors(image, &request.errors, &inputs)?;

    let former = image.processor_by_name(&request.name);
    let mut records = Vec::with_capacity(2);
    let (processor, revision, generation, from, changelog) = match former {
        Some(former) => {
            check_unchanged(image, former, &inputs, &request.stores)?;
            let revision = former.revision.checked_add(1).ok_or_else(|| invalid("no revision is left".to_owned()))?;
            (former.number, revision, former.generation, former.from.clone(), former.changelog)
        }
        None => {
            records.push(MetadataRecord::TopicCreated(new_changelog(image, deploy, &inputs)?));
            (new_number(image)?, 1, 0, start_offsets(&inputs, deploy.starts)?, deploy.changelog)
        }
    };
    records.push(MetadataRecord::ProcessorDeployed(ProcessorDeployed {
        processor,
        name: request.name.clone(),
        revision,
        generation,
        module: module.reference(),
        inputs: inputs.iter().map(|topic| topic.id).collect(),
        outputs: outputs.iter().map(|topic| topic.id).collect(),
        stores: request.stores.clone(),
        settings: request.settings.clone(),
        limits: request.limits,
        from,
        changelog,
    }));
    records.extend(errors.record(processor));
    let tasks = inputs.first().map_or(0, |anchor| anchor.partition_count());
    Ok(Decision { records, answer: Deployed { processor, revision, digest: module.digest, tasks } })
}

impl ClusterImage {
    /// The partitions whose start offsets a deployment of this request needs: all input partitions the first time, none
    /// later. Inputs that are not there are left out; the decision names them.
    pub fn start_partitions(&self, request: &DeployProcessorRequest) -> Vec<TopicPartition> {
        if self.processor_by_name(&request.name).is_some() {
            return Vec::new();
        }
        let topics = request.inputs.iter().filter_map(|name| self.topic_by_name(name));
        topics.flat_map(|topic| partitions_of(topic)).collect()
    }

    /// The processor of a name.
    ///
    /// # Errors
    /// `UnknownProcessor`, with the name that was probably meant.
    pub fn find_processor(&self, name: &str) -> Result<&Arc<ProcessorImage>, ApiError> {
        self.processor_by_name(name).ok_or_else(|| {
            let meant = did_you_mean(name, self.processor_names.keys().map(AsRef::as_ref));
            let message = format!("there is no processor {:?}{meant}", quoted(name));
            ApiError::new(ErrorCode::UnknownProcessor, message)
        })
    }
}

fn partitions_of(topic: &TopicImage) -> impl Iterator<Item = TopicPartition> + use<> {
    let id = topic.id;
    (0..topic.partition_count()).map(move |partition| TopicPartition { topic: id, partition })
}

/// The world's name without package and version must be `processor`.
pub(super) fn check_world(world: &str, reference: &str) -> Result<(), ApiError> {
    let name = world.rsplit_once('/').map_or(world, |(_, name)| name);
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    if name == "processor" {
        return Ok(());
    }
    Err(invalid(format!("module {reference:?} is of world {world:?}; a processor's module is of world processor")))
}

fn find_topics<'a>(image: &'a ClusterImage, names: &[String], role: &str) -> Result<Vec<&'a TopicImage>, ApiError> {
    let mut topics: Vec<&TopicImage> = Vec::with_capacity(names.len().min(limits::OUTPUTS_PER_PROCESSOR_MAX));
    let max = if role == "input" { limits::INPUTS_PER_PROCESSOR_MAX } else { limits::OUTPUTS_PER_PROCESSOR_MAX };
    if names.len() > max {
        return Err(invalid(format!("{} {role}s are too many; at most {max} are allowed", names.len())));
    }
    for name in names {
        let topic = image.find_topic(name)?;
        if topic.internal {
            let message = format!("{role} {name:?} is internal: a changelog holds commits, not records");
            return Err(ApiError::new(ErrorCode::InternalTopic, message));
        }
        if topics.iter().any(|other| other.id == topic.id) {
            return Err(invalid(format!("{role} {name:?} is named twice")));
        }
        topics.push(topic);
    }
    Ok(topics)
}

fn check_topics(inputs: &[&TopicImage], outputs: &[&TopicImage]) -> Result<(), ApiError> {
    let Some((anchor, others)) = inputs.split_first() else {
        return Err(invalid("a processor needs at least one input topic".to_owned()));
    };
    if let Some(both) = outputs.iter().find(|output| inputs.iter().any(|input| input.id == output.id)) {
        let name = &both.name;
        return Err(invalid(format!(
            "topic {name:?} is input and output: the processor would read what it wrote, for ever"
        )));
    }
    let count = anchor.partition_count();
    if let Some(other) = others.iter().find(|other| other.partition_count() != count) {
        return Err(invalid(format!(
            "inputs are not copartitioned: {:?} has {count} partitions, {:?} has {}; task i reads partition i of each, \
             so their counts must be the same",
            anchor.name,
            other.name,
            other.partition_count()
        )));
    }
    if count > TaskProducer::TASKS_MAX {
        return Err(invalid(format!("{count} tasks are too many; at most {} are allowed", TaskProducer::TASKS_MAX)));
    }
    Ok(())
}

fn check_stores(stores: &[String]) -> Result<(), ApiError> {
    if stores.len() > limits::STORES_PER_PROCESSOR_MAX {
        let (count, max) = (stores.len(), limits::STORES_PER_PROCESSOR_MAX);
        return Err(invalid(format!("{count} state stores are too many; at most {max} are allowed")));
    }
    let mut seen = BTreeSet::new();
    for store in stores {
        check_name(Named::Store, store)?;
        if !seen.insert(store) {
            return Err(invalid(format!("state store {store:?} is named twice")));
        }
    }
    Ok(())
}

pub(super) fn check_settings(settings: &[(String, String)]) -> Result<(), ApiError> {
    if settings.len() > limits::SETTINGS_MAX {
        let (count, max) = (settings.len(), limits::SETTINGS_MAX);
        return Err(invalid(format!("{count} settings are too many; at most {max} are allowed")));
    }
    let bytes: usize = settings.iter().map(|(name, value)| name.len().saturating_add(value.len())).sum();
    if bytes > limits::SETTINGS_BYTES_MAX {
        let max = limits::SETTINGS_BYTES_MAX;
        return Err(invalid(format!("the settings have {bytes} bytes; at most {max} are allowed")));
    }
    let mut seen = BTreeSet::new();
    for (name, _) in settings {
        if name.is_empty() || name.len() > limits::SETTING_NAME_BYTES_MAX {
            let (shown, max) = (quoted(name), limits::SETTING_NAME_BYTES_MAX);
            return Err(invalid(format!("the setting name {shown:?} does not have 1 to {max} bytes")));
        }
        if !seen.insert(name) {
            return Err(invalid(format!("setting {name:?} is given twice")));
        }
    }
    Ok(())
}

pub(super) fn check_limits(asked: &ProcessorLimits) -> Result<(), ApiError> {
    let wide = |(lowest, highest): (u32, u32)| (u64::from(lowest), u64::from(highest));
    let checks = [
        ("memory_bytes_max", asked.memory_bytes_max, limits::TASK_MEMORY_BYTES),
        ("cpu_ms_per_record_max", u64::from(asked.cpu_ms_per_record_max), wide(limits::TASK_CPU_MS_PER_RECORD)),
        ("output_bytes_per_step_max", asked.output_bytes_per_step_max, limits::TASK_OUTPUT_BYTES_PER_STEP),
        ("state_bytes_max", asked.state_bytes_max, limits::TASK_STATE_BYTES),
        (
            "log_lines_per_second_max",
            u64::from(asked.log_lines_per_second_max),
            wide(limits::TASK_LOG_LINES_PER_SECOND),
        ),
        ("records_per_step_max", u64::from(asked.records_per_step_max), wide(limits::TASK_RECORDS_PER_STEP)),
    ];
    for (name, value, (lowest, highest)) in checks {
        if !(lowest..=highest).contains(&value) {
            return Err(invalid(format!("{name}={value} is out of range; it is {lowest} to {highest}")));
        }
    }
    Ok(())
}

/// Inputs and stores are what a processor's positions and state are of: they stay as they are.
fn check_unchanged(
    image: &ClusterImage,
    former: &ProcessorImage,
    inputs: &[&TopicImage],
    stores: &[String],
) -> Result<(), ApiError> {
    let name = &former.name;
    if !former.inputs.iter().eq(inputs.iter().map(|topic| &topic.id)) {
        let topics = former.inputs.iter().filter_map(|id| image.topic(*id));
        let names: Vec<&str> = topics.map(|topic| topic.name.as_ref()).collect();
        let names = names.join(", ");
        return Err(invalid(format!(
            "processor {name:?} reads {names}, in this order; a new deployment can't change its inputs, \
             its state was made from them. Use another name, or delete the processor first"
        )));
    }
    if former.stores != stores {
        let stores = if former.stores.is_empty() { "none".to_owned() } else { former.stores.join(", ") };
        return Err(invalid(format!(
            "processor {name:?} has the state stores {stores}, in this order; a new deployment can't change them. \
             Use another name, or delete the processor first"
        )));
    }
    Ok(())
}

/// The changelog topic: a partition for each task, where the anchor's partition lies (placement group, DESIGN §5).
fn new_changelog(
    image: &ClusterImage,
    deploy: DeployProcessor<'_>,
    inputs: &[&TopicImage],
) -> Result<TopicCreated, ApiError> {
    let name = format!("{}{}", deploy.request.name, limits::CHANGELOG_SUFFIX);
    check_new_name(image, &name).map_err(|error| {
        let message = format!("the processor's changelog can't be made: {}", error.message);
        ApiError::new(error.code, message)
    })?;
    let anchor = inputs.first().map_or(&[][..], |anchor| anchor.partitions.as_slice());
    check_partitions(image, &name, u32::try_from(anchor.len()).unwrap_or(u32::MAX))?;
    let partitions = anchor.iter().map(|partition| partition.replicas.clone()).collect();
    Ok(TopicCreated { topic: deploy.changelog, name, internal: true, partitions, settings: Vec::new() })
}

fn new_number(image: &ClusterImage) -> Result<ProcessorNumber, ApiError> {
    if image.processors.len() >= limits::PROCESSORS_MAX {
        return Err(invalid(format!("the cluster has {} processors already", limits::PROCESSORS_MAX)));
    }
    let number = image.next_processor;
    if number.0 >= TaskProducer::PROCESSORS_MAX {
        return Err(invalid("the cluster has no processor numbers left".to_owned()));
    }
    Ok(number)
}

fn start_offsets(inputs: &[&TopicImage], starts: &BTreeMap<TopicPartition, i64>) -> Result<Vec<Vec<i64>>, ApiError> {
    let start = |topic: &TopicImage, partition: TopicPartition| match starts.get(&partition) {
        Some(offset) if *offset >= 0 => Ok(*offset),
        Some(_) | None => {
            let (name, number) = (&topic.name, partition.partition);
            let message = format!("where to begin in partition {number} of {name:?} is not known; try again");
            Err(ApiError::new(ErrorCode::Busy, message))
        }
    };
    inputs.iter().map(|topic| partitions_of(topic).map(|partition| start(topic, partition)).collect()).collect()
}

/// Pauses or resumes a processor; answers whether that changes anything.
///
/// # Errors
/// `UnknownProcessor`.
pub fn set_processor_paused(image: &ClusterImage, name: &str, paused: bool) -> Result<Decision<bool>, ApiError> {
    let processor = image.find_processor(name)?;
    let changes = processor.paused != paused;
    let record = MetadataRecord::ProcessorPaused { processor: processor.number, paused };
    Ok(Decision { records: if changes { vec![record] } else { Vec::new() }, answer: changes })
}

/// Deletes a processor and its changelog topic.
///
/// # Errors
/// `UnknownProcessor`.
pub fn delete_processor(image: &ClusterImage, name: &str) -> Result<Decision<DeletedProcessor>, ApiError> {
    let processor = image.find_processor(name)?;
    let (number, changelog) = (processor.number, processor.changelog);
    let changelog_name = format!("{name}{}", limits::CHANGELOG_SUFFIX);
    let records =
        vec![MetadataRecord::ProcessorDeleted { processor: number }, MetadataRecord::TopicDeleted { topic: changelog }];
    Ok(Decision { records, answer: DeletedProcessor { processor: number, changelog, changelog_name } })
}

fn invalid(message: String) -> ApiError {
    ApiError::new(ErrorCode::InvalidProcessor, message)
}
