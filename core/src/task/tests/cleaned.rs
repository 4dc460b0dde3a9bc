//! A changelog that was cleaned below its durable floor gives the same task (STEP-13).

use crate::task::commit::{
    ChangelogVerdict, Commit, CommitContents, CommitEncoder, CommitRemains, InputRange, OutputBatch, OutputForm,
    Revision, StateChange, StepRecord, TimerChange, changelog_verdict,
};
use crate::task::{TakeoverError, Task, TaskConfig, TaskImage, TaskLimits};
use bytes::Bytes;
use headwater_protocol::batch::{
    BatchBuilder, BatchLimits, BatchRewriter, Compression, ProducerStamp, RecordBatch, stamp,
};
use headwater_protocol::ids::{LeaderEpoch, ModuleDigest, ProcessorNumber, TaskProducer, TopicId, TopicPartition};
use proptest::prelude::*;
use std::collections::BTreeMap;

const TASK: TaskProducer = TaskProducer { processor: ProcessorNumber(7), task: 3, generation: 0 };
const EPOCH: LeaderEpoch = LeaderEpoch(5);

fn place(topic: u8, partition: u32) -> TopicPartition {
    TopicPartition { topic: TopicId([topic; 16]), partition }
}

/// What one step does, in small numbers.
#[derive(Clone, Debug)]
struct Doing {
    input: u32,
    reads: i64,
    outputs: Vec<(u32, u8)>,
    changes: Vec<(u8, Option<u8>)>,
    timers: Vec<(u8, Option<i64>)>,
    stream_time: Option<i64>,
    /// How many of the steps before it are not acknowledged.
    behind: u64,
}

fn doings() -> impl Strategy<Value = Vec<Doing>> {
    let outputs = prop::collection::vec((0..2_u32, 1..3_u8), 0..3);
    let changes = prop::collection::vec((0..5_u8, prop::option::weighted(0.7, any::<u8>())), 0..4);
    let timers = prop::collection::vec((0..3_u8, prop::option::of(0..50_i64)), 0..2);
    let doing = (0..2_u32, 0..4_i64, outputs, changes, timers, prop::option::of(0..99_i64), 0..4_u64).prop_map(
        |(input, reads, outputs, changes, timers, stream_time, behind)| Doing {
            input,
            reads,
            outputs,
            changes,
            timers,
            stream_time,
            behind,
        },
    );
    prop::collection::vec(doing, 1..30)
}

fn stamp_of(number: u64) -> ProducerStamp {
    let base_sequence = crate::producer::sequence::low_bits(number);
    ProducerStamp { producer_id: TASK.producer_id().unwrap().0, producer_epoch: 5, base_sequence }
}

/// The changelog of these steps.
fn changelog(doings: &[Doing], first_step: u64) -> Vec<RecordBatch> {
    let (mut positions, mut next, mut floor, mut offset) = (BTreeMap::new(), BTreeMap::new(), first_step, 0);
    let (mut batches, mut stream_time) = (Vec::new(), None);
    for (step, doing) in (first_step..).zip(doings) {
        let moved = doing.stream_time.filter(|time| stream_time.is_none_or(|before| *time > before));
        stream_time = stream_time.max(moved);
        floor = floor.max((step + 1).saturating_sub(doing.behind));
        let input = place(1, doing.input);
        let from: i64 = positions.get(&input).copied().unwrap_or(0);
        positions.insert(input, from + doing.reads);
        let range = InputRange {
            input,
            from,
            to: from + doing.reads,
            leader_epoch: LeaderEpoch(1),
            record_count: u32::try_from(doing.reads).unwrap(),
            crc: 0,
        };
        let (mut outbox, mut touched) = (Vec::new(), Vec::new());
        for (partition, count) in &doing.outputs {
            let output = place(2, *partition);
            let first = next.get(&output).copied().unwrap_or(0);
            let mut builder = BatchBuilder::new(Compression::None);
            (0..*count).for_each(|_| builder.append(9, None, Some(b"out"), &[]).unwrap());
            let batch = OutputBatch { output, first, bytes: builder.build(stamp_of(first)).unwrap().freeze() };
            touched.push(batch.touched(u32::from(*count)));
            outbox.push(batch);
            next.insert(output, first + u64::from(*count));
        }
        let written = next.iter().filter(|(output, _)| touched.iter().any(|it| it.output == **output));
        let numbers: Vec<_> = written.map(|(output, number)| (*output, *number)).collect();
        let step = StepRecord {
            step,
            generation: 0,
            epoch: EPOCH,
            revision: Revision { number: 4, module: ModuleDigest([1; 32]) },
            floor,
            form: OutputForm::Inline,
            inputs: vec![range],
            decisions: Vec::new(),
            outputs: touched,
        };
        let timer = |(id, at): &(u8, Option<i64>)| TimerChange { id: Bytes::from(vec![*id]), at: *at };
        let timers: Vec<_> = doing.timers.iter().map(timer).collect();
        let contents = CommitContents {
            timestamp: 7,
            step: &step,
            numbers: &numbers,
            stream_time: moved,
            timers: &timers,
            outbox: &outbox,
        };
        let changes: BTreeMap<u8, Option<u8>> = doing.changes.iter().copied().collect();
        let changes: Vec<_> = changes.into_iter().map(|(key, value)| ([key], value.map(|value| [value]))).collect();
        let changes = changes.iter().map(|(key, value)| StateChange {
            store: 0,
            key,
            value: value.as_ref().map(|value| &value[..]),
        });
        let mut bytes = CommitEncoder::new(1 << 20).encode(&contents, changes, stamp_of(step.step)).unwrap();
        stamp(&mut bytes, offset, EPOCH);
        let batch = RecordBatch::decode(bytes.freeze()).unwrap();
        offset = batch.header().next_offset();
        batches.push(batch);
    }
    batches
}

/// The changelog with everything below `below` cleaned, as the cleaner would; `None`: of the batch nothing is left.
fn cleaned(batches: &[RecordBatch], below: i64, tombstones_go: bool) -> Vec<Option<RecordBatch>> {
    let mut newest = BTreeMap::new();
    let is_cleaned = |batch: &RecordBatch| batch.header().next_offset() <= below;
    for batch in batches.iter().filter(|batch| is_cleaned(batch)) {
        for record in &batch.records(&BatchLimits::INTERNAL).unwrap() {
            let record = record.unwrap();
            newest.insert(record.key.unwrap().to_vec(), record.offset);
        }
    }
    let clean = |batch: &RecordBatch| {
        if !is_cleaned(batch) {
            return Some(batch.clone());
        }
        let records = batch.records(&BatchLimits::INTERNAL).unwrap();
        let keep = |_: usize, record: &headwater_protocol::batch::Record<'_>| {
            let is_newest = newest[record.key.unwrap()] == record.offset;
            match changelog_verdict(record.key, record.value.is_some()) {
                ChangelogVerdict::Dead => false,
                ChangelogVerdict::Tombstone => is_newest && !tombstones_go,
                ChangelogVerdict::Key | ChangelogVerdict::Keep => is_newest,
            }
        };
        let bytes = BatchRewriter::default().rewrite(&records, keep, None).unwrap().freeze();
        let left = RecordBatch::decode(bytes).unwrap();
        (left.header().record_count > 0).then_some(left)
    };
    batches.iter().map(clean).collect()
}

type State = BTreeMap<Bytes, Bytes>;

fn replay<'a>(batches: impl Iterator<Item = &'a RecordBatch>) -> (TaskImage, State) {
    let (mut image, mut state) = (TaskImage::new(TASK.processor, TASK.task), State::new());
    image.high_watermark(i64::MAX);
    let mut apply = |changes: Vec<(u32, Bytes, Option<Bytes>)>| {
        for (_, key, value) in changes {
            match value {
                Some(value) => drop(state.insert(key, value)),
                None => drop(state.remove(&key)),
            }
        }
    };
    for batch in batches {
        if CommitRemains::is_cleaned(batch.header()) {
            let remains = CommitRemains::decode(batch).unwrap();
            image.replay_remains(&remains).unwrap();
            apply(remains.shared_changes().collect());
        } else {
            let commit = Commit::decode(batch).unwrap();
            image.replay(&commit).unwrap();
            apply(commit.shared_changes().collect());
        }
    }
    (image, state)
}

fn take_over(image: TaskImage) -> Result<Task, TakeoverError> {
    let revision = Revision { number: 4, module: ModuleDigest([1; 32]) };
    let config = TaskConfig { producer: TASK, revision, limits: TaskLimits::default() };
    Task::take_over(config, image, EPOCH, i64::MAX)
}

proptest! {
    // covers STEP-13, OUT-4
    #[test]
    fn what_is_left_below_the_floor_is_the_tasks_state(
        doings in doings(),
        first_step in prop_oneof![Just(0), Just((1_u64 << 30) - 5), Just((1_u64 << 31) - 5)],
        tombstones_go: bool,
    ) {
        // A log that was cleaned at its beginning need not begin with step 0.
        let batches = changelog(&doings, first_step);
        let (whole, state) = replay(batches.iter());
        let commits: Vec<Commit> = batches.iter().map(|batch| Commit::decode(batch).unwrap()).collect();
        let tip = commits.last().unwrap();
        // Not the newest commit, nor those whose outputs may not have arrived.
        let kept_from = commits.iter().find(|commit| commit.step().step >= tip.step().floor).unwrap_or(tip);
        let below = kept_from.base_offset().min(tip.base_offset());
        let left = cleaned(&batches, below, tombstones_go);
        let (image, restored) = replay(left.iter().flatten());
        prop_assert_eq!(restored, state);
        prop_assert_eq!(image.tip(), whole.tip());
        prop_assert_eq!(image.positions(), whole.positions());
        prop_assert_eq!(&image.numbers, &whole.numbers);
        prop_assert_eq!(image.stream_time, whole.stream_time);
        prop_assert_eq!(&image.timers, &whole.timers);
        prop_assert_eq!(&image.outbox, &whole.outbox);
        prop_assert_eq!((image.floor(), image.durable_floor()), (whole.floor(), whole.durable_floor()));
        prop_assert_eq!(image.next_offset(), whole.next_offset());
        prop_assert!(take_over(image).is_ok());
    }

    // covers STEP-13, STEP-14: a cleaner that goes too far is not covered up
    #[test]
    fn a_task_whose_unacknowledged_outputs_were_cleaned_does_not_begin(doings in doings()) {
        let batches = changelog(&doings, 0);
        let tip = Commit::decode(batches.last().unwrap()).unwrap();
        let unacknowledged = batches.iter().skip(usize::try_from(tip.step().floor).unwrap());
        let has_outputs = unacknowledged.clone().any(|batch| !Commit::decode(batch).unwrap().outbox().is_empty());
        prop_assume!(has_outputs);
        let left = cleaned(&batches, i64::MAX, false);
        let (image, _) = replay(left.iter().flatten());
        let is_refused = matches!(take_over(image), Err(TakeoverError::MissingSteps { .. }));
        prop_assert!(is_refused);
    }
}

// covers STEP-13, LOG-5: found by the simulator
#[test]
fn a_changelog_of_which_a_crash_left_only_the_beginning_cleaned_is_read_all_the_same() {
    let doing = |outputs: &[(u32, u8)]| Doing {
        input: 0,
        reads: 1,
        outputs: outputs.to_vec(),
        changes: vec![(1, Some(1))],
        timers: Vec::new(),
        stream_time: None,
        behind: 0,
    };
    let doings = [doing(&[(0, 2)]), doing(&[]), doing(&[]), doing(&[(0, 1)]), doing(&[]), doing(&[])];
    let batches = changelog(&doings, 0);
    let all = cleaned(&batches, batches[5].header().base_offset, false);
    // The number of output 0 was dropped from step 0, because that of step 3 is newer; step 3 was not written anew.
    let left: Vec<_> = all[..2].iter().flatten().chain(&batches[2..]).collect();
    let (image, state) = replay(left.into_iter());
    let (whole, whole_state) = replay(batches.iter());
    assert_eq!((&image.numbers, image.tip(), state), (&whole.numbers, whole.tip(), whole_state));
    assert!(take_over(image).is_ok());
}
