//! What must hold in every state, by the id of its rule in the project's list.
//!
//! REP-1 to REP-4, REP-11, REP-13, REP-18, TRN-2 and TRN-3 look at a state and know nothing of the rules. REP-5, REP-7,
//! REP-12, TRN-1 and TRN-4 say what a step may do; the steps note it when one did otherwise, by the rule's own wording
//! and without regard to what was removed.

use super::brokers::{BrokerId, MIN_ISR};
use super::log::Log;
use super::model::Replication;
use super::state::{Breach, State};

/// A law and its test.
pub(crate) struct Law {
    pub(crate) name: &'static str,
    pub(crate) holds: fn(&Replication, &State) -> bool,
}

pub(crate) static LAWS: [Law; 14] = [
    Law { name: "REP-1 leader completeness", holds: leader_is_complete },
    Law { name: "REP-2 log matching", holds: logs_match_below_hw },
    Law { name: "REP-3 candidate completeness", holds: candidates_are_complete },
    Law { name: "REP-4 quorum superset", holds: maximal_isr_covers_candidates },
    Law { name: "REP-5 HW on acknowledgements", holds: |_, state| !state.is_noted(Breach::Rep5) },
    Law { name: "REP-7 joining the ISR", holds: |_, state| !state.is_noted(Breach::Rep7) },
    Law { name: "REP-11 ISR and ELR", holds: isr_and_elr_fit },
    Law { name: "REP-12 unclean exclusion", holds: |_, state| !state.is_noted(Breach::Rep12) },
    Law { name: "REP-13 last replica standing", holds: some_candidate_holds_all },
    Law { name: "REP-18 consistent read", holds: nothing_else_is_served },
    Law { name: "TRN-1 no truncation below true HW", holds: |_, state| !state.is_noted(Breach::Trn1) },
    Law { name: "TRN-2 epoch cache", holds: epoch_caches_are_true },
    Law { name: "TRN-3 equal record, equal log", holds: equal_records_have_equal_pasts },
    Law { name: "TRN-4 one epoch on both sides", holds: |_, state| !state.is_noted(Breach::Trn4) },
];

impl Law {
    /// The id of its rule.
    pub(crate) fn id(&self) -> &'static str {
        self.name.split(' ').next().unwrap_or_default()
    }
}

/// The law with this rule id.
pub(crate) fn law(id: &str) -> &'static Law {
    LAWS.iter().find(|law| law.id() == id).expect("a law with this rule id")
}

/// The elected leader holds every promised record, from the moment it is elected.
fn leader_is_complete(_: &Replication, state: &State) -> bool {
    state.controller.leader.is_none_or(|leader| state.is_complete(leader))
}

fn pairs() -> impl Iterator<Item = (BrokerId, BrokerId)> {
    BrokerId::all()
        .flat_map(|first| BrokerId::all().filter(move |second| first < *second).map(move |second| (first, second)))
}

fn logs_match_below_hw(model: &Replication, state: &State) -> bool {
    pairs().all(|(first, second)| {
        model.logs().all(|log| {
            let (first, second) = (&state.broker(first).replicas[log], &state.broker(second).replicas[log]);
            first.log.agrees_below(&second.log, first.hw.min(second.hw))
        })
    })
}

fn candidates_are_complete(_: &Replication, state: &State) -> bool {
    let candidates = state.controller.isr.union(state.controller.elr);
    candidates.iter().all(|candidate| state.is_complete(candidate))
}

fn maximal_isr_covers_candidates(_: &Replication, state: &State) -> bool {
    let controller = &state.controller;
    let current =
        |leader: &BrokerId| state.leads(*leader) && state.broker(*leader).leader_epoch == controller.leader_epoch;
    controller.leader.filter(current).is_none_or(|leader| {
        let leading = &state.broker(leader).leading;
        !leading.isr.reaches_min_isr() || leading.maximal_isr().covers(controller.isr.union(controller.elr))
    })
}

fn isr_and_elr_fit(_: &Replication, state: &State) -> bool {
    let controller = &state.controller;
    let disjoint = controller.isr.intersection(controller.elr).is_empty();
    let only_when_needed = !controller.isr.reaches_min_isr() || controller.elr.is_empty();
    let known = controller.isr.union(controller.elr).union(controller.last_known_elr);
    let unfenced = controller.isr.intersection(controller.fenced).is_empty();
    disjoint && only_when_needed && unfenced && known.len() >= MIN_ISR
}

/// Whoever may still be elected includes one that lost nothing.
fn some_candidate_holds_all(_: &Replication, state: &State) -> bool {
    let controller = &state.controller;
    let electable = controller.isr.union(controller.elr).union(controller.last_known_elr);
    electable.iter().any(|candidate| state.is_complete(candidate))
}

/// A leader's log below its HW is what was promised.
fn nothing_else_is_served(model: &Replication, state: &State) -> bool {
    BrokerId::all().filter(|id| state.leads(*id)).all(|leader| {
        model.logs().all(|log| {
            let replica = &state.broker(leader).replicas[log];
            state.promised[log].agrees_below(&replica.log, replica.hw)
        })
    })
}

fn epoch_caches_are_true(model: &Replication, state: &State) -> bool {
    BrokerId::all().all(|id| {
        let broker = state.broker(id);
        model.logs().all(|log| {
            let log = &broker.replicas[log].log;
            let marked = !state.leads(id) || log.start_of(broker.leader_epoch).is_some();
            marked && cache_is_true(log)
        })
    })
}

/// Start offsets rise strictly with the epochs, and each record lies in its own epoch.
fn cache_is_true(log: &Log) -> bool {
    let mut before = None;
    let rises = log.epochs().all(|(_, start)| before.replace(start).is_none_or(|before| before < start));
    let lies_in = |offset: usize| log.epochs().filter(|(_, start)| usize::from(*start) <= offset).last();
    let fits = |(offset, epoch): (usize, u8)| lies_in(offset).is_some_and(|(own, _)| own == epoch);
    rises && log.records().iter().map(|record| record.epoch).enumerate().all(fits)
}

/// Two logs with a record of one epoch at one offset are equal up to it.
fn equal_records_have_equal_pasts(model: &Replication, state: &State) -> bool {
    pairs().all(|(first, second)| {
        model.logs().all(|log| {
            let (first, second) = (&state.broker(first).replicas[log].log, &state.broker(second).replicas[log].log);
            let same_epoch = |offset: &usize| {
                let epochs = (first.records()[*offset].epoch, second.records()[*offset].epoch);
                epochs.0 == epochs.1
            };
            let last = (0..usize::from(first.end().min(second.end()))).rev().find(same_epoch);
            last.is_none_or(|offset| first.agrees_below(second, offset as u8 + 1))
        })
    })
}
