//! What a partition has seen of each producer: who may append next, and which batch is a retry.
//!
//! Two rule sets; which one applies follows from the producer id alone, so the state is a function of the log (IDP-4,
//! STEP-11):
//!
//! ```text
//!              ordinary producer (client.rs)          task of a processor (task.rs)
//! key          producer id                            (processor, task)
//! compared     epoch, then sequence                   generation, then epoch, then number
//! next         last sequence + 1, 2^31-1 → 0          last number + 1 (31 bits of it are in the log)
//! known again  one of the last 5 batches (IDP-2)      any number ≤ last (STEP-9)
//! unknown      any sequence is accepted (IDP-5)       only number 0 (STEP-9)
//! forgotten    beyond PRODUCERS_PER_PARTITION_MAX     never (STEP-11)
//! ```
//!
//! In a changelog partition the number of a task's batch is its step: one batch, one number (STEP-2).

mod checkpoint;
mod client;
pub mod sequence;
mod snapshot;
mod staged;
mod task;
#[cfg(test)]
pub(crate) mod tests;
mod verdict;

pub use checkpoint::TaskCheckpoint;
pub use snapshot::SnapshotError;
pub use staged::StagedProducers;
pub use verdict::{Admission, PartitionKind, ProducerRefusal, Verdict};

use crate::invariant::{Violation, holds};
use crate::limits;
use client::ClientEntry;
use headwater_protocol::batch::BatchHeader;
use headwater_protocol::ids::{LeaderEpoch, ProcessorNumber, ProducerId, TaskProducer};
use std::collections::BTreeMap;
use task::TaskEntry;

/// Where a producer's state is kept: its id; for a task without the generation, so that all generations share one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct ProducerKey(i64);

const GENERATION_MASK: i64 = (TaskProducer::GENERATIONS_MAX - 1) as i64;

impl ProducerKey {
    /// The key of the producer that wrote `header`, unless the batch has no producer, no sequence or no records of a
    /// producer. A control batch of a task is its checkpoint ([`TaskCheckpoint`]).
    fn of(header: &BatchHeader) -> Option<Self> {
        let is_task = ProducerId(header.producer_id).is_task();
        let is_foreign = header.is_control() && !is_task;
        if is_foreign || header.producer_id < 0 || header.base_sequence < 0 || header.last_offset_delta < 0 {
            return None;
        }
        Some(Self(if is_task { header.producer_id & !GENERATION_MASK } else { header.producer_id }))
    }

    fn task(self) -> Option<TaskProducer> {
        ProducerId(self.0).task()
    }
}

/// One producer's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Entry {
    Client(ClientEntry),
    Task(TaskEntry),
}

impl Entry {
    /// The state after the producer's first batch.
    fn first(kind: PartitionKind, header: &BatchHeader, base_offset: i64) -> Self {
        match ProducerId(header.producer_id).task() {
            Some(task) => Self::Task(TaskEntry::first(kind, task, header, base_offset)),
            None => Self::Client(ClientEntry::first(header, base_offset)),
        }
    }

    /// Takes in one more batch of the producer.
    fn observe(&mut self, kind: PartitionKind, header: &BatchHeader, base_offset: i64) {
        match (self, ProducerId(header.producer_id).task()) {
            (Self::Task(entry), Some(task)) => entry.observe(kind, task, header, base_offset),
            (Self::Client(entry), None) => entry.observe(header, base_offset),
            // The key says which of the two an entry is.
            (Self::Task(_), None) | (Self::Client(_), Some(_)) => debug_assert!(false, "an entry under a foreign key"),
        }
    }

    fn next_offset(&self) -> i64 {
        match self {
            Self::Client(entry) => entry.next_offset(),
            Self::Task(entry) => entry.next_offset(),
        }
    }

    /// Whether both are of one ordinary producer and the same batch is the newest.
    fn ends_like(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Client(ours), Self::Client(theirs)) if ours.ends_like(theirs))
    }
}

/// The state of all producers of one partition, a function of the batches in its log, in order.
///
/// Of ordinary producers the [`limits::PRODUCERS_PER_PARTITION_MAX`] with the newest batches are kept. A forgotten one
/// is unknown again: its next batch is accepted whatever its sequence (IDP-5), and a retry of its last batches is not
/// recognised any more. Entries do not expire by time: a clock is not a function of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Producers {
    kind: PartitionKind,
    clients_max: usize,
    entries: BTreeMap<ProducerKey, Entry>,
    /// Ordinary producers by the next offset of their last batch: the first one is forgotten first.
    clients_by_age: BTreeMap<i64, ProducerKey>,
}

impl Producers {
    /// The state of an empty log.
    pub fn new(kind: PartitionKind) -> Self {
        Self::with_limit(kind, limits::PRODUCERS_PER_PARTITION_MAX)
    }

    /// As [`Self::new`], remembering at most `clients_max` ordinary producers (at least one).
    pub fn with_limit(kind: PartitionKind, clients_max: usize) -> Self {
        let clients_max = clients_max.max(1);
        Self { kind, clients_max, entries: BTreeMap::new(), clients_by_age: BTreeMap::new() }
    }

    /// What the partition's batches are.
    pub fn kind(&self) -> PartitionKind {
        self.kind
    }

    /// How many producers are remembered.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no producer is remembered.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes in a batch that is in the log at `base_offset`; the same for a batch just appended and for one read again
    /// after a restart (IDP-4). `header.base_offset` is not looked at: it may not be stamped yet. Batches must come in
    /// offset order. A batch that breaks the rules (no leader appended it) changes nothing that would un-fence.
    pub fn observe(&mut self, header: &BatchHeader, base_offset: i64) {
        let Some(key) = ProducerKey::of(header) else { return };
        let kind = self.kind;
        let mut before = None;
        let entry = self
            .entries
            .entry(key)
            .and_modify(|entry| {
                before = Some(entry.next_offset());
                entry.observe(kind, header, base_offset);
            })
            .or_insert_with(|| Entry::first(kind, header, base_offset));
        if matches!(entry, Entry::Client(_)) {
            let after = entry.next_offset();
            self.move_in_age(key, before, after);
        }
    }

    fn move_in_age(&mut self, key: ProducerKey, before: Option<i64>, after: i64) {
        if let Some(before) = before {
            self.clients_by_age.remove(&before);
        }
        let displaced = self.clients_by_age.insert(after, key);
        debug_assert!(displaced.is_none(), "two batches end at one offset");
        if self.clients_by_age.len() > self.clients_max
            && let Some((_, oldest)) = self.clients_by_age.pop_first()
        {
            self.entries.remove(&oldest);
        }
    }

    /// What should become of a batch, given only what is in the log. `leader_epoch` is that of the replica.
    pub fn check(&self, admission: Admission, header: &BatchHeader, leader_epoch: LeaderEpoch) -> Verdict {
        self.check_against(|key| self.entries.get(&key), admission, header, leader_epoch)
    }

    fn check_against<'a>(
        &self,
        entry_of: impl FnOnce(ProducerKey) -> Option<&'a Entry>,
        admission: Admission,
        header: &BatchHeader,
        leader_epoch: LeaderEpoch,
    ) -> Verdict {
        if header.last_offset_delta < 0 {
            return Verdict::Refuse(ProducerRefusal::Malformed("the batch holds no record"));
        }
        let task = ProducerId(header.producer_id).task();
        match (self.kind, admission) {
            (_, Admission::Internal) => Verdict::Append,
            (PartitionKind::Records, Admission::Client) => match ProducerKey::of(header) {
                _ if task.is_some() => refuse("the producer id is of the range that is reserved for processors' tasks"),
                _ if header.producer_id == ProducerId::NONE.0 => Verdict::Append,
                None => refuse("a producer id needs a sequence; both are -1, or both are 0 or more"),
                Some(_) if header.producer_epoch < 0 => refuse("a producer id needs a producer epoch of 0 or more"),
                Some(key) => match entry_of(key) {
                    Some(Entry::Client(entry)) => entry.check(header),
                    // IDP-5: unknown, so any sequence will do.
                    Some(Entry::Task(_)) | None => Verdict::Append,
                },
            },
            (PartitionKind::Records, Admission::TaskOutput { generation, epoch, first, .. }) => {
                let sender = task::Sender { generation, epoch, number: first };
                match task.zip(ProducerKey::of(header)) {
                    Some((task, key)) => task::check_output(task_entry(entry_of(key)), task, header, sender),
                    None => refuse("an output batch needs its task's producer id and a number"),
                }
            }
            (PartitionKind::Changelog, Admission::TaskCommit { epoch, step }) => {
                match task.zip(ProducerKey::of(header)) {
                    Some((task, key)) => {
                        let sender = task::Sender { generation: task.generation, epoch, number: step };
                        task::check_commit(task_entry(entry_of(key)), header, sender, leader_epoch)
                    }
                    None => refuse("a commit needs its task's producer id and a step number"),
                }
            }
            (PartitionKind::Changelog, Admission::Client | Admission::TaskOutput { .. }) => {
                Verdict::Refuse(ProducerRefusal::InternalPartition)
            }
            (PartitionKind::Records, Admission::TaskCommit { .. }) => {
                refuse("a commit belongs into a changelog partition, and this is none")
            }
        }
    }

    /// Every task seen, and the offsets (first, one past the last) of its last batch. Retention and cleaning keep the
    /// last *durable* batch of each task whose processor exists, its header at least (STEP-11).
    pub fn tasks(&self) -> impl Iterator<Item = (TaskProducer, i64, i64)> + '_ {
        self.entries.iter().filter_map(|(key, entry)| match entry {
            Entry::Task(entry) => {
                let task = TaskProducer { generation: entry.generation(), ..key.task()? };
                Some((task, entry.base_offset(), entry.next_offset()))
            }
            Entry::Client(_) => None,
        })
    }

    /// Base offsets of all batches that are remembered: a replay of a log in which of everything else nothing is left
    /// gives the same state, and of these the headers are enough (IDP-4, STEP-11).
    pub fn remembered_batches(&self) -> impl Iterator<Item = i64> + '_ {
        self.entries.values().flat_map(|entry| {
            let (task, client) = match entry {
                Entry::Task(entry) => (Some(entry.base_offset()), None),
                Entry::Client(entry) => (None, Some(entry.base_offsets())),
            };
            task.into_iter().chain(client.into_iter().flatten())
        })
    }

    /// The log begins at `log_start` now: of ordinary producers only what lies behind it is remembered, as a replay of
    /// what is left would give it (IDP-4, IDP-5). Tasks stay: whoever moves the log's start sees to it that each has a
    /// batch behind it (STEP-11).
    pub fn forget_before(&mut self, log_start: i64) {
        let by_age = &mut self.clients_by_age;
        self.entries.retain(|_, entry| match entry {
            Entry::Task(_) => true,
            Entry::Client(entry) => {
                let stays = entry.forget_before(log_start);
                if !stays {
                    by_age.remove(&entry.next_offset());
                }
                stays
            }
        });
    }

    /// As [`Self::forget_before`], for a state that comes from a snapshot: also forgets tasks without a batch behind
    /// `log_start`. Those were of processors that were deleted before the log's start moved; a task that lives has one
    /// (STEP-11).
    pub fn forget_all_before(&mut self, log_start: i64) {
        self.forget_before(log_start);
        self.entries.retain(|_, entry| matches!(entry, Entry::Client(_)) || entry.next_offset() > log_start);
    }

    /// Forgets all tasks of a processor that was deleted. Its number is never used again (STEP-11).
    pub fn forget_processor(&mut self, processor: ProcessorNumber) {
        self.entries.retain(|key, _| key.task().is_none_or(|task| task.processor != processor));
    }

    /// Checks the whole state of a log that ends at `log_end`.
    pub fn invariants(&self, log_end: i64) -> Result<(), Violation> {
        holds(self.clients_by_age.len() <= self.clients_max, "remembered producers stay within their limit")?;
        let mut clients = 0;
        for (key, entry) in &self.entries {
            holds(entry.next_offset() <= log_end, "what was seen lies in the log")?;
            holds(matches!(entry, Entry::Task(_)) == key.task().is_some(), "the id tells which rules apply (STEP-9)")?;
            if let Entry::Client(entry) = entry {
                clients += 1;
                entry.invariants()?;
                let aged = self.clients_by_age.get(&entry.next_offset());
                holds(aged == Some(key), "each ordinary producer has its place by age")?;
            }
        }
        holds(clients == self.clients_by_age.len(), "nobody else has a place by age")
    }
}

fn task_entry(entry: Option<&Entry>) -> Option<&TaskEntry> {
    match entry {
        Some(Entry::Task(entry)) => Some(entry),
        Some(Entry::Client(_)) | None => None,
    }
}

fn refuse(why: &'static str) -> Verdict {
    Verdict::Refuse(ProducerRefusal::Malformed(why))
}
