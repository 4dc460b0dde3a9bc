//! How the rest of the broker reaches one partition.

use super::driver::{DriverEvent, ProposedBatch, Slot};
use super::open::Opening;
use super::shared::PartitionView;
use crate::mailbox::{SendError, Sender};
use arc_swap::ArcSwap;
use headwater_core::cluster::TopicSettings;
use headwater_log::Log;
use headwater_protocol::error::{ApiError, ErrorCode};
use std::sync::Arc;

/// A partition that this broker leads.
pub struct PartitionHandle {
    slot: Slot,
    driver: Sender<DriverEvent>,
    view: Arc<PartitionView>,
    internal: bool,
    settings: ArcSwap<TopicSettings>,
}

impl PartitionHandle {
    /// A handle on the partition `slot` that the driver behind `driver` leads.
    #[must_use]
    pub fn new(slot: Slot, driver: Sender<DriverEvent>, view: Arc<PartitionView>, opening: &Opening) -> Self {
        let settings = ArcSwap::from_pointee(opening.settings.clone());
        Self { slot, driver, view, internal: opening.internal, settings }
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

    /// Ends the reign: what was accepted is finished, then `then` gets the log.
    pub fn release(&self, then: Box<dyn FnOnce(Log) + Send>) {
        self.driver.send_internal(DriverEvent::Release(self.slot, then));
    }
}
