//! A task's producer: STEP-8 to STEP-11 where it writes outputs, STEP-2 where it commits.

use super::sequence::{advance, distance, epoch_is_older, low_bits, low_epoch, number_near};
use super::{PartitionKind, ProducerRefusal, Verdict, refuse};
use headwater_mutants::{Mutant, lacks};
use headwater_protocol::batch::BatchHeader;
use headwater_protocol::ids::{LeaderEpoch, TaskProducer};

/// What is remembered of one task: `(G, E, last)` of step-protocol §1, and where its last batch lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TaskEntry {
    pub(super) generation: u32,
    /// Low 15 bits of the newest epoch in the log.
    pub(super) epoch: i16,
    /// Low 31 bits of the last number.
    pub(super) last: i32,
    pub(super) base_offset: i64,
    pub(super) last_offset_delta: i32,
}

/// Who sends: what the request says of itself, all bits.
#[derive(Clone, Copy)]
pub(super) struct Sender {
    pub(super) generation: u32,
    pub(super) epoch: LeaderEpoch,
    /// First number of the batch, or the step.
    pub(super) number: u64,
}

/// Low 31 bits of the last number that a batch takes: outputs count records, commits count batches.
fn last_number(kind: PartitionKind, header: &BatchHeader) -> i32 {
    match kind {
        PartitionKind::Records => advance(header.base_sequence, header.last_offset_delta),
        PartitionKind::Changelog => header.base_sequence,
    }
}

impl TaskEntry {
    /// The state after the task's first batch (or the first of a new generation).
    pub(super) fn first(kind: PartitionKind, task: TaskProducer, header: &BatchHeader, base_offset: i64) -> Self {
        Self {
            generation: task.generation,
            epoch: header.producer_epoch,
            last: last_number(kind, header),
            base_offset,
            last_offset_delta: header.last_offset_delta,
        }
    }

    /// Takes in a batch of the log. Generation, epoch and last number never go back, whatever the batch says.
    pub(super) fn observe(&mut self, kind: PartitionKind, task: TaskProducer, header: &BatchHeader, base_offset: i64) {
        if task.generation > self.generation {
            *self = Self::first(kind, task, header, base_offset);
        } else if task.generation == self.generation {
            // A batch that is re-sent has the epoch it was made under, which may be older than a fence in the log.
            if epoch_is_older(self.epoch, header.producer_epoch) {
                self.epoch = header.producer_epoch;
            }
            let last = last_number(kind, header);
            if distance(last, self.last) > 0 {
                self.last = last;
            }
            self.base_offset = base_offset;
            self.last_offset_delta = header.last_offset_delta;
        }
    }

    /// Low 15 bits of the newest epoch.
    pub(super) fn epoch(&self) -> i16 {
        self.epoch
    }

    /// Low 31 bits of the last number.
    pub(super) fn last(&self) -> i32 {
        self.last
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    pub(super) fn base_offset(&self) -> i64 {
        self.base_offset
    }

    /// One past the last offset of the newest batch.
    pub(super) fn next_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta)).saturating_add(1)
    }

    fn fenced(&self) -> Verdict {
        Verdict::Refuse(ProducerRefusal::Fenced { generation: self.generation, epoch: self.epoch })
    }

    /// Whether a sender of this generation and epoch is older than what the log has seen.
    fn fences(&self, generation: u32, epoch: i16) -> bool {
        generation < self.generation || (generation == self.generation && epoch_is_older(epoch, self.epoch))
    }
}

/// Rules 2 to 6 of "output leader on Send" (step-protocol §1); of rule 1 the topic id is the router's, the
/// partition epoch the leader's.
pub(super) fn check_output(
    entry: Option<&TaskEntry>,
    task: TaskProducer,
    header: &BatchHeader,
    sender: Sender,
) -> Verdict {
    if task.generation != sender.generation {
        return refuse("the batch is of another generation than its sender");
    }
    if header.base_sequence != low_bits(sender.number) {
        return refuse("the batch's base sequence is not the number that its sender names");
    }
    let epoch = low_epoch(sender.epoch);
    if header.producer_epoch < 0 || epoch_is_older(epoch, header.producer_epoch) {
        return refuse("the batch is of a newer epoch than its sender");
    }
    // Rule 2: even a duplicate of a fenced instance is refused.
    if let Some(entry) = entry.filter(|entry| entry.fences(sender.generation, epoch)) {
        return entry.fenced();
    }
    // Rule 3: a newer generation begins anew (STEP-16).
    let Some(entry) = entry.filter(|entry| entry.generation == sender.generation) else {
        let begins = sender.number == 0 || lacks(Mutant::UnknownTaskAccepted);
        return if begins { Verdict::Append } else { Verdict::Refuse(ProducerRefusal::Expect { number: 0 }) };
    };
    // Rule 4: compared as numbers, not by batch. All numbers up to the last lie below the end of the last batch.
    let last = last_number(PartitionKind::Records, header);
    if distance(last, entry.last) <= 0 && (last == entry.last || !lacks(Mutant::LastBatchOnly)) {
        return Verdict::Duplicate { base_offset: entry.base_offset, next_offset: entry.next_offset() };
    }
    // Rules 5 and 6: neither a gap nor an overlap.
    next_or_expect(entry, sender.number)
}

/// A commit is appended only under the task's own epoch, and only as the last step + 1 (STEP-2).
pub(super) fn check_commit(
    entry: Option<&TaskEntry>,
    header: &BatchHeader,
    sender: Sender,
    leader_epoch: LeaderEpoch,
) -> Verdict {
    if header.base_sequence != low_bits(sender.number) {
        return refuse("the commit's base sequence is not the step that its sender names");
    }
    if header.producer_epoch != low_epoch(sender.epoch) {
        return refuse("the commit's producer epoch is not its task's epoch");
    }
    if sender.epoch > leader_epoch {
        return Verdict::Refuse(ProducerRefusal::UnknownEpoch { current: leader_epoch, got: sender.epoch });
    }
    if sender.epoch < leader_epoch {
        let generation = entry.map_or(sender.generation, |entry| entry.generation);
        return Verdict::Refuse(ProducerRefusal::Fenced { generation, epoch: low_epoch(leader_epoch) });
    }
    if let Some(entry) = entry.filter(|entry| entry.fences(sender.generation, low_epoch(sender.epoch))) {
        return entry.fenced();
    }
    match entry.filter(|entry| entry.generation == sender.generation) {
        Some(_) if lacks(Mutant::CommitOutOfTurn) => Verdict::Append,
        Some(entry) => next_or_expect(entry, sender.number),
        None if sender.number == 0 => Verdict::Append,
        None => Verdict::Refuse(ProducerRefusal::Expect { number: 0 }),
    }
}

fn next_or_expect(entry: &TaskEntry, number: u64) -> Verdict {
    let expected = advance(entry.last, 1);
    let early = distance(low_bits(number), expected) > 0;
    if low_bits(number) == expected || (early && lacks(Mutant::OutputGapAccepted)) {
        Verdict::Append
    } else {
        Verdict::Refuse(ProducerRefusal::Expect { number: number_near(number, expected) })
    }
}
