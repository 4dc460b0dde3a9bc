//! What cleaning leaves of a changelog: which records go, and how what is left of a commit is read (STEP-13).
//!
//! Below the durable floor outputs are acknowledged, so outbox records are dead; of all others the newest of each key
//! is the task's state. A commit of which records are gone tells state, and no longer what the step did.

use super::key::{Fields, Key, Kind};
use super::{Commit, CommitError, InputPosition, StateChange, TimerChange};
use crate::producer::sequence::number_near;
use crate::task::limits::TIMER_ID_BYTES_MAX;
use bytes::Bytes;
use headwater_protocol::batch::{BatchHeader, BatchLimits, RecordBatch, Records};
use headwater_protocol::ids::{LeaderEpoch, TaskProducer, TopicPartition};

/// What a record of a commit below the durable floor is to compaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangelogVerdict {
    /// State: the newest of its key stays. The key is the record's.
    Key,
    /// The newest of its key says that there is nothing.
    Tombstone,
    /// Nobody needs it any more.
    Dead,
    /// Of a kind that this version does not know.
    Keep,
}

/// What a record with this key, and with a value or without, is to compaction.
pub fn changelog_verdict(key: Option<&[u8]>, has_value: bool) -> ChangelogVerdict {
    match key.map(Key::decode) {
        Some(Ok(key)) if key.kind() == Kind::Outbox => ChangelogVerdict::Dead,
        Some(Ok(_)) if has_value => ChangelogVerdict::Key,
        Some(Ok(_)) => ChangelogVerdict::Tombstone,
        None | Some(Err(_)) => ChangelogVerdict::Keep,
    }
}

/// What is left of a commit that was cleaned.
#[derive(Clone, Debug)]
pub struct CommitRemains {
    header: BatchHeader,
    task: TaskProducer,
    positions: Vec<(TopicPartition, InputPosition)>,
    numbers: Vec<(TopicPartition, u64)>,
    stream_time: Option<i64>,
    timers: Vec<TimerChange>,
    records: Records,
}

impl CommitRemains {
    /// Whether records of a commit are gone, by its header.
    pub fn is_cleaned(header: &BatchHeader) -> bool {
        Commit::is_commit(header) && i64::from(header.record_count) <= i64::from(header.last_offset_delta)
    }

    /// Reads what is left.
    ///
    /// # Errors
    /// [`CommitError`] for records that no encoder wrote.
    pub fn decode(batch: &RecordBatch) -> Result<Self, CommitError> {
        let header = *batch.header();
        let task = header.producer().and_then(|producer| producer.task());
        let task = task.filter(|_| Commit::is_commit(&header)).ok_or(CommitError::NotACommit(header.producer_id))?;
        let records = batch.records(&BatchLimits::INTERNAL)?;
        let mut remains = Self {
            header,
            task,
            positions: Vec::new(),
            numbers: Vec::new(),
            stream_time: None,
            timers: Vec::new(),
            records: records.clone(),
        };
        for record in &records {
            let record = record?;
            let key = Key::decode(record.key.ok_or(CommitError::Malformed("a record has no key"))?)?;
            remains.take(&key, record.value)?;
        }
        Ok(remains)
    }

    fn take(&mut self, key: &Key<'_>, value: Option<&[u8]>) -> Result<(), CommitError> {
        let present = value.ok_or(CommitError::Malformed("a record has no value"));
        match key {
            Key::Position(input) => {
                let mut fields = Fields(present?);
                let (next_offset, leader_epoch) = (fields.i64()?, LeaderEpoch(fields.i32()?));
                self.positions.push((*input, fields.end(InputPosition { next_offset, leader_epoch })?));
            }
            Key::Number(output) => {
                let mut fields = Fields(present?);
                let next = fields.u64()?;
                self.numbers.push((*output, fields.end(next)?));
            }
            Key::StreamTime => {
                let mut fields = Fields(present?);
                let stream_time = fields.i64()?;
                self.stream_time = Some(fields.end(stream_time)?);
            }
            Key::Timer(id) if id.len() > TIMER_ID_BYTES_MAX => {
                return Err(CommitError::Malformed("a timer's id is too long"));
            }
            Key::Timer(id) => {
                let at = value.map(|value| {
                    let mut fields = Fields(value);
                    let at = fields.i64()?;
                    fields.end(at)
                });
                self.timers.push(TimerChange { id: self.records.payload().slice_ref(id), at: at.transpose()? });
            }
            // What the step did, and what it sent, is over.
            Key::Step | Key::Outbox { .. } | Key::State { .. } => {}
        }
        Ok(())
    }

    /// Whose commit it was, and of which generation.
    pub fn task(&self) -> TaskProducer {
        self.task
    }

    /// Offset of the commit's first record.
    pub fn base_offset(&self) -> i64 {
        self.header.base_offset
    }

    /// One past the offset of the commit's last record.
    pub fn next_offset(&self) -> i64 {
        self.header.next_offset()
    }

    /// Its step, of which the header has 31 bits: the number nearest to `around`.
    pub fn step_near(&self, around: u64) -> u64 {
        number_near(around, self.header.base_sequence.max(0))
    }

    /// As [`Commit::positions`].
    pub fn positions(&self) -> &[(TopicPartition, InputPosition)] {
        &self.positions
    }

    /// As [`Commit::numbers`].
    pub fn numbers(&self) -> &[(TopicPartition, u64)] {
        &self.numbers
    }

    /// As [`Commit::stream_time`].
    pub fn stream_time(&self) -> Option<i64> {
        self.stream_time
    }

    /// As [`Commit::timers`].
    pub fn timers(&self) -> &[TimerChange] {
        &self.timers
    }

    /// As [`Commit::shared_changes`].
    pub fn shared_changes(&self) -> impl Iterator<Item = (u32, Bytes, Option<Bytes>)> {
        let payload = self.records.payload();
        super::decode::changes_of(&self.records).map(|StateChange { store, key, value }| {
            (store, payload.slice_ref(key), value.map(|value| payload.slice_ref(value)))
        })
    }
}
