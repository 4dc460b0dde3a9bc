//! How many files the operating system lets this process hold open.
//!
//! Every segment is an open file, and shells and service managers start processes with a soft limit of 1024: without
//! more, a broker would refuse partitions long before `topics.partitions_max`. The soft limit exists for programs that
//! call `select`, which this one does not, so it goes up to the hard one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fmt;

/// Files that are not a partition's: the metadata log, sockets, pipes of a compilation, modules, directories that are
/// synced at this moment.
const OTHER_FILES_MAX: u64 = 512;

/// What to ask of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    /// The limit to set; `None`: it is there already.
    raise: Option<Rlimit>,
    /// What then holds; `None`: no limit.
    limit: Option<u64>,
}

/// Soft up to hard; the hard limit is the operator's and stays.
fn plan(found: Rlimit) -> Plan {
    let raised = Rlimit { current: found.maximum, maximum: found.maximum };
    Plan { raise: (found != raised).then_some(raised), limit: found.maximum }
}

/// Fewer files than the configured partitions need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shortage {
    limit: u64,
    wanted: u64,
    partitions_max: u32,
}

impl Shortage {
    /// `None` if `limit` lets `partitions_max` partitions have one segment each, and the broker what it needs besides.
    fn of(limit: Option<u64>, partitions_max: u32) -> Option<Self> {
        let limit = limit?;
        let wanted = u64::from(partitions_max) + OTHER_FILES_MAX;
        (limit < wanted).then_some(Self { limit, wanted, partitions_max })
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, wanted, partitions_max } = self;
        write!(
            to,
            "the system lets this broker open {limit} files; topics.partitions_max = {partitions_max} needs {wanted}, \
             and one more for each further segment: raise the hard limit (systemd: LimitNOFILE={wanted}; docker: \
             --ulimit nofile={wanted}; a shell of root: ulimit -n {wanted}) or lower topics.partitions_max"
        )
    }
}

/// Raises this process's limit as far as it may, and warns with the remedy when `partitions_max` partitions need more.
pub(crate) fn raise_limit(partitions_max: u32) {
    let found = getrlimit(Resource::Nofile);
    let Plan { raise, mut limit } = plan(found);
    if let Some(raised) = raise
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "the soft limit of open files could not be raised to the hard one");
        limit = found.current;
    }
    match Shortage::of(limit, partitions_max) {
        Some(shortage) => tracing::warn!("{shortage}"),
        None => tracing::debug!(limit, "open files"),
    }
    if let Some(limit) = limit {
        // A gauge is a float; no system counts files beyond 2^53.
        metrics::gauge!(crate::metrics::OPEN_FILES_MAX).set(limit as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(current: impl Into<Option<u64>>, maximum: impl Into<Option<u64>>) -> Rlimit {
        Rlimit { current: current.into(), maximum: maximum.into() }
    }

    #[test]
    fn the_soft_limit_goes_up_to_the_hard_one_which_stays() {
        let raised = Plan { raise: Some(limits(524_288, 524_288)), limit: Some(524_288) };
        assert_eq!(plan(limits(1024, 524_288)), raised);
        assert_eq!(plan(limits(4096, 4096)), Plan { raise: None, limit: Some(4096) });
        assert_eq!(plan(limits(1024, None)), Plan { raise: Some(limits(None, None)), limit: None });
    }

    #[test]
    fn a_limit_is_too_low_by_one_file() {
        assert_eq!(Shortage::of(Some(10_512), 10_000), None);
        assert_eq!(Shortage::of(None, u32::MAX), None);
        let text = Shortage::of(Some(10_511), 10_000).map(|shortage| shortage.to_string()).unwrap_or_default();
        for part in ["open 10511 files", "topics.partitions_max = 10000", "LimitNOFILE=10512", "ulimit -n 10512"] {
            assert!(text.contains(part), "{part:?} is missing: {text}");
        }
    }
}
