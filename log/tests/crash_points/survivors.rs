//! Which disks may come back from a power cut: of the unsynced changes some survive.

use headwater_log::storage::memory::Survivors;

/// How many sets of survivors are tried at one crash.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Prefixes, and single losses, tried at most.
    each_max: usize,
    /// Random sets; every other one by sectors, as disks do it.
    random: u64,
}

impl Bounds {
    /// What fits into every run of the tests.
    pub(crate) const BOUNDED: Self = Self { each_max: 16, random: 8 };
    /// For a machine with time.
    pub(crate) const FULL: Self = Self { each_max: 64, random: 64 };
}

/// Sets of survivors of so many unsynced changes: none, all, prefixes, all but one, and random ones drawn from `seed`.
pub(crate) fn sets(changes: usize, bounds: Bounds, seed: u64) -> Vec<Survivors> {
    let mut sets = vec![Survivors::None];
    if changes == 0 {
        return sets;
    }
    sets.push(Survivors::All);
    // Where there are more than the bound, they are spread over all of them.
    let count = changes.min(bounds.each_max);
    let spread = |number: usize| number * changes / count;
    sets.extend((0..count).map(|number| Survivors::Prefix(spread(number) + 1)));
    sets.extend((0..count).map(|number| Survivors::Without(spread(number))));
    sets.extend((0..bounds.random).map(|number| {
        let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number);
        if number % 2 == 0 { Survivors::Seeded(seed) } else { Survivors::Sectors { seed, sector_bytes: 64 } }
    }));
    sets
}

#[test]
fn every_prefix_and_every_single_loss_of_few_changes_is_tried() {
    let found = sets(3, Bounds::BOUNDED, 1);
    for wanted in (1..=3).map(Survivors::Prefix).chain((0..3).map(Survivors::Without)) {
        assert!(found.contains(&wanted), "{wanted:?}");
    }
    assert_eq!(sets(0, Bounds::BOUNDED, 1), [Survivors::None]);
    assert_eq!(sets(100, Bounds::BOUNDED, 1).len(), 2 + 16 + 16 + 8);
}
