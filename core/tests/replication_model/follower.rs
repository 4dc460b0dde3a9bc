//! What happens between a follower and the broker it believes to be its leader, and how brokers hear of elections.
//!
//! A fetch is two actions of both sides at once: the leader's data reaches the follower (`deliver`, or `truncate` if
//! the logs diverge), and the follower's next position reaches the leader (`ack`). Nothing is lost by leaving the
//! messages out: a message that is late is an action that comes late, except for what the *sender* did in between. Its
//! log only grows within the epoch that both check; if it restarted, the leader still holds what it had acknowledged,
//! and uses it as late as it likes (`advance`, `propose`).

use super::brokers::BrokerId;
use super::log::{EpochEnd, Log};
use super::model::Replication;
use super::removal::Removal;
use super::state::{Ack, Breach, Broker, Leading, State};

impl Replication {
    /// The leader that answers this follower's fetch: the one it knows, if both are in one leader epoch (TRN-4).
    fn leader_of(&self, state: &State, follower: BrokerId, careless: &[Removal]) -> Option<BrokerId> {
        let leader = state.broker(follower).leader.filter(|leader| *leader != follower)?;
        let same_epoch = state.broker(leader).leader_epoch == state.broker(follower).leader_epoch;
        let checked = !careless.iter().any(|removal| self.lacks(*removal));
        (state.leads(leader) && (same_epoch || !checked)).then_some(leader)
    }

    pub(crate) fn deliver(&self, state: &mut State, follower: BrokerId, log: usize) -> Option<()> {
        let leader = self.leader_of(state, follower, &[Removal::TruncateOnlyOutOfRange])?;
        let source = state.broker(leader).replicas[log];
        let target = state.broker(follower);
        if self.diverging(&source.log, target, log).is_some() {
            return None;
        }
        let record = *source.log.records().get(usize::from(target.replicas[log].log.end()))?;
        let across = state.broker(leader).leader_epoch != target.leader_epoch;
        state.note(Breach::Trn4, across);
        let target = state.broker_mut(follower);
        target.believes_it_matches = self.lacks(Removal::TruncateOnce);
        let replica = &mut target.replicas[log];
        replica.log.append(record);
        replica.hw = replica.hw.max(source.hw.min(replica.log.end()));
        Some(())
    }

    pub(crate) fn truncate(&self, state: &mut State, follower: BrokerId, log: usize) -> Option<()> {
        let leader = self.leader_of(state, follower, &[Removal::TruncateOnlyOutOfRange])?;
        let source = state.broker(leader).replicas[log].log;
        let end = self.diverging(&source, state.broker(follower), log)?;
        self.cut(state, follower, log, end);
        state.broker_mut(follower).believes_it_matches = self.lacks(Removal::TruncateOnce);
        Some(())
    }

    /// TRN-3: where the follower must cut its log before it may go on, if the leader finds that it must.
    fn diverging(&self, leader: &Log, follower: &Broker, log: usize) -> Option<u8> {
        let own = &follower.replicas[log].log;
        let blind = [Removal::TruncateToHw, Removal::TruncateOnlyOutOfRange];
        if follower.believes_it_matches || blind.iter().any(|removal| self.lacks(*removal)) {
            return (own.end() > leader.end()).then_some(leader.end());
        }
        let last_epoch = own.last_epoch()?;
        let EpochEnd { epoch, end } = leader.end_of_epoch(last_epoch);
        if epoch == last_epoch && end >= own.end() {
            return None;
        }
        match self.lacks(Removal::TruncateOnce) {
            true => Some(end.min(own.end())),
            false => Some(end.min(own.end_of_epoch(epoch).end)),
        }
    }

    fn cut(&self, state: &mut State, follower: BrokerId, log: usize, end: u8) {
        let promised = state.promised[log];
        let replica = &mut state.broker_mut(follower).replicas[log];
        let kept_promise = replica.log.records().iter().zip(promised.records()).take_while(|(a, b)| a == b).count();
        replica.log.truncate(end);
        replica.durable = replica.durable.min(end);
        replica.hw = replica.hw.min(end);
        state.note(Breach::Trn1, kept_promise > usize::from(end));
    }

    pub(crate) fn ack(&self, state: &mut State, follower: BrokerId) -> Option<()> {
        let careless = [Removal::AckAcrossEpochs, Removal::TruncateOnlyOutOfRange];
        let leader = self.leader_of(state, follower, &careless)?;
        let (source, target) = (*state.broker(leader), *state.broker(follower));
        let mut ack = Ack { positions: [0; 2], broker_epoch: state.controller.broker_epochs[follower.index()] };
        for log in self.logs() {
            if self.diverging(&source.replicas[log].log, &target, log).is_some() {
                return None;
            }
            ack.positions[log] = self.own_position(&target.replicas[log], Removal::AckBeforeFlush);
            let replica = &mut state.broker_mut(follower).replicas[log];
            replica.hw = replica.hw.max(source.replicas[log].hw.min(replica.log.end()));
        }
        state.broker_mut(leader).leading.acks[follower.index()] = Some(ack);
        let changed = source != *state.broker(leader) || target != *state.broker(follower);
        state.note(Breach::Trn4, source.leader_epoch != target.leader_epoch);
        changed.then_some(())
    }

    /// A broker hears of the metadata as it was at the start of `leader_epoch`, or as it is now.
    pub(crate) fn learn(&self, state: &mut State, id: BrokerId, leader_epoch: u8) -> Option<()> {
        let controller = state.controller;
        let broker = *state.broker(id);
        let newest = leader_epoch == controller.leader_epoch;
        let (leader, isr, partition_epoch) = if newest {
            (controller.leader?, controller.isr, controller.partition_epoch)
        } else {
            let election = controller.elections[usize::from(leader_epoch)]?;
            // Partition epochs start at 1: one that is out of date, whichever it was.
            (election.leader, election.isr, 0)
        };
        let is_election = match leader_epoch == broker.leader_epoch {
            true => self.takes_late_elections() && broker.leader != Some(leader),
            false => leader_epoch > broker.leader_epoch,
        };
        if is_election {
            self.follow(state, id, leader, leader_epoch);
        } else if leader != id || !newest || broker.leading.partition_epoch == partition_epoch {
            return None;
        }
        if leader == id {
            let leading = &mut state.broker_mut(id).leading;
            leading.isr = isr;
            leading.partition_epoch = partition_epoch;
            leading.proposed = None;
        }
        Some(())
    }

    /// Within one epoch there is nothing new about who leads: the broker was there, or has registered since.
    fn takes_late_elections(&self) -> bool {
        self.lacks(Removal::ElectWithoutNewEpoch) || self.lacks(Removal::OldElectionAfterRestart)
    }

    /// Enters a leader epoch, as its leader or as a follower.
    pub(crate) fn follow(&self, state: &mut State, id: BrokerId, leader: BrokerId, leader_epoch: u8) {
        let remembers = self.lacks(Removal::AcksOutliveTheEpoch);
        let broker = state.broker_mut(id);
        let acks = if remembers { broker.leading.acks } else { Default::default() };
        broker.leading = Leading { acks, ..Leading::default() };
        broker.leader = Some(leader);
        broker.leader_epoch = leader_epoch;
        broker.believes_it_matches = false;
        let marks = leader == id && !self.lacks(Removal::NoEpochEntryAtElection);
        for log in self.logs() {
            if marks {
                let replica = &mut state.broker_mut(id).replicas[log];
                replica.log.assign(leader_epoch, replica.log.end());
            }
            if leader != id && self.lacks(Removal::TruncateToHw) {
                let hw = state.broker(id).replicas[log].hw;
                self.cut(state, id, log, hw);
            }
        }
    }
}
