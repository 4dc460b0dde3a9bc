//! The partitions that this broker leads: opened and closed as metadata says, driven by a few threads, found by id.

mod compaction;
mod driver;
mod driver_thread;
mod handle;
mod open;
mod retention;
mod scrubber;
mod shared;

pub use driver::{
    CleanReply, DriverEvent, LedPartition, PartitionDriver, ProposedBatch, Reply, Slot, TrimReply, TrimRequest,
};
pub use handle::PartitionHandle;
pub use open::{OpenError, Opening, clean_up, open, wanted};
pub(crate) use retention::RetentionThread;
pub(crate) use scrubber::Scrubber;
pub use shared::{PartitionView, WatermarkListener};

use crate::mailbox::{Sender, mailbox};
use crate::metrics as names;
use headwater_core::cluster::ClusterImage;
use headwater_log::{DataDirectory, FlushPool, Log};
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::{BrokerId, DirectoryId, ProcessorNumber, TopicId, TopicPartition};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

/// Events that wait for one driver thread.
const DRIVER_EVENTS_MAX: usize = 65_536;
/// Logs that are opened (and so scanned) at the same time.
const OPENING_THREADS_MAX: usize = 8;

/// The data directory as the partitions see it.
#[derive(Clone, Debug)]
pub struct PartitionPlace {
    /// Where the logs lie.
    pub directory: DataDirectory,
    /// The data directory's id.
    pub id: DirectoryId,
}

/// Every partition that this broker leads.
pub(crate) struct Partitions {
    broker: BrokerId,
    place: PartitionPlace,
    led: RwLock<HashMap<TopicPartition, Arc<PartitionHandle>>>,
    /// Partitions that could not be opened, and why.
    failed: RwLock<BTreeMap<TopicPartition, String>>,
    drivers: Vec<Sender<DriverEvent>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    next_slot: AtomicU64,
    /// Held while partitions are opened or closed.
    reconciling: Mutex<()>,
}

impl PartitionPlace {
    /// Why nothing more is written there, if the disk failed (LOG-7).
    pub(crate) fn failure(&self) -> Option<String> {
        self.directory.health().failure().map(ToString::to_string)
    }
}

impl Partitions {
    /// Starts the driver threads; no partition is led yet.
    ///
    /// # Errors
    /// A thread can't be started.
    pub(crate) fn start(
        broker: BrokerId,
        place: PartitionPlace,
        driver_threads: usize,
        flush_threads: usize,
    ) -> std::io::Result<Self> {
        let (drivers, receivers): (Vec<_>, Vec<_>) = (0..driver_threads).map(|_| mailbox(DRIVER_EVENTS_MAX)).unzip();
        let flushed = drivers.clone();
        let flushes = FlushPool::start(flush_threads, move |(driver, slot): (usize, Slot), result| {
            if let Some(driver) = flushed.get(driver) {
                driver.send_internal(DriverEvent::Flushed(slot, result));
            }
        })?;
        let flushes = Arc::new(flushes);
        let mut threads = Vec::new();
        for (number, receiver) in receivers.into_iter().enumerate() {
            threads.push(driver_thread::spawn(number, receiver, Arc::clone(&flushes))?);
        }
        Ok(Self {
            broker,
            place,
            led: RwLock::default(),
            failed: RwLock::default(),
            drivers,
            threads: Mutex::new(threads),
            next_slot: AtomicU64::new(0),
            reconciling: Mutex::new(()),
        })
    }

    /// The data directory.
    pub(crate) fn place(&self) -> &PartitionPlace {
        &self.place
    }

    /// A partition that this broker leads.
    ///
    /// # Errors
    /// There is no such topic or partition, another broker leads it, or its log could not be opened.
    pub(crate) fn led(&self, image: &ClusterImage, id: TopicPartition) -> Result<Arc<PartitionHandle>, ApiError> {
        if let Some(handle) = self.led.read().get(&id) {
            return Ok(Arc::clone(handle));
        }
        let Some(topic) = image.topic(id.topic) else {
            let message = format!("no topic has the id {}; was it deleted?", id.topic);
            return Err(ApiError::new(ErrorCode::UnknownTopicId, message));
        };
        let Some(partition) = topic.partition(id.partition) else {
            let message = format!(
                "topic {} has partitions 0 to {}, not {}",
                topic.name,
                topic.partition_count() - 1,
                id.partition
            );
            return Err(ApiError::new(ErrorCode::UnknownTopicOrPartition, message));
        };
        if let Some(reason) = self.failed.read().get(&id) {
            let message = format!("{}-{} is out of service: {reason}", topic.name, id.partition);
            return Err(ApiError::new(ErrorCode::KafkaStorageError, message));
        }
        let message = match partition.leader {
            Some(leader) if leader != self.broker => format!("{}-{} is led by {leader}", topic.name, id.partition),
            _ => format!("{}-{} is not open yet; ask again", topic.name, id.partition),
        };
        Err(ApiError::new(ErrorCode::NotLeaderOrFollower, message))
    }

    /// Every led partition, by topic id and number.
    pub(crate) fn all(&self) -> Vec<Arc<PartitionHandle>> {
        let mut all: Vec<_> = self.led.read().values().map(Arc::clone).collect();
        all.sort_by_key(|handle| handle.view().id);
        all
    }

    /// Opens what metadata says is ours, has it go by its topic's settings, and closes, then deletes, what metadata no
    /// longer has. Blocks.
    pub(crate) fn reconcile(&self, image: &ClusterImage) {
        let _one_at_a_time = self.reconciling.lock();
        let gone: Vec<_> =
            self.all().into_iter().filter(|handle| image.partition(handle.view().id).is_none()).collect();
        self.delete(gone);
        self.failed.write().retain(|id, _| image.partition(*id).is_some());
        let wanted = open::wanted(image, self.broker);
        for opening in &wanted {
            if let Some(handle) = self.led.read().get(&opening.id) {
                handle.configure(&opening.settings);
            }
        }
        let missing: Vec<_> = {
            let (led, failed) = (self.led.read(), self.failed.read());
            wanted.into_iter().filter(|open| !led.contains_key(&open.id) && !failed.contains_key(&open.id)).collect()
        };
        let opened = missing.len();
        self.open_all(missing);
        // One sync for the names of all directories that were made, before anybody is told.
        if opened > 0
            && let Err(error) = self.place.directory.sync_names()
        {
            tracing::error!(%error, "the names of new partitions could not be synced");
        }
        metrics::gauge!(names::PARTITIONS).set(self.led.read().len() as f64);
    }

    fn open_all(&self, missing: Vec<open::Opening>) {
        let queue = Mutex::new(missing);
        let threads = OPENING_THREADS_MAX.min(queue.lock().len());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let next = queue.lock().pop();
                        let Some(opening) = next else { return };
                        self.open(&opening);
                    }
                });
            }
        });
    }

    fn open(&self, opening: &open::Opening) {
        match open::open(&self.place, opening) {
            Ok(partition) => {
                let slot = Slot(self.next_slot.fetch_add(1, Ordering::Relaxed));
                let driver = self.drivers[(slot.0 % self.drivers.len() as u64) as usize].clone();
                let view = Arc::clone(&partition.view);
                driver.send_internal(DriverEvent::Adopt(slot, Box::new(partition)));
                let handle = Arc::new(PartitionHandle::new(slot, driver, view, opening));
                self.led.write().insert(opening.id, handle);
            }
            Err(error) => {
                tracing::error!(partition = %opening.id, topic = %opening.topic_name, %error, "can't be opened");
                self.failed.write().insert(opening.id, error.to_string());
            }
        }
    }

    /// Takes partitions out of service and waits until their logs are at rest.
    fn release(&self, handles: Vec<Arc<PartitionHandle>>) -> Vec<(TopicPartition, Log)> {
        let (at_rest, logs) = mpsc::channel();
        let count = handles.len();
        for handle in handles {
            let id = handle.view().id;
            self.led.write().remove(&id);
            let at_rest = at_rest.clone();
            // Who waits below lives until every log has come.
            handle.release(Box::new(move |log| drop(at_rest.send((id, log)))));
        }
        drop(at_rest);
        logs.iter().take(count).collect()
    }

    fn delete(&self, gone: Vec<Arc<PartitionHandle>>) {
        for (id, log) in self.release(gone) {
            match log.delete() {
                Ok(()) => tracing::info!(partition = %id, "deleted"),
                Err(error) => tracing::error!(partition = %id, %error, "its files could not be deleted"),
            }
        }
    }

    /// Deletes what is left on disk of topics that a committed record deleted, and reports directories that metadata
    /// does not know: those are left alone (RAFT-8). `others` are directories of the broker's own. Called once, before
    /// any partition is opened.
    pub(crate) fn clean_up(&self, image: &ClusterImage, deleted: &BTreeSet<TopicId>, others: &[&str]) {
        open::clean_up(&self.place, image, deleted, others);
    }

    /// A processor is gone: its tasks' numbers need not be remembered.
    pub(crate) fn forget_processor(&self, processor: ProcessorNumber) {
        for driver in &self.drivers {
            driver.send_internal(DriverEvent::ForgetProcessor(processor));
        }
    }

    /// Orderly stop: everything that was accepted is written, answered and synced. Blocks.
    pub(crate) fn stop(&self) {
        let _one_at_a_time = self.reconciling.lock();
        for (id, log) in self.release(self.all()) {
            if let Err(error) = log.close() {
                tracing::error!(partition = %id, %error, "not closed in order; the next start recovers it");
            }
        }
        for driver in &self.drivers {
            driver.send_internal(DriverEvent::Stop);
        }
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a log thread panicked: this broker has a bug");
            }
        }
    }
}
