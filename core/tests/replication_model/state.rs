//! What the controller, the three brokers and the network between them hold at one moment.

use std::fmt;

use super::brokers::{BROKERS, BrokerId, BrokerSet};
use super::log::{EPOCHS_MAX, Log};

/// Logs in the placement group of the model.
pub(crate) const LOGS_MAX: usize = 2;

/// The partition's (the group's) record in the cluster metadata, and the brokers' registrations. The controller is
/// linearizable: one copy, changed by one action at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Controller {
    pub(crate) leader: Option<BrokerId>,
    pub(crate) leader_epoch: u8,
    pub(crate) partition_epoch: u8,
    pub(crate) isr: BrokerSet,
    pub(crate) elr: BrokerSet,
    /// Brokers that left ISR or ELR by an unclean restart since the ISR was last large enough (REP-14).
    pub(crate) last_known_elr: BrokerSet,
    pub(crate) fenced: BrokerSet,
    pub(crate) broker_epochs: [u8; BROKERS],
    /// Elections by leader epoch, as far as some broker has not heard of them.
    pub(crate) elections: [Option<Election>; EPOCHS_MAX],
}

/// What a broker hears of an election when it reads the metadata log in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Election {
    pub(crate) leader: BrokerId,
    pub(crate) isr: BrokerSet,
}

/// One broker: the metadata it has heard of, its replicas, and what it remembers while it leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub(crate) struct Broker {
    pub(crate) leader: Option<BrokerId>,
    pub(crate) leader_epoch: u8,
    pub(crate) leading: Leading,
    pub(crate) replicas: [Replica; LOGS_MAX],
    /// Only where a rule is removed: this follower believes for the rest of the epoch that its log matches.
    pub(crate) believes_it_matches: bool,
}

/// A leader's view of the group. Empty for a follower.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub(crate) struct Leading {
    pub(crate) partition_epoch: u8,
    /// The ISR as the leader knows it to be committed.
    pub(crate) isr: BrokerSet,
    /// The ISR of the AlterPartition whose outcome the leader does not know.
    pub(crate) proposed: Option<BrokerSet>,
    /// What each follower acknowledged in this leader epoch.
    pub(crate) acks: [Option<Ack>; BROKERS],
}

impl Leading {
    /// Committed ISR ∪ proposed ISR (REP-4).
    pub(crate) fn maximal_isr(&self) -> BrokerSet {
        self.isr.union(self.proposed.unwrap_or(BrokerSet::EMPTY))
    }
}

/// A follower's acknowledgement: its position in each log, and its broker epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Ack {
    pub(crate) positions: [u8; LOGS_MAX],
    pub(crate) broker_epoch: u8,
}

/// One log of the group on one broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub(crate) struct Replica {
    pub(crate) log: Log,
    /// A flush round covers everything below. Stays 0 with `durability=os`, where a power loss may take any tail.
    pub(crate) durable: u8,
    pub(crate) hw: u8,
}

/// An AlterPartition on its way to the controller. One per sender: a newer one replaces it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Alter {
    pub(crate) leader_epoch: u8,
    pub(crate) partition_epoch: u8,
    pub(crate) isr: BrokerSet,
    /// The follower that is to join, with the broker epoch it acknowledged under.
    pub(crate) joins: Option<(BrokerId, u8)>,
}

/// How much of each bound a run has used up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub(crate) struct Used {
    pub(crate) records: u8,
    pub(crate) fences: u8,
    pub(crate) crashes: u8,
    pub(crate) power_losses: u8,
    pub(crate) disk_losses: u8,
    pub(crate) alters: u8,
}

/// A rule about what a step may do, broken by a step on the way here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Breach {
    Rep5,
    Rep7,
    Rep12,
    Trn1,
    Trn4,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) controller: Controller,
    pub(crate) brokers: [Broker; BROKERS],
    pub(crate) alters: [Option<Alter>; BROKERS],
    /// By log: every record that was ever below a leader's high watermark or acknowledged, where it was then. Nobody in
    /// the cluster knows this; the properties do. Its length is the *true* high watermark.
    pub(crate) promised: [Log; LOGS_MAX],
    /// Bits of [`Breach`].
    pub(crate) breaches: u8,
    pub(crate) used: Used,
}

impl State {
    /// A leads epoch 0, everyone is in the ISR and knows it, all logs are empty.
    pub(crate) fn initial(logs: usize) -> Self {
        let leader = BrokerId(0);
        let controller = Controller {
            leader: Some(leader),
            leader_epoch: 0,
            partition_epoch: 1,
            isr: BrokerSet::ALL,
            elr: BrokerSet::EMPTY,
            last_known_elr: BrokerSet::EMPTY,
            fenced: BrokerSet::EMPTY,
            broker_epochs: [0; BROKERS],
            elections: [None; EPOCHS_MAX],
        };
        let mut brokers = [Broker { leader: Some(leader), ..Broker::default() }; BROKERS];
        brokers[0].leading = Leading { partition_epoch: 1, isr: BrokerSet::ALL, ..Leading::default() };
        for replica in &mut brokers[0].replicas[..logs] {
            replica.log.assign(0, 0);
        }
        let promised = [Log::default(); LOGS_MAX];
        Self { controller, brokers, alters: [None; BROKERS], promised, breaches: 0, used: Used::default() }
    }

    pub(crate) fn broker(&self, id: BrokerId) -> &Broker {
        &self.brokers[id.index()]
    }

    pub(crate) fn broker_mut(&mut self, id: BrokerId) -> &mut Broker {
        &mut self.brokers[id.index()]
    }

    /// Whether `id` believes that it leads.
    pub(crate) fn leads(&self, id: BrokerId) -> bool {
        self.broker(id).leader == Some(id)
    }

    /// Whether `id` holds every promised record of the group.
    pub(crate) fn is_complete(&self, id: BrokerId) -> bool {
        let replicas = &self.broker(id).replicas;
        replicas.iter().zip(&self.promised).all(|(replica, promised)| replica.log.holds(promised))
    }

    pub(crate) fn note(&mut self, breach: Breach, broken: bool) {
        if broken {
            self.breaches |= 1 << breach as u8;
        }
    }

    pub(crate) fn is_noted(&self, breach: Breach) -> bool {
        self.breaches & (1 << breach as u8) != 0
    }
}

impl fmt::Debug for State {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{:?}", self.controller)?;
        for id in BrokerId::all() {
            writeln!(out, "{id:?}: {:?} alter {:?}", self.broker(id), self.alters[id.index()])?;
        }
        writeln!(out, "promised {:?} {:?}", self.promised, self.used)
    }
}
