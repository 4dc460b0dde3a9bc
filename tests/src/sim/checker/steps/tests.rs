//! A changelog of two good commits, and what the checker says when something about it is not as it must be.

use super::TaskLogs;
use crate::sim::checker::{LoggedRecord, meaning, number_in};
use crate::sim::guest::GuestKind;
use bytes::Bytes;
use headwater_core::task::commit::{
    CommitContents, CommitEncoder, InputRange, OutputBatch, OutputForm, OutputTouched, Revision, StateChange,
    StepRecord,
};
use headwater_protocol::batch::{BATCH_HEADER_BYTES, BatchBuilder, Compression, ProducerStamp, RecordBatch, stamp};
use headwater_protocol::ids::{LeaderEpoch, ProcessorNumber, TaskProducer, TopicId, TopicPartition};
use std::collections::BTreeMap;

const TASK: TaskProducer = TaskProducer { processor: ProcessorNumber(3), task: 0, generation: 0 };
const INPUT: TopicPartition = TopicPartition { topic: TopicId([1; 16]), partition: 0 };
const OUTPUT: TopicPartition = TopicPartition { topic: TopicId([2; 16]), partition: 0 };

/// A step as its commit tells it.
#[derive(Clone)]
struct Told {
    step: u64,
    floor: u64,
    range: (i64, i64),
    records: u32,
    state: Vec<(&'static str, &'static str)>,
    first: u64,
    outputs: Vec<(&'static str, &'static str)>,
}

fn records(producer_id: i64, values: &[(&str, &str)]) -> Vec<LoggedRecord> {
    let record = |(offset, (key, value)): (i64, &(&str, &str))| {
        let (key, value) = (Bytes::from((*key).to_owned()), Bytes::from((*value).to_owned()));
        LoggedRecord {
            offset,
            meaning: meaning(Some(&key), Some(&value)),
            number: number_in(Some(&value)),
            producer_id,
            is_control: false,
            timestamp: 0,
            key: Some(key),
            value: Some(value),
        }
    };
    (0..).zip(values).map(record).collect()
}

fn producer_id() -> i64 {
    TASK.producer_id().unwrap().0
}

fn commit(told: &Told, base_offset: i64) -> RecordBatch {
    let producer_stamp = ProducerStamp { producer_id: producer_id(), producer_epoch: 0, base_sequence: 0 };
    let mut builder = BatchBuilder::new(Compression::None);
    for (key, value) in &told.outputs {
        builder.append(0, Some(key.as_bytes()), Some(value.as_bytes()), &[]).unwrap();
    }
    let numbered = ProducerStamp { base_sequence: i32::try_from(told.first).unwrap(), ..producer_stamp };
    let bytes = builder.build(numbered).unwrap().freeze();
    let crc = crc32c::crc32c(&bytes[BATCH_HEADER_BYTES..]);
    let count = u32::try_from(told.outputs.len()).unwrap();
    let (from, to) = told.range;
    let leader_epoch = LeaderEpoch(0);
    let range = InputRange { input: INPUT, from, to, leader_epoch, record_count: told.records, crc: 0 };
    let step = StepRecord {
        step: told.step,
        generation: TASK.generation,
        epoch: LeaderEpoch(0),
        revision: Revision { number: 1, module: GuestKind::Counter.digest() },
        floor: told.floor,
        form: OutputForm::Inline,
        inputs: vec![range],
        decisions: Vec::new(),
        outputs: vec![OutputTouched { output: OUTPUT, first: told.first, count, crc }],
    };
    let contents = CommitContents {
        timestamp: 0,
        step: &step,
        numbers: &[(OUTPUT, told.first + u64::from(count))],
        stream_time: None,
        timers: &[],
        outbox: &[OutputBatch { output: OUTPUT, first: told.first, bytes }],
    };
    let state = |(key, value): &(&'static str, &'static str)| StateChange {
        store: 0,
        key: key.as_bytes(),
        value: Some(value.as_bytes()),
    };
    let changes: Vec<_> = told.state.iter().map(state).collect();
    let stamped = ProducerStamp { base_sequence: i32::try_from(told.step).unwrap(), ..producer_stamp };
    let mut bytes = CommitEncoder::new(1 << 20).encode(&contents, changes, stamped).unwrap();
    stamp(&mut bytes, base_offset, LeaderEpoch(0));
    RecordBatch::decode(bytes.freeze()).unwrap()
}

/// Makes good steps bad.
type Break = fn(&mut [Told; 2]);

/// Two steps over three records, counting words.
fn good() -> [Told; 2] {
    let first = Told {
        step: 0,
        floor: 0,
        range: (0, 2),
        records: 2,
        state: vec![("fog", "2"), ("gull", "1")],
        first: 0,
        outputs: vec![("fog", "1"), ("fog", "2"), ("gull", "1")],
    };
    let second = Told {
        step: 1,
        floor: 1,
        range: (2, 3),
        records: 1,
        state: vec![("fog", "3")],
        first: 3,
        outputs: vec![("fog", "3")],
    };
    [first, second]
}

fn verdict(told: &[Told], output: &[(&str, &str)], complete: bool) -> String {
    let changelog: Vec<_> = (0..).zip(told).map(|(place, told)| commit(told, place * 10)).collect();
    let input = records(1, &[("", "#0 fog"), ("", "#1 fog gull"), ("", "#2 fog")]);
    let logs = BTreeMap::from([(INPUT, input), (OUTPUT, records(producer_id(), output))]);
    let starts = BTreeMap::from([(INPUT, 0)]);
    let logs = TaskLogs { task: TASK, starts, output: (OUTPUT.topic, 1), changelog: &changelog, logs: &logs };
    logs.check(complete).map_or_else(|violation| violation.found, |_| "good".to_owned())
}

const ALL: [(&str, &str); 4] = [("fog", "1"), ("fog", "2"), ("gull", "1"), ("fog", "3")];

#[test]
fn what_the_protocol_promises_passes() {
    assert_eq!(verdict(&good(), &ALL, true), "good");
    assert_eq!(verdict(&good(), &ALL[..3], false), "good", "what was acknowledged is there, the rest may follow");
    assert_eq!(verdict(&[], &[], true), "good");
}

#[test]
fn each_broken_promise_of_a_commit_is_found() {
    let broken = |change: Break| {
        let mut told = good();
        change(&mut told);
        verdict(&told, &ALL, true)
    };
    let cases: [(Break, &str); 9] = [
        (|told| told[1].step = 2, "STEP-2"),
        (|told| (told[0].floor, told[1].floor) = (1, 0), "STEP-12"),
        (|told| told[1].range = (1, 3), "OUT-3"),
        (|told| told[1].range = (3, 4), "OUT-3"),
        (|told| told[1].records = 0, "STEP-5"),
        (|told| told[1].state = vec![("fog", "2")], "OUT-4"),
        (|told| told[1].state.push(("rope", "1")), "OUT-4"),
        (|told| told[1].first = 0, "STEP-8"),
        (|told| told[1].outputs = vec![("fog", "4")], "OUT-1"),
    ];
    for (place, (change, rule)) in cases.into_iter().enumerate() {
        let found = broken(change);
        assert!(found.contains(rule), "case {place}: {found}, not {rule}");
    }
    assert!(broken(|told| told[0].outputs.truncate(2)).contains("OUT-1"), "an output is missing");
}

#[test]
fn outputs_that_are_not_those_of_the_commits_are_found() {
    let twice = [ALL[0], ALL[0], ALL[1], ALL[2]];
    assert!(verdict(&good(), &twice, false).contains("OUT-1"));
    let swapped = [ALL[1], ALL[0]];
    assert!(verdict(&good(), &swapped, false).contains("OUT-1"));
    assert!(verdict(&good(), &[ALL.as_slice(), &[("fog", "4")]].concat(), false).contains("OUT-1"), "of no commit");
    assert!(verdict(&good(), &ALL[..2], false).contains("OUT-5"), "below the floor, and not there");
    assert!(verdict(&good(), &ALL[..3], true).contains("OUT-2"), "when all is done, all is there");
}
