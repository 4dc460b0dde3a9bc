//! A bounded queue into a thread that blocks on it: many senders from anywhere (async tasks too, sending never waits),
//! one receiver that takes all there is at once.

use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

struct Shared<T> {
    queue: Mutex<Queue<T>>,
    filled: Condvar,
    events_max: usize,
}

struct Queue<T> {
    events: VecDeque<T>,
    receiver_gone: bool,
}

/// Sending half; cheap to clone.
pub struct Sender<T>(Arc<Shared<T>>);

/// Receiving half.
pub struct Receiver<T>(Arc<Shared<T>>);

/// Why an event was not taken; the event comes back.
#[derive(Debug)]
pub enum SendError<T> {
    /// `events_max` events wait already.
    Full(T),
    /// The receiving thread has ended.
    Closed(T),
}

/// A mailbox that holds at most `events_max` events (those sent with [`Sender::send_internal`] come on top).
#[must_use]
pub fn mailbox<T>(events_max: usize) -> (Sender<T>, Receiver<T>) {
    let queue = Mutex::new(Queue { events: VecDeque::new(), receiver_gone: false });
    let shared = Arc::new(Shared { queue, filled: Condvar::new(), events_max });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Sender<T> {
    /// Queues an event from outside, unless the mailbox is full.
    ///
    /// # Errors
    /// [`SendError`], with the event.
    pub fn send(&self, event: T) -> Result<(), SendError<T>> {
        let mut queue = self.0.queue.lock();
        if queue.receiver_gone {
            return Err(SendError::Closed(event));
        }
        if queue.events.len() >= self.0.events_max {
            return Err(SendError::Full(event));
        }
        queue.events.push_back(event);
        drop(queue);
        self.0.filled.notify_one();
        Ok(())
    }

    /// Queues an event of our own (a completion, a control event): their number is bounded by what was begun, and
    /// none may be dropped. Without a receiver nobody is left to care.
    pub fn send_internal(&self, event: T) {
        let mut queue = self.0.queue.lock();
        if !queue.receiver_gone {
            queue.events.push_back(event);
            drop(queue);
            self.0.filled.notify_one();
        }
    }
}

impl<T> Receiver<T> {
    /// Moves all waiting events into `events` (which must be empty); blocks until there is one or `wait` is over.
    /// `None` waits for ever.
    pub fn receive_all(&self, events: &mut VecDeque<T>, wait: Option<Duration>) {
        debug_assert!(events.is_empty());
        let mut queue = self.0.queue.lock();
        if queue.events.is_empty() {
            match wait {
                Some(wait) => drop(self.0.filled.wait_for(&mut queue, wait)),
                None => self.0.filled.wait_while(&mut queue, |queue| queue.events.is_empty()),
            }
        }
        std::mem::swap(&mut queue.events, events);
    }
}

impl<T> Receiver<T> {
    /// Whether no event waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.queue.lock().events.is_empty()
    }

    /// Takes the event that has waited longest, if there is one; never blocks.
    #[must_use]
    pub fn try_receive(&self) -> Option<T> {
        self.0.queue.lock().events.pop_front()
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.receiver_gone = true;
        let dropped = std::mem::take(&mut queue.events);
        drop(queue);
        drop(dropped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_mailbox_gives_the_event_back_and_takes_internal_ones() {
        let (sender, receiver) = mailbox(1);
        sender.send(1).unwrap();
        assert!(matches!(sender.send(2), Err(SendError::Full(2))));
        sender.send_internal(3);
        let mut events = VecDeque::new();
        receiver.receive_all(&mut events, None);
        assert_eq!(events, [1, 3]);
        drop(receiver);
        assert!(matches!(sender.send(4), Err(SendError::Closed(4))));
    }

    #[test]
    fn waiting_ends_with_an_event_from_another_thread() {
        let (sender, receiver) = mailbox(8);
        let other = std::thread::spawn(move || sender.send("there").unwrap());
        let mut events = VecDeque::new();
        receiver.receive_all(&mut events, None);
        assert_eq!(events, ["there"]);
        other.join().unwrap();
    }
}
