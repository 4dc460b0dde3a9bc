//! Back to the deployment before the present one.

use super::record::ProcessorDeployed;
use super::{ClusterImage, Decision, DeploymentImage, MetadataRecord, ProcessorImage};
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::ModuleDigest;

/// What a rollback leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RolledBack {
    /// The revision that begins.
    pub revision: u32,
    /// The module that runs, as `name@version`.
    pub module: String,
    /// Its digest.
    pub digest: ModuleDigest,
}

/// Deploys once more what ran before: module, outputs, settings, limits, error policy. State and positions stay. The
/// deployment that is left behind becomes the former one, so that a second rollback undoes the first.
///
/// # Errors
/// `UnknownProcessor`; `InvalidProcessor` when there was no other deployment; `UnknownModule` and
/// `UnknownTopicOrPartition` when what it needs was deleted since.
pub fn rollback_processor(image: &ClusterImage, name: &str) -> Result<Decision<RolledBack>, ApiError> {
    let processor = image.find_processor(name)?;
    let invalid = |message: String| ApiError::new(ErrorCode::InvalidProcessor, message);
    let Some(previous) = &processor.previous else {
        return Err(invalid(format!("processor {name:?} has been deployed once: there is nothing to go back to")));
    };
    check_present(image, processor, previous)?;
    let revision = processor.revision.checked_add(1).ok_or_else(|| invalid("no revision is left".to_owned()))?;
    let mut records = vec![MetadataRecord::ProcessorDeployed(ProcessorDeployed {
        processor: processor.number,
        name: processor.name.to_string(),
        revision,
        generation: processor.generation,
        module: previous.module.clone(),
        inputs: processor.inputs.clone(),
        outputs: previous.outputs.clone(),
        stores: processor.stores.clone(),
        settings: previous.settings.clone(),
        limits: previous.limits,
        from: processor.from.clone(),
        changelog: processor.changelog,
    })];
    records.extend(previous.errors.record(processor.number));
    let answer = RolledBack { revision, module: previous.module.label(), digest: previous.module.digest };
    Ok(Decision { records, answer })
}

fn check_present(image: &ClusterImage, processor: &ProcessorImage, previous: &DeploymentImage) -> Result<(), ApiError> {
    let name = &processor.name;
    if !image.modules().any(|module| module.reference() == previous.module) {
        let message =
            format!("processor {name:?} ran module {} before, which was deleted since", previous.module.label());
        return Err(ApiError::new(ErrorCode::UnknownModule, message));
    }
    let mut topics = previous.outputs.iter().copied().chain(previous.errors.dead_letters());
    if topics.any(|topic| image.topic(topic).is_none()) {
        let message = format!("a topic that processor {name:?} wrote before was deleted since; deploy it anew");
        return Err(ApiError::new(ErrorCode::UnknownTopicOrPartition, message));
    }
    Ok(())
}
