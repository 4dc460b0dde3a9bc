//! Each checker, held against what it must not let pass, made by hand.

use super::acknowledged::Acknowledged;
use super::liveness::Unfinished;
use super::metadata::Answered;
use super::offsets::Offsets;
use super::{LoggedRecord, Violation, meaning, order, served, twice};
use bytes::Bytes;
use headwater_protocol::batch::{BatchBuilder, Compression, ProducerStamp, stamp};
use headwater_protocol::ids::{LeaderEpoch, TopicId, TopicPartition};

const ID: TopicPartition = TopicPartition { topic: TopicId([1; 16]), partition: 0 };

/// Records that clients numbered so, from offset 0 on.
fn log(numbers: &[u64]) -> Vec<LoggedRecord> {
    let record = |(offset, number): (i64, &u64)| {
        let value = format!("#{number} word");
        LoggedRecord {
            offset,
            meaning: meaning(None, Some(value.as_bytes())),
            number: Some(*number),
            producer_id: 1,
            is_control: false,
            timestamp: 0,
            key: None,
            value: Some(Bytes::from(value)),
        }
    };
    (0..).zip(numbers).map(record).collect()
}

fn batch(base_offset: i64, values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for value in values {
        builder.append(0, None, Some(value.as_bytes()), &[]).unwrap();
    }
    let mut bytes = builder.build(ProducerStamp::NONE).unwrap();
    stamp(&mut bytes, base_offset, LeaderEpoch(0));
    bytes.freeze()
}

#[track_caller]
fn found(result: Result<(), Violation>, rule: &str, words: &str) {
    let violation = result.expect_err("this must not pass");
    assert!(violation.rule == rule && violation.found.contains(words), "{violation}");
}

#[test]
fn what_was_acknowledged_and_is_gone_is_found() {
    let good = log(&[7, 8, 9]);
    let mut known = Acknowledged::default();
    for record in &good {
        known.note(ID, record.offset, record.meaning, record.number.unwrap()).unwrap();
    }
    known.check(ID, &good).unwrap();
    found(known.check(ID, &good[..2]), "acknowledged", "#9 was acknowledged");
    found(known.check(ID, &good[1..]), "acknowledged", "#7 was acknowledged");
    found(known.check(ID, &log(&[7, 5, 9])), "acknowledged", "Some(5) is there");
    assert_eq!(known.partitions().collect::<Vec<_>>(), [ID], "so that a partition that is gone as a whole is missed");
    known.may_lose(ID, 2);
    known.check(ID, &good[..2]).unwrap();
    found(known.note(ID, 1, 0, 5), "acknowledged", "#8 and #5 were both");
}

#[test]
fn an_offset_that_means_something_else_is_found() {
    let good = log(&[7, 8]);
    let mut shown = Offsets::default();
    for record in &good {
        shown.note(ID, record.offset, record.meaning).unwrap();
    }
    shown.check(ID, &good).unwrap();
    found(shown.check(ID, &good[..1]), "offsets", "is gone");
    found(shown.check(ID, &log(&[9, 8])), "offsets", "is another record now");
    found(shown.note(ID, 1, 5), "offsets", "was another record before");
}

#[test]
fn records_out_of_order_are_found() {
    let by_parity = |number: u64| (number < 100).then_some((number % 2) as usize);
    order::check(ID, &log(&[1, 2, 3, 5, 4]), by_parity).unwrap();
    found(order::check(ID, &log(&[1, 2, 5, 3]), by_parity), "order", "#3 of producer 1 is behind #5");
    found(order::check(ID, &log(&[1, 100]), by_parity), "order", "never sent");
}

#[test]
fn a_record_that_is_there_twice_is_found() {
    twice::check(ID, &log(&[1, 2, 3])).unwrap();
    found(twice::check(ID, &log(&[1, 2, 1])), "twice", "#1 is at offset 0 and at 2");
}

#[test]
fn what_consumers_must_not_be_given_is_found() {
    let good = batch(4, &["a", "b"]);
    let check = |offset, bytes: &Bytes, high_watermark| served::check(ID, offset, bytes.clone(), high_watermark, false);
    assert_eq!(check(5, &good, 6).unwrap().len(), 1);
    assert_eq!(check(5, &Bytes::new(), 5).unwrap().len(), 0);
    found(check(4, &good, 5).map(drop), "served", "above the high watermark");
    found(check(3, &good, 6).map(drop), "served", "where 3 was due");
    found(check(6, &good, 6).map(drop), "served", "without anything");
    let holed = Bytes::from([batch(4, &["a"]), batch(6, &["c"])].concat());
    found(check(4, &holed, 9).map(drop), "served", "where 5 was due");
    let mut rotten = good.to_vec();
    *rotten.last_mut().unwrap() ^= 1;
    found(check(4, &Bytes::from(rotten), 6).map(drop), "served", "CRC");
    found(check(4, &good.slice(..good.len() - 1), 6).map(drop), "served", "");
}

#[test]
fn metadata_that_is_lost_or_given_out_twice_is_found() {
    let mut answered = Answered::default();
    answered.note(7);
    answered.check(7).unwrap();
    found(answered.check(6), "metadata", "change 7 was answered");
    answered.note_producer(1).unwrap();
    found(answered.note_producer(1), "metadata", "producer id 1");
}

#[test]
fn what_is_not_done_in_time_is_found() {
    let mut unfinished = Unfinished::default();
    assert!(unfinished.is_empty());
    unfinished.note(|| "client 1 waits".to_owned());
    found(Err(unfinished.violation()), "liveness", "client 1 waits");
}
