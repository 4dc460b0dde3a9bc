//! CPU time that processes have taken: what a machine shared with others doesn't blur as it does the clock.

use crate::Result;
use std::cell::Cell;

/// CPU time of this process and of one other, in seconds.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct CpuSeconds {
    pub(crate) here: f64,
    pub(crate) there: f64,
}

impl CpuSeconds {
    /// What both have taken since they began.
    pub(crate) fn now(other: u32) -> Result<Self> {
        Ok(Self { here: of_process(std::process::id())?, there: of_process(other)? })
    }

    pub(crate) fn total(self) -> f64 {
        self.here + self.there
    }
}

/// CPU time spent on something that is done several times.
#[derive(Default)]
pub(crate) struct CpuMeter {
    spent: Cell<CpuSeconds>,
    bytes: Cell<usize>,
}

impl CpuMeter {
    /// Adds what was spent on so many bytes.
    pub(crate) fn add(&self, before: CpuSeconds, after: CpuSeconds, bytes: usize) {
        let spent = self.spent.get();
        let (here, there) = (spent.here + after.here - before.here, spent.there + after.there - before.there);
        self.spent.set(CpuSeconds { here, there });
        self.bytes.set(self.bytes.get() + bytes);
    }

    /// Seconds per GB.
    pub(crate) fn per_gigabyte(&self) -> CpuSeconds {
        let (spent, gigabytes) = (self.spent.get(), self.bytes.get() as f64 / 1e9);
        CpuSeconds { here: spent.here / gigabytes, there: spent.there / gigabytes }
    }
}

/// What the threads that live have run, in user and in kernel mode: the first number in `schedstat`, in ns.
fn of_process(id: u32) -> Result<f64> {
    let mut nanoseconds = 0;
    for thread in std::fs::read_dir(format!("/proc/{id}/task"))? {
        // A thread may end meanwhile.
        let Ok(ran) = std::fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        nanoseconds += ran.split_whitespace().next().ok_or("an empty schedstat")?.parse::<u64>()?;
    }
    Ok(nanoseconds as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_does_is_counted() {
        let before = CpuSeconds::now(std::process::id()).unwrap();
        let start = std::time::Instant::now();
        while start.elapsed() < std::time::Duration::from_millis(200) {
            std::hint::black_box(start);
        }
        let meter = CpuMeter::default();
        meter.add(before, CpuSeconds::now(std::process::id()).unwrap(), 1_000_000_000);
        let spent = meter.per_gigabyte();
        assert!(spent.here > 0.0 && (spent.total() - 2.0 * spent.here).abs() < 0.1, "{spent:?}");
    }
}
