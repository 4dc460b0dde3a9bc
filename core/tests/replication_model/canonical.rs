//! Symmetry: two states that differ only in which broker is called what are one state.
//!
//! The checker tells states apart by their hash alone, so the reduction lives in `Hash`: a state is written down under
//! the naming of the brokers that comes first, while the states and the traces themselves keep their names. No rule of
//! the model looks at a broker's number, which is what makes this sound.
//!
//! Partition epochs and broker epochs are only ever compared with the controller's, so of each only "is it the
//! controller's" is written down.

use std::hash::{Hash, Hasher};

use super::brokers::{BROKERS, BrokerId, BrokerSet};
use super::log::{EPOCHS_MAX, Log};
use super::state::{Alter, LOGS_MAX, State};

const BYTES_MAX: usize = 192;

const ORDERS: [[u8; BROKERS]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let weights = BrokerId::all().map(|id| weight(self, id)).collect_array();
        let sorted = |order: &&[u8; BROKERS]| {
            let [first, second, third] = order.map(|id| weights[usize::from(id)]);
            first >= second && second >= third
        };
        let written = ORDERS.iter().filter(sorted).map(|order| Writer::new(order).state(self)).min();
        let written = written.expect("some order of three numbers is sorted");
        hasher.write(&written.bytes[..written.len]);
    }
}

trait CollectArray {
    fn collect_array(self) -> [u64; BROKERS];
}

impl<I: Iterator<Item = u64>> CollectArray for I {
    fn collect_array(self) -> [u64; BROKERS] {
        let mut array = [0; BROKERS];
        array.iter_mut().zip(self).for_each(|(slot, item)| *slot = item);
        array
    }
}

/// A number that does not depend on the brokers' names; where it differs, it settles their order.
fn weight(state: &State, id: BrokerId) -> u64 {
    let controller = &state.controller;
    let broker = state.broker(id);
    let sets = [controller.isr, controller.elr, controller.last_known_elr, controller.fenced];
    let mut weight = u64::from(controller.leader == Some(id)) << 1 | u64::from(broker.leader == Some(id));
    for set in sets {
        weight = weight << 1 | u64::from(set.contains(id));
    }
    weight = weight << 3 | u64::from(broker.leader_epoch);
    for replica in &broker.replicas {
        weight = weight << 2 | u64::from(replica.log.end());
        weight = weight << 4 | u64::from(replica.hw) << 2 | u64::from(replica.durable);
        for record in replica.log.records() {
            weight = weight << 3 | u64::from(record.epoch);
        }
    }
    weight
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Writer {
    bytes: [u8; BYTES_MAX],
    len: usize,
    /// The brokers in the order they are written in, and the place of each in it.
    order: [u8; BROKERS],
    place: [u8; BROKERS],
}

impl Writer {
    fn new(order: &[u8; BROKERS]) -> Self {
        let mut place = [0; BROKERS];
        for (index, id) in order.iter().enumerate() {
            place[usize::from(*id)] = index as u8;
        }
        Self { bytes: [0; BYTES_MAX], len: 0, order: *order, place }
    }

    fn state(mut self, state: &State) -> Self {
        self.controller(state);
        for id in self.order.map(BrokerId) {
            self.broker(state, id);
            self.alter(state, state.alters[id.index()].as_ref());
        }
        for log in &state.promised {
            self.records(log);
        }
        let used = &state.used;
        self.byte(used.records << 4 | used.fences);
        self.byte(used.crashes << 6 | used.power_losses << 4 | used.alters);
        self.byte(used.disk_losses);
        self.byte(state.breaches);
        // The names themselves must not tell two equal states apart.
        self.order = [0; BROKERS];
        self.place = [0; BROKERS];
        self
    }

    fn controller(&mut self, state: &State) {
        let controller = &state.controller;
        self.name_and_set(controller.leader, controller.isr);
        self.two_sets(controller.elr, controller.last_known_elr);
        let fenced = self.renamed(controller.fenced);
        self.byte(controller.leader_epoch << 4 | fenced);
        for election in &controller.elections {
            match election {
                Some(election) => self.name_and_set(Some(election.leader), election.isr),
                None => self.byte(0),
            }
        }
    }

    fn broker(&mut self, state: &State, id: BrokerId) {
        let broker = state.broker(id);
        let leading = &broker.leading;
        let leads = state.leads(id);
        let fresh = leading.partition_epoch == state.controller.partition_epoch;
        self.name_and_set(broker.leader, leading.isr);
        self.byte(broker.leader_epoch << 2 | u8::from(broker.believes_it_matches) << 1 | u8::from(fresh));
        self.two_sets(leading.proposed.unwrap_or(BrokerSet::EMPTY), BrokerSet::EMPTY);
        for id in self.order.map(BrokerId) {
            match &leading.acks[id.index()] {
                Some(ack) => {
                    let current = ack.broker_epoch == state.controller.broker_epochs[id.index()];
                    self.byte(1 | u8::from(current) << 1 | ack.positions[0] << 2 | ack.positions[1] << 5);
                }
                None => self.byte(0),
            }
        }
        for replica in &broker.replicas {
            self.records(&replica.log);
            self.byte(replica.durable << 4 | replica.hw);
            self.epochs(&replica.log, leads.then_some(broker.leader_epoch));
        }
    }

    fn alter(&mut self, state: &State, alter: Option<&Alter>) {
        let Some(alter) = alter else { return self.byte(0) };
        let fresh = alter.partition_epoch == state.controller.partition_epoch;
        self.name_and_set(alter.joins.map(|(id, _)| id), alter.isr);
        let joins = alter.joins.is_some_and(|(id, epoch)| epoch == state.controller.broker_epochs[id.index()]);
        self.byte(alter.leader_epoch << 3 | u8::from(fresh) << 1 | u8::from(joins));
    }

    /// The epoch cache, unless the records tell it. Epochs without a record count only while their leader leads: a
    /// follower drops them before its log grows.
    fn epochs(&mut self, log: &Log, leader_epoch: Option<u8>) {
        let mut told = *log;
        told.rebuild_epochs();
        if let Some(epoch) = leader_epoch {
            told.assign(epoch, log.end());
        }
        let counts = |(epoch, start): &(u8, u8)| *start < log.end() || leader_epoch == Some(*epoch);
        if log.epochs().filter(counts).eq(told.epochs()) {
            return self.byte(0);
        }
        for epoch in 0..EPOCHS_MAX as u8 {
            self.byte(0x80 | log.start_of(epoch).map_or(0, |start| start + 1));
        }
    }

    fn records(&mut self, log: &Log) {
        self.byte(log.end());
        for record in log.records() {
            self.byte(record.epoch << 4 | record.value);
        }
    }

    fn name_and_set(&mut self, id: Option<BrokerId>, set: BrokerSet) {
        let name = id.map_or(0, |id| self.place[id.index()] + 1);
        let set = self.renamed(set);
        self.byte(0x80 | name << 4 | set);
    }

    fn two_sets(&mut self, first: BrokerSet, second: BrokerSet) {
        let (first, second) = (self.renamed(first), self.renamed(second));
        self.byte(first << 4 | second);
    }

    fn renamed(&self, set: BrokerSet) -> u8 {
        set.iter().fold(0, |bits, id| bits | 1 << self.place[id.index()])
    }

    fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }
}

const _: () = assert!(LOGS_MAX == 2, "weight() and Writer::broker() write two logs");
