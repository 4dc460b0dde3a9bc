//! What the controller decides: elections, fencing, AlterPartition, registrations, recovery.
//!
//! One reduction: when nobody can be elected the leader epoch stays; it moves at the next election. Nothing but the
//! brokers' hearing of "no leader" is lost, and hearing of it only makes them wait.

use super::brokers::{BrokerId, BrokerSet};
use super::model::Replication;
use super::removal::Removal;
use super::state::{Alter, Breach, Broker, Controller, Election, State};

impl Controller {
    /// Commits an ISR; the ELR follows from it (REP-11): whoever leaves while the ISR is too small stays eligible.
    fn set_isr(&mut self, isr: BrokerSet, keeps_elr: bool) {
        let eligible = self.isr.union(self.elr).minus(isr);
        if isr.reaches_min_isr() {
            self.elr = if keeps_elr { self.elr.minus(isr) } else { BrokerSet::EMPTY };
            self.last_known_elr = BrokerSet::EMPTY;
        } else {
            self.elr = eligible;
        }
        self.isr = isr;
        self.partition_epoch += 1;
    }
}

impl Replication {
    fn keeps_elr(&self) -> bool {
        self.lacks(Removal::ElrOutlivesFullIsr)
    }

    /// REP-10: one atomic change takes the broker out of leadership and ISR and elects from ISR, else ELR, else nobody.
    /// `elect` is the controller's choice; `None` if there is none to make.
    fn take_out(&self, state: &mut State, id: BrokerId, elect: Option<BrokerId>) -> Option<()> {
        let controller = &mut state.controller;
        controller.fenced = controller.fenced.with(id);
        if self.lacks(Removal::LastReplicaStandingStays) && controller.isr == BrokerSet::only(id) {
            return self.leave_without_elr(controller, id, elect);
        }
        let was_leader = controller.leader == Some(id);
        if controller.isr.contains(id) {
            let isr = controller.isr.without(id);
            controller.set_isr(isr, self.keeps_elr());
        }
        if !was_leader {
            return elect.is_none().then_some(());
        }
        controller.leader = None;
        let candidates = self.candidates(&state.controller);
        match elect {
            Some(elected) if candidates.contains(elected) => self.elect(state, elected),
            None if candidates.is_empty() => Some(()),
            _ => None,
        }
    }

    /// Before KIP-966: the last member of the ISR stays in it, fenced.
    fn leave_without_elr(&self, controller: &mut Controller, id: BrokerId, elect: Option<BrokerId>) -> Option<()> {
        if controller.leader == Some(id) {
            controller.leader = None;
            controller.partition_epoch += 1;
        }
        elect.is_none().then_some(())
    }

    fn candidates(&self, controller: &Controller) -> BrokerSet {
        let unfenced = BrokerSet::ALL.minus(controller.fenced);
        if self.lacks(Removal::ElectAnyone) {
            return unfenced;
        }
        let in_sync = controller.isr.intersection(unfenced);
        if in_sync.is_empty() { controller.elr.intersection(unfenced) } else { in_sync }
    }

    fn elect(&self, state: &mut State, elected: BrokerId) -> Option<()> {
        let controller = &mut state.controller;
        if self.lacks(Removal::ElectWithoutNewEpoch) {
            controller.partition_epoch += 1;
        } else if controller.leader_epoch >= self.bounds.failovers {
            return None;
        } else {
            controller.leader_epoch += 1;
        }
        controller.leader = Some(elected);
        if !controller.isr.contains(elected) {
            let isr = BrokerSet::only(elected);
            controller.set_isr(isr, self.keeps_elr());
        }
        let election = Election { leader: elected, isr: controller.isr };
        controller.elections[usize::from(controller.leader_epoch)] = Some(election);
        Some(())
    }

    pub(crate) fn fence(&self, state: &mut State, id: BrokerId, elect: Option<BrokerId>) -> Option<()> {
        // Fencing a broker that is not in the ISR takes away possibilities and adds none.
        if !state.controller.isr.contains(id) || state.controller.fenced.contains(id) {
            return None;
        }
        state.used.fences += 1;
        self.take_out(state, id, elect)
    }

    pub(crate) fn unfence(&self, state: &mut State, id: BrokerId) -> Option<()> {
        state.controller.fenced = state.controller.fenced.without(id);
        let elects = state.controller.leader.is_none() && self.candidates(&state.controller).contains(id);
        if elects { self.elect(state, id) } else { Some(()) }
    }

    pub(crate) fn crash(&self, state: &mut State, id: BrokerId, elect: Option<BrokerId>) -> Option<()> {
        state.used.crashes += 1;
        self.restart(state, id, elect)
    }

    pub(crate) fn lose_power(
        &self,
        state: &mut State,
        id: BrokerId,
        elect: Option<BrokerId>,
        kept: [u8; 2],
    ) -> Option<()> {
        state.used.power_losses += 1;
        for (replica, kept) in state.broker_mut(id).replicas.iter_mut().zip(kept) {
            replica.log.truncate(kept);
            // What is still there after a power cut was on the platter.
            replica.durable = if self.is_fsync() { kept } else { 0 };
        }
        self.restart(state, id, elect)
    }

    /// LOG-10: an empty disk is a new directory. What its broker must not do is pass for the one that was in sync.
    pub(crate) fn lose_disk(&self, state: &mut State, id: BrokerId, elect: Option<BrokerId>) -> Option<()> {
        state.used.disk_losses += 1;
        for replica in &mut state.broker_mut(id).replicas {
            replica.log.truncate(0);
            replica.durable = 0;
        }
        self.restart(state, id, elect)
    }

    /// Death and start in one action: a dead broker does what a silent one does. The broker registers: the controller
    /// fences its old broker epoch, strikes it from ISR and ELR, grants a new one (REP-12), and it is up to date then.
    fn restart(&self, state: &mut State, id: BrokerId, elect: Option<BrokerId>) -> Option<()> {
        let goes_on = self.lacks(Removal::RestartedLeaderGoesOn) && state.controller.leader == Some(id);
        if goes_on {
            elect.is_none().then_some(())?;
        } else {
            self.register(state, id, elect)?;
        }
        state.controller.broker_epochs[id.index()] += 1;
        let controller = state.controller;
        let broker = state.broker_mut(id);
        for log in self.logs() {
            let replica = &mut broker.replicas[log];
            replica.log.rebuild_epochs();
            replica.durable = replica.durable.min(replica.log.end());
            // The HW checkpoint is written now and then: the oldest one is the worst.
            replica.hw = 0;
            if self.lacks(Removal::TruncateToHw) {
                replica.log.truncate(0);
                replica.durable = 0;
            }
        }
        *broker = Broker { replicas: broker.replicas, leader_epoch: controller.leader_epoch, ..Broker::default() };
        if let Some(leader) = controller.leader {
            self.follow(state, id, leader, controller.leader_epoch);
        }
        if controller.leader == Some(id) {
            let leading = &mut state.broker_mut(id).leading;
            (leading.isr, leading.partition_epoch) = (controller.isr, controller.partition_epoch);
        }
        let trusted = controller.isr.union(controller.elr).contains(id) || controller.leader == Some(id);
        state.note(Breach::Rep12, trusted);
        Some(())
    }

    fn register(&self, state: &mut State, id: BrokerId, elect: Option<BrokerId>) -> Option<()> {
        let had_place = state.controller.isr.union(state.controller.elr).contains(id);
        self.take_out(state, id, elect)?;
        let controller = &mut state.controller;
        if had_place && !self.lacks(Removal::UncleanRestartKeepsPlaces) {
            controller.elr = controller.elr.without(id);
            if !self.lacks(Removal::LastReplicaStandingStays) {
                controller.isr = controller.isr.without(id);
            }
            if !controller.isr.reaches_min_isr() {
                controller.last_known_elr = controller.last_known_elr.with(id);
            }
            controller.partition_epoch += 1;
        }
        self.unfence(state, id)
    }

    /// REP-9: compare and set. The answer to a rejection arrives at once; an answer to a commit may stay away for ever,
    /// the metadata does not (`learn`).
    pub(crate) fn decide(&self, state: &mut State, sender: BrokerId) -> Option<()> {
        let alter = state.alters[sender.index()].take()?;
        if !self.accepts(&state.controller, sender, &alter) {
            state.broker_mut(sender).leading.proposed = None;
            return Some(());
        }
        let breach = alter.joins.is_some_and(|(joining, _)| !joins_rightly(state, sender, &alter, joining));
        state.note(Breach::Rep7, breach);
        state.controller.set_isr(alter.isr, self.keeps_elr());
        Some(())
    }

    fn accepts(&self, controller: &Controller, sender: BrokerId, alter: &Alter) -> bool {
        let any_epochs = self.lacks(Removal::AlterIgnoresEpochs);
        let any_partition_epoch = any_epochs || self.lacks(Removal::AlterIgnoresPartitionEpoch);
        let leads = controller.leader == Some(sender) && controller.leader_epoch == alter.leader_epoch;
        let newest = controller.partition_epoch == alter.partition_epoch;
        let may_join = alter.joins.is_none_or(|(joining, broker_epoch)| {
            let same_broker = controller.broker_epochs[joining.index()] == broker_epoch;
            !controller.fenced.contains(joining) && (same_broker || self.lacks(Removal::JoinWithOldBrokerEpoch))
        });
        (leads || any_epochs) && (newest || any_partition_epoch) && may_join
    }

    /// REP-14: all of the last known ELR must answer. The one elected takes over, log by log, the tail of whichever
    /// answer has the highest (last epoch, LEO): in a group these can be different brokers.
    pub(crate) fn recover(&self, state: &mut State, id: BrokerId) -> Option<()> {
        let Controller { leader, isr, elr, last_known_elr: asked, fenced, .. } = state.controller;
        let nobody_left = leader.is_none() && isr.union(elr).is_empty();
        if !nobody_left || !asked.contains(id) || fenced.contains(id) {
            return None;
        }
        if self.lacks(Removal::RecoverWithFirstAnswer) {
            return self.elect(state, id);
        }
        if !asked.intersection(fenced).is_empty() {
            return None;
        }
        for log in self.logs() {
            let rank = |id: BrokerId| {
                let log = &state.broker(id).replicas[log].log;
                (log.last_epoch(), log.end())
            };
            let best = asked.iter().max_by_key(|id| rank(*id))?;
            if rank(best) == rank(id) {
                continue;
            }
            if log == 0 {
                return None;
            }
            if !self.lacks(Removal::RecoverGroupByFirstLog) {
                let tail = state.broker(best).replicas[log].log;
                state.broker_mut(id).replicas[log].log = tail;
            }
        }
        self.elect(state, id)
    }

    /// Keeps equal what can no longer make a difference: requests that are sure to be rejected and whose sender has
    /// moved on, and elections that everyone has heard of.
    pub(crate) fn drop_what_cannot_matter(&self, state: &mut State) {
        let controller = &mut state.controller;
        let compares =
            ![Removal::AlterIgnoresEpochs, Removal::AlterIgnoresPartitionEpoch].iter().any(|r| self.lacks(*r));
        for (alter, broker) in state.alters.iter_mut().zip(&state.brokers) {
            let is_late = alter.is_some_and(|alter| alter.partition_epoch != controller.partition_epoch);
            if compares && is_late && broker.leading.proposed.is_none() {
                *alter = None;
            }
        }
        let heard_by_all = state.brokers.iter().map(|broker| broker.leader_epoch).min().unwrap_or(0);
        for (epoch, election) in controller.elections.iter_mut().enumerate() {
            let in_between = epoch > usize::from(heard_by_all) && epoch < usize::from(controller.leader_epoch);
            if !in_between && epoch != usize::from(controller.leader_epoch) {
                *election = None;
            }
        }
    }
}

/// REP-7 as it is meant, whatever the leader or the controller looked at.
fn joins_rightly(state: &State, sender: BrokerId, alter: &Alter, joining: BrokerId) -> bool {
    let controller = &state.controller;
    let current = controller.leader == Some(sender)
        && controller.leader_epoch == alter.leader_epoch
        && controller.partition_epoch == alter.partition_epoch
        && alter.joins.is_some_and(|(_, epoch)| controller.broker_epochs[joining.index()] == epoch)
        && !controller.fenced.contains(joining);
    let (leader, follower) = (state.broker(sender), state.broker(joining));
    let is_behind = |log: usize| {
        let replica = &leader.replicas[log];
        let epoch_start = replica.log.start_of(alter.leader_epoch).unwrap_or(0);
        follower.replicas[log].log.end() < replica.hw.max(epoch_start)
    };
    current && !(0..leader.replicas.len()).any(is_behind)
}
