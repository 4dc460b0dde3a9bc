//! The model as `stateright` sees it: a configuration, the actions it allows in a state, and what they lead to.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use stateright::{Model, Property};

use super::brokers::{BROKERS, BrokerId, BrokerSet};
use super::laws::{LAWS, Law};
use super::removal::Removal;
use super::state::State;

/// When a replica may count a record as its own (DESIGN §4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Durability {
    /// Once a flush round covers it. A power loss takes only what lies above.
    Fsync,
    /// Once it is in the page cache. A power loss may take any tail.
    Os,
}

/// How much may happen in one run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Bounds {
    pub(crate) durability: Durability,
    /// Logs in the placement group.
    pub(crate) logs: u8,
    /// Records produced, over all logs.
    pub(crate) records: u8,
    /// Leader epochs after the first.
    pub(crate) failovers: u8,
    /// Sessions that time out though the broker lives.
    pub(crate) fences: u8,
    /// Restarts that keep the page cache.
    pub(crate) crashes: u8,
    /// Restarts that lose any part of what was not flushed.
    pub(crate) power_losses: u8,
    /// Disks that come back empty (LOG-10).
    pub(crate) disk_losses: u8,
    /// AlterPartition requests.
    pub(crate) alters: u8,
}

impl Bounds {
    /// One log, one record, one failover, and nothing else that goes wrong.
    const LEAST: Self = Self {
        durability: Durability::Os,
        logs: 1,
        records: 1,
        failovers: 1,
        fences: 0,
        crashes: 0,
        power_losses: 0,
        disk_losses: 0,
        alters: 0,
    };

    /// The least with `durability=os`; what is more is named by struct update.
    pub(crate) const OS: Self = Self::LEAST;

    /// The least with `durability=fsync`.
    pub(crate) const FSYNC: Self = Self { durability: Durability::Fsync, ..Self::LEAST };
}

/// What can happen. Brokers print as letters, so a trace reads as a list of these.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// The leader appends one record of a client to its log.
    Produce { leader: BrokerId, log: u8 },
    /// A flush round of the broker's data directory completes.
    Flush { broker: BrokerId },
    /// One record from the leader reaches a follower whose log matches so far, and is appended.
    Deliver { follower: BrokerId, log: u8 },
    /// The leader answers that the logs diverge; the follower truncates once.
    Truncate { follower: BrokerId, log: u8 },
    /// The follower acknowledges where it is (its next fetch); the answer carries the leader's HW.
    Ack { follower: BrokerId },
    /// The leader moves the high watermark.
    AdvanceHw { leader: BrokerId, log: u8 },
    /// The leader sends AlterPartition.
    Propose { leader: BrokerId, isr: BrokerSet },
    /// The leader gives up waiting for the answer (only where the rule against it is removed).
    TimeOut { leader: BrokerId },
    /// The controller commits or rejects the AlterPartition of a sender.
    Decide { sender: BrokerId },
    /// A broker hears of the metadata as of a leader epoch (of now, if that is the newest).
    Learn { broker: BrokerId, leader_epoch: u8 },
    /// The controller fences a broker that lives.
    Fence { broker: BrokerId, elect: Option<BrokerId> },
    /// A fenced broker's heartbeats are back.
    Unfence { broker: BrokerId },
    /// The process dies and starts again; the page cache survives.
    Crash { broker: BrokerId, elect: Option<BrokerId> },
    /// The machine loses power and starts again; of each log `kept` records are left.
    PowerLoss { broker: BrokerId, elect: Option<BrokerId>, kept: [u8; 2] },
    /// The machine starts again with an empty disk.
    DiskLoss { broker: BrokerId, elect: Option<BrokerId> },
    /// ISR and ELR are empty: the controller elects by the answers of the last known ELR.
    Recover { broker: BrokerId },
}

impl Action {
    /// Kinds of actions, as counted by [`Replication::taken`].
    pub(crate) const KINDS: [&'static str; 16] = [
        "produce", "flush", "deliver", "truncate", "ack", "advance", "propose", "time-out", "decide", "learn", "fence",
        "unfence", "crash", "power", "disk", "recover",
    ];

    fn kind(self) -> usize {
        match self {
            Self::Produce { .. } => 0,
            Self::Flush { .. } => 1,
            Self::Deliver { .. } => 2,
            Self::Truncate { .. } => 3,
            Self::Ack { .. } => 4,
            Self::AdvanceHw { .. } => 5,
            Self::Propose { .. } => 6,
            Self::TimeOut { .. } => 7,
            Self::Decide { .. } => 8,
            Self::Learn { .. } => 9,
            Self::Fence { .. } => 10,
            Self::Unfence { .. } => 11,
            Self::Crash { .. } => 12,
            Self::PowerLoss { .. } => 13,
            Self::DiskLoss { .. } => 14,
            Self::Recover { .. } => 15,
        }
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", Self::KINDS[self.kind()])?;
        let elected = |elect: Option<BrokerId>| elect.map_or("→none".to_owned(), |id| format!("→{id:?}"));
        match *self {
            Self::Produce { leader: broker, log } | Self::AdvanceHw { leader: broker, log } => in_log(out, broker, log),
            Self::Deliver { follower, log } | Self::Truncate { follower, log } => in_log(out, follower, log),
            Self::Propose { leader, isr } => write!(out, " {leader:?}:{isr:?}"),
            Self::Learn { broker, leader_epoch } => write!(out, " {broker:?}:e{leader_epoch}"),
            Self::Fence { broker, elect } | Self::Crash { broker, elect } | Self::DiskLoss { broker, elect } => {
                write!(out, " {broker:?}{}", elected(elect))
            }
            Self::PowerLoss { broker, elect, kept } => write!(out, " {broker:?}{} keeps {kept:?}", elected(elect)),
            Self::Flush { broker: id } | Self::Unfence { broker: id } | Self::Recover { broker: id } => {
                write!(out, " {id:?}")
            }
            Self::Ack { follower: id } | Self::TimeOut { leader: id } | Self::Decide { sender: id } => {
                write!(out, " {id:?}")
            }
        }
    }
}

fn in_log(out: &mut fmt::Formatter<'_>, broker: BrokerId, log: u8) -> fmt::Result {
    match log {
        0 => write!(out, " {broker:?}"),
        log => write!(out, " {broker:?}/{log}"),
    }
}

/// One configuration of the model.
pub(crate) struct Replication {
    pub(crate) bounds: Bounds,
    pub(crate) removed: Option<Removal>,
    /// The laws that are checked.
    pub(crate) laws: &'static [Law],
    /// How often each kind of action led to a state, new or known.
    pub(crate) taken: [AtomicU64; Action::KINDS.len()],
}

impl Replication {
    /// The design as it is meant, under every law.
    pub(crate) fn whole(bounds: Bounds) -> Self {
        Self { bounds, removed: None, laws: &LAWS, taken: Default::default() }
    }

    /// The design without one rule, under one law.
    pub(crate) fn without(removed: Removal, bounds: Bounds, law: &'static Law) -> Self {
        Self { bounds, removed: Some(removed), laws: std::slice::from_ref(law), taken: Default::default() }
    }

    pub(crate) fn lacks(&self, rule: Removal) -> bool {
        self.removed == Some(rule)
    }

    pub(crate) fn is_fsync(&self) -> bool {
        self.bounds.durability == Durability::Fsync
    }

    pub(crate) fn logs(&self) -> std::ops::Range<usize> {
        0..usize::from(self.bounds.logs)
    }

    /// How often an action of this kind led anywhere.
    pub(crate) fn taken(&self, kind: &str) -> u64 {
        let index = Action::KINDS.iter().position(|known| *known == kind).expect("a kind of action");
        self.taken[index].load(Ordering::Relaxed)
    }

    fn data_actions(&self, state: &State, id: BrokerId, actions: &mut Vec<Action>) {
        for log in 0..self.bounds.logs {
            if state.leads(id) {
                actions.push(Action::Produce { leader: id, log });
                actions.push(Action::AdvanceHw { leader: id, log });
            } else {
                actions.push(Action::Deliver { follower: id, log });
                actions.push(Action::Truncate { follower: id, log });
            }
        }
        if !state.leads(id) {
            actions.push(Action::Ack { follower: id });
        }
        if self.is_fsync() {
            actions.push(Action::Flush { broker: id });
        }
    }

    fn isr_actions(&self, state: &State, id: BrokerId, actions: &mut Vec<Action>) {
        if state.leads(id) {
            for bits in 1..1 << BROKERS {
                actions.push(Action::Propose { leader: id, isr: BrokerSet(bits) });
            }
            if self.lacks(Removal::AlterRolledBackOnTimeout) {
                actions.push(Action::TimeOut { leader: id });
            }
        }
        if state.alters[id.index()].is_some() {
            actions.push(Action::Decide { sender: id });
        }
        for leader_epoch in state.broker(id).leader_epoch..=state.controller.leader_epoch {
            actions.push(Action::Learn { broker: id, leader_epoch });
        }
    }

    fn fault_actions(&self, state: &State, id: BrokerId, actions: &mut Vec<Action>) {
        let may_elect = state.controller.leader == Some(id);
        let choices = BrokerId::all().filter(|_| may_elect).map(Some).chain([None]);
        for elect in choices {
            if state.used.fences < self.bounds.fences {
                actions.push(Action::Fence { broker: id, elect });
            }
            if state.used.crashes < self.bounds.crashes {
                actions.push(Action::Crash { broker: id, elect });
            }
            if state.used.disk_losses < self.bounds.disk_losses {
                actions.push(Action::DiskLoss { broker: id, elect });
            }
            if state.used.power_losses < self.bounds.power_losses {
                let [first, second] = state.broker(id).replicas;
                for kept in first.durable..=first.log.end() {
                    for kept_too in second.durable..=second.log.end() {
                        actions.push(Action::PowerLoss { broker: id, elect, kept: [kept, kept_too] });
                    }
                }
            }
        }
        if state.controller.fenced.contains(id) {
            actions.push(Action::Unfence { broker: id });
        }
        if state.controller.leader.is_none() {
            actions.push(Action::Recover { broker: id });
        }
    }

    /// Carries out the action if it is possible and changes anything.
    fn apply(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Produce { leader, log } => self.produce(state, leader, usize::from(log)),
            Action::Flush { broker } => self.flush(state, broker),
            Action::Deliver { follower, log } => self.deliver(state, follower, usize::from(log)),
            Action::Truncate { follower, log } => self.truncate(state, follower, usize::from(log)),
            Action::Ack { follower } => self.ack(state, follower),
            Action::AdvanceHw { leader, log } => self.advance_hw(state, leader, usize::from(log)),
            Action::Propose { leader, isr } => self.propose(state, leader, isr),
            Action::TimeOut { leader } => self.time_out(state, leader),
            Action::Decide { sender } => self.decide(state, sender),
            Action::Learn { broker, leader_epoch } => self.learn(state, broker, leader_epoch),
            Action::Fence { broker, elect } => self.fence(state, broker, elect),
            Action::Unfence { broker } => self.unfence(state, broker),
            Action::Crash { broker, elect } => self.crash(state, broker, elect),
            Action::PowerLoss { broker, elect, kept } => self.lose_power(state, broker, elect, kept),
            Action::DiskLoss { broker, elect } => self.lose_disk(state, broker, elect),
            Action::Recover { broker } => self.recover(state, broker),
        }
    }
}

impl Model for Replication {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::initial(self.logs().len())]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for id in BrokerId::all() {
            self.data_actions(state, id, actions);
            self.isr_actions(state, id, actions);
            self.fault_actions(state, id, actions);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = *last;
        self.apply(&mut next, action)?;
        self.drop_what_cannot_matter(&mut next);
        self.taken[action.kind()].fetch_add(1, Ordering::Relaxed);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        self.laws.iter().map(|law| Property::always(law.name, law.holds)).collect()
    }
}
