//! Other code beside what is deployed: it sees the same input and the same state, writes nothing, and is compared.

use super::processors::{Deployed, check_limits, check_settings, check_world};
use super::record::ShadowDeployed;
use super::{ClusterImage, Decision, MetadataRecord};
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::messages::processor::DeployProcessorRequest;

/// Runs the request's module, settings and limits beside the processor of that name, in place of a former shadow.
///
/// # Errors
/// `UnknownProcessor`, `UnknownModule`, `InvalidProcessor`.
pub fn shadow_processor(
    image: &ClusterImage,
    request: &DeployProcessorRequest,
) -> Result<Decision<Deployed>, ApiError> {
    let processor = image.find_processor(&request.name)?;
    let module = image.resolve_module(&request.module)?;
    check_world(&module.world, &request.module)?;
    check_settings(&request.settings)?;
    check_limits(&request.limits)?;
    let shadow =
        ShadowDeployed { module: module.reference(), settings: request.settings.clone(), limits: request.limits };
    let answer = Deployed {
        processor: processor.number,
        revision: processor.revision,
        digest: module.digest,
        tasks: processor.tasks(),
    };
    let record = MetadataRecord::ProcessorShadowed { processor: processor.number, shadow: Some(shadow) };
    Ok(Decision { records: vec![record], answer })
}

/// Ends the shadow of a processor; the module that ran as one.
///
/// # Errors
/// `UnknownProcessor`; `InvalidProcessor` when it has none.
pub fn end_shadow(image: &ClusterImage, name: &str) -> Result<Decision<String>, ApiError> {
    let processor = image.find_processor(name)?;
    let Some(shadow) = &processor.shadow else {
        return Err(ApiError::new(ErrorCode::InvalidProcessor, format!("processor {name:?} has no shadow")));
    };
    let record = MetadataRecord::ProcessorShadowed { processor: processor.number, shadow: None };
    Ok(Decision { records: vec![record], answer: shadow.module.label() })
}
