//! Typed handlers: what a request does, whichever wire it came on.

mod authorize;
mod fetch;
mod log;
mod log_description;
mod modules;
mod offsets;
mod processors;
mod produce;
mod topics;

use crate::config::BrokerConfig;
use crate::metadata::Metadata;
use crate::module::Modules;
use crate::partition::Partitions;
use crate::processor::ProcessorManager;
use headwater_core::cluster::allot_producer_ids;
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::{BrokerEpoch, BrokerId, ProducerId};
use headwater_protocol::limits::CLIENT_NAME_BYTES_MAX;
use headwater_protocol::messages::ApiKey;
use headwater_protocol::messages::cluster::{HelloRequest, HelloResponse, MetadataRequest, MetadataResponse};
use headwater_protocol::messages::records::InitProducerIdResponse;
use headwater_transport::ByteBudget;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Producer ids that a broker takes from the metadata log at a time (IDP-7).
const PRODUCER_ID_BLOCK: u32 = 1000;
/// Topics that one request may name.
const TOPICS_PER_REQUEST_MAX: usize = 1000;
/// Partitions that one request may name.
const PARTITIONS_PER_REQUEST_MAX: usize = 10_000;

/// Everything a handler needs.
pub(crate) struct Api {
    pub(crate) broker: BrokerId,
    pub(crate) epoch: BrokerEpoch,
    pub(crate) config: BrokerConfig,
    pub(crate) metadata: Arc<Metadata>,
    pub(crate) partitions: Arc<Partitions>,
    pub(crate) modules: Arc<Modules>,
    pub(crate) processors: Arc<ProcessorManager>,
    pub(crate) producer_ids: Mutex<Range<i64>>,
    /// What answers may take of memory until their peers have them.
    pub(crate) response_budget: ByteBudget,
}

impl Api {
    /// Greets a peer: tells what this broker is and speaks.
    pub(crate) fn hello(&self, request: &HelloRequest) -> Result<HelloResponse, ApiError> {
        check_count("client name bytes", request.client.len(), CLIENT_NAME_BYTES_MAX)?;
        tracing::debug!(client = request.client.escape_debug().to_string(), "hello");
        Ok(HelloResponse {
            broker: concat!("headwater ", env!("CARGO_PKG_VERSION")).to_owned(),
            cluster: self.metadata.image().cluster(),
            id: self.broker,
            epoch: self.epoch,
            versions: ApiKey::SUPPORTED.iter().map(|(key, lowest, highest)| (*key as u16, *lowest, *highest)).collect(),
        })
    }

    /// How long a peer may take to read an answer.
    pub(crate) fn response_time_max(&self) -> Duration {
        Duration::from_secs(self.config.network.response_seconds_max)
    }

    /// Topics and where their partitions are led.
    pub(crate) async fn metadata(self: Arc<Self>, request: MetadataRequest) -> Result<MetadataResponse, ApiError> {
        let image = self.metadata.image();
        let topics = match &request.topics {
            Some(names) => {
                check_count("topics", names.len(), TOPICS_PER_REQUEST_MAX)?;
                names.iter().filter_map(|name| image.topic_by_name(name)).map(|topic| topic.describe()).collect()
            }
            None => image
                .topics()
                .filter(|topic| request.include_internal || !topic.internal)
                .map(|topic| topic.describe())
                .collect(),
        };
        let brokers = image.brokers().map(|broker| broker.describe()).collect();
        Ok(MetadataResponse { cluster: image.cluster(), brokers, topics })
    }

    /// A producer id that nobody else has (IDP-7).
    pub(crate) async fn init_producer_id(self: Arc<Self>) -> Result<InitProducerIdResponse, ApiError> {
        loop {
            if let Some(id) = self.producer_ids.lock().next() {
                return Ok(InitProducerIdResponse { producer_id: ProducerId(id), producer_epoch: 0 });
            }
            let block = self.metadata.decide(|image| allot_producer_ids(image, PRODUCER_ID_BLOCK)).await?;
            let mut ids = self.producer_ids.lock();
            if ids.is_empty() {
                *ids = block;
            }
        }
    }
}

/// Refuses a request that names more than a limit allows.
fn check_count(what: &str, count: usize, count_max: usize) -> Result<(), ApiError> {
    if count <= count_max {
        return Ok(());
    }
    let message = format!("the request has {count} {what}, at most {count_max} are taken: split it");
    Err(ApiError::new(ErrorCode::InvalidRequest, message))
}
