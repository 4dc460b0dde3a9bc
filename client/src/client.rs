//! The client: connections, what is known of the cluster, and requests that find their broker.

use crate::admin::Admin;
use crate::backoff::Backoff;
use crate::config::ClientConfig;
use crate::connection::{BrokerConnection, protocol};
use crate::consumer::{Consumer, ConsumerConfig};
use crate::error::ClientError;
use crate::metadata::{MetadataCache, TopicInfo};
use crate::pool::Pool;
use crate::producer::{Producer, ProducerConfig};
use crate::retry::{CallFailure, should_repeat};
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::{BrokerId, ClusterId};
use headwater_protocol::messages::Request;
use headwater_protocol::messages::cluster::{MetadataRequest, MetadataResponse};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A client of one cluster. Clones are the same client.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
    cluster: ClusterInfo,
}

/// The cluster that a client found, and through whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterInfo {
    /// The cluster.
    pub cluster: ClusterId,
    /// The broker that answered first.
    pub broker: BrokerId,
    /// Program and version that it says it is.
    pub version: String,
    /// Its address.
    pub address: String,
}

impl Client {
    /// Connects to the first broker of `config` that answers, and greets it.
    ///
    /// # Errors
    /// [`ClientError::NoBroker`] when none answers, [`ClientError::Tls`] when certificates don't fit,
    /// [`ClientError::Incompatible`] when the broker is of another release, [`ClientError::Config`].
    pub async fn connect(config: ClientConfig) -> Result<Self, ClientError> {
        let shared = Arc::new(Shared {
            pool: Pool::new(config.clone())?,
            metadata: Mutex::default(),
            refreshing: tokio::sync::Mutex::new(()),
            config,
        });
        let connection = shared.pool.any().await?;
        let hello = connection.hello();
        let cluster = ClusterInfo {
            cluster: hello.cluster,
            broker: hello.id,
            version: hello.broker.clone(),
            address: connection.address().to_owned(),
        };
        Ok(Self { shared, cluster })
    }

    /// Topics, modules, processors.
    pub fn admin(&self) -> Admin {
        Admin::new(Arc::clone(&self.shared))
    }

    /// A producer. Must be called inside a tokio runtime, on which it runs.
    ///
    /// # Errors
    /// [`ClientError::Config`].
    pub fn producer(&self, config: ProducerConfig) -> Result<Producer, ClientError> {
        Producer::start(Arc::clone(&self.shared), config)
    }

    /// A consumer without partitions: [`Consumer::assign`] gives it some. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`ClientError::Config`].
    pub fn consumer(&self, config: ConsumerConfig) -> Result<Consumer, ClientError> {
        Consumer::start(Arc::clone(&self.shared), config)
    }

    /// The cluster found.
    pub fn cluster(&self) -> &ClusterInfo {
        &self.cluster
    }

    /// Closes the connections of this client and of everything made from it. Close producers first: what they have not
    /// delivered is given up.
    pub async fn close(&self) {
        self.shared.pool.close().await;
    }
}

/// Whom a request is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// Whoever answers.
    Any,
    /// This broker.
    Broker(BrokerId),
}

/// What producers, consumers and admin calls of a client share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) pool: Pool,
    pub(crate) config: ClientConfig,
    metadata: Mutex<MetadataCache>,
    /// Held while metadata is asked for, so that many askers make one request.
    refreshing: tokio::sync::Mutex<()>,
}

impl Shared {
    /// Sends a request and repeats it, within the request time-out, where that is right.
    pub(crate) async fn call<R: Request>(&self, target: Target, request: &R) -> Result<R::Response, ClientError> {
        self.call_within(target, request, self.config.request_timeout).await
    }

    /// As [`Self::call`], with a time-out of its own.
    pub(crate) async fn call_within<R: Request>(
        &self,
        target: Target,
        request: &R,
        timeout: Duration,
    ) -> Result<R::Response, ClientError> {
        let deadline = Instant::now() + timeout;
        let mut backoff = Backoff::new(self.config.reconnect_backoff, self.config.reconnect_backoff_max);
        loop {
            let failure = match self.connection(target).await {
                Ok(connection) => match connection.call(request, deadline).await {
                    Ok(response) => return Ok(response),
                    Err(failure) => failure,
                },
                Err(error) => CallFailure { error, sent: false },
            };
            let pause = backoff.fail();
            if !should_repeat(R::API, &failure) || Instant::now() + pause >= deadline {
                return Err(failure.error);
            }
            tracing::debug!(api = ?R::API, error = %failure.error, "sent again");
            sleep(pause).await;
        }
    }

    /// A connection to the target.
    pub(crate) async fn connection(&self, target: Target) -> Result<Arc<BrokerConnection>, ClientError> {
        match target {
            Target::Any => self.pool.any().await,
            Target::Broker(id) => self.pool.broker(id).await,
        }
    }

    /// A topic that is known, or else asked for.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownTopicOrPartition`] with the remedy when there is none; what [`Self::call`] says.
    pub(crate) async fn topic(&self, name: &str) -> Result<Arc<TopicInfo>, ClientError> {
        if let Some(topic) = self.known_topic(name) {
            return Ok(topic);
        }
        {
            let _one_asks = self.refreshing.lock().await;
            if self.known_topic(name).is_none() {
                self.ask_for(vec![name.to_owned()]).await?;
            }
        }
        self.known_topic(name).ok_or_else(|| unknown_topic(name))
    }

    fn known_topic(&self, name: &str) -> Option<Arc<TopicInfo>> {
        self.metadata.lock().topic(name, std::time::Instant::now(), self.config.metadata_age_max)
    }

    /// Asks for these topics again; gives what exists of them.
    pub(crate) async fn refresh(&self, names: &[Arc<str>]) -> Result<Vec<Arc<TopicInfo>>, ClientError> {
        {
            let _one_asks = self.refreshing.lock().await;
            self.ask_for(names.iter().map(|name| name.to_string()).collect()).await?;
        }
        Ok(names.iter().filter_map(|name| self.known_topic(name)).collect())
    }

    /// Drops what is known of a topic.
    pub(crate) fn forget_topic(&self, name: &str) {
        self.metadata.lock().forget(name);
    }

    async fn ask_for(&self, names: Vec<String>) -> Result<(), ClientError> {
        let request = MetadataRequest { topics: Some(names), include_internal: true };
        let response = self.call(Target::Any, &request).await?;
        self.learn(request.topics.as_deref().unwrap_or_default(), &response)
    }

    /// Takes in a metadata response.
    pub(crate) fn learn(&self, asked: &[String], response: &MetadataResponse) -> Result<(), ClientError> {
        let mut metadata = self.metadata.lock();
        metadata
            .apply(asked, response, std::time::Instant::now())
            .map_err(|reason| protocol("the cluster", &reason))?;
        self.pool.advertise(metadata.brokers());
        Ok(())
    }
}

/// What to say about a topic that isn't there.
pub(crate) fn unknown_topic(name: &str) -> ClientError {
    ApiError::new(
        ErrorCode::UnknownTopicOrPartition,
        format!("no topic {name:?}: create it with `headwater topic create {name}`"),
    )
    .into()
}
