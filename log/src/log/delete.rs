//! The end of a partition.

use super::Log;
use crate::error::LogError;

impl Log {
    /// Removes the partition: its directory is renamed, which a crash can't undo once this has returned, then removed.
    /// Readers are told so from now on; flush jobs that were under way have ended.
    ///
    /// # Errors
    /// Of the disk. The removal is finished when the data directory is opened the next time, or the partition is still
    /// there then.
    pub fn delete(self) -> Result<(), LogError> {
        let Self { shared, registration, _mark: mark, .. } = self;
        // Waits for a cleaner that is changing names.
        drop(mark);
        let running = shared.sync.lock();
        shared.set_deleted();
        drop(running);
        shared.directory.remove_partition(&shared.name, registration)
    }
}
