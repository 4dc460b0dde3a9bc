//! The bytes of a commit: there and back, and what is refused.

mod golden;
mod hostile;

use super::*;
use crate::producer::sequence::{low_bits, low_epoch};
use bytes::Bytes;
use headwater_protocol::batch::{BatchBuilder, Compression, ProducerStamp, RecordBatch, stamp};
use headwater_protocol::ids::{LeaderEpoch, ModuleDigest, ProcessorNumber, TaskProducer, TopicId, TopicPartition};
use proptest::prelude::*;

pub(super) const TASK: TaskProducer = TaskProducer { processor: ProcessorNumber(7), task: 3, generation: 2 };

pub(super) fn partition(topic: u8, partition: u32) -> TopicPartition {
    TopicPartition { topic: TopicId([topic; 16]), partition }
}

fn producer_stamp(epoch: i32, number: u64) -> ProducerStamp {
    ProducerStamp {
        producer_id: TASK.producer_id().unwrap().0,
        producer_epoch: low_epoch(LeaderEpoch(epoch)),
        base_sequence: low_bits(number),
    }
}

pub(super) fn output(to: TopicPartition, epoch: i32, first: u64, values: &[&[u8]]) -> OutputBatch {
    let mut builder = BatchBuilder::new(Compression::None);
    for value in values {
        builder.append(9, None, Some(value), &[]).unwrap();
    }
    OutputBatch { output: to, first, bytes: builder.build(producer_stamp(epoch, first)).unwrap().freeze() }
}

/// A whole step, as a driver would have it.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    pub(super) record: StepRecord,
    pub(super) numbers: Vec<(TopicPartition, u64)>,
    pub(super) stream_time: Option<i64>,
    pub(super) timers: Vec<TimerChange>,
    pub(super) changes: Vec<(u32, Bytes, Option<Bytes>)>,
    pub(super) outbox: Vec<OutputBatch>,
}

impl Whole {
    pub(super) fn empty(step: u64) -> Self {
        let record = StepRecord {
            step,
            generation: TASK.generation,
            epoch: LeaderEpoch(5),
            revision: Revision { number: 4, module: ModuleDigest([0xab; 32]) },
            floor: step,
            form: OutputForm::Inline,
            inputs: Vec::new(),
            decisions: Vec::new(),
            outputs: Vec::new(),
        };
        let (numbers, timers, changes, outbox) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { record, numbers, stream_time: None, timers, changes, outbox }
    }

    /// One of everything.
    pub(super) fn full() -> Self {
        let mut whole = Self::empty(12);
        let input = partition(1, 0);
        let range = InputRange { input, from: 100, to: 103, leader_epoch: LeaderEpoch(2), record_count: 2, crc: 77 };
        whole.record.floor = 11;
        whole.record.inputs = vec![range];
        whole.record.decisions = vec![Decision::new(input, 101, DecisionKind::Skipped, "no")];
        whole.push_output(partition(2, 1), 40, &[b"one", b"two"]);
        whole.push_output(partition(2, 0), 7, &[b"three"]);
        whole.push_output(partition(2, 1), 42, &[b"four"]);
        whole.stream_time = Some(1_000);
        whole.timers = vec![
            TimerChange { id: Bytes::from_static(b"soon"), at: Some(2_000) },
            TimerChange { id: Bytes::from_static(b"late"), at: None },
        ];
        whole.changes = vec![
            (0, Bytes::from_static(b"key"), Some(Bytes::from_static(b"value"))),
            (0, Bytes::from_static(b"gone"), None),
            (1, Bytes::new(), Some(Bytes::new())),
        ];
        whole
    }

    pub(super) fn push_output(&mut self, to: TopicPartition, first: u64, values: &[&[u8]]) {
        let batch = output(to, self.record.epoch.0, first, values);
        let count = values.len() as u32;
        self.record.outputs.push(batch.touched(count));
        self.outbox.push(batch);
        self.numbers.retain(|(output, _)| *output != to);
        self.numbers.push((to, first + u64::from(count)));
        self.numbers.sort();
    }

    pub(super) fn try_encode(&self, bytes_max: usize) -> Result<Bytes, CommitError> {
        let contents = CommitContents {
            timestamp: 1_700_000_000_000,
            step: &self.record,
            numbers: &self.numbers,
            stream_time: self.stream_time,
            timers: &self.timers,
            outbox: &self.outbox,
        };
        let changes =
            self.changes.iter().map(|(store, key, value)| StateChange { store: *store, key, value: value.as_deref() });
        let stamp = producer_stamp(self.record.epoch.0, self.record.step);
        CommitEncoder::new(bytes_max).encode(&contents, changes, stamp).map(|bytes| bytes.freeze())
    }

    pub(super) fn encode(&self) -> Bytes {
        self.try_encode(16 << 20).unwrap()
    }
}

pub(super) fn decode(bytes: Bytes) -> Result<Commit, CommitError> {
    Commit::decode(&RecordBatch::decode(bytes).unwrap())
}

fn assert_same(whole: &Whole, commit: &Commit) {
    assert_eq!(commit.task(), TASK);
    assert_eq!(commit.step(), &whole.record);
    let positions: Vec<_> =
        whole.record.inputs.iter().map(|range| (range.input, range.to, range.leader_epoch)).collect();
    let read: Vec<_> = commit.positions().iter().map(|(input, at)| (*input, at.next_offset, at.leader_epoch)).collect();
    assert_eq!(read, positions);
    assert_eq!(commit.numbers(), whole.numbers);
    assert_eq!(commit.stream_time(), whole.stream_time);
    assert_eq!(commit.timers(), whole.timers);
    assert_eq!(commit.change_count(), whole.changes.len());
    assert_eq!(commit.shared_changes().collect::<Vec<_>>(), whole.changes);
    let outbox: Vec<_> = commit.outbox().iter().map(|batch| (batch.output, batch.first, batch.bytes.clone())).collect();
    let written: Vec<_> = whole.outbox.iter().map(|batch| (batch.output, batch.first, batch.bytes.clone())).collect();
    assert_eq!(outbox, written);
}

#[test]
fn a_step_is_one_batch_and_comes_back_whole() {
    // covers STEP-1 (one batch), STEP-6 (every choice is in it), STEP-8 (numbers are in it)
    for whole in [Whole::full(), Whole::empty(0), Whole::empty(u64::from(u32::MAX) + 3)] {
        let mut bytes = whole.try_encode(16 << 20).unwrap().to_vec();
        stamp(&mut bytes, 500, LeaderEpoch(5));
        let commit = decode(bytes.into()).unwrap();
        assert_same(&whole, &commit);
        let records = 1 + commit.positions().len() + commit.numbers().len() + whole.stream_time.iter().len();
        let records = records + whole.timers.len() + whole.changes.len() + whole.outbox.len();
        assert_eq!((commit.base_offset(), commit.next_offset()), (500, 500 + records as i64));
        assert_eq!(commit.timestamp(), 1_700_000_000_000);
    }
}

#[test]
fn the_header_names_task_epoch_and_step() {
    // covers STEP-2 (what the replica's loop compares), STEP-8 (producer id and generation)
    let mut whole = Whole::empty((1 << 31) + 6);
    whole.record.epoch = LeaderEpoch(0x1_8003);
    let header = *RecordBatch::decode(whole.encode()).unwrap().header();
    assert_eq!(header.producer().unwrap().task(), Some(TASK));
    assert_eq!((header.producer_epoch, header.base_sequence), (3, 6), "low 15 and low 31 bits");
    assert!(Commit::is_commit(&header));
}

#[test]
fn outputs_are_slices_of_the_commit() {
    let bytes = Whole::full().encode();
    let range = bytes.as_ptr_range();
    let commit = decode(bytes.clone()).unwrap();
    for batch in commit.outbox() {
        assert!(range.contains(&batch.bytes.as_ptr()), "no copy");
        RecordBatch::decode(batch.bytes.clone()).unwrap();
    }
    assert!(commit.shared_changes().all(|(_, key, _)| key.is_empty() || range.contains(&key.as_ptr())));
}

#[test]
fn a_step_that_does_not_fit_is_refused_and_the_encoder_stays_usable() {
    // covers STEP-1 (a step that does not fit takes a shorter range)
    let whole = Whole::full();
    let size = whole.encode().len();
    assert_eq!(whole.try_encode(size).unwrap().len(), size, "it just fits");
    assert_eq!(whole.try_encode(size - 1), Err(CommitError::TooLarge { max: size - 1 }));

    let mut encoder = CommitEncoder::new(16 << 20);
    let record = Whole::empty(1).record;
    let contents =
        CommitContents { timestamp: 0, step: &record, numbers: &[], stream_time: None, timers: &[], outbox: &[] };
    let large = vec![0; 9 << 20];
    let change = StateChange { store: 0, key: b"k", value: Some(&large) };
    let stamp = producer_stamp(5, 1);
    assert_eq!(encoder.encode(&contents, [change, change], stamp), Err(CommitError::TooLarge { max: 16 << 20 }));
    let commit = decode(encoder.encode(&contents, [change], stamp).unwrap().freeze()).unwrap();
    assert_eq!(commit.change_count(), 1, "nothing of the refused step is in the next one");
}

#[test]
fn causes_are_cut_at_a_character() {
    let long = "é".repeat(limits::CAUSE_BYTES_MAX);
    let decision = Decision::new(partition(1, 1), 5, DecisionKind::DeadLettered, &format!("x{long}"));
    assert_eq!(decision.cause.len(), limits::CAUSE_BYTES_MAX - 1);
}

use crate::task::limits;

fn any_bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

prop_compose! {
    fn any_whole()(
        step in any::<u64>().prop_map(|step| step >> 1),
        epoch in 0..i32::MAX,
        floor_back in 0..3_u64,
        inputs in prop::collection::vec((any::<u8>(), any::<u32>(), 0..1_i64 << 40, 0..100_i64), 0..3),
        outputs in prop::collection::vec((0..2_u8, 0..2_u32, 1..4_usize), 0..5),
        stream_time in prop::option::of(any::<i64>()),
        timers in prop::collection::vec((any_bytes(), prop::option::of(any::<i64>())), 0..4),
        changes in prop::collection::vec((any::<u32>(), any_bytes(), prop::option::of(any_bytes())), 0..10),
    ) -> Whole {
        let mut whole = Whole::empty(step);
        whole.record.epoch = LeaderEpoch(epoch);
        whole.record.floor = (step + 1).saturating_sub(floor_back);
        whole.record.inputs = inputs
            .into_iter()
            .map(|(topic, number, from, count)| InputRange {
                input: partition(topic, number),
                from,
                to: from + count,
                leader_epoch: LeaderEpoch(epoch),
                record_count: count as u32,
                crc: number,
            })
            .collect();
        for (topic, number, count) in outputs {
            let to = partition(topic, number);
            let next = whole.numbers.iter().find(|(output, _)| *output == to).map(|(_, next)| *next);
            let first = next.unwrap_or(u64::from(number) << 31);
            whole.push_output(to, first, &[&b"value"[..]].repeat(count));
        }
        whole.stream_time = stream_time;
        whole.timers = timers.into_iter().map(|(id, at)| TimerChange { id, at }).collect();
        whole.changes = changes;
        whole
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_step_comes_back_whole(whole in any_whole()) {
        assert_same(&whole, &decode(whole.encode()).unwrap());
    }
}
