//! What each rule is there for: without it a law breaks, and this is the shortest way.

use std::fmt::Write;

use stateright::{Checker, Model};

use super::laws::{LAWS, law};
use super::model::{Action, Bounds, Replication};
use super::removal::Removal;
use super::searches;

/// Where a removed rule shows.
struct Case {
    bounds: Bounds,
    /// The law that is watched.
    law: &'static str,
    /// Actions until it is broken, at least.
    actions: usize,
}

fn case(removal: Removal) -> Case {
    use Removal::*;
    let one_fence = Bounds { fences: 1, ..Bounds::OS };
    let one_alter = Bounds { alters: 1, ..one_fence };
    let crash_and_alter = Bounds { crashes: 1, ..one_alter };
    let power_and_alter = Bounds { power_losses: 1, ..one_alter };
    let two_fences = Bounds { records: 2, failovers: 2, fences: 2, ..Bounds::OS };
    let recovery = Bounds { failovers: 2, fences: 1, crashes: 1, power_losses: 1, ..Bounds::OS };
    let disks = Bounds { failovers: 2, fences: 1, power_losses: 1, disk_losses: 1, ..Bounds::FSYNC };
    let (bounds, law, actions) = match removal {
        AcknowledgeOnAppend => (one_fence, "REP-1", 2),
        AckBeforeFlush => (Bounds { power_losses: 2, disk_losses: 0, ..disks }, "REP-1", 11),
        LeaderCountsUnflushed => (disks, "REP-1", 10),
        HwIgnoresProposedIsr => (crash_and_alter, "REP-1", 10),
        HwIgnoresCommittedIsr => (one_alter, "REP-1", 4),
        AcksOutliveTheEpoch => (Bounds { alters: 1, ..two_fences }, "REP-3", 15),
        HwBelowMinIsr => (one_alter, "REP-1", 6),
        MinIsrCountsProposed => (Bounds { alters: 2, ..one_fence }, "REP-1", 9),
        JoinAnywhere => (crash_and_alter, "REP-1", 10),
        JoinBelowEpochStart => (Bounds { failovers: 2, ..power_and_alter }, "REP-1", 12),
        JoinWithOldBrokerEpoch => (power_and_alter, "REP-1", 11),
        JoinInSyncOnOneLog => (Bounds { logs: 2, ..crash_and_alter }, "REP-1", 10),
        AlterIgnoresPartitionEpoch => (power_and_alter, "REP-1", 9),
        AlterIgnoresEpochs => (Bounds { fences: 2, ..one_alter }, "REP-1", 10),
        AlterRolledBackOnTimeout => (crash_and_alter, "REP-1", 11),
        ElectWithoutNewEpoch => (two_fences, "REP-1", 9),
        ElectAnyone => (Bounds { crashes: 1, ..one_fence }, "REP-1", 7),
        ElrOutlivesFullIsr => (Bounds { records: 1, alters: 2, ..two_fences }, "REP-1", 12),
        UncleanRestartKeepsPlaces => (Bounds { fences: 2, power_losses: 1, ..Bounds::OS }, "REP-1", 8),
        RestartedLeaderGoesOn => (Bounds { power_losses: 1, ..Bounds::OS }, "REP-1", 7),
        OldElectionAfterRestart => (recovery, "REP-1", 11),
        LastReplicaStandingStays => (power_and_alter, "REP-1", 6),
        RecoverWithFirstAnswer => (recovery, "REP-1", 9),
        RecoverGroupByFirstLog => (Bounds { logs: 2, ..recovery }, "REP-1", 9),
        TruncateToHw => (Bounds { records: 1, ..two_fences }, "REP-1", 9),
        NoEpochEntryAtElection => (Bounds { failovers: 2, ..power_and_alter }, "REP-1", 12),
        TruncateOnce => (Bounds { alters: 1, ..two_fences }, "REP-3", 15),
        AckAcrossEpochs => (Bounds { records: 1, alters: 1, ..two_fences }, "TRN-4", 7),
        TruncateOnlyOutOfRange => (two_fences, "REP-1", 9),
    };
    Case { bounds, law, actions }
}

/// The shortest way to break the law, and every law that is broken where it ends. One thread: breadth first is exact.
fn counter_example(removal: Removal, case: &Case) -> Option<(Vec<Action>, Vec<&'static str>)> {
    let checker = Replication::without(removal, case.bounds, law(case.law)).checker().spawn_bfs().join();
    let path = checker.discovery(law(case.law).name)?;
    let broken = LAWS.iter().filter(|law| !(law.holds)(checker.model(), path.last_state())).map(|law| law.id());
    Some((path.clone().into_actions(), broken.collect()))
}

/// A row of the table in docs/replication-model.md.
fn row(removal: Removal, actions: &[Action], broken: &[&str]) -> String {
    let mut trace = String::new();
    for (index, action) in actions.iter().enumerate() {
        let separator = if index == 0 { "" } else { " · " };
        write!(trace, "{separator}{action:?}").unwrap();
    }
    let (rule, instead) = (removal.rule(), removal.instead());
    format!("| {rule} | {instead} | {} | {} | {trace} |", broken.join(", "), actions.len())
}

fn documented_rows() -> Vec<String> {
    let text = searches::page();
    let table = text.split_once("| without | ").map_or("", |(_, table)| table);
    table.lines().skip(2).take_while(|line| line.starts_with('|')).map(str::to_owned).collect()
}

// covers REP-1, REP-4, REP-5, REP-7, REP-9, REP-10, REP-11, REP-12, REP-13, REP-14, TRN-1, TRN-2, TRN-3, TRN-4, TRN-8
#[test]
fn each_rule_has_a_counter_example_and_the_page_shows_it() {
    let mut rows = Vec::new();
    for removal in Removal::ALL {
        let case = case(*removal);
        let found = counter_example(*removal, &case);
        let (actions, broken) = found.unwrap_or_else(|| panic!("{removal:?}: {} holds all the same", case.law));
        assert!(broken.contains(&case.law), "{removal:?}: {broken:?}");
        assert_eq!(actions.len(), case.actions, "{removal:?}: {actions:?}");
        rows.push(row(*removal, &actions, &broken));
    }
    assert!(documented_rows() == rows, "docs/replication-model.md should show\n{}", rows.join("\n"));
}

/// What makes a counter-example one: within the same bounds, with the rule in place, no law is broken.
#[test]
fn within_the_same_bounds_the_whole_design_holds() {
    let mut bounds: Vec<Bounds> = Removal::ALL.iter().map(|removal| case(*removal).bounds).collect();
    bounds.sort();
    bounds.dedup();
    for bounds in bounds {
        searches::assert_holds(&searches::search(Replication::whole(bounds)));
    }
}

/// TRN-4 about acknowledgements is a second fence: a follower of an older epoch that the new leader's log does not
/// diverge from holds what it acknowledges. It is kept because the argument needs TRN-3 and REP-7 to be without fault.
#[test]
fn acknowledgements_across_epochs_alone_lose_nothing() {
    let bounds = case(Removal::AckAcrossEpochs).bounds;
    let checker =
        searches::search(Replication { removed: Some(Removal::AckAcrossEpochs), ..Replication::whole(bounds) });
    let broken: Vec<&str> = checker.discoveries().into_keys().collect();
    assert_eq!(broken, [law("TRN-4").name]);
}
