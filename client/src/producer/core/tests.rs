use super::*;
use crate::metadata::{PartitionInfo, TopicInfo};
use headwater_protocol::ids::{BrokerId, LeaderEpoch};
use headwater_protocol::messages::records::ProducedBatch;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

const ONE: LaneIndex = LaneIndex(0);
const MS: Duration = Duration::from_millis(1);

fn config() -> CoreConfig {
    CoreConfig {
        acks: Acks::All,
        idempotent: true,
        compression: Compression::None,
        linger: 5 * MS,
        batch_bytes_max: 1024,
        buffer_bytes_max: 64 << 10,
        delivery_timeout: Duration::from_secs(120),
    }
}

/// A topic "t" whose partitions are led by these brokers. Partition 0 of this id is on the lane that comes first.
fn topic(leaders: &[Option<u32>]) -> TopicInfo {
    let partition = |leader: &Option<u32>| PartitionInfo { leader: leader.map(BrokerId), leader_epoch: LeaderEpoch(0) };
    TopicInfo { name: "t".into(), id: TopicId([1; 16]), partitions: leaders.iter().map(partition).collect() }
}

struct Bench {
    core: Core,
    start: Instant,
    deliveries: Vec<super::super::Delivery>,
}

impl Bench {
    fn new(config: CoreConfig, leaders: &[Option<u32>]) -> Self {
        let mut core = Core::new(config, 0);
        core.apply_topic(&topic(leaders));
        core.set_identity(Identity { producer_id: 9, epoch: 0 });
        Self { core, start: Instant::now(), deliveries: Vec::new() }
    }

    /// A bench where partition 0 has had a batch acknowledged, at time 0.
    fn warm(config: CoreConfig, leaders: &[Option<u32>]) -> Self {
        let mut bench = Self::new(config, leaders);
        bench.send(0, b"first", 0).unwrap();
        bench.core.flush();
        let plan = bench.plan(0);
        bench.answer(&plan, |_| Ok(0));
        bench.deliveries.clear();
        bench
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn send(&mut self, partition: u32, value: &[u8], ms: u64) -> Result<(), AppendError> {
        let record = ProducerRecord { partition: Some(partition), ..ProducerRecord::new("t", None, Some(value)) };
        let now = self.at(ms);
        let (completion, index) = self.core.append(&record, 1000, now)?;
        let delivery = completion.delivery(index, 1000);
        self.deliveries.push(delivery);
        Ok(())
    }

    fn next(&mut self, ms: u64) -> Next {
        let now = self.at(ms);
        self.core.next(ONE, now)
    }

    /// The next request of the first lane, its batches built.
    fn plan(&mut self, ms: u64) -> Plan {
        let Next::Send(mut plan) = self.next(ms) else { panic!("nothing to send") };
        for item in &mut plan.items {
            if let Source::Build(builder, stamp) = &mut item.source {
                let bytes = builder.build(*stamp).unwrap().freeze();
                let builder = std::mem::replace(builder, BatchBuilder::new(Compression::None));
                self.core.built(item.index, item.id, &bytes, builder);
                item.source = Source::Bytes(bytes);
            }
        }
        plan
    }

    fn answer(&mut self, plan: &Plan, outcome: impl Fn(u32) -> Result<i64, ErrorCode>) {
        self.answer_at(plan, 0, outcome);
    }

    fn answer_at(&mut self, plan: &Plan, ms: u64, outcome: impl Fn(u32) -> Result<i64, ErrorCode>) {
        let outcomes = plan.items.iter().map(|item| {
            outcome(item.partition)
                .map(|base_offset| ProducedBatch { base_offset, duplicate: false })
                .map_err(|code| ApiError::new(code, "because"))
        });
        let (outcomes, now) = (outcomes.collect(), self.at(ms));
        self.core.on_response(ONE, plan.correlation, Ok(outcomes), now).unwrap();
        self.complete();
    }

    fn complete(&mut self) {
        let done = self.core.take_effects().done;
        done.into_iter().for_each(|(completion, outcome)| completion.complete(outcome));
    }

    /// What became of a record, `None` while that is open.
    fn outcome(&mut self, place: usize) -> Option<Result<Option<i64>, ClientError>> {
        let delivery = pin!(&mut self.deliveries[place]);
        match delivery.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => Some(outcome.map(|metadata| metadata.offset)),
            Poll::Pending => None,
        }
    }
}

fn header(item: &PlanItem) -> headwater_protocol::batch::BatchHeader {
    let Source::Bytes(bytes) = &item.source else { panic!("not built") };
    headwater_protocol::batch::BatchHeader::decode(bytes).unwrap()
}

#[test]
fn records_linger_together_and_each_gets_its_offset() {
    let mut bench = Bench::new(config(), &[Some(1)]);
    for value in [b"a", b"b", b"c"] {
        bench.send(0, value, 0).unwrap();
    }
    assert!(matches!(bench.next(1), Next::Wait(Some(at)) if at == bench.at(5)));
    let plan = bench.plan(5);
    assert_eq!((plan.items.len(), header(&plan.items[0]).record_count), (1, 3));
    assert!(bench.outcome(0).is_none());
    bench.answer(&plan, |_| Ok(40));
    let offsets: Vec<_> = (0..3).map(|place| bench.outcome(place).unwrap().unwrap()).collect();
    assert_eq!(offsets, [Some(40), Some(41), Some(42)]);
    assert_eq!(bench.core.buffered_bytes(), 0);
}

#[test]
fn nothing_is_stamped_before_there_is_a_producer_id() {
    let mut bench = Bench::new(config(), &[Some(1)]);
    bench.core.identity = None;
    bench.send(0, b"a", 0).unwrap();
    let Next::NeedIdentity(seen) = bench.next(5) else { panic!("sent without identity") };
    assert_eq!(seen, bench.core.identities());
    bench.core.set_identity(Identity { producer_id: 10, epoch: 3 });
    let plan = bench.plan(5);
    let header = header(&plan.items[0]);
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (10, 3, 0));
}

#[test]
fn five_requests_are_in_flight_and_no_more() {
    // covers IDP-2
    let mut bench = Bench::warm(config(), &[Some(1)]);
    for _ in 0..7 {
        bench.send(0, &[7; 1500], 0).unwrap();
    }
    let plans: Vec<_> = (0..5).map(|_| bench.plan(0)).collect();
    assert!(matches!(bench.next(0), Next::Wait(None)));
    bench.answer(&plans[0], |_| Ok(1));
    assert_eq!(bench.plan(0).items.len(), 1);
    let sequences: Vec<_> = plans.iter().map(|plan| header(&plan.items[0]).base_sequence).collect();
    assert_eq!(sequences, [1, 2, 3, 4, 5]);
}

#[test]
fn a_request_carries_what_is_ready_within_its_size_and_partitions_take_turns() {
    // Partitions 0, 32 and 64 share the first lane.
    let leaders = vec![Some(1); 65];
    let large = CoreConfig { batch_bytes_max: 1 << 20, buffer_bytes_max: 64 << 20, ..config() };
    let mut bench = Bench::new(large, &leaders);
    let value = vec![0; 600 << 10];
    for partition in [0, 32, 64] {
        bench.send(partition, &value, 0).unwrap();
    }
    bench.core.flush();
    let firsts: Vec<Vec<u32>> =
        (0..3).map(|_| bench.plan(0).items.iter().map(|item| item.partition).collect()).collect();
    assert_eq!(firsts, [[0], [32], [64]], "two would be over the size");
    for partition in [0, 32, 64, 1] {
        bench.send(partition, b"small", 0).unwrap();
    }
    assert!(matches!(bench.next(100), Next::Wait(_)), "each has its first batch open");
}

#[test]
fn keys_go_where_every_client_puts_them_and_keyless_records_fill_batch_by_batch() {
    let mut bench = Bench::new(config(), &[Some(1), Some(1), None, Some(1)]);
    let now = bench.start;
    let mut place = |key: Option<&[u8]>, partition: Option<u32>, bytes: usize| {
        let value = vec![0; bytes];
        let record = ProducerRecord { partition, ..ProducerRecord::new("t", key, Some(&value)) };
        bench.core.choose_partition(&record, record_bytes_max(&record)).map(|index| {
            let chosen = bench.core.partitions[index.0].number;
            let record = ProducerRecord { partition: Some(chosen), ..record };
            assert!(bench.core.append(&record, 0, now).is_ok());
            chosen
        })
    };
    for key in [&b"a"[..], b"some longer key", b""] {
        assert_eq!(place(Some(key), None, 10).unwrap(), partition_for_key(key, 4));
    }
    assert_eq!(place(None, Some(3), 10).unwrap(), 3);
    let refused = place(None, Some(4), 10).unwrap_err();
    assert!(matches!(refused, AppendError::Refused(error) if error.to_string().contains("0 to 3, not 4")));
    let run: Vec<u32> = (0..60).map(|_| place(None, None, 200).unwrap()).collect();
    let mut turns = run.clone();
    turns.dedup();
    assert!(turns.len() >= 8 && turns.len() <= 20, "a few records each: {run:?}");
    assert!(!run.contains(&2), "nobody leads it");
    assert!([0, 1, 3].iter().all(|number| run.contains(number)));
}

#[test]
fn an_answer_that_does_not_fit_its_request_is_a_breach_of_protocol() {
    let mut bench = Bench::warm(config(), &[Some(1)]);
    let now = bench.start;
    let produced = |base_offset| Ok(ProducedBatch { base_offset, duplicate: false });
    assert!(bench.core.on_response(ONE, 1, Ok(vec![]), now).unwrap_err().contains("without a request"));
    bench.send(0, b"a", 0).unwrap();
    bench.core.flush();
    let plan = bench.plan(0);
    let right = plan.correlation;
    assert!(bench.core.on_response(ONE, right + 1, Ok(vec![produced(5)]), now).is_err());
    assert!(bench.core.on_response(ONE, right, Ok(vec![produced(5), produced(6)]), now).is_err());
    assert!(bench.core.on_response(ONE, right, Ok(vec![produced(-1)]), now).is_err());
    assert!(bench.core.on_response(ONE, right, Ok(vec![produced(5)]), now).is_ok());
}

#[test]
fn a_lost_stream_is_followed_by_the_same_bytes_in_order() {
    // covers IDP-6
    let mut bench = Bench::warm(config(), &[Some(1)]);
    for n in 0..3 {
        bench.send(0, &[n; 1500], 0).unwrap();
    }
    let bytes = |plan: &Plan| match &plan.items[0].source {
        Source::Bytes(bytes) => bytes.clone(),
        Source::Build(..) => panic!("not built"),
    };
    let before: Vec<_> = (0..3).map(|_| bytes(&bench.plan(0))).collect();
    let now = bench.start;
    bench.core.on_lost(ONE, &ClientError::Closed, now);
    assert!(bench.core.take_effects().refresh, "perhaps somebody else leads now");
    assert_eq!(bench.core.stale_topics().len(), 1);
    let after: Vec<_> = (0..3).map(|_| bytes(&bench.plan(0))).collect();
    assert_eq!(before, after);
    assert_eq!(bench.core.counters().batches_resent, 3);
}

#[test]
fn a_partition_changes_its_lane_only_while_nothing_is_in_flight() {
    let mut bench = Bench::warm(config(), &[Some(1)]);
    bench.core.take_effects();
    bench.send(0, &[1; 1500], 0).unwrap();
    bench.send(0, &[2; 1500], 0).unwrap();
    let plans = [bench.plan(0), bench.plan(0)];
    bench.answer(&plans[0], |_| Err(ErrorCode::NotLeaderOrFollower));
    assert_eq!(bench.core.stale_topics().len(), 1);
    bench.core.apply_topic(&topic(&[Some(2)]));
    let two = bench.core.take_effects().new_lanes[0].0;
    let late = bench.at(10_000);
    assert!(matches!(bench.core.next(ONE, late), Next::Wait(_)));
    assert!(matches!(bench.core.next(two, late), Next::Wait(_)));
    bench.answer(&plans[1], |_| Err(ErrorCode::OutOfOrderSequenceNumber));
    let Next::Send(first) = bench.core.next(two, late) else { panic!("moved") };
    let Next::Send(second) = bench.core.next(two, late) else { panic!("both") };
    assert_eq!((header(&first.items[0]).base_sequence, header(&second.items[0]).base_sequence), (1, 2));
    assert!(bench.core.stale_topics().is_empty());
}

#[test]
fn while_old_batches_are_under_way_nothing_new_goes_to_either_leader() {
    let mut bench = Bench::warm(config(), &[Some(1)]);
    bench.core.take_effects();
    bench.send(0, &[1; 1500], 0).unwrap();
    let plan = bench.plan(0);
    bench.core.apply_topic(&topic(&[Some(2)]));
    let two = bench.core.take_effects().new_lanes[0].0;
    bench.send(0, &[2; 1500], 0).unwrap();
    let now = bench.start;
    assert!(matches!(bench.core.next(ONE, now), Next::Wait(_)), "not to the old one");
    assert!(matches!(bench.core.next(two, now), Next::Wait(_)), "not to the new one");
    bench.answer(&plan, |_| Ok(1));
    assert!(matches!(bench.core.next(ONE, now), Next::Wait(_)));
    assert!(matches!(bench.core.next(two, now), Next::Send(_)));
}

#[test]
fn a_passing_refusal_waits_a_little_before_the_next_try() {
    let mut bench = Bench::warm(config(), &[Some(1)]);
    bench.send(0, b"a", 0).unwrap();
    bench.core.flush();
    let plan = bench.plan(0);
    bench.answer(&plan, |_| Err(ErrorCode::NotEnoughReplicas));
    let Next::Wait(Some(at)) = bench.next(0) else { panic!("no pause") };
    assert!(at > bench.start && at <= bench.start + RETRY_PAUSE);
    assert!(matches!(bench.next(1000), Next::Send(_)));
    assert!(bench.outcome(0).is_none());
}

const RETRY_PAUSE: Duration = crate::limits::RETRY_PAUSE_MIN;

#[test]
fn too_late_is_told_with_what_is_known_and_the_producer_goes_on_under_a_new_epoch() {
    let short = CoreConfig { delivery_timeout: 100 * MS, ..config() };
    let mut bench = Bench::warm(short, &[Some(1)]);
    bench.send(0, b"sent", 0).unwrap();
    bench.core.flush();
    bench.plan(0);
    let lost = ClientError::ConnectionLost { address: "a:1".into(), reason: "the cable".into() };
    let (start, end) = (bench.start, bench.at(100));
    bench.core.on_lost(ONE, &lost, start);
    bench.send(0, b"not sent", 0).unwrap();
    bench.send(0, b"young", 50).unwrap();
    bench.core.expire(end - MS);
    bench.complete();
    assert!((0..3).all(|place| bench.outcome(place).is_none()));
    bench.core.expire(end);
    bench.complete();
    let error = bench.outcome(0).unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Delivery { written: Written::Unknown, .. }));
    assert!(error.to_string().contains("the cable"), "{error}");
    // The young one is in the batch of the second: a batch is as old as its first record.
    for place in [1, 2] {
        let error = bench.outcome(place).unwrap().unwrap_err();
        assert!(matches!(error, ClientError::Delivery { written: Written::No, .. }), "{error}");
    }
    assert!(matches!(bench.core.take_failure(), Some(ClientError::Delivery { .. })));
    assert!(bench.core.take_failure().is_none());
    assert_eq!(bench.core.buffered_bytes(), 0);

    bench.send(0, b"after", 100).unwrap();
    let plan = bench.plan(200);
    let header = header(&plan.items[0]);
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (9, 1, 0));
}

#[test]
fn a_full_buffer_refuses_until_something_is_settled() {
    let small = CoreConfig { buffer_bytes_max: 4096, linger: Duration::from_secs(3600), ..config() };
    let mut bench = Bench::warm(small, &[Some(1)]);
    let mut taken = 0;
    while bench.send(0, &[0; 900], 0).is_ok() {
        taken += 1;
        assert!(taken < 10, "never full");
    }
    assert!(bench.core.is_full());
    let plan = bench.plan(0);
    assert!(matches!(bench.send(0, b"", 0), Err(AppendError::BufferFull)));
    bench.answer(&plan, |_| Ok(1));
    assert!(bench.send(0, b"", 0).is_ok());

    // Only open batches, and hours of lingering ahead: they go at once.
    let tiny = CoreConfig { buffer_bytes_max: 1024, linger: Duration::from_secs(3600), ..config() };
    let mut bench = Bench::new(tiny, &[Some(1); 65]);
    bench.send(0, &[0; 600], 0).unwrap();
    bench.send(32, &[0; 600], 0).unwrap();
    assert!(matches!(bench.next(1000), Next::Wait(Some(_))) && bench.core.is_full());
    bench.core.hurry();
    assert_eq!(bench.plan(1000).items.len(), 2);
}

#[test]
fn a_topic_that_is_gone_fails_and_is_asked_for_again() {
    let mut bench = Bench::warm(config(), &[Some(1), Some(1)]);
    bench.core.take_effects();
    bench.send(0, &[0; 1500], 0).unwrap();
    bench.send(0, b"waiting", 0).unwrap();
    bench.send(1, b"other partition", 0).unwrap();
    let plan = bench.plan(0);
    let outcomes = vec![Err(ApiError::new(ErrorCode::UnknownTopicId, "gone"))];
    let now = bench.start;
    bench.core.on_response(ONE, plan.correlation, Ok(outcomes), now).unwrap();
    let effects = bench.core.take_effects();
    assert_eq!(effects.forget, ["t".into()]);
    effects.done.into_iter().for_each(|(completion, outcome)| completion.complete(outcome));
    for place in 0..3 {
        assert_eq!(bench.outcome(place).unwrap().unwrap_err().code(), Some(ErrorCode::UnknownTopicId));
    }
    assert!(matches!(bench.send(0, b"", 0), Err(AppendError::UnknownTopic)));
    assert_eq!(bench.core.buffered_bytes(), 0);

    let again = TopicInfo { id: TopicId([2; 16]), ..topic(&[Some(1), Some(1)]) };
    bench.core.apply_topic(&again);
    assert!(bench.send(1, b"x", 0).is_ok());
    assert_eq!(bench.core.partitions.len(), 2, "places are used again");
    let third = TopicInfo { id: TopicId([3; 16]), ..topic(&[Some(1)]) };
    bench.core.apply_topic(&third);
    bench.complete();
    assert!(bench.outcome(3).unwrap().unwrap_err().to_string().contains("created again"));
}

#[test]
fn without_acknowledgement_written_is_delivered_and_lost_is_unknown() {
    let none = CoreConfig { acks: Acks::None, idempotent: false, ..config() };
    let mut bench = Bench::new(none, &[Some(1)]);
    let now = bench.start;
    bench.send(0, &[0; 1500], 0).unwrap();
    let plan = bench.plan(0);
    assert_eq!(header(&plan.items[0]).producer_id, -1);
    bench.core.on_written(ONE, plan.correlation, now);
    bench.complete();
    assert_eq!(bench.outcome(0).unwrap().unwrap(), None);
    bench.send(0, &[0; 1500], 0).unwrap();
    bench.plan(0);
    bench.core.on_lost(ONE, &ClientError::Closed, now);
    bench.complete();
    let error = bench.outcome(1).unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Delivery { written: Written::Unknown, .. }));
    assert!(matches!(bench.next(0), Next::Wait(None)), "never sent again");
}

#[test]
fn closing_settles_everything() {
    let mut bench = Bench::warm(config(), &[Some(1), None]);
    bench.send(0, &[0; 1500], 0).unwrap();
    bench.plan(0);
    bench.send(0, b"open", 0).unwrap();
    bench.send(1, b"nobody leads it", 0).unwrap();
    assert_eq!(bench.core.stale_topics().len(), 1);
    assert_eq!(bench.core.flush().len(), 3);
    bench.core.close();
    bench.complete();
    assert!((0..3).all(|place| matches!(bench.outcome(place), Some(Err(ClientError::Closed)))));
    assert!(matches!(bench.send(0, b"", 0), Err(AppendError::Refused(ClientError::Closed))));
    assert!(matches!(bench.next(1000), Next::Wait(None)));
}
