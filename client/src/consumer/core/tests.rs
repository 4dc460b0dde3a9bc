use super::*;
use crate::metadata::PartitionInfo;
use headwater_protocol::batch::{BatchBuilder, ProducerStamp, stamp};
use headwater_protocol::compression::Compression;
use headwater_protocol::ids::BrokerId;

fn config() -> CoreConfig {
    CoreConfig {
        fetch_bytes_max: 4 << 20,
        partition_bytes_max: 1 << 20,
        prefetch_bytes_max: 32 << 20,
        wait: Duration::from_millis(500),
        on_out_of_range: OutOfRangePolicy::Error,
        unreachable_timeout: None,
    }
}

fn topic(id: u8, leaders: &[u32]) -> TopicInfo {
    let partition = |leader: &u32| PartitionInfo { leader: Some(BrokerId(*leader)), leader_epoch: LeaderEpoch(0) };
    TopicInfo { name: "t".into(), id: TopicId([id; 16]), partitions: leaders.iter().map(partition).collect() }
}

fn lane(broker: u32, partition: u32) -> LaneKey {
    LaneKey { broker: BrokerId(broker), number: lane_number(TopicId([1; 16]), partition) }
}

fn batch_of(mut builder: BatchBuilder, base_offset: i64, records: i64, value: &[u8]) -> RecordBatch {
    for _ in 0..records {
        builder.append(0, None, Some(value), &[]).unwrap();
    }
    let mut bytes = builder.build(ProducerStamp::NONE).unwrap();
    stamp(&mut bytes, base_offset, LeaderEpoch(0));
    RecordBatch::decode(bytes.freeze()).unwrap()
}

fn batch(base_offset: i64, records: i64) -> RecordBatch {
    batch_of(BatchBuilder::new(Compression::None), base_offset, records, b"v")
}

fn fetched(batches: Vec<RecordBatch>) -> Fetched {
    let outcome = FetchedPartition { log_start_offset: 0, high_watermark: 1000, batches_bytes: 0 };
    Fetched { outcome: Ok(outcome), batches, damage: None }
}

fn refused(code: ErrorCode) -> Fetched {
    Fetched { outcome: Err(ApiError::new(code, "because")), batches: vec![], damage: None }
}

struct Bench {
    core: Core,
    now: Instant,
}

impl Bench {
    /// A consumer that reads partition 0, led by broker 1, from this offset on.
    fn new(config: CoreConfig, from: i64) -> Self {
        let mut core = Core::new(config);
        core.assign(&topic(1, &[1]), &[(0, from)]);
        Self { core, now: Instant::now() }
    }

    fn ask(&mut self, key: LaneKey) -> (FetchRequest, Vec<Asked>) {
        match self.core.next(key, self.now) {
            Next::Fetch(request, asked) => (request, asked),
            Next::Wait(until) => panic!("waits until {until:?}"),
        }
    }

    fn answer(&mut self, asked: Vec<Asked>, fetched: Fetched) -> Result<(), String> {
        self.core.on_fetched(lane(1, 0), asked, vec![fetched], self.now)
    }

    /// Asks on the first lane and answers.
    fn fetch(&mut self, answer: Fetched) -> i64 {
        let (request, asked) = self.ask(lane(1, 0));
        self.answer(asked, answer).unwrap();
        request.partitions[0].offset
    }

    /// (first offset of the batch, offset to read from) of everything there is.
    fn pop_all(&mut self) -> Vec<(i64, i64)> {
        let pops = std::iter::from_fn(|| self.core.pop());
        pops.map(|ready| match ready {
            Ready::Batch { batch, from_offset, .. } => (batch.header().base_offset, from_offset),
            Ready::Failed(error) => panic!("{error}"),
        })
        .collect()
    }

    fn position(&self) -> i64 {
        self.core.position(&place()).unwrap()
    }
}

fn place() -> Place {
    ("t".into(), 0)
}

#[test]
fn fetching_runs_ahead_of_reading_and_begins_inside_a_batch() {
    let mut bench = Bench::new(config(), 7);
    assert_eq!(bench.fetch(fetched(vec![batch(0, 5), batch(5, 5), batch(10, 2)])), 7);
    assert_eq!(bench.fetch(fetched(vec![batch(12, 1)])), 12);
    assert_eq!((bench.position(), bench.core.high_watermark(&place())), (7, Some(1000)));
    assert_eq!(bench.pop_all(), [(5, 7), (10, 10), (12, 12)], "the first one ended before");
    assert_eq!(bench.position(), 13);
}

#[test]
fn gaps_and_markers_move_the_position() {
    // covers RDC-4
    let mut bench = Bench::new(config(), 0);
    let marker = batch_of(BatchBuilder::control(), 30, 1, b"marker");
    bench.fetch(fetched(vec![batch(2, 1), batch(20, 3), marker]));
    assert_eq!(bench.pop_all(), [(2, 0), (20, 3)]);
    assert_eq!(bench.position(), 31);
    let only_marker = batch_of(BatchBuilder::control(), 31, 1, b"marker");
    assert_eq!(bench.fetch(fetched(vec![only_marker])), 31);
    assert!(bench.pop_all().is_empty());
    assert_eq!(bench.position(), 32);
}

#[test]
fn a_seek_drops_what_was_asked_and_what_was_fetched_before() {
    let mut bench = Bench::new(config(), 0);
    bench.fetch(fetched(vec![batch(0, 5)]));
    let (_, asked) = bench.ask(lane(1, 0));
    bench.core.take_effects();
    bench.core.assign(&topic(1, &[1]), &[(0, 100)]);
    assert_eq!(bench.core.take_effects().wake.get(&lane(1, 0)), Some(&true), "the open request is given up");
    bench.answer(asked, fetched(vec![batch(5, 5)])).unwrap();
    assert!(bench.pop_all().is_empty());
    assert_eq!(bench.position(), 100);
    assert_eq!(bench.fetch(fetched(vec![batch(100, 1)])), 100);
    assert_eq!(bench.pop_all(), [(100, 100)]);
    assert!(bench.core.lanes[&lane(1, 0)].buffered_bytes == 0);
}

#[test]
fn out_of_range_follows_the_policy() {
    let mut bench = Bench::new(config(), 50);
    bench.fetch(refused(ErrorCode::OffsetOutOfRange));
    assert!(
        matches!(bench.core.pop(), Some(Ready::Failed(error)) if error.code() == Some(ErrorCode::OffsetOutOfRange))
    );
    assert!(matches!(bench.core.next(lane(1, 0), bench.now), Next::Wait(None)), "until a seek");
    bench.core.assign(&topic(1, &[1]), &[(0, 3)]);
    assert_eq!(bench.ask(lane(1, 0)).0.partitions[0].offset, 3);

    for (policy, spec) in
        [(OutOfRangePolicy::Earliest, OffsetSpec::Earliest), (OutOfRangePolicy::Latest, OffsetSpec::Latest)]
    {
        let mut bench = Bench::new(CoreConfig { on_out_of_range: policy, ..config() }, 50);
        bench.fetch(refused(ErrorCode::OffsetOutOfRange));
        assert!(bench.core.take_effects().attend);
        let [(place, generation, wanted)] = &bench.core.unresolved()[..] else { panic!("one is unresolved") };
        assert_eq!(*wanted, spec);
        let (place, generation) = (place.clone(), *generation);
        assert!(matches!(bench.core.next(lane(1, 0), bench.now), Next::Wait(None)));
        bench.core.resolve(&place, generation - 1, 1);
        assert_eq!(bench.position(), 50, "an answer to an older question");
        bench.core.resolve(&place, generation, 20);
        assert_eq!((bench.position(), bench.ask(lane(1, 0)).0.partitions[0].offset), (20, 20));
    }
}

#[test]
fn prefetching_stops_at_its_share_and_goes_on_when_half_is_read() {
    let small = CoreConfig { prefetch_bytes_max: 128 << 10, ..config() };
    let mut bench = Bench::new(small, 0);
    let large = |offset| batch_of(BatchBuilder::new(Compression::None), offset, 1, &[0; 40 << 10]);
    let (request, asked) = bench.ask(lane(1, 0));
    assert_eq!((request.max_bytes, request.partitions[0].max_bytes), (64 << 10, 64 << 10));
    bench.answer(asked, fetched(vec![large(0), large(1), large(2)])).unwrap();
    assert!(matches!(bench.core.next(lane(1, 0), bench.now), Next::Wait(None)));
    bench.core.take_effects();
    bench.core.pop();
    assert!(bench.core.take_effects().wake.is_empty(), "80 KiB are left");
    bench.core.pop();
    assert_eq!(bench.core.take_effects().wake.get(&lane(1, 0)), Some(&false));
    assert_eq!(bench.ask(lane(1, 0)).0.partitions[0].offset, 3);
}

#[test]
fn lanes_divide_the_budget_and_partitions_of_a_lane_take_turns() {
    let mut core = Core::new(config());
    let positions: Vec<_> = (0..65).map(|number| (number, 0)).collect();
    core.assign(&topic(1, &[1; 65]), &positions);
    assert_eq!(core.take_effects().new_lanes.len(), 32);
    let mut bench = Bench { core, now: Instant::now() };
    let firsts: Vec<u32> = (0..3).map(|_| bench.ask(lane(1, 0)).0.partitions[0].partition).collect();
    assert_eq!(firsts, [32, 64, 0]);
    assert_eq!(bench.ask(lane(1, 1)).0.max_bytes, 512 << 10, "32 MiB over 32 lanes, half of it");
}

#[test]
fn a_partition_that_moved_is_never_read_twice() {
    let mut bench = Bench::new(config(), 0);
    let (_, old) = bench.ask(lane(1, 0));
    bench.core.apply_topic(&topic(1, &[2]));
    assert!(matches!(bench.core.next(lane(1, 0), bench.now), Next::Wait(None)));
    let (_, new) = bench.ask(lane(2, 0));
    bench.core.on_fetched(lane(2, 0), new, vec![fetched(vec![batch(0, 5)])], bench.now).unwrap();
    bench.answer(old, fetched(vec![batch(0, 5)])).unwrap();
    assert_eq!(bench.pop_all(), [(0, 0)]);
}

#[test]
fn passing_refusals_pause_and_ask_who_leads() {
    let mut bench = Bench::new(config(), 0);
    bench.fetch(refused(ErrorCode::NotLeaderOrFollower));
    assert!(bench.core.take_effects().attend);
    assert_eq!(bench.core.stale_topics(), ["t".into()]);
    assert!(bench.core.stale_topics().is_empty(), "asked once");
    let Next::Wait(Some(until)) = bench.core.next(lane(1, 0), bench.now) else { panic!("no pause") };
    bench.now = until;
    assert_eq!(bench.fetch(fetched(vec![batch(0, 1)])), 0);
    assert_eq!(bench.pop_all(), [(0, 0)]);
}

#[test]
fn damage_is_told_after_what_is_sound_and_ends_the_partition_until_a_seek() {
    let mut bench = Bench::new(config(), 0);
    let damage = Some(BatchError::CrcMismatch { stored: 1, computed: 2 });
    bench.fetch(Fetched { damage, ..fetched(vec![batch(0, 5)]) });
    assert!(matches!(bench.core.pop(), Some(Ready::Batch { .. })));
    let Some(Ready::Failed(error)) = bench.core.pop() else { panic!("the damage is told") };
    assert!(error.to_string().contains("t-0 at offset 5"), "{error}");
    assert!(matches!(bench.core.next(lane(1, 0), bench.now), Next::Wait(None)));
    bench.core.assign(&topic(1, &[1]), &[(0, 9)]);
    assert_eq!(bench.fetch(fetched(vec![batch(9, 1)])), 9);
}

#[test]
fn answers_that_do_not_fit_are_a_breach_of_protocol() {
    let mut bench = Bench::new(config(), 0);
    let (_, asked) = bench.ask(lane(1, 0));
    assert!(bench.core.on_fetched(lane(1, 0), asked.clone(), vec![], bench.now).is_err());
    assert!(bench.answer(asked, fetched(vec![batch(5, 5), batch(8, 1)])).unwrap_err().contains("offset 8"));
}

#[test]
fn a_topic_that_is_gone_fails_once() {
    let mut bench = Bench::new(config(), 0);
    bench.core.apply_topic(&topic(2, &[1]));
    bench.core.end_topic("t");
    assert!(matches!(bench.core.pop(), Some(Ready::Failed(error)) if error.to_string().contains("deleted")));
    assert!(bench.core.pop().is_none());
    bench.core.unassign("t");
    assert!(bench.core.topics().is_empty() && bench.core.position(&place()).is_none());
}

#[test]
fn who_can_not_be_reached_for_too_long_is_given_up() {
    let patience = Duration::from_secs(10);
    let mut bench = Bench::new(CoreConfig { unreachable_timeout: Some(patience), ..config() }, 0);
    assert!(bench.core.gives_up().is_none());
    let began = bench.now;
    bench.core.on_lost(lane(1, 0), &ClientError::Closed, began);
    bench.core.on_lost(lane(1, 0), &ClientError::Closed, began + patience);
    assert_eq!(bench.core.gives_up().map(|(at, _)| at), Some(began + patience), "since the first loss");
    bench.fetch(fetched(vec![]));
    assert!(bench.core.gives_up().is_none());
}
