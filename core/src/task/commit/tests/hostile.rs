//! Bytes that no encoder wrote: refused with a reason, never a panic.

use super::*;
use proptest::sample::Index;

/// One record: key, value.
type Raw = (Vec<u8>, Option<Vec<u8>>);

fn records(whole: &Whole) -> Vec<Raw> {
    let batch = RecordBatch::decode(whole.encode()).unwrap();
    let records = batch.records(&headwater_protocol::batch::BatchLimits::INTERNAL).unwrap();
    records
        .iter()
        .map(|record| {
            let record = record.unwrap();
            (record.key.unwrap().to_vec(), record.value.map(<[u8]>::to_vec))
        })
        .collect()
}

fn commit_of(records: &[Raw], stamp: ProducerStamp) -> Result<Commit, CommitError> {
    let mut builder = BatchBuilder::new(Compression::None);
    for (key, value) in records {
        builder.append(0, Some(key), value.as_deref(), &[]).unwrap();
    }
    decode(builder.build(stamp).unwrap().freeze())
}

fn step_record(change: impl FnOnce(&mut StepRecord)) -> Vec<u8> {
    let mut record = Whole::full().record;
    change(&mut record);
    let mut bytes = Vec::new();
    record.encode(&mut bytes).unwrap();
    bytes
}

/// The records of a full commit after `change`, with the header of that commit.
fn refusal(change: impl FnOnce(&mut Vec<Raw>)) -> String {
    let mut raw = records(&Whole::full());
    change(&mut raw);
    commit_of(&raw, producer_stamp(5, 12)).unwrap_err().to_string()
}

/// Removes the first record of a kind.
fn remove(raw: &mut Vec<Raw>, kind: u8) {
    let place = raw.iter().position(|(key, _)| key[0] == kind).unwrap();
    raw.remove(place);
}

/// The first record of a kind.
fn of(raw: &mut [Raw], kind: u8) -> &mut Raw {
    raw.iter_mut().find(|(key, _)| key[0] == kind).unwrap()
}

#[test]
fn the_unchanged_records_are_a_commit() {
    commit_of(&records(&Whole::full()), producer_stamp(5, 12)).unwrap();
}

#[test]
fn the_header_must_name_the_same_task_epoch_and_step() {
    // covers STEP-2
    let raw = records(&Whole::full());
    let right = producer_stamp(5, 12);
    let other_generation = TaskProducer { generation: 3, ..TASK }.producer_id().unwrap().0;
    for wrong in [
        ProducerStamp { base_sequence: 13, ..right },
        ProducerStamp { producer_epoch: 6, ..right },
        ProducerStamp { producer_id: other_generation, ..right },
    ] {
        assert_eq!(
            commit_of(&raw, wrong).unwrap_err(),
            CommitError::Malformed("step record and batch header name different steps")
        );
    }
    assert_eq!(commit_of(&raw, ProducerStamp::NONE).unwrap_err(), CommitError::NotACommit(-1));
    let client = ProducerStamp { producer_id: 9, ..right };
    assert_eq!(commit_of(&raw, client).unwrap_err(), CommitError::NotACommit(9));
}

#[test]
fn versions_and_kinds_of_the_future_are_named() {
    let raw = |first: u8| {
        let mut raw = records(&Whole::full());
        raw[0].1.as_mut().unwrap()[0] = first;
        commit_of(&raw, producer_stamp(5, 12)).unwrap_err()
    };
    assert_eq!(raw(1), CommitError::UnknownVersion(1));
    assert!(refusal(|raw| raw.push((vec![8], None))).contains("unknown kind"));
}

#[test]
fn records_must_be_there_once_and_in_order() {
    assert!(refusal(|raw| drop(raw.remove(0))).contains("first record is not the step record"));
    assert!(refusal(|raw| raw.push(raw[0].clone())).contains("out of order"));
    assert!(refusal(|raw| raw.swap(1, 3)).contains("out of order"));
    assert!(refusal(|raw| drop(raw.pop())).contains("lacks outputs"));
    assert!(refusal(|raw| raw.push(raw[raw.len() - 1].clone())).contains("holds outputs that the step record"));
    assert!(refusal(|raw| remove(raw, 2)).contains("positions are not"));
    assert!(refusal(|raw| remove(raw, 3)).contains("next numbers"));
    assert!(refusal(|raw| raw[0].1 = None).contains("step record is empty"));
}

#[test]
fn fields_must_have_their_width() {
    for kind in [2, 3, 4, 5] {
        assert!(refusal(|raw| of(raw, kind).1.as_mut().unwrap().push(0)).contains("too long"), "{kind}");
        assert!(
            refusal(|raw| assert!(of(raw, kind).1.as_mut().unwrap().pop().is_some())).contains("too short"),
            "{kind}"
        );
    }
    for kind in [1, 2, 3, 4, 7] {
        let complaint = refusal(|raw| of(raw, kind).0.push(0));
        assert!(complaint.contains("too long") || complaint.contains("first record is not"), "{kind}: {complaint}");
    }
    for kind in [2, 3, 7] {
        assert!(refusal(|raw| assert!(of(raw, kind).0.pop().is_some())).contains("too short"), "{kind}");
    }
    for kind in [2, 3, 4, 7] {
        assert!(refusal(|raw| of(raw, kind).1 = None).contains("no "), "{kind}");
    }
    assert!(refusal(|raw| of(raw, 5).0.extend([0; limits::TIMER_ID_BYTES_MAX])).contains("id is too long"));
}

#[test]
fn an_output_must_be_the_one_that_was_committed() {
    // covers STEP-14 (digests are verified, something else is never sent), STEP-8
    let other = |kind: &str, batch: OutputBatch| {
        let complaint = refusal(|raw| of(raw, 7).1 = Some(batch.bytes.to_vec()));
        assert!(complaint.contains(kind), "{complaint}");
    };
    other("not the one that was committed", output(partition(2, 1), 5, 40, &[b"one", b"TWO"]));
    other("not stamped", output(partition(2, 1), 5, 41, &[b"one", b"two"]));
    other("not stamped", output(partition(2, 1), 4, 40, &[b"one", b"two"]));
    other("not stamped", output(partition(2, 1), 5, 40, &[b"one"]));
    let mut foreign = output(partition(2, 1), 5, 40, &[b"one", b"two"]).bytes.to_vec();
    foreign[43 + 7] ^= 1;
    let crc = crc32c::crc32c(&foreign[21..]);
    foreign[17..21].copy_from_slice(&crc.to_be_bytes());
    assert!(refusal(|raw| of(raw, 7).1 = Some(foreign)).contains("not stamped"), "another producer's");
    assert!(refusal(|raw| of(raw, 7).1 = Some(vec![1; 10])).contains("can't be read"));
    assert!(refusal(|raw| of(raw, 7).1.as_mut().unwrap()[70] ^= 1).contains("CRC"));
    for at in [3, 10, 20, 30, 38, 42] {
        let complaint = refusal(|raw| of(raw, 7).0[at] ^= 1);
        assert!(complaint.contains("not the one that the step record names"), "{at}: {complaint}");
    }
}

#[test]
fn a_step_record_must_make_sense() {
    let wrong = |change: fn(&mut StepRecord)| refusal(|raw| raw[0].1 = Some(step_record(change)));
    assert!(wrong(|record| record.floor = 14).contains("STEP-12"));
    assert!(wrong(|record| record.inputs[0].to = 101).contains("fewer offsets"));
    assert!(wrong(|record| record.inputs[0].from = -1).contains("fewer offsets"));
    assert!(wrong(|record| (record.inputs[0].from, record.inputs[0].to) = (i64::MAX, i64::MIN)).contains("offsets"));
    assert!(wrong(|record| record.outputs[0].first = u64::MAX).contains("overflow"));
    assert!(wrong(|record| record.inputs[0].to = 104).contains("positions are not"));
    assert!(refusal(|raw| raw[0].1.as_mut().unwrap().push(0)).contains("bytes follow"));
    assert!(refusal(|raw| raw[0].1.as_mut().unwrap().truncate(20)).contains("can't be decoded"));
    // A list that declares more than there is: refused, nothing is allocated for it.
    let endless = [step_record(|record| record.outputs.clear()), vec![]].concat();
    let mut endless = endless[..endless.len() - 1].to_vec();
    endless.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert!(refusal(|raw| raw[0].1 = Some(endless)).contains("can't be decoded"));
}

fn any_key() -> impl Strategy<Value = Vec<u8>> {
    (0..9_u8, prop::collection::vec(any::<u8>(), 0..44)).prop_map(|(kind, mut rest)| {
        rest.insert(0, kind);
        rest
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a batch with a good checksum holds, it is read or refused.
    #[test]
    fn any_records_are_read_or_refused(
        raw in prop::collection::vec((any_key(), prop::option::of(prop::collection::vec(any::<u8>(), 0..60))), 1..8),
        with_step in any::<bool>(),
    ) {
        let mut raw = raw;
        if with_step {
            raw.insert(0, records(&Whole::full()).remove(0));
        }
        drop(commit_of(&raw, producer_stamp(5, 12)));
    }

    /// A good commit with some bytes changed (and the checksums mended) is read or refused.
    #[test]
    fn any_damage_behind_the_checksum_is_read_or_refused(
        damage in prop::collection::vec((any::<Index>(), any::<Index>(), any::<u8>()), 1..5),
        in_key in any::<bool>(),
    ) {
        let mut raw = records(&Whole::full());
        for (record, byte, value) in damage {
            let record = record.index(raw.len());
            let (key, content) = &mut raw[record];
            let bytes = match content {
                Some(content) if !in_key && !content.is_empty() => content,
                _ => key,
            };
            let at = byte.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(commit) = commit_of(&raw, producer_stamp(5, 12)) {
            prop_assert_eq!(commit.changes().count(), commit.change_count());
        }
    }

    /// Arbitrary bytes are no commit.
    #[test]
    fn arbitrary_step_records_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(StepRecord::decode(&[&[0], &bytes[..]].concat()));
        drop(StepRecord::decode(&bytes));
    }
}
