//! Starting and stopping: all wiring, in order.

use crate::admin_http;
use crate::api::Api;
use crate::cleaner::{CleanerThread, Extractors};
use crate::clock::unix_time_ms;
use crate::config::{BrokerConfig, ClientAuthentication, ConfigError, LogsConfig};
use crate::connection::Server;
use crate::identity::{self, Beginning, Identity, IdentityError};
use crate::metadata::{Metadata, OpenError, SyncedMetadataLog};
use crate::module::{Modules, ModulesError};
use crate::open_files;
use crate::partition::{PartitionPlace, Partitions, RetentionThread, Scrubber};
use crate::processor::ProcessorManager;
use headwater_core::cluster::{RegisterBroker, create_cluster, register_broker, stop_broker};
use headwater_log::storage::{Storage, file::FileStorage, make_directory};
use headwater_log::{DataDirectory, LogError};
use headwater_protocol::error::ApiError;
use headwater_protocol::ids::{BrokerEpoch, BrokerId, ClusterId, IncarnationId};
use headwater_transport::{BindError, ByteBudget, IdentityFiles, ServerEndpoint, ServerTls, TlsError, TransportLimits};
use headwater_wasm_host::CompilerCommand;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The metadata log's directory among those of the partitions.
const METADATA_PARTITION: &str = "metadata";
/// How often the recovery points are written down (reliability §5: every second).
const CHECKPOINT_PERIOD: Duration = Duration::from_secs(1);
/// A batch stays in memory for readers for one of these, at most for two.
const TAIL_PERIOD: Duration = Duration::from_secs(30);

/// Why a broker does not start. Each names the culprit and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The operator's configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The port.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The admin port.
    #[error("the admin HTTP server can't listen on {address}: {source}; set admin_listen to another address")]
    AdminBind {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The data directory is somebody else's, or damaged.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Disk.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The metadata log can't be read: without it nothing may be served (RAFT-8).
    #[error("{0}")]
    Metadata(String),
    /// The module stores or the wasm runtime.
    #[error("{0}")]
    Modules(String),
    /// The system gives no thread.
    #[error("a thread can't be started: {0}")]
    Thread(#[source] std::io::Error),
    /// Metadata refuses this broker.
    #[error("the cluster's metadata refuses this broker: {0}")]
    Refused(#[from] ApiError),
}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> Self {
        Self::Metadata(error.to_string())
    }
}

impl From<ModulesError> for StartError {
    fn from(error: ModulesError) -> Self {
        Self::Modules(error.to_string())
    }
}

/// A broker that serves.
pub struct RunningBroker {
    address: SocketAddr,
    admin_address: Option<SocketAddr>,
    cluster: ClusterId,
    broker: BrokerId,
    epoch: BrokerEpoch,
    stopping: watch::Sender<bool>,
    server: JoinHandle<()>,
    metadata: Arc<Metadata>,
    partitions: Arc<Partitions>,
    retention: RetentionThread,
    cleaner: CleanerThread,
    scrubber: Scrubber,
    processors: Arc<ProcessorManager>,
    directory: DataDirectory,
    timeout: Duration,
}

/// Starts a broker. `compiler` is how this binary starts itself as `compile-module`.
///
/// # Errors
/// [`StartError`]; then nothing is left running.
pub async fn start(config: BrokerConfig, compiler: CompilerCommand) -> Result<RunningBroker, StartError> {
    config.check()?;
    let endpoint = bind(&config)?;
    let address = endpoint.local_address().map_err(StartError::Thread)?;
    // Before anything runs that would have to be stopped again.
    let admin = bind_admin(&config).await?;
    let open_files_max = open_files::raise_limit(config.log.open_files_max);
    let opened = tokio::task::spawn_blocking({
        let mut config = config.clone();
        config.log.open_files_max = open_files_max;
        move || Opened::open(&config, address, compiler)
    });
    let opened = match opened.await {
        Ok(opened) => opened?,
        Err(error) => return Err(StartError::Metadata(format!("start-up panicked, this broker has a bug: {error}"))),
    };
    let (stopping, stopped) = watch::channel(false);
    let admin_address = admin.map(|(listener, bound)| {
        let mut stopped = stopped.clone();
        admin_http::serve(listener, async move { drop(stopped.wait_for(|stopped| *stopped).await) });
        bound
    });
    tokio::spawn(write_recovery_points(opened.directory.clone(), stopped.clone()));

    let (retention, cleaner, scrubber) = match start_caretakers(&config.log, &opened) {
        Ok(started) => started,
        Err(error) => {
            opened.processors.stop();
            opened.partitions.stop();
            return Err(StartError::Thread(error));
        }
    };

    let Opened { identity, epoch, directory, metadata, partitions, modules, processors } = opened;
    let budget = Arc::new(ByteBudget::new(config.network.request_bytes_max));
    let response_budget = ByteBudget::new(config.network.response_bytes_max);
    let timeout = Duration::from_secs(config.shutdown.timeout_seconds);
    let api = Arc::new(Api {
        broker: identity.broker,
        epoch,
        config,
        metadata: Arc::clone(&metadata),
        partitions: Arc::clone(&partitions),
        modules,
        processors: Arc::clone(&processors),
        producer_ids: Mutex::new(0..0),
        response_budget,
    });
    let server = Server::new(endpoint, api, budget, stopped);
    let server = tokio::spawn(server.run());
    tracing::info!(%address, cluster = %identity.cluster, broker = %identity.broker, "serving");
    Ok(RunningBroker {
        address,
        admin_address,
        cluster: identity.cluster,
        broker: identity.broker,
        epoch,
        stopping,
        server,
        metadata,
        partitions,
        retention,
        cleaner,
        scrubber,
        processors,
        directory,
        timeout,
    })
}

/// The threads that look after what lies in the logs.
fn start_caretakers(
    config: &LogsConfig,
    opened: &Opened,
) -> std::io::Result<(RetentionThread, CleanerThread, Scrubber)> {
    let partitions = || Arc::clone(&opened.partitions);
    let retention = RetentionThread::start(partitions(), Duration::from_secs(config.retention_check_seconds))?;
    let extractors = Extractors::new(Arc::clone(&opened.metadata), Arc::clone(&opened.modules));
    let cleaner = CleanerThread::start(partitions(), config, Box::new(extractors))?;
    let period = Duration::from_secs(config.scrub_seconds);
    let scrubber = Scrubber::start(partitions(), period, config.scrub_bytes_per_second_max)?;
    Ok((retention, cleaner, scrubber))
}

impl RunningBroker {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its admin HTTP server listens, if it has one.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// The cluster it belongs to.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Stops in order: no new requests, tasks between two steps, everything accepted written and synced, the stop
    /// noted in the metadata log. What takes longer than the configured time-out is left to recovery; then `false`.
    pub async fn shutdown(self) -> bool {
        tracing::info!("stopping");
        self.stopping.send_replace(true);
        let deadline = tokio::time::Instant::now() + self.timeout;
        let at_rest = tokio::task::spawn_blocking({
            let (metadata, partitions, processors) = (self.metadata, self.partitions, self.processors);
            let (directory, broker, epoch) = (self.directory, self.broker, self.epoch);
            let caretakers = (self.retention, self.cleaner, self.scrubber);
            move || {
                drop(caretakers);
                processors.stop();
                partitions.stop();
                if let Err(error) = metadata.decide_blocking(|image| stop_broker(image, broker, epoch)) {
                    tracing::error!(%error, "the stop could not be noted in the metadata log");
                }
                if let Err(error) = directory.close_in_order() {
                    tracing::error!(%error, "the recovery points could not be written");
                }
            }
        });
        let rested = tokio::time::timeout_at(deadline, at_rest).await;
        let served = tokio::time::timeout_at(deadline, self.server).await;
        let in_order = matches!(rested, Ok(Ok(()))) && matches!(served, Ok(Ok(())));
        if !in_order {
            tracing::error!("not everything came to rest in time; the next start recovers it");
        }
        in_order
    }
}

fn bind(config: &BrokerConfig) -> Result<ServerEndpoint, StartError> {
    let tls = match config.tls.client_authentication {
        ClientAuthentication::Required => ServerTls::load(&IdentityFiles {
            ca: config.tls.ca.clone(),
            certificate: config.tls.certificate.clone(),
            key: config.tls.key.clone(),
        })?,
        ClientAuthentication::None => ServerTls::load_without_client_auth(&config.tls.certificate, &config.tls.key)?,
    };
    let limits = TransportLimits { connections_max: config.network.connections_max, ..TransportLimits::default() };
    Ok(ServerEndpoint::bind(config.listen, &tls, limits)?)
}

async fn bind_admin(config: &BrokerConfig) -> Result<Option<(TcpListener, SocketAddr)>, StartError> {
    let Ok(address) = config.admin_listen.parse::<SocketAddr>() else { return Ok(None) };
    crate::metrics::recorder();
    admin_http::bind(address).await.map(Some).map_err(|source| StartError::AdminBind { address, source })
}

/// What is done every second: recovery points are written, what is old goes from memory.
async fn write_recovery_points(directory: DataDirectory, mut stopped: watch::Receiver<bool>) {
    let mut expired = tokio::time::Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(CHECKPOINT_PERIOD) => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
        if expired.elapsed() >= TAIL_PERIOD {
            directory.tails().expire();
            expired = tokio::time::Instant::now();
        }
        // A gauge is a float; no budget goes beyond 2^53.
        metrics::gauge!(crate::metrics::TAIL_BYTES).set(directory.tails().bytes() as f64);
        metrics::gauge!(crate::metrics::LOG_OPEN_FILES).set(directory.open_files().open_files() as f64);
        let directory = directory.clone();
        let written = tokio::task::spawn_blocking(move || directory.checkpoint()).await;
        if let Ok(Err(error)) = written {
            tracing::error!(%error, "the recovery points could not be written");
        }
    }
}

/// What lies in the data directory, opened and running.
struct Opened {
    identity: Identity,
    epoch: BrokerEpoch,
    directory: DataDirectory,
    metadata: Arc<Metadata>,
    partitions: Arc<Partitions>,
    modules: Arc<Modules>,
    processors: Arc<ProcessorManager>,
}

impl Opened {
    fn open(config: &BrokerConfig, address: SocketAddr, compiler: CompilerCommand) -> Result<Self, StartError> {
        let broker = BrokerId(config.broker_id);
        let storage = crate::disk::storage();
        let found = identity::read(storage.as_ref(), &config.data_dir, broker)?;
        let directory = DataDirectory::open(Arc::clone(&storage), &config.data_dir.join("logs"))?;
        directory.tails().set_bytes_max(config.log.tail_bytes_max);
        directory.open_files().set_open_files_max(config.log.open_files_max);
        let (log, replayed) = SyncedMetadataLog::open(&directory, METADATA_PARTITION)?;
        let metadata = Arc::new(Metadata::new(log, replayed.image));
        let identity = identify(config, storage.as_ref(), &directory, &metadata, found)?;
        let epoch = register(config, &metadata, identity, address)?;

        let place = PartitionPlace { directory: directory.clone(), id: identity.directory };
        let partitions = Partitions::start(broker, place, config.log.writer_threads, config.log.flush_threads)
            .map_err(StartError::Thread)?;
        let partitions = Arc::new(partitions);
        let image = metadata.image();
        let began = unix_time_ms();
        partitions.clean_up(&image, &replayed.deleted_topics, &[METADATA_PARTITION]);
        partitions.reconcile(&image);
        tracing::info!(partitions = image.partition_count(), ms = unix_time_ms() - began, "logs are open");

        let modules = Arc::new(Modules::open(&config.data_dir, &config.modules, compiler)?);
        let processors =
            ProcessorManager::new(config.processors.clone(), Arc::clone(&partitions), Arc::clone(&modules));
        processors.reconcile(&image);
        Ok(Self { identity, epoch, directory, metadata, partitions, modules, processors })
    }
}

/// Makes a data directory as [`start`] does: its name survives a power cut, and so do those of the directories above.
///
/// # Errors
/// The disk's.
pub fn make_data_directory(path: &Path) -> std::io::Result<()> {
    make_directory(&FileStorage, path).map_err(|error| error.source)
}

/// Whose data directory it is; a new one gets its cluster and its identity.
fn identify(
    config: &BrokerConfig,
    storage: &dyn Storage,
    directory: &DataDirectory,
    metadata: &Metadata,
    found: Option<Identity>,
) -> Result<Identity, StartError> {
    let image = metadata.image();
    let beginning = Beginning {
        cluster: Some(image.cluster()).filter(|cluster| *cluster != ClusterId::NONE),
        has_brokers: image.brokers().next().is_some(),
        has_partitions: directory.partitions()?.iter().any(|name| name != METADATA_PARTITION),
    };
    let new_cluster = ClusterId(*uuid::Uuid::new_v4().as_bytes());
    let broker = BrokerId(config.broker_id);
    let identity = identity::decide(&config.data_dir, found, beginning, broker, new_cluster)?;
    if beginning.cluster.is_none() {
        metadata.decide_blocking(|image| create_cluster(image, identity.cluster))?;
    }
    if found.is_none() {
        identity::write(storage, &config.data_dir, identity)?;
    }
    Ok(identity)
}

/// Begins this run in the metadata: every partition led by this broker gets a new leader epoch.
fn register(
    config: &BrokerConfig,
    metadata: &Metadata,
    identity: Identity,
    address: SocketAddr,
) -> Result<BrokerEpoch, StartError> {
    let advertised = match config.advertised_address.as_str() {
        "" => address.to_string(),
        advertised => advertised.to_owned(),
    };
    let registration = RegisterBroker {
        broker: identity.broker,
        incarnation: IncarnationId(*uuid::Uuid::new_v4().as_bytes()),
        directories: vec![identity.directory],
        address: advertised,
    };
    Ok(metadata.decide_blocking(|image| register_broker(image, &registration))?)
}
