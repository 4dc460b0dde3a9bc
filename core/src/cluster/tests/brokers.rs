//! Brokers, reigns, producer ids, the cluster's beginning.

use super::*;
use headwater_protocol::ids::{LeaderEpoch, PartitionEpoch, TaskProducer};

#[test]
fn a_new_run_ends_the_former_reign() {
    // covers REP-12 for one node: whatever the former run has under way is of an older epoch
    let mut cluster = Cluster::new();
    assert_eq!(cluster.image.broker(BROKER).unwrap().epoch, BrokerEpoch(0));
    let id = cluster.create_topic("t", 2).unwrap();
    let epochs = |cluster: &Cluster| {
        let topic = cluster.image.topic(id).unwrap();
        topic.partitions.iter().map(|p| (p.leader, p.leader_epoch, p.partition_epoch)).collect::<Vec<_>>()
    };
    let at = |epoch: u32| vec![(Some(BROKER), LeaderEpoch(epoch as i32), PartitionEpoch(epoch)); 2];
    assert_eq!(epochs(&cluster), at(0));
    let old = cluster.image.clone();
    assert_eq!(cluster.register(2), BrokerEpoch(1));
    assert_eq!(epochs(&cluster), at(1));
    assert_eq!(old.topic(id).unwrap().partitions[0].leader_epoch, LeaderEpoch(0), "a clone stays as it was");
    let batches = cluster.batches.len();
    assert_eq!(cluster.register(2), BrokerEpoch(1), "the same run again");
    assert_eq!((epochs(&cluster), cluster.batches.len()), (at(1), batches));
    assert_eq!(cluster.register(1), BrokerEpoch(2));
    assert_eq!(epochs(&cluster), at(2));
}

#[test]
fn a_run_that_ended_is_noted_once() {
    let mut cluster = Cluster::new();
    let epoch = cluster.register(2);
    let stop = |cluster: &mut Cluster, epoch| cluster.commit(stop_broker(&cluster.image, BROKER, epoch).unwrap());
    stop(&mut cluster, BrokerEpoch(0));
    assert_eq!(
        cluster.image.broker(BROKER).unwrap().state,
        BrokerState::Registered,
        "that run was followed by another"
    );
    stop(&mut cluster, epoch);
    let batches = cluster.batches.len();
    assert_eq!(cluster.image.broker(BROKER).unwrap().state, BrokerState::Stopped);
    stop(&mut cluster, epoch);
    assert_eq!(cluster.batches.len(), batches);
    refused(stop_broker(&cluster.image, BrokerId(9), epoch), ErrorCode::InvalidRequest, &["broker 9"]);
}

#[test]
fn a_registration_that_makes_no_sense_is_refused() {
    let cluster = Cluster::new();
    type Change = fn(&mut RegisterBroker);
    let table: [(Change, &str); 5] = [
        (|request| request.directories.clear(), "1 to 256 data directories"),
        (|request| request.directories.push(DIRECTORY), "each once"),
        (|request| request.directories = vec![DirectoryId::NONE], "not formatted"),
        (|request| request.address.clear(), "host and port"),
        (|request| request.address = "h".repeat(301), "1 to 300"),
    ];
    for (change, says) in table {
        let mut request = registration(2);
        change(&mut request);
        refused(register_broker(&cluster.image, &request), ErrorCode::InvalidRequest, &[says]);
    }
}

#[test]
fn a_disk_that_came_back_empty_does_not_pass_for_the_old_one() {
    // covers LOG-10
    let mut cluster = Cluster::new();
    let mut request = registration(2);
    request.directories = vec![DirectoryId([9; 16])];
    assert!(register_broker(&cluster.image, &request).is_ok(), "nothing lies there yet");
    cluster.create_topic("t", 1).unwrap();
    let missing = DIRECTORY.to_string();
    refused(register_broker(&cluster.image, &request), ErrorCode::InvalidRequest, &[&missing, "attach that disk"]);
    request.directories.push(DIRECTORY);
    assert!(register_broker(&cluster.image, &request).is_ok());
}

#[test]
fn a_broker_goes_when_it_holds_nothing() {
    let mut cluster = Cluster::new();
    cluster.create_topic("t", 1).unwrap();
    refused(unregister_broker(&cluster.image, BROKER), ErrorCode::InvalidRequest, &["holds partitions"]);
    refused(unregister_broker(&cluster.image, BrokerId(9)), ErrorCode::InvalidRequest, &["broker 9"]);
    let early = [MetadataRecord::BrokerUnregistered { broker: BROKER }];
    assert_eq!(cluster.image.apply(&early), Err(ApplyError::BrokerInUse(BROKER)));
    cluster.delete_topic("t").unwrap();
    cluster.commit(unregister_broker(&cluster.image, BROKER).unwrap());
    assert_eq!(cluster.register(3), BrokerEpoch(1), "epochs go on");
}

#[test]
fn producer_ids_are_allotted_once() {
    // covers IDP-7
    let mut cluster = Cluster::new();
    let mut allot = |count| allot_producer_ids(&cluster.image, count).map(|decision| cluster.commit(decision));
    assert_eq!(allot(10).unwrap(), 0..10);
    assert_eq!(allot(5).unwrap(), 10..15);
    refused(allot(0), ErrorCode::InvalidRequest, &["1 to 100000"]);
    refused(allot(100_001), ErrorCode::InvalidRequest, &["1 to 100000"]);
    let back = [MetadataRecord::ProducerIdsAllotted { next: 14 }];
    assert_eq!(cluster.image.apply(&back), Err(ApplyError::ProducerIds { next: 14, free: 15 }));
    let first_task = TaskProducer { processor: headwater_protocol::ids::ProcessorNumber(0), task: 0, generation: 0 };
    let next = first_task.producer_id().unwrap().0 - 3;
    cluster.image.apply(&[MetadataRecord::ProducerIdsAllotted { next }]).unwrap();
    refused(allot_producer_ids(&cluster.image, 3), ErrorCode::InvalidRequest, &["no producer ids left"]);
    assert!(allot_producer_ids(&cluster.image, 2).is_ok());
}

#[test]
fn a_cluster_begins_once() {
    let empty = ClusterImage::default();
    assert_eq!((empty.cluster(), empty.invariants()), (ClusterId::NONE, Ok(())));
    assert!(create_cluster(&empty, ClusterId::NONE).is_err());
    let cluster = Cluster::new();
    assert_eq!(cluster.image.cluster(), ClusterId([7; 16]));
    let again = create_cluster(&cluster.image, ClusterId([8; 16]));
    refused(again, ErrorCode::InvalidRequest, &["already"]);
}

#[test]
fn propose_errors_tell_what_to_do() {
    let stale = ApiError::from(ProposeError::Stale { committed: MetadataIndex(4) });
    assert!(stale.code.is_retriable() && stale.message.contains("batch 4"));
    assert_eq!(ApiError::from(ProposeError::TooLarge { bytes: 2, bytes_max: 1 }).code, ErrorCode::InvalidRequest);
    assert_eq!(ApiError::from(ProposeError::Unknown("x".into())).code, ErrorCode::KafkaStorageError);
}
