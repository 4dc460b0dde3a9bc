//! How many files the operating system lets this process hold open.
//!
//! The logs hold at most `log.open_files_max` files open, and shells and service managers start processes with a soft
//! limit of 1024. The soft limit exists for programs that call `select`, which this one does not, so it goes up to the
//! hard one; if that is still too low, the logs get less.

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

/// Fewer files than the logs may hold open by the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shortage {
    limit: u64,
    wanted: u64,
    open_files_max: usize,
}

impl Shortage {
    /// `None` if `limit` lets the logs hold `open_files_max` files open, and the broker what it needs besides.
    fn of(limit: Option<u64>, open_files_max: usize) -> Option<Self> {
        let limit = limit?;
        let wanted = open_files_max as u64 + OTHER_FILES_MAX;
        (limit < wanted).then_some(Self { limit, wanted, open_files_max })
    }

    /// How many files the logs get: what is left, but a few in any case.
    fn left(self) -> usize {
        let left = self.limit.saturating_sub(OTHER_FILES_MAX).max(self.limit / 4);
        usize::try_from(left).unwrap_or(self.open_files_max)
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, wanted, open_files_max } = self;
        write!(
            to,
            "the system lets this broker open {limit} files; log.open_files_max = {open_files_max} needs {wanted}: the \
             logs make do with {}; raise the hard limit (systemd: LimitNOFILE={wanted}; docker: --ulimit \
             nofile={wanted}; a shell of root: ulimit -n {wanted}) or lower log.open_files_max",
            self.left()
        )
    }
}

/// Raises this process's limit as far as it may, and warns with the remedy when the logs' `open_files_max` files need
/// more. How many they get.
pub(crate) fn raise_limit(open_files_max: usize) -> usize {
    let found = getrlimit(Resource::Nofile);
    let Plan { raise, mut limit } = plan(found);
    if let Some(raised) = raise
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "the soft limit of open files could not be raised to the hard one");
        limit = found.current;
    }
    let shortage = Shortage::of(limit, open_files_max);
    match shortage {
        Some(shortage) => tracing::warn!("{shortage}"),
        None => tracing::debug!(limit, "open files"),
    }
    if let Some(limit) = limit {
        // A gauge is a float; no system counts files beyond 2^53.
        metrics::gauge!(crate::metrics::OPEN_FILES_MAX).set(limit as f64);
    }
    shortage.map_or(open_files_max, Shortage::left)
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
        assert_eq!(Shortage::of(Some(4608), 4096), None);
        assert_eq!(Shortage::of(None, usize::MAX), None);
        let shortage = Shortage::of(Some(4607), 4096).unwrap();
        let text = shortage.to_string();
        for part in ["open 4607 files", "log.open_files_max = 4096", "LimitNOFILE=4608", "make do with 4095"] {
            assert!(text.contains(part), "{part:?} is missing: {text}");
        }
        assert_eq!(Shortage::of(Some(256), 4096).map(Shortage::left), Some(64), "a few in any case");
    }
}
