//! Commits of steps: what a damaged changelog would hold.

use crate::batch::{repaired, valid};
use crate::edits::edited;
use bytes::Bytes;
use headwater_core::task::TaskImage;
use headwater_core::task::commit::{
    Commit, CommitContents, CommitEncoder, InputRange, OutputBatch, OutputForm, OutputTouched, Revision, StateChange,
    StepRecord,
};
use headwater_protocol::batch::{BATCH_HEADER_BYTES, ProducerStamp, RecordBatch};
use headwater_protocol::ids::{LeaderEpoch, ModuleDigest, ProcessorNumber, TaskProducer, TopicId, TopicPartition};

const TASK: TaskProducer = TaskProducer { processor: ProcessorNumber(7), task: 3, generation: 0 };
const COMMIT_BYTES_MAX: usize = 1 << 20;

/// A commit with one of everything, edited, its length and CRC right; decoded, and replayed if it is one.
///
/// # Panics
/// When a commit that is taken holds what its batch has no room for.
pub fn commit(input: &[u8]) {
    let bytes = Bytes::from(repaired(edited(&valid_commit(), input)));
    let Ok(batch) = RecordBatch::decode(bytes) else { return };
    let Ok(commit) = Commit::decode(&batch) else { return };
    let outbox: usize = commit.outbox().iter().map(|output| output.bytes.len()).sum();
    assert!(outbox < batch.bytes().len(), "what is in a commit shares its bytes");
    assert_eq!(commit.changes().count(), commit.change_count());
    let mut image = TaskImage::new(TASK.processor, TASK.task);
    if image.replay(&commit).is_ok() {
        assert!(image.floor() <= commit.step().step + 1);
    }
}

fn valid_commit() -> Vec<u8> {
    let partition = |topic, partition| TopicPartition { topic: TopicId([topic; 16]), partition };
    let stamp =
        ProducerStamp { producer_id: TASK.producer_id().map_or(-1, |id| id.0), producer_epoch: 5, base_sequence: 0 };
    let output = OutputBatch { output: partition(2, 1), first: 0, bytes: valid(0, stamp).into() };
    let crc = crc32c::crc32c(output.bytes.get(BATCH_HEADER_BYTES..).unwrap_or_default());
    let (input, from, to) = (partition(1, 0), 100, 103);
    let step = StepRecord {
        step: 0,
        generation: 0,
        epoch: LeaderEpoch(5),
        revision: Revision { number: 4, module: ModuleDigest([0xab; 32]) },
        floor: 0,
        form: OutputForm::Inline,
        inputs: vec![InputRange { input, from, to, leader_epoch: LeaderEpoch(2), record_count: 2, crc: 77 }],
        decisions: Vec::new(),
        outputs: vec![OutputTouched { output: output.output, first: 0, count: 3, crc }],
    };
    let contents = CommitContents {
        timestamp: 9,
        step: &step,
        numbers: &[(output.output, 3)],
        stream_time: Some(1_000),
        timers: &[],
        outbox: std::slice::from_ref(&output),
    };
    let change = StateChange { store: 0, key: b"key", value: Some(b"value") };
    let encoded = CommitEncoder::new(COMMIT_BYTES_MAX).encode(&contents, [change], stamp);
    encoded.map(|bytes| bytes.to_vec()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::fuzz!(commits, 100_000, commit);

    #[test]
    fn what_is_edited_is_valid_before() {
        let batch = RecordBatch::decode(valid_commit().into()).unwrap();
        let commit = Commit::decode(&batch).unwrap();
        assert_eq!((commit.outbox().len(), commit.change_count()), (1, 1));
        TaskImage::new(TASK.processor, TASK.task).replay(&commit).unwrap();
    }
}
