//! What a broker does that believes it leads: append, move the high watermark, ask for another ISR.

use super::brokers::{BrokerId, BrokerSet};
use super::log::Record;
use super::model::Replication;
use super::removal::Removal;
use super::state::{Alter, Breach, Replica, State};

impl Replication {
    pub(crate) fn produce(&self, state: &mut State, leader: BrokerId, log: usize) -> Option<()> {
        if !state.leads(leader) || state.used.records >= self.bounds.records {
            return None;
        }
        state.used.records += 1;
        let value = state.used.records;
        let broker = state.broker_mut(leader);
        broker.replicas[log].log.append(Record { epoch: broker.leader_epoch, value });
        if self.lacks(Removal::AcknowledgeOnAppend) {
            self.promise(state, leader, log, state.broker(leader).replicas[log].log.end());
        }
        Some(())
    }

    /// A flush round: everything the data directory holds is durable. (Cutting the round into begin and end adds
    /// nothing: what is appended in between is as if appended after it.)
    pub(crate) fn flush(&self, state: &mut State, broker: BrokerId) -> Option<()> {
        let before = *state.broker(broker);
        for replica in &mut state.broker_mut(broker).replicas {
            replica.durable = replica.log.end();
        }
        (before != *state.broker(broker)).then_some(())
    }

    /// How far a replica may speak for itself (LOG-1).
    pub(crate) fn own_position(&self, replica: &Replica, careless: Removal) -> u8 {
        if self.is_fsync() && !self.lacks(careless) { replica.durable } else { replica.log.end() }
    }

    /// REP-4, REP-5: the smallest position in the maximal ISR, if enough replicas are in sync.
    pub(crate) fn advance_hw(&self, state: &mut State, leader: BrokerId, log: usize) -> Option<()> {
        if !state.leads(leader) {
            return None;
        }
        let broker = state.broker(leader);
        let leading = &broker.leading;
        let counted = match leading.proposed {
            Some(proposed) if self.lacks(Removal::HwIgnoresCommittedIsr) => proposed,
            Some(_) if self.lacks(Removal::HwIgnoresProposedIsr) => leading.isr,
            _ => leading.maximal_isr(),
        };
        let enough = if self.lacks(Removal::MinIsrCountsProposed) { counted } else { leading.isr };
        let strict = !self.lacks(Removal::HwBelowMinIsr) && !self.lacks(Removal::LastReplicaStandingStays);
        if strict && !enough.reaches_min_isr() {
            return None;
        }
        let own = self.own_position(&broker.replicas[log], Removal::LeaderCountsUnflushed);
        let hw = lowest(state, leader, log, counted, own)?;
        if hw <= broker.replicas[log].hw {
            return None;
        }
        let own = if self.is_fsync() { broker.replicas[log].durable } else { broker.replicas[log].log.end() };
        let rightful = lowest(state, leader, log, leading.maximal_isr(), own);
        let breach = !leading.isr.reaches_min_isr() || rightful.is_none_or(|rightful| rightful < hw);
        state.note(Breach::Rep5, breach);
        state.broker_mut(leader).replicas[log].hw = hw;
        self.promise(state, leader, log, hw);
        Some(())
    }

    /// Everything below `end` in this log is now promised to clients. What was promised before stays as it was.
    fn promise(&self, state: &mut State, leader: BrokerId, log: usize, end: u8) {
        let records = state.broker(leader).replicas[log].log;
        for offset in state.promised[log].end()..end {
            state.promised[log].append(records.records()[usize::from(offset)]);
        }
    }

    /// AlterPartition: leave out any followers, or let one join (REP-7).
    pub(crate) fn propose(&self, state: &mut State, leader: BrokerId, isr: BrokerSet) -> Option<()> {
        let known = state.broker(leader).leading;
        if !state.leads(leader) || known.proposed.is_some() || state.used.alters >= self.bounds.alters {
            return None;
        }
        let joining = isr.minus(known.isr);
        let shrinks = joining.is_empty() && known.isr != isr && isr.contains(leader);
        let grows = joining.len() == 1 && isr.covers(known.isr);
        let joins = if grows {
            let follower = joining.iter().next()?;
            Some((follower, self.may_join(state, leader, follower)?))
        } else {
            None
        };
        if !shrinks && !grows {
            return None;
        }
        let leader_epoch = state.broker(leader).leader_epoch;
        let alter = Alter { leader_epoch, partition_epoch: known.partition_epoch, isr, joins };
        state.alters[leader.index()] = Some(alter);
        state.broker_mut(leader).leading.proposed = Some(isr);
        state.used.alters += 1;
        Some(())
    }

    /// REP-7 as far as the leader can tell: the broker epoch under which `follower` acknowledged enough, if it did.
    fn may_join(&self, state: &State, leader: BrokerId, follower: BrokerId) -> Option<u8> {
        let broker = state.broker(leader);
        let ack = broker.leading.acks[follower.index()]?;
        let in_sync = |log: usize| {
            let replica = &broker.replicas[log];
            let epoch_start = replica.log.start_of(broker.leader_epoch).unwrap_or(0);
            let below_start = ack.positions[log] < epoch_start && !self.lacks(Removal::JoinBelowEpochStart);
            ack.positions[log] >= replica.hw && !below_start || self.lacks(Removal::JoinAnywhere)
        };
        let enough = match self.lacks(Removal::JoinInSyncOnOneLog) {
            true => self.logs().any(in_sync),
            false => self.logs().all(in_sync),
        };
        enough.then_some(ack.broker_epoch)
    }

    /// REP-9 removed: the request is still on its way, but its sender acts as if it were rejected.
    pub(crate) fn time_out(&self, state: &mut State, leader: BrokerId) -> Option<()> {
        state.alters[leader.index()]?;
        state.broker_mut(leader).leading.proposed.take().map(|_| ())
    }
}

fn lowest(state: &State, leader: BrokerId, log: usize, members: BrokerSet, own: u8) -> Option<u8> {
    let acks = &state.broker(leader).leading.acks;
    let position = |id: BrokerId| match id == leader {
        true => Some(own),
        false => acks[id.index()].map(|ack| ack.positions[log]),
    };
    members.iter().try_fold(u8::MAX, |lowest, id| Some(lowest.min(position(id)?)))
}
