//! Complete searches: every state that the bounds allow, under every law.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use stateright::{Checker, Model};

use super::model::{Action, Bounds, Replication};
use super::state::State;

/// Searches to the end. Two threads: what is found does not depend on the order, except for the length of traces.
pub(crate) fn search(model: Replication) -> impl Checker<Replication> {
    model.checker().threads(2).spawn_bfs().join()
}

/// Nothing was found, and nothing was left out: without a law to break the search ends only when no state is left.
pub(crate) fn assert_holds(checker: &impl Checker<Replication>) {
    let bounds = &checker.model().bounds;
    let broken = checker.discoveries().into_iter().map(|(law, path)| (law, path.into_actions()));
    assert_eq!(broken.collect::<Vec<_>>(), [], "{bounds:?}");
    assert!(checker.is_done(), "{bounds:?}");
    assert!(checker.max_depth() > 0, "{bounds:?}");
}

/// docs/replication-model.md.
pub(crate) fn page() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/replication-model.md")).unwrap()
}

fn with_commas(number: usize) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap());
    groups.collect::<Vec<_>>().join(",")
}

fn assert_search(bounds: Bounds, states: usize, idle: &[&str]) {
    let checker = search(Replication::whole(bounds));
    assert_holds(&checker);
    let never = Action::KINDS.iter().copied().filter(|kind| checker.model().taken(kind) == 0);
    let found = (checker.unique_state_count(), never.collect::<Vec<_>>());
    assert_eq!(found, (states, idle.to_vec()), "{bounds:?}");
    let told = format!("| {} |", with_commas(states));
    assert!(page().contains(&told), "docs/replication-model.md should tell of {told} states");
}

// covers REP-1, REP-2, REP-3, REP-4, REP-5, REP-7, REP-11, REP-12, REP-13, REP-18, TRN-1, TRN-2, TRN-3, TRN-4
#[test]
fn flushed_records_outlive_two_power_losses() {
    let bounds = Bounds { records: 2, failovers: 2, fences: 1, power_losses: 2, ..Bounds::FSYNC };
    assert_search(bounds, 1_406_939, &["propose", "time-out", "decide", "crash", "disk"]);
}

#[test]
fn flushed_records_outlive_a_lost_disk_and_a_power_loss() {
    let bounds = Bounds { failovers: 2, fences: 1, power_losses: 1, disk_losses: 1, alters: 1, ..Bounds::FSYNC };
    assert_search(bounds, 926_638, &["time-out", "crash"]);
}

#[test]
fn records_in_page_caches_outlive_one_power_loss_and_a_crash() {
    let bounds = Bounds { records: 2, fences: 1, crashes: 1, power_losses: 1, alters: 1, ..Bounds::OS };
    assert_search(bounds, 1_605_630, &["flush", "time-out", "disk"]);
}

#[test]
fn a_group_of_two_logs_is_flushed_and_led_as_one() {
    let bounds = Bounds { logs: 2, records: 2, fences: 1, power_losses: 1, ..Bounds::FSYNC };
    assert_search(bounds, 1_441_578, &["propose", "time-out", "decide", "crash", "disk", "recover"]);
}

#[test]
fn a_group_of_two_logs_in_page_caches_recovers_log_by_log() {
    let bounds = Bounds { logs: 2, records: 2, fences: 1, crashes: 1, power_losses: 1, ..Bounds::OS };
    assert_search(bounds, 1_594_365, &["flush", "propose", "time-out", "decide", "disk"]);
}

fn fingerprint(state: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

/// A state told from others by everything in it, the brokers' names included.
struct Unreduced<'a>(&'a State);

impl Hash for Unreduced<'_> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let State { controller, brokers, alters, promised, breaches, used } = self.0;
        (controller, brokers, alters, promised, breaches, used).hash(hasher);
    }
}

/// Without the reduction the same states are reached, seen through it: it merges nothing that would go on differently.
#[test]
fn the_reduction_hides_no_state() {
    let bounds = Bounds { fences: 1, crashes: 1, alters: 1, ..Bounds::OS };
    let model = Replication::whole(bounds);
    let first = model.init_states().remove(0);
    let (mut seen, mut seen_reduced) = (BTreeSet::new(), BTreeSet::new());
    let mut next = VecDeque::from([first]);
    while let Some(state) = next.pop_front() {
        if seen.insert(fingerprint(&Unreduced(&state))) {
            seen_reduced.insert(fingerprint(&state));
            next.extend(model.next_steps(&state).into_iter().map(|(_, state)| state));
        }
    }
    assert_eq!(seen_reduced.len(), search(model).unique_state_count());
    assert_eq!((seen.len(), seen_reduced.len()), (91_626, 41_294));
}
