//! The cluster's metadata on this broker: one synced log file set, and the image that everybody reads.

mod synced_log;

pub use synced_log::{OpenError, Replayed, SyncedMetadataLog};

use arc_swap::ArcSwap;
use headwater_core::cluster::{ClusterImage, Decision, MetadataLog as _, ProposeError};
use headwater_protocol::error::{ApiError, ErrorCode};
use parking_lot::Mutex;
use std::sync::Arc;

/// Decides on the newest image, commits, applies, publishes; one change at a time.
pub struct Metadata {
    log: Mutex<SyncedMetadataLog>,
    image: ArcSwap<ClusterImage>,
}

impl Metadata {
    /// Publishes what `log` and its `image` hold.
    #[must_use]
    pub fn new(log: SyncedMetadataLog, image: ClusterImage) -> Self {
        Self { log: Mutex::new(log), image: ArcSwap::from_pointee(image) }
    }

    /// The metadata as of now.
    #[must_use]
    pub fn image(&self) -> Arc<ClusterImage> {
        self.image.load_full()
    }

    /// Decides, commits and applies. Blocks for as long as a sync takes: not for network threads.
    ///
    /// # Errors
    /// The decision's own, or the metadata log can't be written.
    pub fn decide_blocking<T>(
        &self,
        decision: impl FnOnce(&ClusterImage) -> Result<Decision<T>, ApiError>,
    ) -> Result<T, ApiError> {
        let mut log = self.log.lock();
        // Whoever holds the lock is the only one who changes the image.
        let image = self.image.load_full();
        let Decision { records, answer } = decision(&image)?;
        if records.is_empty() {
            return Ok(answer);
        }
        let mut next = ClusterImage::clone(&image);
        // Applied to a copy first: what can't be applied must not be committed.
        next.apply(&records).map_err(|error| {
            tracing::error!(%error, ?records, "a decision can't be applied to the image it was made on");
            ApiError::new(ErrorCode::UnknownServerError, format!("this broker has a bug: {error}"))
        })?;
        log.propose(image.index(), &records).map_err(|error: ProposeError| ApiError::from(error))?;
        for record in &records {
            tracing::info!(index = next.index().0, ?record, "metadata changed");
        }
        self.image.store(Arc::new(next));
        Ok(answer)
    }

    /// As [`Self::decide_blocking`], from async code.
    ///
    /// # Errors
    /// The same.
    pub(crate) async fn decide<T: Send + 'static>(
        self: &Arc<Self>,
        decision: impl FnOnce(&ClusterImage) -> Result<Decision<T>, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let metadata = Arc::clone(self);
        blocking(move || metadata.decide_blocking(decision)).await
    }
}

/// Runs something that blocks on the disk away from the network's threads.
///
/// # Errors
/// Its own, or the broker stops.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_cancelled() => {
            Err(ApiError::new(ErrorCode::ShuttingDown, "the broker is stopping; try another"))
        }
        Err(error) => {
            tracing::error!(%error, "a request panicked: this broker has a bug");
            Err(ApiError::new(ErrorCode::UnknownServerError, "the request failed inside the broker; see its log"))
        }
    }
}
