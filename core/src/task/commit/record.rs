//! The step record and its parts.

use super::CommitError;
use crate::task::limits::CAUSE_BYTES_MAX;
use bytes::Bytes;
use headwater_protocol::ids::{LeaderEpoch, ModuleDigest, TopicPartition};
use serde::{Deserialize, Serialize};

/// Version byte of the step record that follows.
const VERSION: u8 = 0;

/// What was deployed when the step ran.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Revision {
    /// Counts deployments of the processor's name, from 1.
    pub number: u32,
    /// The module that ran.
    pub module: ModuleDigest,
}

/// What a step read of one input partition: offsets `from..to`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InputRange {
    /// The input partition.
    pub input: TopicPartition,
    /// First offset; where the step before ended.
    pub from: i64,
    /// One past the last offset. Equal to `from` in a commit that only pins where the task begins.
    pub to: i64,
    /// Leader epoch in the batch of the last record; of the range before when there is none.
    pub leader_epoch: LeaderEpoch,
    /// Records the guest saw: offsets may be missing after compaction.
    pub record_count: u32,
    /// CRC-32C over the uncompressed bytes of those records, in order.
    pub crc: u32,
}

/// Where to go on reading an input partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InputPosition {
    /// The next offset.
    pub next_offset: i64,
    /// Leader epoch in the batch of the last record below it: detects an input that was truncated (TRN rules).
    pub leader_epoch: LeaderEpoch,
}

/// What became of a record that the guest could not process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum DecisionKind {
    /// It was left out.
    Skipped,
    /// It was left out and described in an output of the same commit.
    DeadLettered,
}

/// A record that the error policy took out of the step.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Decision {
    /// The input partition.
    pub input: TopicPartition,
    /// The record's offset.
    pub offset: i64,
    /// What became of it.
    pub kind: DecisionKind,
    /// What the guest or the host said; at most [`CAUSE_BYTES_MAX`] bytes are kept.
    pub cause: String,
}

/// One batch of outputs, as the step record lists it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OutputTouched {
    /// The output partition.
    pub output: TopicPartition,
    /// Number of the first record (STEP-8).
    pub first: u64,
    /// Records.
    pub count: u32,
    /// CRC-32C over the records as framed: all of the batch behind its header.
    pub crc: u32,
}

/// Where a re-send takes the step's outputs from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum OutputForm {
    /// From the commit itself.
    Inline,
}

/// Record 0 of a commit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StepRecord {
    /// The step's number; the first of a generation is 0, the next one more.
    pub step: u64,
    /// Counts resets of the processor (STEP-16).
    pub generation: u32,
    /// The task's epoch: leader epoch of the changelog under which the step was appended (STEP-2).
    pub epoch: LeaderEpoch,
    /// What ran.
    pub revision: Revision,
    /// Lowest step with an output not known acknowledged, this one included; `step + 1` if there is none (STEP-12).
    pub floor: u64,
    /// Where outputs are.
    pub form: OutputForm,
    /// What was read.
    pub inputs: Vec<InputRange>,
    /// What was left out.
    pub decisions: Vec<Decision>,
    /// What is written, by ordinal.
    pub outputs: Vec<OutputTouched>,
}

impl StepRecord {
    /// Version byte and postcard, appended to `place`.
    pub(super) fn encode(&self, place: &mut Vec<u8>) -> Result<(), CommitError> {
        place.push(VERSION);
        let bytes = postcard::to_extend(self, std::mem::take(place))
            .map_err(|_| CommitError::Malformed("the step record can't be encoded"))?;
        *place = bytes;
        Ok(())
    }

    /// The step record that is exactly `bytes`. Allocates no more than a small multiple of them.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, CommitError> {
        let (version, bytes) = bytes.split_first().ok_or(CommitError::Malformed("the step record is empty"))?;
        if *version != VERSION {
            return Err(CommitError::UnknownVersion(*version));
        }
        let (record, rest) = postcard::take_from_bytes::<Self>(bytes)
            .map_err(|_| CommitError::Malformed("the step record can't be decoded"))?;
        if !rest.is_empty() {
            return Err(CommitError::Malformed("bytes follow the step record"));
        }
        record.check()?;
        Ok(record)
    }

    fn check(&self) -> Result<(), CommitError> {
        if self.floor > self.step.saturating_add(1) {
            return Err(CommitError::Malformed("the floor is beyond the step (STEP-12)"));
        }
        for range in &self.inputs {
            let offsets = range.to.checked_sub(range.from);
            if range.from < 0 || offsets.is_none_or(|offsets| offsets < i64::from(range.record_count)) {
                return Err(CommitError::Malformed("an input range holds fewer offsets than records"));
            }
        }
        if self.outputs.iter().any(|touched| touched.first.checked_add(u64::from(touched.count)).is_none()) {
            return Err(CommitError::Malformed("output numbers overflow"));
        }
        Ok(())
    }
}

impl Decision {
    /// A decision with its cause cut to [`CAUSE_BYTES_MAX`].
    pub fn new(input: TopicPartition, offset: i64, kind: DecisionKind, cause: &str) -> Self {
        let cause = cause.get(..cause.floor_char_boundary(CAUSE_BYTES_MAX)).unwrap_or_default();
        Self { input, offset, kind, cause: cause.to_owned() }
    }
}

/// A timer that a step sets, replaces or removes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimerChange {
    /// The timer's id.
    pub id: Bytes,
    /// Stream time at which it fires, or `None`: it fired or was cancelled.
    pub at: Option<i64>,
}
