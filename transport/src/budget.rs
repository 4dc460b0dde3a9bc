//! A budget in bytes that many streams share.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that may be held at once, broker-wide. Clones share the same budget.
///
/// Whoever waits is served in order of arrival, so that a large body isn't starved by small ones.
#[derive(Clone, Debug)]
pub struct ByteBudget {
    free: Arc<Semaphore>,
    capacity_bytes: u32,
}

/// Bytes taken from a [`ByteBudget`]; dropping it gives them back.
#[derive(Debug)]
#[must_use = "dropping the permit gives the bytes back at once"]
pub struct BudgetPermit {
    held: Option<OwnedSemaphorePermit>,
    bytes: u32,
}

/// Us: more was asked for than the whole budget has; waiting would never end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{wanted_bytes} bytes are more than this process's whole budget of {capacity_bytes} bytes: raise the budget")]
pub struct OverBudget {
    /// Bytes asked for.
    pub wanted_bytes: u32,
    /// Bytes that the budget has when nobody holds any.
    pub capacity_bytes: u32,
}

impl ByteBudget {
    /// A budget of `capacity_bytes`; what lies above 4 GiB − 1 or what a semaphore can count is cut off.
    pub fn new(capacity_bytes: usize) -> Self {
        let capacity_bytes = capacity_bytes.min(Semaphore::MAX_PERMITS);
        let capacity_bytes = u32::try_from(capacity_bytes).unwrap_or(u32::MAX);
        Self { free: Arc::new(Semaphore::new(capacity_bytes as usize)), capacity_bytes }
    }

    /// Waits until `bytes` are free and takes them. Cancel-safe: nothing is taken when the future is dropped.
    ///
    /// # Errors
    /// [`OverBudget`] when the whole budget is smaller than `bytes`.
    pub async fn take(&self, bytes: u32) -> Result<BudgetPermit, OverBudget> {
        if bytes > self.capacity_bytes {
            return Err(OverBudget { wanted_bytes: bytes, capacity_bytes: self.capacity_bytes });
        }
        if bytes == 0 {
            return Ok(BudgetPermit::empty());
        }
        // The semaphore is never closed, so this can't fail; were it closed, there would be nothing left to protect.
        let held = Arc::clone(&self.free).acquire_many_owned(bytes).await.ok();
        Ok(BudgetPermit { held, bytes })
    }

    /// Takes `bytes` if they are free now.
    pub fn try_take(&self, bytes: u32) -> Option<BudgetPermit> {
        if bytes == 0 {
            return Some(BudgetPermit::empty());
        }
        let held = Arc::clone(&self.free).try_acquire_many_owned(bytes).ok()?;
        Some(BudgetPermit { held: Some(held), bytes })
    }

    /// Bytes that nobody holds.
    pub fn free_bytes(&self) -> usize {
        self.free.available_permits()
    }

    /// Bytes that the budget has when nobody holds any.
    pub fn capacity_bytes(&self) -> usize {
        self.capacity_bytes as usize
    }
}

impl BudgetPermit {
    /// A permit for nothing.
    pub fn empty() -> Self {
        Self { held: None, bytes: 0 }
    }

    /// Bytes held.
    pub fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Takes `bytes` out into a permit of their own, so that parts of a body can be given back one by one. All of them
    /// when fewer are held.
    pub fn split(&mut self, bytes: u32) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        let held = self.held.as_mut().and_then(|held| held.split(bytes as usize));
        Self { held, bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_come_back_when_permits_go_and_waiters_are_served_in_order() {
        let budget = ByteBudget::new(100);
        let mut first = budget.take(80).await.unwrap();
        assert!(budget.try_take(21).is_none());
        let part = first.split(30);
        assert_eq!((first.bytes(), part.bytes(), budget.free_bytes()), (50, 30, 20));

        let large = tokio::spawn({
            let budget = budget.clone();
            async move { budget.take(90).await.unwrap() }
        });
        tokio::task::yield_now().await;
        drop(part);
        assert!(!large.is_finished());
        assert!(budget.try_take(1).is_none(), "the large one came first");
        drop(first);
        assert_eq!(large.await.unwrap().bytes(), 90);
        assert_eq!(budget.free_bytes(), 100);
    }

    #[tokio::test]
    async fn more_than_the_whole_budget_is_an_error_and_not_a_wait() {
        let budget = ByteBudget::new(10);
        assert_eq!(budget.take(11).await.unwrap_err(), OverBudget { wanted_bytes: 11, capacity_bytes: 10 });
        assert_eq!(budget.take(0).await.unwrap().bytes(), 0);
    }
}
