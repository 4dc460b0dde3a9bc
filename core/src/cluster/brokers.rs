//! Decisions about brokers.

use super::settings::quoted;
use super::{BrokerState, ClusterImage, Decision, MetadataRecord};
use crate::limits;
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::{BrokerEpoch, BrokerId, DirectoryId, IncarnationId};

/// A broker that starts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegisterBroker {
    /// Its id.
    pub broker: BrokerId,
    /// This run, drawn when it began.
    pub incarnation: IncarnationId,
    /// Its data directories, by the ids that lie in them.
    pub directories: Vec<DirectoryId>,
    /// Where clients and peers reach it: host and port.
    pub address: String,
}

/// Registers a broker's run and answers with its epoch. The same run again changes nothing.
///
/// # Errors
/// `InvalidRequest` when the directories or the address make no sense, when a data directory that holds partitions of
/// this broker is missing (LOG-10), or when the cluster is full.
pub fn register_broker(image: &ClusterImage, request: &RegisterBroker) -> Result<Decision<BrokerEpoch>, ApiError> {
    if let Some(broker) = image.broker(request.broker).filter(|broker| broker.incarnation == request.incarnation) {
        return Ok(Decision { records: Vec::new(), answer: broker.epoch });
    }
    check_registration(image, request)?;
    let epoch = image.next_broker_epoch;
    let record = MetadataRecord::BrokerRegistered {
        broker: request.broker,
        epoch,
        incarnation: request.incarnation,
        directories: request.directories.clone(),
        address: request.address.clone(),
    };
    Ok(Decision { records: vec![record], answer: epoch })
}

fn check_registration(image: &ClusterImage, request: &RegisterBroker) -> Result<(), ApiError> {
    let directories = &request.directories;
    let twice = directories.iter().enumerate().any(|(place, id)| directories[..place].contains(id));
    if directories.is_empty() || directories.len() > limits::DIRECTORIES_PER_BROKER_MAX || twice {
        let max = limits::DIRECTORIES_PER_BROKER_MAX;
        return invalid(format!("a broker has 1 to {max} data directories, each once"));
    }
    if directories.contains(&DirectoryId::NONE) {
        return invalid("a data directory has no id; it was not formatted".to_owned());
    }
    if request.address.is_empty() || request.address.len() > limits::ADDRESS_BYTES_MAX {
        let (address, max) = (quoted(&request.address), limits::ADDRESS_BYTES_MAX);
        return invalid(format!("the address {address:?} is not host and port in 1 to {max} bytes"));
    }
    if image.broker(request.broker).is_none() && image.brokers().len() >= limits::BROKERS_MAX {
        return invalid(format!("the cluster has {} brokers already", limits::BROKERS_MAX));
    }
    // A disk that comes back empty has another id; starting without it would serve empty logs (LOG-10).
    let replicas = image.topics.values().flat_map(|topic| &topic.partitions).flat_map(|partition| &partition.replicas);
    let mut ours = replicas.filter(|replica| replica.broker == request.broker);
    if let Some(missing) = ours.find(|replica| !directories.contains(&replica.directory)) {
        let (broker, directory) = (request.broker, missing.directory);
        return invalid(format!(
            "broker {broker} holds partitions in data directory {directory}, which is not there; \
             attach that disk, or start with the configuration that names it"
        ));
    }
    Ok(())
}

/// Notes that a broker's run ended in order. A run that another has followed changes nothing.
///
/// # Errors
/// `InvalidRequest` for a broker that is not known.
pub fn stop_broker(image: &ClusterImage, broker: BrokerId, epoch: BrokerEpoch) -> Result<Decision<()>, ApiError> {
    let Some(known) = image.broker(broker) else {
        return invalid(format!("broker {broker} is not registered"));
    };
    let runs = known.epoch == epoch && known.state == BrokerState::Registered;
    let record = MetadataRecord::BrokerStopped { broker, epoch };
    Ok(Decision { records: if runs { vec![record] } else { Vec::new() }, answer: () })
}

/// Forgets a broker that holds nothing.
///
/// # Errors
/// `InvalidRequest` for a broker that is not known or that holds partitions.
pub fn unregister_broker(image: &ClusterImage, broker: BrokerId) -> Result<Decision<()>, ApiError> {
    if image.broker(broker).is_none() {
        return invalid(format!("broker {broker} is not registered"));
    }
    if image.holds_partitions(broker) {
        return invalid(format!("broker {broker} holds partitions; move them first"));
    }
    Ok(Decision { records: vec![MetadataRecord::BrokerUnregistered { broker }], answer: () })
}

fn invalid<T>(message: String) -> Result<T, ApiError> {
    Err(ApiError::new(ErrorCode::InvalidRequest, message))
}
