//! The thread around a [`PartitionDriver`]: its mailbox in front, the flush pool behind.
//!
//! It blocks on nothing but write(2), which may be slow when the kernel throttles dirty pages: that is why it is not
//! one of the network's threads.

use super::driver::{DriverEvent, PartitionDriver, Slot};
use crate::clock::MonotonicClock;
use crate::mailbox::Receiver;
use crate::metrics as names;
use headwater_log::{FlushJob, FlushPool};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Drives until [`DriverEvent::Stop`] has come and every partition has been released. `number`: which driver this is.
pub(super) fn run(number: usize, mailbox: &Receiver<DriverEvent>, flushes: &FlushPool<(usize, Slot)>) {
    let clock = MonotonicClock::start();
    let mut driver = PartitionDriver::new();
    let mut events = VecDeque::new();
    while !driver.has_ended() {
        let wait = driver.poll_deadline().map(|at_ms| Duration::from_millis(at_ms.saturating_sub(clock.now_ms())));
        mailbox.receive_all(&mut events, wait);
        let now_ms = clock.now_ms();
        for event in events.drain(..) {
            driver.handle(now_ms, event);
        }
        submit(number, driver.turn(now_ms), flushes);
    }
}

fn submit(number: usize, jobs: Vec<(Slot, FlushJob)>, flushes: &FlushPool<(usize, Slot)>) {
    if jobs.is_empty() {
        return;
    }
    metrics::counter!(names::FLUSH_ROUNDS).increment(1);
    let jobs: Vec<_> = jobs.into_iter().map(|(slot, job)| ((number, slot), job)).collect();
    if flushes.submit(jobs).is_err() {
        tracing::error!("the flush pool ended before its drivers: this broker has a bug");
    }
}

/// A driver thread, ready to be started.
pub(super) fn spawn(
    number: usize,
    mailbox: Receiver<DriverEvent>,
    flushes: Arc<FlushPool<(usize, Slot)>>,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name(format!("log-{number}")).spawn(move || run(number, &mailbox, &flushes))
}
