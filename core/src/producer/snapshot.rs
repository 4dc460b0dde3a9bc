//! Producer state as bytes, to be kept beside the log (LOG-8): with the batches behind it, it gives what the whole log
//! gives. Written for ever as they are; a change is another version.

use super::client::{ClientEntry, SeenBatch};
use super::task::TaskEntry;
use super::{Entry, PartitionKind, ProducerKey, Producers};
use crate::limits::BATCHES_PER_PRODUCER;
use headwater_protocol::ids::ProducerId;
use serde::{Deserialize, Serialize};

/// The encoding that [`Producers::snapshot`] writes.
const VERSION: u8 = 1;

/// Bytes are no snapshot of this partition's producers. Whoever finds that reads the log instead.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A later broker wrote it.
    #[error("producer snapshot of version {0}, this broker reads {VERSION}: it was written by a later one")]
    Version(
        /// The version in front.
        u8,
    ),
    /// Disk: not what any broker wrote.
    #[error("damaged producer snapshot: {0}")]
    Damaged(
        /// What is wrong with it.
        &'static str,
    ),
}

/// Version 1, behind the version byte, in postcard.
#[derive(Serialize, Deserialize)]
struct Snapshot {
    is_changelog: bool,
    /// By producer id, each once.
    clients: Vec<Client>,
    /// By key, each once.
    tasks: Vec<Task>,
}

#[derive(Serialize, Deserialize)]
struct Client {
    producer: i64,
    epoch: i16,
    /// Base offset, base sequence, last offset delta; oldest first.
    batches: Vec<(i64, i32, i32)>,
}

#[derive(Serialize, Deserialize)]
struct Task {
    key: i64,
    generation: u32,
    epoch: i16,
    last: i32,
    base_offset: i64,
    last_offset_delta: i32,
}

impl Producers {
    /// The state as bytes: version byte, then postcard. About 20 bytes a remembered batch.
    #[must_use]
    #[expect(clippy::expect_used, reason = "derived types into a growing vector: nothing there can fail")]
    pub fn snapshot(&self) -> Vec<u8> {
        let mut snapshot = Snapshot {
            is_changelog: self.kind == PartitionKind::Changelog,
            clients: Vec::with_capacity(self.clients_by_age.len()),
            tasks: Vec::with_capacity(self.entries.len().saturating_sub(self.clients_by_age.len())),
        };
        for (key, entry) in &self.entries {
            match entry {
                Entry::Client(entry) => snapshot.clients.push(Client {
                    producer: key.0,
                    epoch: entry.epoch,
                    batches: entry.seen().iter().map(SeenBatch::parts).collect(),
                }),
                Entry::Task(entry) => {
                    let (generation, epoch, last, base_offset, last_offset_delta) = entry.parts();
                    snapshot.tasks.push(Task { key: key.0, generation, epoch, last, base_offset, last_offset_delta });
                }
            }
        }
        postcard::to_extend(&snapshot, vec![VERSION]).expect("a snapshot has no map and no sequence of unknown length")
    }

    /// The state that [`Self::snapshot`] wrote of a partition of this kind, whose log ended at `log_end` then.
    ///
    /// # Errors
    /// [`SnapshotError`] for anything else.
    pub fn restore(kind: PartitionKind, log_end: i64, bytes: &[u8]) -> Result<Self, SnapshotError> {
        let damaged = SnapshotError::Damaged;
        let (version, snapshot) = bytes.split_first().ok_or(damaged("it is empty"))?;
        if *version != VERSION {
            return Err(SnapshotError::Version(*version));
        }
        let snapshot: Snapshot = match postcard::take_from_bytes(snapshot) {
            Ok((snapshot, [])) => snapshot,
            Ok(_) | Err(_) => return Err(damaged("it can't be decoded")),
        };
        if snapshot.is_changelog != (kind == PartitionKind::Changelog) {
            return Err(damaged("it is of another kind of partition"));
        }
        let mut producers = Self::new(kind);
        if snapshot.clients.len() > producers.clients_max {
            return Err(damaged("it has more producers than a partition remembers"));
        }
        for client in snapshot.clients {
            let is_client = client.producer >= 0 && !ProducerId(client.producer).is_task();
            let entry = ClientEntry::of_parts(client.epoch, &client.batches).filter(|_| is_client);
            let entry = entry.ok_or(damaged("a producer's batches make no sense"))?;
            let displaced = producers.clients_by_age.insert(entry.next_offset(), ProducerKey(client.producer));
            let known = producers.entries.insert(ProducerKey(client.producer), Entry::Client(entry));
            if displaced.is_some() || known.is_some() {
                return Err(damaged("a producer or a batch is in it twice"));
            }
        }
        for task in snapshot.tasks {
            let Task { key, generation, epoch, last, base_offset, last_offset_delta } = task;
            let entry = TaskEntry::of_parts(generation, epoch, last, base_offset, last_offset_delta);
            let key = Some(ProducerKey(key)).filter(|key| key.task().is_some_and(|task| task.generation == 0));
            let (key, entry) = key.zip(entry).ok_or(damaged("a task's last batch makes no sense"))?;
            if producers.entries.insert(key, Entry::Task(entry)).is_some() {
                return Err(damaged("a task is in it twice"));
            }
        }
        producers.invariants(log_end).map_err(|_| damaged("it contradicts itself, or the log"))?;
        Ok(producers)
    }
}

impl SeenBatch {
    fn parts(&self) -> (i64, i32, i32) {
        (self.base_offset, self.base_sequence, self.last_offset_delta)
    }

    fn of_parts((base_offset, base_sequence, last_offset_delta): (i64, i32, i32)) -> Option<Self> {
        let is_sound = base_offset >= 0 && base_sequence >= 0 && last_offset_delta >= 0;
        is_sound.then_some(Self { base_offset, base_sequence, last_offset_delta })
    }
}

impl ClientEntry {
    fn of_parts(epoch: i16, batches: &[(i64, i32, i32)]) -> Option<Self> {
        let count =
            u8::try_from(batches.len()).ok().filter(|count| (1..=BATCHES_PER_PRODUCER as u8).contains(count))?;
        let mut entry = Self { epoch, count, batches: Default::default() };
        for (place, parts) in entry.batches.iter_mut().zip(batches) {
            *place = SeenBatch::of_parts(*parts)?;
        }
        Some(entry).filter(|_| epoch >= 0)
    }
}

impl TaskEntry {
    fn parts(&self) -> (u32, i16, i32, i64, i32) {
        (self.generation, self.epoch, self.last, self.base_offset, self.last_offset_delta)
    }

    fn of_parts(generation: u32, epoch: i16, last: i32, base_offset: i64, last_offset_delta: i32) -> Option<Self> {
        let is_sound = epoch >= 0 && last >= 0 && base_offset >= 0 && last_offset_delta >= 0;
        is_sound.then_some(Self { generation, epoch, last, base_offset, last_offset_delta })
    }
}
