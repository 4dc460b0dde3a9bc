//! How the rest of the broker reaches one partition.

use super::compaction::CompactionNotes;
use super::driver::{CleanReply, DriverEvent, ProposedBatch, Slot, TrimRequest};
use super::open::Opening;
use super::shared::PartitionView;
use crate::mailbox::{SendError, Sender};
use crate::metrics as names;
use arc_swap::ArcSwap;
use headwater_core::cluster::TopicSettings;
use headwater_core::producer::PartitionKind;
use headwater_log::{Log, LogError};
use headwater_protocol::error::{ApiError, ErrorCode};
use std::sync::{Arc, mpsc};

/// A partition that this broker leads.
pub struct PartitionHandle {
    slot: Slot,
    driver: Sender<DriverEvent>,
    view: Arc<PartitionView>,
    internal: bool,
    kind: PartitionKind,
    settings: ArcSwap<TopicSettings>,
    compaction: CompactionNotes,
}

impl PartitionHandle {
    /// A handle on the partition `slot` that the driver behind `driver` leads.
    #[must_use]
    pub fn new(slot: Slot, driver: Sender<DriverEvent>, view: Arc<PartitionView>, opening: &Opening) -> Self {
        let settings = ArcSwap::from_pointee(opening.settings.clone());
        let compaction = CompactionNotes::default();
        Self { slot, driver, view, internal: opening.internal, kind: opening.kind, settings, compaction }
    }

    /// What can be read.
    #[must_use]
    pub fn view(&self) -> &Arc<PartitionView> {
        &self.view
    }

    /// Whether only the broker itself writes to it.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        self.internal
    }

    /// Whether its batches are the commits of a task.
    #[must_use]
    pub fn is_changelog(&self) -> bool {
        self.kind == PartitionKind::Changelog
    }

    /// Whether each record needs a key: the topic is compacted by it (CMP-6).
    #[must_use]
    pub fn needs_keys(&self) -> bool {
        let settings = self.settings.load();
        settings.cleanup_policy.compact && settings.compaction.key_extractor.is_none()
    }

    /// What the cleaner's thread says of it.
    pub(crate) fn compaction(&self) -> &CompactionNotes {
        &self.compaction
    }

    /// Asks what may be cleaned; `reply` is told once that is durable.
    pub fn ask_cleanable(&self, reply: CleanReply) {
        self.driver.send_internal(DriverEvent::Clean(self.slot, reply));
    }

    /// Bytes of the largest batch it takes.
    #[must_use]
    pub fn batch_bytes_max(&self) -> usize {
        self.settings.load().max_message_bytes as usize
    }

    /// Goes by the topic's settings from now on, if they are others than before.
    pub fn configure(&self, settings: &TopicSettings) {
        if **self.settings.load() != *settings {
            self.settings.store(Arc::new(settings.clone()));
            self.driver.send_internal(DriverEvent::Configure(self.slot, Box::new(settings.clone())));
        }
    }

    /// Hands a batch to the partition's driver. The outcome comes through `proposed.reply`, once.
    ///
    /// # Errors
    /// The driver has too much to do, or has ended; then the batch was not taken and nobody is told again.
    pub fn propose(&self, proposed: ProposedBatch) -> Result<(), ApiError> {
        self.driver.send(DriverEvent::Propose(self.slot, proposed)).map_err(|error| match error {
            SendError::Full(_) => ApiError::new(ErrorCode::Busy, "too many batches wait to be written; try again"),
            SendError::Closed(_) => ApiError::new(ErrorCode::ShuttingDown, "the broker is stopping; try another"),
        })
    }

    /// Lets the log begin at `to`, or at the high watermark if that is lower. Tasks that would be forgotten get a
    /// checkpoint first (STEP-11). Blocks until the new start is durable and the files below it are gone; answers with
    /// the start and the bytes freed.
    ///
    /// # Errors
    /// `Busy` when another one is under way, `ShuttingDown`, `DiskFull`, `KafkaStorageError`.
    pub fn trim_blocking(&self, to: i64, timestamp: i64) -> Result<(i64, u64), ApiError> {
        let (reply, outcome) = mpsc::channel();
        // Nobody is told if the driver has ended; then the sender is dropped with the request.
        self.trim(TrimRequest { to, timestamp, reply: Box::new(move |result| drop(reply.send(result))) });
        let ended = || ApiError::new(ErrorCode::ShuttingDown, "the broker is stopping; try another");
        let job = outcome.recv().map_err(|_| ended())??;
        let log_start = job.log_start_offset();
        let freed = job.run().map_err(|error| match error {
            LogError::DiskFull(_) => ApiError::new(ErrorCode::DiskFull, error.to_string()),
            _ => ApiError::new(ErrorCode::KafkaStorageError, error.to_string()),
        })?;
        metrics::counter!(names::DELETED_BYTES).increment(freed);
        Ok((log_start, freed))
    }

    /// As [`Self::trim_blocking`], without waiting: whoever is told runs the job.
    pub fn trim(&self, request: TrimRequest) {
        self.driver.send_internal(DriverEvent::Trim(self.slot, request));
    }

    /// Its topic's settings.
    #[must_use]
    pub fn settings(&self) -> Arc<TopicSettings> {
        self.settings.load_full()
    }

    /// Ends the reign: what was accepted is finished, then `then` gets the log.
    pub fn release(&self, then: Box<dyn FnOnce(Log) + Send>) {
        self.driver.send_internal(DriverEvent::Release(self.slot, then));
    }
}
