//! The outcome of a batch, and handles on it for each record.

use crate::error::ClientError;
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Where a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordMetadata {
    /// Its partition.
    pub partition: u32,
    /// Its offset; `None` when the producer asked for no acknowledgement.
    pub offset: Option<i64>,
    /// Its timestamp, ms since the Unix epoch.
    pub timestamp: i64,
}

/// Offset of a batch's first record, if it is known, or why the batch failed.
pub(crate) type Outcome = Result<Option<i64>, ClientError>;

/// The outcome of a batch, when there is one. Shared by the batch and its records' handles: one allocation a batch.
#[derive(Debug)]
pub(crate) struct Completion {
    partition: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    outcome: Option<Outcome>,
    wakers: Vec<Option<Waker>>,
}

impl Completion {
    pub(crate) fn new(partition: u32) -> Arc<Self> {
        Arc::new(Self { partition, state: Mutex::default() })
    }

    /// The batch's partition.
    pub(crate) fn partition(&self) -> u32 {
        self.partition
    }

    /// Settles the batch and wakes who waits for it. Only the first outcome counts.
    pub(crate) fn complete(&self, outcome: Outcome) {
        let wakers = {
            let mut state = self.state.lock();
            if state.outcome.is_some() {
                return;
            }
            state.outcome = Some(outcome);
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// A handle for record number `index` of the batch.
    pub(crate) fn delivery(self: &Arc<Self>, index: u32, timestamp: i64) -> Delivery {
        Delivery { completion: Arc::clone(self), index, timestamp, place: None }
    }
}

/// The outcome of one record: a future. Dropping it changes nothing about the record; [`Producer::flush`] tells of
/// failures that nobody waited for.
///
/// Fails with [`ClientError::Delivery`] when the delivery time-out passed, [`ClientError::Api`] when the broker refused
/// the batch, [`ClientError::Closed`] when the producer was dropped or closed before.
///
/// [`Producer::flush`]: crate::Producer::flush
#[derive(Debug)]
#[must_use = "a delivery is the only word on whether this very record is in the log"]
pub struct Delivery {
    completion: Arc<Completion>,
    index: u32,
    timestamp: i64,
    /// Where our waker is among the batch's.
    place: Option<usize>,
}

impl Future for Delivery {
    type Output = Result<RecordMetadata, ClientError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let mut state = this.completion.state.lock();
        if let Some(outcome) = &state.outcome {
            let base_offset = outcome.clone()?;
            return Poll::Ready(Ok(RecordMetadata {
                partition: this.completion.partition,
                offset: base_offset.map(|base| base.saturating_add(i64::from(this.index))),
                timestamp: this.timestamp,
            }));
        }
        let waker = Some(context.waker().clone());
        match this.place.and_then(|place| state.wakers.get_mut(place)) {
            Some(slot) => *slot = waker,
            None => {
                this.place = Some(state.wakers.len());
                state.wakers.push(waker);
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_record_of_a_batch_learns_its_own_offset() {
        let completion = Completion::new(7);
        let waiting: Vec<_> =
            (0..3).map(|index| tokio::spawn(completion.delivery(index, 100 + i64::from(index)))).collect();
        tokio::task::yield_now().await;
        completion.complete(Ok(Some(40)));
        completion.complete(Err(ClientError::Closed));
        for (index, delivery) in (0..).zip(waiting) {
            let metadata = delivery.await.unwrap().unwrap();
            assert_eq!(metadata, RecordMetadata { partition: 7, offset: Some(40 + index), timestamp: 100 + index });
        }
        assert_eq!(completion.delivery(0, 5).await.unwrap().offset, Some(40), "afterwards too");
    }

    #[tokio::test]
    async fn a_failure_reaches_every_record_and_polling_again_keeps_one_waker() {
        let completion = Completion::new(0);
        let mut delivery = completion.delivery(0, 0);
        for _ in 0..10 {
            let pending =
                std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut delivery).poll(context).is_pending()));
            assert!(pending.await);
        }
        assert_eq!(completion.state.lock().wakers.len(), 1);
        completion.complete(Err(ClientError::Closed));
        assert!(matches!(delivery.await, Err(ClientError::Closed)));
    }
}
