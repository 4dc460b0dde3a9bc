//! Holds every shipped struct still: its bytes are in `fixtures/messages.txt`.
//!
//! A change that makes this fail would make old and new peers misread each other: make a new version beside the old
//! struct instead. A new struct adds a sample here and a line there.

use super::ApiKey;
use super::cluster::*;
use super::log::*;
use super::module::*;
use super::processor::*;
use super::records::*;
use super::topic::*;
use crate::error::{ApiError, ErrorCode};
use crate::frame::{decode_header, encode_header};
use crate::ids::*;
use crate::messages::{Reply, Request};
use proptest::prelude::*;
use serde::{Serialize, de::DeserializeOwned};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

const GOLDEN: &str = include_str!("../../fixtures/messages.txt");

struct Sample {
    name: String,
    api: Option<(ApiKey, u16)>,
    hex: String,
    decode: fn(&[u8]) -> bool,
}

fn sample<T: Serialize + DeserializeOwned + PartialEq + Debug>(
    name: impl Into<String>,
    api: Option<(ApiKey, u16)>,
    value: T,
) -> Sample {
    let name = name.into();
    let bytes = encode_header(&value).unwrap();
    assert_eq!(decode_header::<T>(&bytes), Ok(value), "{name}");
    let hex = if bytes.is_empty() { "-".into() } else { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    Sample { name, api, hex, decode: |bytes| decode_header::<T>(bytes).is_ok() }
}

fn short_name<T>() -> &'static str {
    std::any::type_name::<T>().rsplit("::").next().unwrap()
}

/// A request and what answers it, as both travel.
fn exchange<T>(request: T, response: T::Response) -> [Sample; 2]
where
    T: Request + PartialEq + Debug,
    T::Response: PartialEq + Debug,
{
    let name = short_name::<T>();
    let api = Some((T::API, T::VERSION));
    let reply: Reply<T::Response> = Ok(response);
    [sample(name, api, request), sample(format!("{name}.reply"), api, reply)]
}

const TOPIC: TopicId = TopicId([0x11; 16]);
const DIGEST: ModuleDigest = ModuleDigest([0x22; 32]);

fn error() -> ApiError {
    ApiError::new(ErrorCode::NotLeaderOrFollower, "ask again")
}

fn cluster() -> Vec<Sample> {
    let hello = HelloRequest { client: "cli 0.1".into(), versions: vec![(0, 0, 0), (300, 1, 2)] };
    let welcome = HelloResponse {
        broker: "broker 0.1".into(),
        cluster: ClusterId([0x33; 16]),
        id: BrokerId(1),
        epoch: BrokerEpoch(300),
        versions: vec![(0, 0, 0)],
    };
    let metadata = MetadataResponse {
        cluster: ClusterId([0x33; 16]),
        brokers: vec![BrokerMetadata { id: BrokerId(1), address: "localhost:9090".into() }],
        topics: vec![TopicMetadata {
            name: "words".into(),
            id: TOPIC,
            internal: false,
            partitions: vec![PartitionMetadata {
                leader: Some(BrokerId(1)),
                leader_epoch: LeaderEpoch(-2),
                partition_epoch: PartitionEpoch(3),
                replicas: vec![BrokerId(1), BrokerId(2)],
                isr: vec![BrokerId(1)],
            }],
            settings: vec![SettingMetadata { name: "durability".into(), value: "fsync".into(), set_on_topic: true }],
        }],
    };
    let request = MetadataRequest { topics: Some(vec!["words".into()]), include_internal: true };
    [exchange(hello, welcome), exchange(request, metadata)].into_iter().flatten().collect()
}

fn records() -> Vec<Sample> {
    let produce = ProduceRequest {
        acks: Acks::All,
        timeout_ms: 30_000,
        partitions: vec![ProducePartition { topic: TOPIC, partition: 2, batch_bytes: 61 }],
    };
    let produced =
        ProduceResponse { partitions: vec![Ok(ProducedBatch { base_offset: 1000, duplicate: true }), Err(error())] };
    let fetch = FetchRequest {
        wait_ms: 500,
        min_bytes: 1,
        max_bytes: 1 << 20,
        partitions: vec![FetchPartition {
            topic: TOPIC,
            partition: 2,
            offset: 1000,
            max_bytes: 65_536,
            leader_epoch: Some(LeaderEpoch(5)),
        }],
    };
    let fetched = FetchedPartition { log_start_offset: 0, high_watermark: 1001, batches_bytes: 61 };
    let fetched = FetchResponse { partitions: vec![Ok(fetched), Err(error())] };
    let specs = [OffsetSpec::Earliest, OffsetSpec::Latest, OffsetSpec::AtOrAfter(-7), OffsetSpec::MaxTimestamp];
    let list = ListOffsetsRequest { partitions: specs.into_iter().map(|spec| (TOPIC, 2, spec)).collect() };
    let found = FoundOffset { offset: Some(5), timestamp: Some(1_700_000_000_000) };
    let listed = ListOffsetsResponse {
        partitions: vec![Ok(found), Ok(FoundOffset { offset: None, timestamp: None }), Err(error())],
    };
    let id = InitProducerIdResponse { producer_id: ProducerId(4711), producer_epoch: 0 };
    let mut samples: Vec<_> = [
        exchange(produce, produced),
        exchange(fetch, fetched),
        exchange(list, listed),
        exchange(InitProducerIdRequest {}, id),
    ]
    .into_iter()
    .flatten()
    .collect();
    samples.push(sample("Acks", None, [Acks::None, Acks::Leader, Acks::All]));
    samples
}

fn topics() -> Vec<Sample> {
    let create = CreateTopicsRequest {
        topics: vec![NewTopic {
            name: "words".into(),
            partitions: Some(4),
            replication_factor: None,
            settings: vec![("durability".into(), "os".into())],
        }],
        validate_only: false,
    };
    let created = CreateTopicsResponse { topics: vec![Ok(CreatedTopic { id: TOPIC, partitions: 4 }), Err(error())] };
    let delete = DeleteTopicsRequest { names: vec!["words".into()] };
    let deleted = DeleteTopicsResponse { topics: vec![Ok(TOPIC), Err(error())] };
    let alter = AlterTopicRequest {
        name: "words".into(),
        set: vec![("durability".into(), "os".into())],
        delete: vec!["segment.ms".into()],
        validate_only: true,
    };
    let altered = AlterTopicResponse {
        settings: vec![SettingMetadata { name: "durability".into(), value: "os".into(), set_on_topic: true }],
    };
    let delete_records = DeleteRecordsRequest { partitions: vec![(TOPIC, 2, 1000), (TOPIC, 3, -1)] };
    let records_deleted = DeleteRecordsResponse { partitions: vec![Ok(1000), Err(error())] };
    let verify = VerifyLogRequest { partitions: vec![(TOPIC, 2, 1000)], bytes_max: 1 << 20 };
    let piece = VerifiedPiece {
        next_offset: 1100,
        end_offset: 2000,
        batches: 3,
        bytes: 4096,
        damaged: vec![DamagedRange {
            file: "/d/0.log".into(),
            position: 61,
            end_position: 200,
            from: 1010,
            to: 1020,
            reason: "CRC".into(),
        }],
    };
    let verified = VerifyLogResponse { partitions: vec![Ok(piece), Err(error())] };
    let describe_log = DescribeLogRequest { partitions: vec![(TOPIC, 2, 1000)], segments_max: 100 };
    let described = DescribeLogResponse { partitions: vec![Ok(log_description()), Err(error())] };
    let directories = DescribeLogDirsResponse {
        broker: BrokerId(1),
        directories: vec![LogDirectory {
            path: "/data".into(),
            id: DirectoryId([0x44; 16]),
            error: Some("no space".into()),
            partitions: vec![LogDirectoryPartition {
                topic: "words".into(),
                partition: 3,
                size_bytes: 1 << 33,
                log_start_offset: 1,
                log_end_offset: 70,
                segments: 2,
            }],
        }],
    };
    let describe = DescribeLogDirsRequest { topics: None };
    [
        exchange(create, created),
        exchange(delete, deleted),
        exchange(alter, altered),
        exchange(verify, verified),
        exchange(describe_log, described),
        exchange(delete_records, records_deleted),
        exchange(describe, directories),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn log_description() -> LogDescription {
    LogDescription {
        directory: "/d/t-2".into(),
        leader_epoch: 4,
        log_start_offset: 1000,
        log_end_offset: 2000,
        high_watermark: 1999,
        recovery_point: 1998,
        size_bytes: 9000,
        segment_count: 2,
        segments: vec![SegmentDescription {
            base_offset: 1000,
            next_offset: 1500,
            size_bytes: 5000,
            synced_bytes: 4999,
            index_bytes: 80,
            first_timestamp: Some(1_700_000_000_000),
            max_timestamp: None,
            is_sealed: true,
        }],
        next_offset: Some(1500),
        quarantined: vec![DamagedRange {
            file: "/d/0.log".into(),
            position: 61,
            end_position: 200,
            from: 1010,
            to: 1020,
            reason: "CRC".into(),
        }],
        quarantined_count: 1,
        snapshots: vec![1500],
        compaction: Some(CompactionDescription {
            key: KeySource::Extractor {
                module: "json-key".into(),
                digest: Some(DIGEST),
                settings: vec![("pointer".into(), "/id".into())],
            },
            cleaned_below: 1200,
            checkpoint: 1201,
            cleanable_below: 1500,
            clean_bytes: 10,
            dirty_bytes: 20,
            uncleanable_bytes: 30,
            is_due: true,
            last: Some(CleaningDescription {
                ended_at: 1_700_000_000_000,
                took_ms: 7,
                passes: 1,
                bytes_before: 90,
                bytes_after: 9,
            }),
            stopped: Some("no".into()),
            delayed: None,
        }),
    }
}

fn modules() -> Vec<Sample> {
    let module = ModuleDescription {
        name: "word-count".into(),
        version: "1".into(),
        digest: DIGEST,
        size_bytes: 30_000,
        world: "headwater:module/processor@0.1.0".into(),
        imports: vec!["headwater:module/log@0.1.0".into()],
        uploaded_at: 1_700_000_000_000,
    };
    let upload = UploadModuleRequest { name: "word-count".into(), version: Some("1".into()), module_bytes: 30_000 };
    let describe = DescribeModuleRequest { reference: "word-count@1".into() };
    let delete = DeleteModuleRequest { reference: "word-count".into() };
    [
        exchange(upload, module.clone()),
        exchange(ListModulesRequest {}, ListModulesResponse { modules: vec![module.clone()] }),
        exchange(describe, module.clone()),
        exchange(delete, DeleteModuleResponse { modules: vec![module] }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn description() -> ProcessorDescription {
    ProcessorDescription {
        name: "count".into(),
        module: "word-count@1".into(),
        digest: DIGEST,
        revision: 2,
        inputs: vec!["lines".into()],
        outputs: vec!["words".into()],
        stores: vec!["counts".into()],
        settings: vec![("case".into(), "lower".into())],
        changelog: "count-changelog".into(),
        limits: ProcessorLimits::default(),
        errors: ErrorPolicy { retries: 2, then: OnError::DeadLetter { topic: "dead".into() } },
        previous: Some("word-count@0".into()),
        shadow: Some("word-count@2".into()),
        tasks: vec![TaskDescription {
            task: 0,
            state: TaskState::Failed,
            positions: vec![(10, 12)],
            lag: 2,
            steps: 3,
            records_in: 10,
            records_out: 20,
            state_bytes: 4096,
            memory_bytes: 1 << 21,
            cpu_us: 77,
            restarts: 1,
            skipped: 2,
            dead_lettered: 3,
            shadow: Some(ShadowReport { records: 9, steps: 2, differing_steps: 1, first_difference: Some("x".into()) }),
            swap_us: Some(900),
            last_error: Some(TaskError { message: "trap".into(), record: Some(("lines".into(), 0, 10)), at: -1 }),
        }],
    }
}

fn processors() -> Vec<Sample> {
    let deploy = DeployProcessorRequest {
        name: "count".into(),
        module: "word-count@1".into(),
        inputs: vec!["lines".into()],
        outputs: vec!["words".into()],
        stores: vec!["counts".into()],
        settings: vec![("case".into(), "lower".into())],
        from: StartFrom::Earliest,
        limits: ProcessorLimits::default(),
        errors: ErrorPolicy { retries: 2, then: OnError::DeadLetter { topic: "dead".into() } },
        shadow: true,
    };
    let summary = ProcessorSummary {
        name: "count".into(),
        module: "word-count@1".into(),
        revision: 2,
        state: TaskState::Running,
        tasks: 4,
        lag: 1000,
    };
    let line =
        ProcessorLogLine { number: 1, at: 1_700_000_000_000, task: 3, level: LogLevel::Warn, message: "odd".into() };
    let logs = ProcessorLogsRequest { name: "count".into(), after: 0, lines_max: 100, wait_ms: 500 };
    let mut samples: Vec<_> = [
        exchange(deploy, DeployProcessorResponse { revision: 2, digest: DIGEST, tasks: 4 }),
        exchange(ListProcessorsRequest {}, ListProcessorsResponse { processors: vec![summary] }),
        exchange(DescribeProcessorRequest { name: "count".into() }, description()),
        exchange(
            SetProcessorPausedRequest { name: "count".into(), paused: true },
            SetProcessorPausedResponse { changed: true },
        ),
        exchange(
            DeleteProcessorRequest { name: "count".into() },
            DeleteProcessorResponse { changelog: "count-changelog".into() },
        ),
        exchange(
            RollbackProcessorRequest { name: "count".into() },
            RollbackProcessorResponse { revision: 3, module: "word-count@0".into() },
        ),
        exchange(EndShadowRequest { name: "count".into() }, EndShadowResponse { module: "word-count@2".into() }),
        exchange(logs, ProcessorLogsResponse { lines: vec![line] }),
    ]
    .into_iter()
    .flatten()
    .collect();
    let states = [TaskState::Running, TaskState::Starting, TaskState::Paused, TaskState::Failed];
    let ends = [OnError::Fail, OnError::Skip, OnError::DeadLetter { topic: "dead".into() }];
    samples.push(sample("OnError", None, ends));
    samples.push(sample("TaskState", None, states));
    samples.push(sample("StartFrom", None, [StartFrom::Earliest, StartFrom::Latest]));
    let levels = [LogLevel::Trace, LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error];
    samples.push(sample("LogLevel", None, levels));
    samples
}

fn samples() -> Vec<Sample> {
    let mut samples: Vec<_> = [cluster(), records(), topics(), modules(), processors()].into_iter().flatten().collect();
    samples.push(sample("error.reply", None, Reply::<CreatedTopic>::Err(error())));
    samples
}

#[test]
fn every_struct_has_the_bytes_it_shipped_with() {
    let golden: BTreeMap<&str, &str> =
        GOLDEN.lines().filter(|line| !line.starts_with('#')).map(|line| line.split_once(' ').unwrap()).collect();
    let samples = samples();
    let differ: Vec<_> = samples
        .iter()
        .filter(|sample| golden.get(sample.name.as_str()) != Some(&sample.hex.as_str()))
        .map(|sample| format!("{} {}", sample.name, sample.hex))
        .collect();
    assert!(differ.is_empty(), "these bytes are not the committed ones:\n{}", differ.join("\n"));
    let named: BTreeSet<&str> = samples.iter().map(|sample| sample.name.as_str()).collect();
    assert_eq!(named, golden.keys().copied().collect(), "no line without a sample");
    assert_eq!(named.len(), samples.len(), "no sample twice");
}

#[test]
fn every_api_and_version_has_a_struct_and_the_other_way_round() {
    let spoken: BTreeSet<(ApiKey, u16)> =
        ApiKey::SUPPORTED.iter().flat_map(|(api, low, high)| (*low..=*high).map(|version| (*api, version))).collect();
    let sampled: BTreeSet<(ApiKey, u16)> = samples().iter().filter_map(|sample| sample.api).collect();
    assert_eq!(spoken, sampled);
}

#[test]
fn api_keys_are_unique_and_complete() {
    let numbers: BTreeSet<u16> = ApiKey::SUPPORTED.iter().map(|(api, ..)| *api as u16).collect();
    assert_eq!(numbers.len(), ApiKey::SUPPORTED.len());
    // The enum's source: each variant with a number is in the table.
    let declared = include_str!("../messages.rs");
    let declared = declared.split_once("pub enum ApiKey {").unwrap().1.split_once("\n}").unwrap().0;
    let declared: BTreeSet<u16> =
        declared.lines().filter_map(|line| line.trim().strip_suffix(',')?.split_once(" = ")?.1.parse().ok()).collect();
    assert_eq!(numbers, declared);
    for number in 0..=u16::MAX {
        assert_eq!(ApiKey::from_number(number).map(|api| api as u16), numbers.get(&number).copied());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn arbitrary_bytes_never_panic_in_any_struct(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for sample in samples() {
            let _ = (sample.decode)(&bytes);
        }
    }

    #[test]
    fn damaged_messages_never_panic(position: prop::sample::Index, byte: u8, cut in 0..4_usize) {
        for sample in samples() {
            let hex = sample.hex.trim_matches('-').as_bytes();
            let mut bytes: Vec<u8> = hex
                .chunks_exact(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect();
            if !bytes.is_empty() {
                *position.get_mut(&mut bytes) = byte;
            }
            bytes.truncate(bytes.len().saturating_sub(cut));
            let _ = (sample.decode)(&bytes);
        }
    }
}
