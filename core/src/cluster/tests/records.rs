//! Bytes of metadata records, and records that don't fit.

use super::*;
use headwater_protocol::ids::ProcessorNumber;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn topic() -> TopicCreated {
    TopicCreated {
        topic: topic_id(4),
        name: "t".into(),
        internal: true,
        partitions: vec![vec![ReplicaAssignment { broker: BROKER, directory: DIRECTORY }]],
        settings: vec![("durability".into(), "os".into())],
    }
}

fn deployed() -> ProcessorDeployed {
    ProcessorDeployed {
        processor: ProcessorNumber(3),
        name: "p".into(),
        revision: 1,
        generation: 0,
        module: ModuleReference { digest: ModuleDigest([6; 32]), name: "m".into(), version: "1".into() },
        inputs: vec![topic_id(1)],
        outputs: vec![topic_id(2)],
        stores: vec!["s".into()],
        settings: vec![("k".into(), "v".into())],
        limits: ProcessorLimits::default(),
        from: vec![vec![0, 300]],
        changelog: topic_id(3),
    }
}

/// One of each, with the bytes that lie in metadata logs. They never change.
fn golden() -> Vec<(MetadataRecord, String)> {
    let sixteen = |byte: &str| byte.repeat(16);
    let text = hex;
    vec![
        (MetadataRecord::ClusterCreated { cluster: ClusterId([7; 16]) }, format!("0000{}", sixteen("07"))),
        (
            MetadataRecord::BrokerRegistered {
                broker: BROKER,
                epoch: BrokerEpoch(200),
                incarnation: IncarnationId([2; 16]),
                directories: vec![DIRECTORY],
                address: "h:1".into(),
            },
            format!("000101c801{}01{}03{}", sixteen("02"), sixteen("01"), text(b"h:1")),
        ),
        (MetadataRecord::BrokerStopped { broker: BROKER, epoch: BrokerEpoch(3) }, "00020103".into()),
        (MetadataRecord::BrokerUnregistered { broker: BROKER }, "000301".into()),
        (
            MetadataRecord::TopicCreated(topic()),
            format!(
                "0004{}01{}01010101{}010a{}02{}",
                sixteen("04"),
                text(b"t"),
                sixteen("01"),
                text(b"durability"),
                text(b"os")
            ),
        ),
        (MetadataRecord::TopicDeleted { topic: topic_id(4) }, format!("0005{}", sixteen("04"))),
        (MetadataRecord::ProducerIdsAllotted { next: 1000 }, "0006d00f".into()),
        (
            MetadataRecord::ModuleAdded(ModuleAdded {
                name: "m".into(),
                version: "1".into(),
                digest: ModuleDigest([6; 32]),
                size_bytes: 300,
                world: "w".into(),
                imports: vec!["i".into()],
                uploaded_at: 5,
            }),
            format!("0007016d0131{}ac0201770101690a", "06".repeat(32)),
        ),
        (MetadataRecord::ModuleDeleted { name: "m".into(), version: "1".into() }, "0008016d0131".into()),
        (
            MetadataRecord::ProcessorDeployed(deployed()),
            [
                "0009",                                  // version, variant
                "0301700100",                            // number, name, revision, generation
                &format!("{}016d0131", "06".repeat(32)), // module
                &format!("01{}", sixteen("01")),         // inputs
                &format!("01{}", sixteen("02")),         // outputs
                "010173",                                // stores
                "01016b0176",                            // settings
                "8080802064",                            // memory 64 MiB, 100 ms
                "808080048080808004",                    // output 8 MiB, state 1 GiB
                "64e807",                                // 100 lines, 1000 records
                "010200d804",                            // from: 0, 300
                &sixteen("03"),                          // changelog
            ]
            .concat(),
        ),
        (MetadataRecord::ProcessorPaused { processor: ProcessorNumber(3), paused: true }, "000a0301".into()),
        (MetadataRecord::ProcessorDeleted { processor: ProcessorNumber(3) }, "000b03".into()),
        (
            MetadataRecord::TopicAltered { topic: topic_id(4), settings: vec![("k".into(), "v".into())] },
            format!("000c{}01016b0176", sixteen("04")),
        ),
    ]
}

/// As [`golden`], what came later.
fn later() -> Vec<(MetadataRecord, String)> {
    let sixteen = |byte: &str| byte.repeat(16);
    let ended = MetadataRecord::ProcessorShadowed { processor: ProcessorNumber(3), shadow: None };
    vec![
        (ended, "000e0300".into()),
        (
            MetadataRecord::ProcessorErrorsSet {
                processor: ProcessorNumber(3),
                retries: 2,
                then: ErrorEnd::DeadLetter(topic_id(4)),
            },
            format!("000d030202{}", sixteen("04")),
        ),
    ]
}

#[test]
fn shipped_bytes_stay_as_they_are() {
    for (record, bytes) in golden().into_iter().chain(later()) {
        assert_eq!(hex(&record.encode()), bytes, "{record:?}");
        assert_eq!(MetadataRecord::decode(&record.encode()), Ok(record));
    }
}

#[test]
fn what_can_t_be_read_is_told_apart() {
    assert_eq!(MetadataRecord::decode(&[]), Err(RecordError::Empty));
    assert_eq!(MetadataRecord::decode(&[1, 3, 1]), Err(RecordError::Version(1)));
    assert_eq!(MetadataRecord::decode(&[0, 99]), Err(RecordError::Unreadable), "a variant of later");
    for (record, _) in golden().into_iter().chain(later()) {
        let mut bytes = record.encode();
        bytes.push(0);
        assert_eq!(MetadataRecord::decode(&bytes), Err(RecordError::Unreadable), "bytes behind {record:?}");
        for end in 1..bytes.len() - 1 {
            assert_eq!(MetadataRecord::decode(&bytes[..end]), Err(RecordError::Unreadable), "a piece of {record:?}");
        }
    }
}

#[test]
fn a_batch_applies_whole_or_not_at_all() {
    let mut cluster = Cluster::new();
    let before = cluster.image.clone();
    let ids = MetadataRecord::ProducerIdsAllotted { next: 50 };
    let unfit = MetadataRecord::TopicDeleted { topic: topic_id(99) };
    assert_eq!(cluster.image.apply(&[ids, unfit]), Err(ApplyError::UnknownTopic(topic_id(99))));
    assert_eq!(cluster.image, before);
}

#[test]
fn records_that_do_not_fit_the_image_are_refused() {
    let mut cluster = Cluster::new();
    cluster.image.apply(&[MetadataRecord::TopicCreated(topic())]).unwrap();
    cluster.image.apply(&[MetadataRecord::ProcessorDeployed(deployed())]).unwrap();
    cluster.add_module_unchecked();
    let with = |change: fn(&mut TopicCreated)| {
        let mut topic = TopicCreated { topic: topic_id(5), name: "u".into(), ..topic() };
        change(&mut topic);
        MetadataRecord::TopicCreated(topic)
    };
    let redeployed = |change: fn(&mut ProcessorDeployed)| {
        let mut deployed = ProcessorDeployed { revision: 2, ..deployed() };
        change(&mut deployed);
        MetadataRecord::ProcessorDeployed(deployed)
    };
    let unfit = [
        MetadataRecord::ClusterCreated { cluster: ClusterId([8; 16]) },
        MetadataRecord::BrokerStopped { broker: BROKER, epoch: BrokerEpoch(9) },
        MetadataRecord::BrokerStopped { broker: BrokerId(2), epoch: BrokerEpoch(0) },
        MetadataRecord::BrokerUnregistered { broker: BrokerId(2) },
        with(|topic| topic.topic = topic_id(4)),
        with(|topic| topic.name = "t".into()),
        with(|topic| topic.topic = TopicId::NONE),
        with(|topic| topic.partitions.clear()),
        with(|topic| topic.partitions.push(Vec::new())),
        with(|topic| topic.settings = vec![("x".into(), "y".into())]),
        MetadataRecord::ModuleDeleted { name: "m".into(), version: "9".into() },
        MetadataRecord::ModuleDeleted { name: "n".into(), version: "1".into() },
        redeployed(|deployed| deployed.revision = 1),
        redeployed(|deployed| deployed.name = "q".into()),
        redeployed(|deployed| deployed.processor = ProcessorNumber(2)),
        redeployed(|deployed| deployed.processor = ProcessorNumber(4)),
        redeployed(|deployed| (deployed.processor, deployed.name) = (ProcessorNumber(u32::MAX), "q".into())),
        MetadataRecord::ProcessorPaused { processor: ProcessorNumber(4), paused: true },
        MetadataRecord::ProcessorDeleted { processor: ProcessorNumber(4) },
    ];
    let before = cluster.image.clone();
    for record in unfit {
        let error = cluster.image.apply(std::slice::from_ref(&record)).unwrap_err();
        assert!(error.to_string().starts_with("metadata: "), "{record:?}: {error}");
        assert_eq!(cluster.image, before);
    }
    assert_eq!(cluster.image.apply(&[redeployed(|_| {})]), Ok(()));
}

impl Cluster {
    fn add_module_unchecked(&mut self) {
        let added = ModuleAdded {
            name: "m".into(),
            version: "1".into(),
            digest: ModuleDigest([6; 32]),
            size_bytes: 1,
            world: String::new(),
            imports: Vec::new(),
            uploaded_at: 0,
        };
        let record = MetadataRecord::ModuleAdded(added);
        assert_eq!(self.image.apply(std::slice::from_ref(&record)), Ok(()));
        assert_eq!(self.image.apply(&[record]), Err(ApplyError::ModuleExists("m@1".into())));
    }
}
