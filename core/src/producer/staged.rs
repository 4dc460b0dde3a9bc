//! Producer state with the batches that are on their way into the log on top.
//!
//! ```text
//!   check ─► staged entry, else settled entry        stage: a batch was given its offset
//!                │                  ▲
//!                └─── settle ───────┘                settle: it is in the log
//!                                                    roll back: it will never be; all staged ones go
//! ```
//!
//! Settled state sees a batch only when it is in the log, so it is at each moment what a replay of the log would give.

use super::checkpoint::TaskCheckpoint;
use super::{Admission, Entry, PartitionKind, ProducerKey, Producers, Verdict};
use crate::invariant::{Violation, holds};
use headwater_protocol::batch::BatchHeader;
use headwater_protocol::ids::{LeaderEpoch, ProcessorNumber};

/// One producer with batches on their way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct StagedEntry {
    key: ProducerKey,
    /// The state as it will be when all those batches are in the log.
    entry: Entry,
    batches: u32,
}

/// [`Producers`] of a leader: what is in the log, and what will be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StagedProducers {
    settled: Producers,
    /// Sorted by key; a vector, because few producers write between two appends and it keeps its room.
    staged: Vec<StagedEntry>,
}

impl StagedProducers {
    /// Nothing is on its way yet.
    pub fn new(settled: Producers) -> Self {
        Self { settled, staged: Vec::new() }
    }

    /// The state of what is in the log.
    pub fn settled(&self) -> &Producers {
        &self.settled
    }

    /// As [`Producers::forget_processor`].
    pub fn forget_processor(&mut self, processor: ProcessorNumber) {
        self.settled.forget_processor(processor);
    }

    /// As [`Producers::forget_before`]; who has a batch on its way knows no more of the rest than the log does.
    pub fn forget_before(&mut self, log_start: i64) {
        self.settled.forget_before(log_start);
        for staged in &mut self.staged {
            if let Entry::Client(entry) = &mut staged.entry {
                let stays = entry.forget_before(log_start);
                debug_assert!(stays, "what is on its way lies behind the log's start");
            }
        }
    }

    /// Tasks of which no batch would be left if the log began at `log_start`, each as the checkpoint that keeps it. One
    /// with a batch on its way is not among them: that one lies behind.
    pub fn tasks_before(&self, log_start: i64) -> impl Iterator<Item = TaskCheckpoint> + '_ {
        let tasks = self.settled.entries.iter().filter(|(key, _)| self.place(**key).is_err());
        tasks.filter_map(move |(key, entry)| match entry {
            Entry::Task(entry) if entry.base_offset() < log_start => TaskCheckpoint::of(key.task()?, entry),
            Entry::Task(_) | Entry::Client(_) => None,
        })
    }

    /// What should become of a batch, given the log and the batches on their way into it.
    pub fn check(&self, admission: Admission, header: &BatchHeader, leader_epoch: LeaderEpoch) -> Verdict {
        self.settled.check_against(|key| self.entry(key), admission, header, leader_epoch)
    }

    fn entry(&self, key: ProducerKey) -> Option<&Entry> {
        match self.place(key) {
            Ok(place) => self.staged.get(place).map(|staged| &staged.entry),
            Err(_) => self.settled.entries.get(&key),
        }
    }

    fn place(&self, key: ProducerKey) -> Result<usize, usize> {
        self.staged.binary_search_by_key(&key, |staged| staged.key)
    }

    fn kind(&self) -> PartitionKind {
        self.settled.kind
    }

    /// A batch was given `base_offset` and is on its way.
    pub fn stage(&mut self, header: &BatchHeader, base_offset: i64) {
        let Some(key) = ProducerKey::of(header) else { return };
        let kind = self.kind();
        match self.place(key) {
            Ok(place) => {
                let staged = &mut self.staged[place];
                staged.entry.observe(kind, header, base_offset);
                staged.batches += 1;
            }
            Err(place) => {
                let entry = match self.settled.entries.get(&key) {
                    Some(entry) => {
                        let mut entry = *entry;
                        entry.observe(kind, header, base_offset);
                        entry
                    }
                    None => Entry::first(kind, header, base_offset),
                };
                self.staged.insert(place, StagedEntry { key, entry, batches: 1 });
            }
        }
    }

    /// The oldest batch on its way is in the log now; `header` and `base_offset` as it was staged.
    pub fn settle(&mut self, header: &BatchHeader, base_offset: i64) {
        self.settled.observe(header, base_offset);
        let Some(key) = ProducerKey::of(header) else { return };
        let Ok(place) = self.place(key) else {
            debug_assert!(false, "a batch that is settled was staged");
            return;
        };
        let staged = &mut self.staged[place];
        staged.batches -= 1;
        if staged.batches == 0 {
            self.staged.remove(place);
        }
    }

    /// None of the batches on their way will get into the log.
    pub fn roll_back(&mut self) {
        self.staged.clear();
    }

    /// Checks the whole state: the log ends at `log_end`, and these batches are on their way to their offsets.
    pub(crate) fn invariants(
        &self,
        log_end: i64,
        on_their_way: impl Iterator<Item = (BatchHeader, i64)>,
    ) -> Result<(), Violation> {
        self.settled.invariants(log_end)?;
        holds(self.staged.is_sorted_by_key(|staged| staged.key), "staged producers are in order")?;
        let mut replayed = Self::new(self.settled.clone());
        on_their_way.for_each(|(header, base_offset)| replayed.stage(&header, base_offset));
        holds(replayed.staged.len() == self.staged.len(), "who has a batch on its way is staged, and nobody else")?;
        for (ours, theirs) in self.staged.iter().zip(&replayed.staged) {
            holds(ours.key == theirs.key && ours.batches == theirs.batches, "each batch on its way is staged once")?;
            // An ordinary producer can be forgotten while its batches are on their way; it was staged knowing more.
            let same = ours.entry == theirs.entry || ours.entry.ends_like(&theirs.entry);
            holds(same, "staged state = settled state + batches on their way")?;
        }
        Ok(())
    }
}
