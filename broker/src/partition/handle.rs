//! How the rest of the broker reaches one partition.

use super::driver::{DriverEvent, ProposedBatch, Slot};
use super::open::Opening;
use super::shared::PartitionView;
use crate::mailbox::{SendError, Sender};
use headwater_log::Log;
use headwater_protocol::error::{ApiError, ErrorCode};
use std::sync::Arc;

/// A partition that this broker leads.
pub struct PartitionHandle {
    slot: Slot,
    driver: Sender<DriverEvent>,
    view: Arc<PartitionView>,
    internal: bool,
    batch_bytes_max: usize,
}

impl PartitionHandle {
    /// A handle on the partition `slot` that the driver behind `driver` leads.
    #[must_use]
    pub fn new(slot: Slot, driver: Sender<DriverEvent>, view: Arc<PartitionView>, opening: &Opening) -> Self {
        let batch_bytes_max = opening.settings.max_message_bytes as usize;
        Self { slot, driver, view, internal: opening.internal, batch_bytes_max }
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
        self.batch_bytes_max
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
