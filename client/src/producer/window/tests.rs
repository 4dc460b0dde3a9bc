use super::*;
use headwater_protocol::batch::BatchHeader;
use headwater_protocol::compression::Compression;
use std::time::Duration;

const PRODUCER: Identity = Identity { producer_id: 77, epoch: 0 };

struct Bench {
    window: Window,
    start: Instant,
    next: u64,
}

impl Bench {
    fn new() -> Self {
        let mut window = Window::new(true);
        assert!(window.needs_identity() && !window.can_admit());
        window.set_identity(PRODUCER);
        Self { window, start: Instant::now(), next: 0 }
    }

    /// A bench whose producer id the broker is known to know.
    fn confirmed() -> Self {
        let mut bench = Self::new();
        bench.window.confirmed_at = Some(bench.start);
        bench
    }

    fn acknowledge(&mut self, id: BatchId) -> Option<Departing> {
        self.window.acknowledge(id, self.start)
    }

    /// Sends a new batch of so many records; its delivery time-out ends at its number, in seconds.
    fn admit(&mut self, records: u32) -> BatchId {
        let id = BatchId(self.next);
        self.next += 1;
        let batch = Departing {
            id,
            records,
            deadline: self.start + Duration::from_secs(id.0),
            completion: Completion::new(0),
            buffered_bytes: 0,
        };
        assert!(self.window.can_admit());
        let stamp = self.window.admit(batch);
        self.window.built(id, batch_bytes(records, id, stamp));
        id
    }

    fn sent(&self, id: BatchId) -> BatchHeader {
        let entry = self.window.unresolved.iter().find(|entry| entry.batch.id == id).unwrap();
        BatchHeader::decode(&entry.bytes).unwrap()
    }

    /// (epoch, first sequence) of the batch as it is to be sent now.
    fn place(&self, id: BatchId) -> (i16, i32) {
        let header = self.sent(id);
        assert_eq!(header.producer_id, self.window.identity.unwrap().producer_id);
        (header.producer_epoch, header.base_sequence)
    }

    fn resend_all(&mut self) -> Vec<(BatchId, Bytes)> {
        std::iter::from_fn(|| self.window.resend()).collect()
    }

    fn expire_below(&mut self, id: BatchId) -> usize {
        self.window.expire(self.start + Duration::from_secs(id.0) - Duration::from_millis(1)).len()
    }
}

fn batch_bytes(records: u32, id: BatchId, stamp: ProducerStamp) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::Lz4);
    for n in 0..records {
        builder.append(1000 + i64::from(n), Some(&id.0.to_be_bytes()), Some(b"v"), &[("h", None)]).unwrap();
    }
    builder.build(stamp).unwrap().freeze()
}

fn is_retry(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Retry)
}

#[test]
fn sequences_follow_each_other_and_wrap_to_zero() {
    // covers IDP-1
    assert_eq!(sequence_after(0, 5), 5);
    assert_eq!(sequence_after(i32::MAX, 1), 0);
    assert_eq!(sequence_after(i32::MAX - 1, 5), 3);
    let mut bench = Bench::confirmed();
    let ids: Vec<_> = [3, 1, 7].into_iter().map(|records| bench.admit(records)).collect();
    assert_eq!(ids.iter().map(|id| bench.place(*id)).collect::<Vec<_>>(), [(0, 0), (0, 3), (0, 4)]);
}

#[test]
fn never_more_than_five_batches_are_open() {
    // covers IDP-2
    let mut bench = Bench::confirmed();
    let ids: Vec<_> = (0..5).map(|_| bench.admit(1)).collect();
    assert!(!bench.window.can_admit());
    bench.acknowledge(ids[2]).unwrap();
    assert!(bench.window.can_admit());
}

#[test]
fn a_lost_stream_resends_the_very_same_bytes_in_order() {
    // covers IDP-2, IDP-6
    let mut bench = Bench::confirmed();
    let ids: Vec<_> = (0..4).map(|_| bench.admit(2)).collect();
    let before: Vec<Bytes> = bench.window.unresolved.iter().map(|entry| entry.bytes.clone()).collect();
    bench.acknowledge(ids[0]).unwrap();
    assert!(bench.window.lost());
    assert!(!bench.window.can_admit(), "nothing new before what is old");
    let again = bench.resend_all();
    assert_eq!(again.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids[1..]);
    assert!(again.iter().zip(&before[1..]).all(|((_, bytes), before)| bytes == before));
    assert!(bench.window.can_admit());
    assert!(bench.window.resend().is_none());
}

#[test]
fn a_passing_refusal_waits_for_what_follows_and_then_all_go_again_in_order() {
    let mut bench = Bench::confirmed();
    let ids: Vec<_> = (0..3).map(|_| bench.admit(1)).collect();
    assert!(is_retry(&bench.window.refuse(ids[0], ErrorCode::NotLeaderOrFollower)));
    assert!(bench.window.resend().is_none(), "two more are in flight behind it");
    assert!(is_retry(&bench.window.refuse(ids[1], ErrorCode::OutOfOrderSequenceNumber)));
    assert!(bench.window.resend().is_none());
    assert!(is_retry(&bench.window.refuse(ids[2], ErrorCode::OutOfOrderSequenceNumber)));
    assert!(bench.window.close_hole().is_empty());
    let again: Vec<_> = bench.resend_all().into_iter().map(|(id, _)| id).collect();
    assert_eq!(again, ids);
    assert_eq!(bench.place(ids[2]), (0, 2), "no new numbers: nothing was given up");
}

#[test]
fn a_batch_refused_for_good_leaves_a_hole_that_a_new_epoch_closes() {
    // covers IDP-1, IDP-3
    let mut bench = Bench::confirmed();
    let ids: Vec<_> = (0..3).map(|_| bench.admit(2)).collect();
    assert!(
        matches!(bench.window.refuse(ids[0], ErrorCode::MessageTooLarge), Refusal::GivenUp(batch) if batch.id == ids[0])
    );
    assert!(!bench.window.can_admit());
    assert!(is_retry(&bench.window.refuse(ids[1], ErrorCode::OutOfOrderSequenceNumber)));
    assert!(bench.window.close_hole().is_empty());
    assert_eq!(bench.place(ids[1]), (0, 2), "not before the last outcome is known");
    assert!(bench.window.resend().is_none());
    assert!(is_retry(&bench.window.refuse(ids[2], ErrorCode::OutOfOrderSequenceNumber)));
    let old = RecordBatch::decode(bench.window.unresolved[0].bytes.clone()).unwrap();
    assert!(bench.window.close_hole().is_empty());
    assert_eq!((bench.place(ids[1]), bench.place(ids[2])), ((1, 0), (1, 2)));
    assert_eq!(bench.resend_all().len(), 2);
    let id = bench.admit(1);
    assert_eq!(bench.place(id), (1, 4));

    let new = RecordBatch::decode(bench.window.unresolved[0].bytes.clone()).unwrap();
    let limits = Default::default();
    let (old, new) = (old.records(&limits).unwrap(), new.records(&limits).unwrap());
    assert_eq!(old.payload(), new.payload(), "the records are the same");
}

#[test]
fn what_follows_a_batch_given_up_is_delivered_if_the_batch_was_written_after_all() {
    let mut bench = Bench::confirmed();
    let (first, second) = (bench.admit(1), bench.admit(1));
    bench.window.lost();
    assert_eq!(bench.expire_below(second), 1);
    assert!(bench.window.close_hole().is_empty());
    let again = bench.resend_all();
    assert_eq!(again.len(), 1, "under its old number: the first may be in the log");
    assert_eq!(bench.place(second), (0, 1));
    assert!(matches!(bench.window.refuse(first, ErrorCode::Busy), Refusal::Unknown), "given up already");
    assert!(bench.acknowledge(second).is_some());
    bench.window.close_hole();
    let third = bench.admit(1);
    assert_eq!(bench.place(third), (1, 0), "a late copy of the first is of an old epoch");
}

#[test]
fn a_batch_with_a_stray_copy_is_never_stamped_anew() {
    // covers IDP-6: the copy from the lost stream may be appended after the refusal of the second one.
    let mut bench = Bench::confirmed();
    let (_, second) = (bench.admit(1), bench.admit(1));
    bench.window.lost();
    bench.expire_below(second);
    assert_eq!(bench.resend_all().len(), 1);
    assert!(is_retry(&bench.window.refuse(second, ErrorCode::OutOfOrderSequenceNumber)));
    let stranded = bench.window.close_hole();
    assert_eq!(stranded.len(), 1);
    assert_eq!(stranded[0].0.id, second);
    assert!(bench.window.is_empty() && bench.window.can_admit());
}

#[test]
fn out_of_order_without_a_cause_of_ours_is_an_error() {
    // covers IDP-3: acknowledged records are gone from the broker; that must not pass in silence.
    let mut bench = Bench::confirmed();
    let first = bench.admit(1);
    bench.acknowledge(first);
    let second = bench.admit(1);
    let refusal = bench.window.refuse(second, ErrorCode::OutOfOrderSequenceNumber);
    assert!(matches!(refusal, Refusal::GivenUp(_)));
    bench.window.close_hole();
    let third = bench.admit(1);
    assert_eq!(bench.place(third), (1, 0));
}

#[test]
fn a_fenced_or_worn_out_producer_id_is_replaced() {
    let mut bench = Bench::confirmed();
    let first = bench.admit(1);
    assert!(matches!(bench.window.refuse(first, ErrorCode::InvalidProducerEpoch), Refusal::GivenUp(_)));
    bench.window.close_hole();
    assert!(bench.window.needs_identity());
    bench.window.set_identity(PRODUCER);
    assert!(bench.window.needs_identity(), "not the fenced one");
    bench.window.set_identity(Identity { producer_id: 78, epoch: 0 });
    bench.window.close_hole();
    let second = bench.admit(1);
    assert_eq!(bench.place(second), (0, 0));

    bench.window.identity = Some(Identity { producer_id: 78, epoch: i16::MAX });
    assert!(matches!(bench.window.refuse(second, ErrorCode::InvalidRecord), Refusal::GivenUp(_)));
    bench.window.close_hole();
    assert!(bench.window.needs_identity() && !bench.window.can_admit());
    bench.window.set_identity(Identity { producer_id: 79, epoch: 0 });
    bench.window.close_hole();
    let third = bench.admit(1);
    assert_eq!(bench.place(third), (0, 0));
}

#[test]
fn until_the_broker_knows_the_producer_id_batches_go_one_by_one() {
    // covers IDP-5: of an unknown producer any sequence is accepted, so a missing first batch would go unnoticed.
    let mut bench = Bench::new();
    let first = bench.admit(1);
    assert!(!bench.window.can_admit());
    assert!(is_retry(&bench.window.refuse(first, ErrorCode::NotLeaderOrFollower)));
    assert_eq!(bench.resend_all().len(), 1);
    bench.acknowledge(first);
    let ids: Vec<_> = (0..5).map(|_| bench.admit(1)).collect();
    ids.into_iter().for_each(|id| drop(bench.acknowledge(id)));

    bench.window.note_rest(bench.start + PRODUCER_ID_TRUST_MAX - Duration::from_millis(1));
    bench.admit(1);
    assert!(bench.window.can_admit());
    bench.window.note_rest(bench.start + PRODUCER_ID_TRUST_MAX);
    assert!(bench.window.can_admit(), "not while something is open");
    bench.window.take_all();
    bench.window.close_hole();
    bench.window.note_rest(bench.start + PRODUCER_ID_TRUST_MAX);
    bench.admit(1);
    assert!(!bench.window.can_admit());
}

#[test]
fn without_idempotence_nothing_is_stamped_and_nothing_is_a_hole() {
    let mut bench = Bench { window: Window::new(false), start: Instant::now(), next: 0 };
    let first = bench.admit(1);
    assert_eq!(bench.sent(first).producer_id, -1);
    assert!(matches!(bench.window.refuse(first, ErrorCode::OutOfOrderSequenceNumber), Refusal::GivenUp(_)));
    let second = bench.admit(1);
    assert!(is_retry(&bench.window.refuse(second, ErrorCode::NotEnoughReplicas)));
    assert!(!bench.window.can_admit());
    assert_eq!(bench.resend_all().len(), 1);
}

/// A broker's memory of one producer, as IDP-1 to IDP-3 ask for it, and its log.
#[derive(Default)]
struct Partition {
    epoch: i16,
    next_sequence: Option<i32>,
    kept: VecDeque<(i16, i32)>,
    log: Vec<u64>,
}

impl Partition {
    fn produce(&mut self, bytes: &Bytes) -> Result<(), ErrorCode> {
        let batch = RecordBatch::decode(bytes.clone()).unwrap();
        let header = *batch.header();
        if header.producer_epoch < self.epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        if self.kept.contains(&(header.producer_epoch, header.base_sequence)) {
            return Ok(());
        }
        let fresh_epoch = header.producer_epoch > self.epoch;
        let expected = if fresh_epoch { Some(0) } else { self.next_sequence };
        if expected.is_some_and(|expected| expected != header.base_sequence) {
            return Err(ErrorCode::OutOfOrderSequenceNumber);
        }
        self.epoch = header.producer_epoch;
        self.next_sequence = Some(sequence_after(header.base_sequence, header.record_count as u32));
        if fresh_epoch {
            self.kept.clear();
        }
        self.kept.push_back((header.producer_epoch, header.base_sequence));
        if self.kept.len() > 5 {
            self.kept.pop_front();
        }
        let records = batch.records(&Default::default()).unwrap();
        let key = records.iter().next().unwrap().unwrap().key.unwrap().try_into().unwrap();
        self.log.push(u64::from_be_bytes(key));
        Ok(())
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(2000))]

    /// Streams that deliver a part and then die, copies that arrive late, errors of every kind, time-outs: each batch
    /// is in the log at most once, acknowledged ones exactly once, and what was acknowledged is in order.
    // covers IDP-1, IDP-2, IDP-3, IDP-6
    #[test]
    fn exactly_once_and_in_order_under_any_faults(
        steps in proptest::collection::vec((0_u8..10, 0_usize..6, 1_u32..4), 1..400),
    ) {
        let mut bench = Bench::new();
        let mut partition = Partition::default();
        // What the current stream carries; what former streams still carry; answers on their way back.
        let mut wire: VecDeque<(BatchId, Bytes)> = VecDeque::new();
        let mut strays: Vec<VecDeque<Bytes>> = Vec::new();
        let mut answers: VecDeque<(BatchId, Result<(), ErrorCode>)> = VecDeque::new();
        let mut acknowledged = Vec::new();
        let mut now = 0;
        for (step, pick, records) in steps {
            match step {
                0..=2 => {
                    bench.window.close_hole();
                    while let Some(again) = bench.window.resend() {
                        wire.push_back(again);
                    }
                    if bench.window.can_admit() {
                        let id = bench.admit(records);
                        wire.push_back((id, bench.window.unresolved.back().unwrap().bytes.clone()));
                    }
                }
                3..=4 => if let Some((id, bytes)) = wire.pop_front() {
                    answers.push_back((id, partition.produce(&bytes)));
                },
                5..=6 => if let Some((id, answer)) = answers.pop_front() {
                    match answer {
                        Ok(()) => acknowledged.extend(bench.acknowledge(id).map(|batch| batch.id.0)),
                        Err(code) => drop(bench.window.refuse(id, code)),
                    }
                },
                // Refused at the door, for a while or for good.
                7 => if let Some((id, _)) = wire.pop_front() {
                    let code = if pick == 0 { ErrorCode::InvalidRecord } else { ErrorCode::NotLeaderOrFollower };
                    answers.push_back((id, Err(code)));
                },
                8 => {
                    bench.window.lost();
                    strays.push(wire.drain(..).map(|(_, bytes)| bytes).collect());
                    answers.clear();
                }
                _ => {
                    if pick == 0 {
                        now += 3;
                        let limit = BatchId(bench.next.min(now));
                        if limit.0 > 0 {
                            bench.expire_below(limit);
                        }
                    }
                    let count = strays.len();
                    if let Some(stray) = strays.get_mut(pick % count.max(1)).and_then(VecDeque::pop_front) {
                        partition.produce(&stray).unwrap_or_default();
                    }
                }
            }
        }
        let mut once = partition.log.clone();
        once.sort_unstable();
        once.dedup();
        proptest::prop_assert_eq!(once.len(), partition.log.len(), "twice in the log: {:?}", partition.log);
        proptest::prop_assert!(acknowledged.iter().all(|id| partition.log.contains(id)));
        let order: Vec<_> = partition.log.iter().filter(|id| acknowledged.contains(id)).collect();
        proptest::prop_assert!(order.is_sorted(), "acknowledged ones out of order: {:?}", order);
    }
}
