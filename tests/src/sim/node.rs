//! One broker: the product's drivers over a simulated disk, wired as `broker::start` wires them, stepped by the run.
//!
//! ```text
//!   requests ──► propose ──► mailbox ──► PartitionDriver::turn ──► flush jobs ──► (the run, later)
//!                                ▲               │                                     │
//!                                │               └──► replies, high watermarks         │
//!   TaskDriver::advance ─────────┴───────────────────────◄── Flushed ◄─────────────────┘
//! ```

mod serve;
mod tasks;

pub use serve::{Request, RequestId, Response};
pub use tasks::{SimSurroundings, SimTask};

use super::checker::Violation;
use super::clock::NodeClock;
use super::guest::Trap;
use headwater_broker::drive::{
    DriverEvent, Metadata, Now, PartitionDriver, PartitionHandle, PartitionPlace, Receiver, Sender, Slot,
    SyncedMetadataLog, clean_up, mailbox, open, wanted,
};
use headwater_core::cluster::{ClusterImage, RegisterBroker, create_cluster, register_broker};
use headwater_log::storage::memory::MemoryStorage;
use headwater_log::{DataDirectory, FlushJob, Log};
use headwater_protocol::ids::{BrokerId, ClusterId, DirectoryId, IncarnationId, TopicId, TopicPartition};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

/// Where a broker's logs lie on its disk.
pub const LOGS: &str = "/data/logs";
const METADATA: &str = "metadata";
const EVENTS_MAX: usize = 65_536;
/// What a node keeps in memory for readers: some reads find what they want there, others don't.
const TAIL_BYTES_MAX: u64 = 32 << 10;
/// Files that a node's logs hold open: fewer than there are, so that some are closed and opened again.
const OPEN_FILES_MAX: usize = 4;

/// The partitions that a broker leads, by id.
pub type Handles = Arc<Mutex<BTreeMap<TopicPartition, Arc<PartitionHandle>>>>;

/// A machine with a broker on it.
pub struct Node {
    /// Its place among the nodes, and its broker id.
    pub number: usize,
    /// Its disk.
    pub disk: MemoryStorage,
    /// Its clocks.
    pub clock: NodeClock,
    /// Counts starts of the broker.
    pub run: u64,
    /// The broker, while it runs.
    pub broker: Option<Broker>,
    /// Its process gets no time before this.
    pub paused_until_us: u64,
    /// Syncs take long before this.
    pub stalled_until_us: u64,
}

/// A broker that runs.
pub struct Broker {
    /// The data directory.
    pub directory: DataDirectory,
    /// Cluster metadata.
    pub metadata: Metadata,
    /// The partitions it leads.
    pub handles: Handles,
    /// Partitions that could not be opened, and why.
    pub failed: BTreeMap<TopicPartition, String>,
    /// Flush jobs that have not run.
    pub jobs: BTreeMap<u64, (Slot, FlushJob)>,
    /// Tasks that run here.
    pub tasks: BTreeMap<(u32, u32), SimTask>,
    pub(super) serving: serve::Serving,
    driver: PartitionDriver,
    told_deadline_ms: Option<u64>,
    events: Receiver<DriverEvent>,
    sender: Sender<DriverEvent>,
    /// Logs at rest, whose topics are gone.
    at_rest: Arc<Mutex<VecDeque<Log>>>,
    next_slot: u64,
    next_job: u64,
    segment_bytes: u64,
    trap: Trap,
}

/// What a broker is started with.
#[derive(Clone)]
pub struct StartSetting {
    /// Bytes of a segment of every log.
    pub segment_bytes: u64,
    /// What traps guests.
    pub trap: Trap,
    /// Drawn for this start.
    pub incarnation: u64,
    /// Now.
    pub now: Now,
}

impl Node {
    /// A machine that is off.
    #[must_use]
    pub fn new(number: usize, clock: NodeClock) -> Self {
        let disk = MemoryStorage::new();
        Self { number, disk, clock, run: 0, broker: None, paused_until_us: 0, stalled_until_us: 0 }
    }

    /// Starts the broker.
    ///
    /// # Errors
    /// Why it does not start, as its operator would read it.
    pub fn start(&mut self, setting: &StartSetting) -> Result<(), String> {
        assert!(self.broker.is_none(), "one broker a machine");
        self.run += 1;
        self.broker = Some(Broker::start(self.number, &self.disk, setting)?);
        Ok(())
    }

    /// The process dies: whatever it held is gone, the disk is not.
    pub fn kill(&mut self) {
        self.broker = None;
        self.paused_until_us = 0;
    }
}

impl Broker {
    fn start(number: usize, disk: &MemoryStorage, setting: &StartSetting) -> Result<Self, String> {
        let directory = DataDirectory::open(Arc::new(disk.clone()), Path::new(LOGS)).map_err(|e| e.to_string())?;
        directory.tails().set_bytes_max(TAIL_BYTES_MAX);
        directory.open_files().set_open_files_max(OPEN_FILES_MAX);
        let (log, replayed) = SyncedMetadataLog::open(&directory, METADATA).map_err(|e| e.to_string())?;
        let metadata = Metadata::new(log, replayed.image);
        let broker = broker_id(number);
        if metadata.image().cluster() == ClusterId::NONE {
            metadata.decide_blocking(|image| create_cluster(image, ClusterId([7; 16]))).map_err(|e| e.to_string())?;
        }
        let mut incarnation = [0; 16];
        incarnation[..8].copy_from_slice(&setting.incarnation.to_be_bytes());
        let registration = RegisterBroker {
            broker,
            incarnation: IncarnationId(incarnation),
            directories: vec![directory_id(number)],
            address: format!("n{number}:9092"),
        };
        metadata.decide_blocking(|image| register_broker(image, &registration)).map_err(|e| e.to_string())?;
        let (sender, events) = mailbox(EVENTS_MAX);
        let mut started = Self {
            directory,
            metadata,
            handles: Handles::default(),
            failed: BTreeMap::new(),
            jobs: BTreeMap::new(),
            tasks: BTreeMap::new(),
            serving: serve::Serving::default(),
            driver: PartitionDriver::new(),
            told_deadline_ms: None,
            events,
            sender,
            at_rest: Arc::default(),
            next_slot: 0,
            next_job: 0,
            segment_bytes: setting.segment_bytes,
            trap: Trap::clone(&setting.trap),
        };
        let image = started.metadata.image();
        clean_up(&started.place(number), &image, &replayed.deleted_topics, &[METADATA]);
        started.reconcile(number);
        Ok(started)
    }

    fn place(&self, number: usize) -> PartitionPlace {
        PartitionPlace { directory: self.directory.clone(), id: directory_id(number) }
    }

    /// Opens, closes, starts and ends what metadata says.
    pub fn reconcile(&mut self, number: usize) {
        let image = self.metadata.image();
        self.end_stale_tasks(&image);
        self.close_deleted(&image);
        self.open_missing(number, &image);
        self.start_missing_tasks(&image);
    }

    fn close_deleted(&mut self, image: &ClusterImage) {
        self.failed.retain(|id, _| image.partition(*id).is_some());
        let gone: Vec<_> =
            self.handles.lock().extract_if(.., |id, _| image.partition(*id).is_none()).map(|(_, gone)| gone).collect();
        for handle in gone {
            let at_rest = Arc::clone(&self.at_rest);
            handle.release(Box::new(move |log| at_rest.lock().push_back(log)));
        }
    }

    fn open_missing(&mut self, number: usize, image: &ClusterImage) {
        for mut opening in wanted(image, broker_id(number)) {
            if self.handles.lock().contains_key(&opening.id) || self.failed.contains_key(&opening.id) {
                continue;
            }
            opening.settings.segment_bytes = self.segment_bytes;
            match open(&self.place(number), &opening) {
                Ok(partition) => {
                    let slot = Slot(self.next_slot);
                    self.next_slot += 1;
                    let view = Arc::clone(&partition.view);
                    self.sender.send_internal(DriverEvent::Adopt(slot, Box::new(partition)));
                    let handle = PartitionHandle::new(slot, self.sender.clone(), view, &opening);
                    self.handles.lock().insert(opening.id, Arc::new(handle));
                }
                Err(error) => drop(self.failed.insert(opening.id, error.to_string())),
            }
        }
    }

    /// Whether the partitions' driver has something to do.
    #[must_use]
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// When the partitions' driver wants a turn though nothing happens; told once.
    pub fn new_deadline_ms(&mut self) -> Option<u64> {
        let deadline = self.driver.poll_deadline();
        let is_new = deadline != std::mem::replace(&mut self.told_deadline_ms, deadline);
        deadline.filter(|_| is_new)
    }

    /// Lets the partitions' driver take in up to `events_max` events and turn once. Answers with the numbers of the
    /// flush jobs that this began.
    pub fn turn(&mut self, now: Now, events_max: usize) -> Vec<u64> {
        for _ in 0..events_max.max(1) {
            let Some(event) = self.events.try_receive() else { break };
            self.driver.handle(now.ms, event);
        }
        let mut begun = Vec::new();
        for (slot, job) in self.driver.turn(now.ms) {
            self.jobs.insert(self.next_job, (slot, job));
            begun.push(self.next_job);
            self.next_job += 1;
        }
        while let Some(log) = { self.at_rest.lock().pop_front() } {
            // What a failure leaves behind goes at the next start.
            drop(log.delete());
        }
        begun
    }

    /// The invariants of every leader.
    ///
    /// # Errors
    /// The one that does not hold.
    pub fn check_invariants(&self) -> Result<(), Violation> {
        self.driver.invariants().map_err(|violation| Violation::new("replica", violation.to_string()))
    }

    /// Runs a flush job now; its result is on its way to the driver. Whether it succeeded.
    pub fn run_job(&mut self, job: u64) -> bool {
        let Some((slot, job)) = self.jobs.remove(&job) else { return true };
        let result = job.run();
        let succeeded = result.error().is_none();
        self.sender.send_internal(DriverEvent::Flushed(slot, result));
        succeeded
    }

    /// A processor is gone: its tasks' numbers need not be remembered.
    pub fn forget_processor(&self, processor: headwater_protocol::ids::ProcessorNumber) {
        self.sender.send_internal(DriverEvent::ForgetProcessor(processor));
    }

    /// What is wrong, so that an operator starts it anew: its disk failed it, or partitions could not be opened.
    #[must_use]
    pub fn ills(&self) -> Option<String> {
        let broken = self.directory.health().failure().map(|failure| failure.to_string());
        broken.or_else(|| self.failed.iter().next().map(|(id, reason)| format!("{id}: {reason}")))
    }
}

/// The broker id of node number `number`.
#[must_use]
pub fn broker_id(number: usize) -> BrokerId {
    BrokerId(u32::try_from(number).unwrap_or(u32::MAX))
}

fn directory_id(number: usize) -> DirectoryId {
    DirectoryId([u8::try_from(number).unwrap_or(u8::MAX).wrapping_add(1); 16])
}

/// The topic id that the `number`-th created topic gets.
#[must_use]
pub fn topic_id(number: u64) -> TopicId {
    let mut id = [0x70; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    TopicId(id)
}
