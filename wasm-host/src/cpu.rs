//! CPU time of the calling thread.

use std::time::Duration;

/// CPU time that the calling thread has used since it was started. Guests run on the thread that calls them, so the
/// difference around a call is what the call cost, however busy the machine is.
pub(crate) fn thread_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanoseconds)
}
