//! One connection per broker, made when needed, made again when lost.

use crate::backoff::Backoff;
use crate::config::ClientConfig;
use crate::connection::BrokerConnection;
use crate::error::ClientError;
use crate::limits::BROKERS_MAX;
use headwater_protocol::ids::{BrokerId, ClusterId};
use headwater_transport::ClientEndpoint;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::time::Instant;

/// The connections of a client.
#[derive(Debug)]
pub(crate) struct Pool {
    config: ClientConfig,
    endpoint: ClientEndpoint,
    slots: Mutex<BTreeMap<String, Arc<Slot>>>,
    routes: Mutex<Routes>,
    closed: AtomicBool,
}

/// How brokers are reached.
#[derive(Debug, Default)]
struct Routes {
    /// The first greeting's; all others must be of the same cluster.
    cluster: Option<ClusterId>,
    /// Where a broker answered. Preferred: it is known to work from here.
    greeted: BTreeMap<BrokerId, String>,
    /// Where the cluster says a broker is.
    advertised: BTreeMap<BrokerId, String>,
}

/// The connection to one address.
#[derive(Debug)]
struct Slot {
    address: String,
    current: Mutex<Option<Arc<BrokerConnection>>>,
    /// Held while connecting, so that many streams of a lost broker make one attempt, not many.
    attempts: tokio::sync::Mutex<Attempts>,
}

#[derive(Debug)]
struct Attempts {
    backoff: Backoff,
    /// The last failure, and until when it is the answer to everybody.
    failed: Option<(ClientError, Instant)>,
}

impl Slot {
    fn open(&self) -> Option<Arc<BrokerConnection>> {
        self.current.lock().as_ref().filter(|connection| connection.is_open()).cloned()
    }
}

impl Pool {
    pub(crate) fn new(config: ClientConfig) -> Result<Self, ClientError> {
        config.check()?;
        let first = config.brokers.first().map(String::as_str).unwrap_or_default();
        let tls = config.tls.load(first)?;
        let endpoint = ClientEndpoint::new(&tls, config.transport_limits())
            .map_err(|error| ClientError::Config(error.to_string()))?;
        Ok(Self { config, endpoint, slots: Mutex::default(), routes: Mutex::default(), closed: AtomicBool::new(false) })
    }

    /// Any broker: one that is connected, else the first that answers.
    pub(crate) async fn any(&self) -> Result<Arc<BrokerConnection>, ClientError> {
        self.check_open()?;
        let connected = self.slots.lock().values().find_map(|slot| slot.open());
        if let Some(connection) = connected {
            return Ok(connection);
        }
        let mut addresses = self.config.brokers.clone();
        for address in self.routes.lock().advertised.values() {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        let mut failure = None;
        for address in &addresses {
            match self.at(address).await {
                Ok(connection) => return Ok(connection),
                Err(ClientError::Closed) => return Err(ClientError::Closed),
                // A broker that answered and said no tells more than one that isn't there.
                Err(error) if !matches!(failure, Some(ref kept) if !is_nobody(kept)) => failure = Some(error),
                Err(_) => {}
            }
        }
        Err(match failure {
            Some(ClientError::NoBroker { reason, .. }) => {
                ClientError::NoBroker { address: self.config.brokers.join(", "), reason }
            }
            Some(error) => error,
            None => ClientError::Config("no broker address: give at least one as host:port".to_owned()),
        })
    }

    /// The broker of this id.
    pub(crate) async fn broker(&self, id: BrokerId) -> Result<Arc<BrokerConnection>, ClientError> {
        let (greeted, advertised) = {
            let routes = self.routes.lock();
            (routes.greeted.get(&id).cloned(), routes.advertised.get(&id).cloned())
        };
        let mut failure = None;
        for address in [&greeted, &advertised].into_iter().flatten() {
            match self.at(address).await {
                Ok(connection) if connection.hello().id == id => return Ok(connection),
                Ok(connection) => {
                    let mut routes = self.routes.lock();
                    if routes.greeted.get(&id) == Some(address) {
                        routes.greeted.remove(&id);
                    }
                    let reason = format!("broker {} answers there, not broker {id}", connection.hello().id);
                    failure = Some(ClientError::NoBroker { address: address.clone(), reason });
                }
                Err(error) => failure = Some(error),
            }
            if greeted == advertised {
                break;
            }
        }
        Err(failure.unwrap_or_else(|| ClientError::NoBroker {
            address: format!("broker {id}"),
            reason: "the cluster names no address for it".to_owned(),
        }))
    }

    /// Notes where the cluster says that its brokers are.
    pub(crate) fn advertise<'a>(&self, brokers: impl Iterator<Item = (BrokerId, &'a str)>) {
        let advertised = brokers.take(BROKERS_MAX).map(|(id, address)| (id, address.to_owned())).collect();
        let mut routes = self.routes.lock();
        routes.advertised = advertised;
        // Slots of addresses that nobody names any more go, with their connections, when their users let go.
        let keep = |address: &String| {
            self.config.brokers.contains(address) || routes.advertised.values().any(|known| known == address)
        };
        self.slots.lock().retain(|address, _| keep(address));
    }

    /// Closes every connection; all calls fail from now on.
    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for slot in self.slots.lock().values() {
            if let Some(connection) = slot.open() {
                connection.close();
            }
        }
        self.endpoint.close().await;
    }

    pub(crate) fn check_open(&self) -> Result<(), ClientError> {
        if self.closed.load(Ordering::Acquire) { Err(ClientError::Closed) } else { Ok(()) }
    }

    async fn at(&self, address: &str) -> Result<Arc<BrokerConnection>, ClientError> {
        self.check_open()?;
        let slot = Arc::clone(self.slots.lock().entry(address.to_owned()).or_insert_with(|| {
            let backoff = Backoff::new(self.config.reconnect_backoff, self.config.reconnect_backoff_max);
            Arc::new(Slot {
                address: address.to_owned(),
                current: Mutex::default(),
                attempts: tokio::sync::Mutex::new(Attempts { backoff, failed: None }),
            })
        }));
        if let Some(connection) = slot.open() {
            return Ok(connection);
        }
        let asked_at = Instant::now();
        let mut attempts = slot.attempts.lock().await;
        if let Some(connection) = slot.open() {
            return Ok(connection);
        }
        // Somebody else's failure counts for those who waited meanwhile, and for the pause after it.
        if let Some((error, until)) = &attempts.failed
            && *until > asked_at
        {
            return Err(error.clone());
        }
        match self.connect(&slot.address).await {
            Ok(connection) => {
                attempts.backoff.succeed();
                attempts.failed = None;
                *slot.current.lock() = Some(Arc::clone(&connection));
                self.check_open().inspect_err(|_| connection.close())?;
                Ok(connection)
            }
            Err(error) => {
                tracing::debug!(address, %error, "can't connect");
                let pause = attempts.backoff.fail();
                attempts.failed = Some((error.clone(), Instant::now() + pause));
                Err(error)
            }
        }
    }

    async fn connect(&self, address: &str) -> Result<Arc<BrokerConnection>, ClientError> {
        let connection = BrokerConnection::establish(&self.endpoint, address, &self.config).await?;
        let hello = connection.hello();
        let mut routes = self.routes.lock();
        let cluster = *routes.cluster.get_or_insert(hello.cluster);
        if cluster != hello.cluster {
            connection.close();
            let reason = format!("a broker of cluster {} answers there, not one of {cluster}", hello.cluster);
            return Err(ClientError::NoBroker { address: address.to_owned(), reason });
        }
        if routes.greeted.len() < BROKERS_MAX {
            routes.greeted.insert(hello.id, address.to_owned());
        }
        Ok(Arc::new(connection))
    }
}

fn is_nobody(error: &ClientError) -> bool {
    matches!(error, ClientError::NoBroker { .. })
}
