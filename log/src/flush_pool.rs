//! Flush rounds: the dirty logs of a data directory, synced side by side.
//!
//! ```text
//!   submit(token, job) ──► waiting ──┐ when the round before is over
//!                                    ▼
//!                          round: [job, job, job, …]
//!                             │     │     │        N threads
//!                             ▼     ▼     ▼
//!                          done(token, result), each as soon as it is there
//! ```
//!
//! A sync costs milliseconds and the file system's journal takes many of them at once, so that syncing 200 files side
//! by side takes a quarter of the time. What is submitted while a round runs waits for the next one, which thereby
//! serves all appends of that time.

use crate::flush::{FlushJob, FlushResult};
use crate::limits;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// How many threads a pool has when nothing else is said.
pub const FLUSH_THREADS_DEFAULT: usize = 16;

/// The threads that flush the logs of one data directory. `T` is what tells the caller whose result it is.
///
/// Dropping the pool runs what was submitted, then ends the threads.
pub struct FlushPool<T: Send + 'static> {
    shared: Arc<Shared<T>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Whom to tell that a job has run.
type Done<T> = dyn Fn(T, FlushResult) + Send + Sync;

struct Shared<T> {
    state: Mutex<State<T>>,
    /// There is something to do, or nothing more will come.
    changed: Condvar,
    done: Box<Done<T>>,
}

struct State<T> {
    /// Jobs for the next round.
    waiting: VecDeque<(T, FlushJob)>,
    /// Jobs of this round that no thread has taken yet.
    round: VecDeque<(T, FlushJob)>,
    /// Jobs of this round that are running.
    running: usize,
    rounds: u64,
    is_closed: bool,
}

impl<T: Send + 'static> FlushPool<T> {
    /// Starts `threads` of them (1 to [`limits::FLUSH_THREADS_MAX`]). `done` is called on these threads, once for each
    /// job; it should do no more than hand the result on, and may submit.
    ///
    /// # Errors
    /// `threads` is outside that range (`InvalidInput`), or the operating system gives no threads.
    pub fn start(threads: usize, done: impl Fn(T, FlushResult) + Send + Sync + 'static) -> io::Result<Self> {
        if threads == 0 || threads > limits::FLUSH_THREADS_MAX {
            let message = format!("{threads} flush threads: 1 to {} are possible", limits::FLUSH_THREADS_MAX);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let state = State { waiting: VecDeque::new(), round: VecDeque::new(), running: 0, rounds: 0, is_closed: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), done: Box::new(done) });
        let pool = Self { shared, threads: Mutex::default() };
        for number in 0..threads {
            let shared = Arc::clone(&pool.shared);
            let thread = thread::Builder::new().name(format!("flush-{number}")).spawn(move || shared.work())?;
            pool.threads.lock().push(thread);
        }
        Ok(pool)
    }

    /// Adds jobs to the next round. They are at most as many as there are open logs when each log has one job at a
    /// time, as it should.
    ///
    /// # Errors
    /// The jobs come back when the pool was closed.
    pub fn submit(&self, jobs: impl IntoIterator<Item = (T, FlushJob)>) -> Result<(), Vec<(T, FlushJob)>> {
        let mut state = self.shared.state.lock();
        if state.is_closed {
            return Err(jobs.into_iter().collect());
        }
        state.waiting.extend(jobs);
        state.begin_round();
        drop(state);
        self.shared.changed.notify_all();
        Ok(())
    }

    /// How many rounds have begun.
    pub fn rounds(&self) -> u64 {
        self.shared.state.lock().rounds
    }

    /// Takes no more jobs, and returns when those submitted before are done and the threads have ended. Called by one
    /// of them (from `done`), it doesn't wait.
    pub fn close(&self) {
        self.shared.state.lock().is_closed = true;
        self.shared.changed.notify_all();
        let threads = std::mem::take(&mut *self.threads.lock());
        // The others end after the job that is calling here.
        if threads.iter().any(|thread| thread.thread().id() == thread::current().id()) {
            return;
        }
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a flush thread panicked");
            }
        }
    }
}

impl<T: Send + 'static> Drop for FlushPool<T> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<T: Send + 'static> fmt::Debug for FlushPool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state.lock();
        let (waiting, running) = (state.waiting.len(), state.round.len() + state.running);
        f.debug_struct("FlushPool").field("waiting", &waiting).field("running", &running).finish()
    }
}

impl<T> State<T> {
    /// Begins the next round if this one is over.
    fn begin_round(&mut self) {
        if self.round.is_empty() && self.running == 0 && !self.waiting.is_empty() {
            std::mem::swap(&mut self.round, &mut self.waiting);
            self.rounds += 1;
        }
    }

    fn is_over(&self) -> bool {
        self.is_closed && self.round.is_empty() && self.running == 0 && self.waiting.is_empty()
    }
}

impl<T> Shared<T> {
    fn work(&self) {
        while let Some((token, job)) = self.take() {
            // Also when `done` panics: the others must not wait for this job for ever.
            let _running = Running(self);
            (self.done)(token, job.run());
        }
    }

    /// Waits for a job; `None` when there will be none.
    fn take(&self) -> Option<(T, FlushJob)> {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.round.pop_front() {
                state.running += 1;
                return Some(job);
            }
            if state.is_over() {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }
}

/// A job that is running; when dropped it is not.
struct Running<'a, T>(&'a Shared<T>);

impl<T> Drop for Running<'_, T> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.running -= 1;
        let was_last = state.running == 0 && state.round.is_empty();
        state.begin_round();
        drop(state);
        if was_last {
            self.0.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests;
