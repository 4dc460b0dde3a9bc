//! Random requests: what a decision allows, the image takes; the log replays to the same image (RAFT-6).

use super::*;
use headwater_protocol::messages::topic::AlterTopicRequest;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Request {
    CreateTopic(u8, u32),
    DeleteTopic(u8),
    AlterTopic(u8, bool, u8),
    AddModule(u8, Option<u8>, u8),
    DeleteModule(u8, Option<u8>),
    Deploy { name: u8, module: u8, inputs: Vec<u8>, outputs: Vec<u8>, stores: u8 },
    Pause(u8, bool),
    DeleteProcessor(u8),
    AllotProducerIds(u32),
    Register(u8),
    Stop,
}

fn request() -> impl Strategy<Value = Request> {
    let name = || 0..4_u8;
    prop_oneof![
        4 => (name(), 1..3_u32).prop_map(|(name, partitions)| Request::CreateTopic(name, partitions)),
        2 => name().prop_map(Request::DeleteTopic),
        2 => (name(), any::<bool>(), 0..3_u8).prop_map(|(name, set, ms)| Request::AlterTopic(name, set, ms)),
        3 => (name(), prop::option::of(0..3_u8), 0..3_u8).prop_map(|(n, version, d)| Request::AddModule(n, version, d)),
        2 => (name(), prop::option::of(0..3_u8)).prop_map(|(name, version)| Request::DeleteModule(name, version)),
        6 => (name(), name(), prop::collection::vec(name(), 0..3), prop::collection::vec(name(), 0..3), 0..2_u8)
            .prop_map(|(name, module, inputs, outputs, stores)| {
                Request::Deploy { name, module, inputs, outputs, stores }
            }),
        1 => (name(), any::<bool>()).prop_map(|(name, paused)| Request::Pause(name, paused)),
        1 => name().prop_map(Request::DeleteProcessor),
        1 => (0..5_u32).prop_map(Request::AllotProducerIds),
        1 => (0..3_u8).prop_map(Request::Register),
        1 => Just(Request::Stop),
    ]
}

fn run(cluster: &mut Cluster, request: &Request) -> Result<(), ApiError> {
    let topic = |number: &u8| format!("t{number}");
    match request {
        Request::CreateTopic(name, partitions) => cluster.create_topic(&topic(name), *partitions).map(drop),
        Request::DeleteTopic(name) => cluster.delete_topic(&topic(name)).map(drop),
        Request::AddModule(name, version, digest) => {
            let version = version.map(|version| version.to_string());
            cluster.add_module(&format!("m{name}"), version.as_deref(), *digest).map(drop)
        }
        Request::DeleteModule(name, None) => cluster.delete_module(&format!("m{name}")).map(drop),
        Request::DeleteModule(name, Some(version)) => cluster.delete_module(&format!("m{name}@{version}")).map(drop),
        Request::Deploy { name, module, inputs, outputs, stores } => {
            let mut request = deployment(&format!("p{name}"), &format!("m{module}"), &[], &[]);
            request.inputs = inputs.iter().map(topic).collect();
            request.outputs = outputs.iter().map(topic).collect();
            request.stores = (0..*stores).map(|number| number.to_string()).collect();
            cluster.deploy(&request).map(drop)
        }
        Request::Pause(name, paused) => {
            let decision = set_processor_paused(&cluster.image, &format!("p{name}"), *paused)?;
            cluster.commit(decision);
            Ok(())
        }
        Request::AlterTopic(name, set, ms) => {
            // 0 ms is refused.
            let pair = ("segment.ms".to_owned(), ms.to_string());
            let (set, delete) = if *set { (vec![pair], vec![]) } else { (vec![], vec![pair.0]) };
            let request = AlterTopicRequest { name: format!("t{name}"), set, delete, validate_only: false };
            let decision = alter_topic(&cluster.image, &request)?;
            cluster.commit(decision);
            Ok(())
        }
        Request::DeleteProcessor(name) => {
            let decision = delete_processor(&cluster.image, &format!("p{name}"))?;
            cluster.commit(decision);
            Ok(())
        }
        Request::AllotProducerIds(count) => {
            let decision = allot_producer_ids(&cluster.image, *count)?;
            cluster.commit(decision);
            Ok(())
        }
        Request::Register(incarnation) => {
            cluster.register(*incarnation);
            Ok(())
        }
        Request::Stop => {
            let epoch = cluster.image.broker(BROKER).map(|broker| broker.epoch).unwrap();
            let decision = stop_broker(&cluster.image, BROKER, epoch)?;
            cluster.commit(decision);
            Ok(())
        }
    }
}

proptest! {
    #[test]
    fn decisions_keep_the_image_whole_and_replay_to_the_same(requests in prop::collection::vec(request(), 1..60)) {
        // covers RAFT-6; `commit` checks the invariants after each batch
        let mut cluster = Cluster::new();
        for request in &requests {
            let before = cluster.image.clone();
            if run(&mut cluster, request).is_err() {
                prop_assert_eq!(&cluster.image, &before, "a refusal changes nothing");
            }
        }
        prop_assert_eq!(cluster.replayed(), cluster.image);
    }

    #[test]
    fn no_bytes_make_decoding_panic_and_no_record_makes_applying_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        requests in prop::collection::vec(request(), 0..10),
    ) {
        let mut cluster = Cluster::new();
        requests.iter().for_each(|request| drop(run(&mut cluster, request)));
        let versioned: Vec<u8> = std::iter::once(0).chain(bytes.iter().copied()).collect();
        for bytes in [bytes, versioned] {
            if let Ok(record) = MetadataRecord::decode(&bytes) {
                prop_assert_eq!(MetadataRecord::decode(&record.encode()).unwrap(), record.clone());
                let before = cluster.image.clone();
                if cluster.image.apply(&[record]).is_err() {
                    prop_assert_eq!(&cluster.image, &before);
                }
            }
        }
    }
}
