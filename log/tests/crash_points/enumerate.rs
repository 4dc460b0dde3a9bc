//! Stops the machine at each change of a scenario, and looks at every disk that may come back.

use super::rules;
use super::scenarios::Scenario;
use super::survivors::{Bounds, sets};
use super::world::World;
use std::ops::Add;

/// What was tried.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Counts {
    /// Calls at which the machine stopped.
    pub(crate) crashes: u64,
    /// Disks that came back, each opened twice and checked.
    pub(crate) disks: u64,
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { crashes: self.crashes + other.crashes, disks: self.disks + other.disks }
    }
}

/// A scenario that changes the disk more often than this is endless.
const CHANGES_MAX: u64 = 10_000;

/// Tries a scenario out.
///
/// # Errors
/// The first violation, and how to see it again.
pub(crate) fn crash_everywhere(scenario: &Scenario, bounds: Bounds) -> Result<Counts, String> {
    let mut counts = Counts::default();
    for call in 0..CHANGES_MAX {
        let mut world = World::new();
        world.run(&scenario.before).map_err(|error| format!("before the scenario: {error}"))?;
        world.storage.halt_after(call);
        let ended = world.run(&scenario.crashing);
        if !world.storage.is_halted() {
            // Not stopped at all: the operations themselves must go well.
            return ended.map(|()| counts);
        }
        counts.crashes += 1;
        for survivors in sets(world.storage.unsynced_changes(), bounds, call) {
            let storage = world.storage.fork();
            storage.power_cut(survivors);
            counts.disks += 1;
            rules::check(&storage, &world.promises)
                .map_err(|violation| format!("stopped at change {call}, survivors {survivors:?}: {violation}"))?;
        }
    }
    Err(format!("still going on after {CHANGES_MAX} changes"))
}
