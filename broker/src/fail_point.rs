//! Named places at which a test can have the broker die at once, as by `kill -9`. Compiled in for tests only: without
//! the feature `fail-points` [`reached`] is nothing.
//!
//! `HEADWATER_FAIL_POINT=name` or `name:n` aborts when the place is reached for the first or *n*-th time.

/// The places, in the order in which a step passes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FailPoint {
    /// The guest has run; nothing of the step is written.
    BeforeCommitAppend,
    /// The commit is appended to the changelog; it is not synced.
    AfterCommitAppend,
    /// The commit is below the changelog's high watermark; no output has left.
    AfterCommitDurable,
    /// The first output batch of the step was handed to its partition.
    AfterFirstOutputSent,
    /// An output partition acknowledged; the task does not know yet.
    BeforeOutputAcknowledged,
    /// The task knows that a step is wholly acknowledged; no later commit says so yet.
    AfterOutputAcknowledged,
}

impl FailPoint {
    #[cfg_attr(not(feature = "fail-points"), expect(dead_code, reason = "names matter to tests only"))]
    fn name(self) -> &'static str {
        match self {
            Self::BeforeCommitAppend => "before-commit-append",
            Self::AfterCommitAppend => "after-commit-append",
            Self::AfterCommitDurable => "after-commit-durable",
            Self::AfterFirstOutputSent => "after-first-output-sent",
            Self::BeforeOutputAcknowledged => "before-output-acknowledged",
            Self::AfterOutputAcknowledged => "after-output-acknowledged",
        }
    }
}

/// Marks a place; ends the process there if the environment says so.
#[cfg(not(feature = "fail-points"))]
#[inline(always)]
pub(crate) fn reached(_place: FailPoint) {}

/// Marks a place; ends the process there if the environment says so.
#[cfg(feature = "fail-points")]
pub(crate) fn reached(place: FailPoint) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("HEADWATER_FAIL_POINT").ok()?;
        let (name, nth) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), nth.parse().unwrap_or(1)))
    });
    if let Some((name, nth)) = wanted
        && name == place.name()
        && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *nth
    {
        eprintln!("fail point {name} reached for the {nth}. time: aborting");
        // SIGKILL, not abort: nothing may run after this, no handler and no destructor.
        if rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).is_err() {
            std::process::abort();
        }
        loop {
            std::thread::park();
        }
    }
}
