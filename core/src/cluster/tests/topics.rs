//! Topics.

use super::*;
use crate::limits;
use headwater_protocol::messages::topic::AlterTopicRequest;

fn create(
    cluster: &Cluster,
    topic: &NewTopic,
) -> Result<Decision<headwater_protocol::messages::topic::CreatedTopic>, ApiError> {
    let request = CreateTopic { id: topic_id(200), topic, defaults: TopicDefaults::default() };
    create_topic(&cluster.image, request)
}

#[test]
fn a_topic_is_found_by_name_and_by_id() {
    let mut cluster = Cluster::new();
    let id = cluster.create_topic("words", 3).unwrap();
    let topic = cluster.image.find_topic("words").unwrap();
    assert_eq!((topic.id, topic.partition_count(), topic.internal), (id, 3, false));
    assert_eq!(cluster.image.topic(id), Some(topic));
    let described = topic.describe();
    assert_eq!((described.name.as_str(), described.partitions.len()), ("words", 3));
    let partition = &described.partitions[2];
    assert_eq!((partition.leader, partition.leader_epoch.0, partition.partition_epoch.0), (Some(BROKER), 0, 0));
    assert_eq!((&partition.replicas, &partition.isr), (&vec![BROKER], &vec![BROKER]));
    refused(cluster.image.find_topic("wrods"), ErrorCode::UnknownTopicOrPartition, &["did you mean \"words\""]);
    refused(cluster.image.find_topic("zzz"), ErrorCode::UnknownTopicOrPartition, &["there is no topic \"zzz\""]);
}

#[test]
fn names_are_as_in_kafka() {
    let cluster = Cluster::new();
    let name = |name: &str| create(&cluster, &new_topic(name, 1, &[]));
    for good in ["a", "A.b_c-9", "...", &"x".repeat(249)] {
        assert!(name(good).is_ok(), "{good}");
    }
    for (bad, why) in [
        ("", "empty"),
        (".", "can't be \".\""),
        ("..", "can't be \"..\""),
        ("a b", "' '"),
        ("a/b", "'/'"),
        ("käse", "'ä'"),
        (&"x".repeat(250), "at most 249"),
    ] {
        refused(name(bad), ErrorCode::InvalidTopic, &[why]);
    }
}

#[test]
fn a_name_is_taken_once_and_so_is_what_looks_like_it() {
    let mut cluster = Cluster::new();
    cluster.create_topic("a.b_c", 1).unwrap();
    cluster.create_topic("plain", 1).unwrap();
    refused(cluster.create_topic("plain", 1), ErrorCode::TopicAlreadyExists, &["\"plain\" exists"]);
    for other in ["a_b_c", "a.b.c", "a_b.c"] {
        refused(cluster.create_topic(other, 1), ErrorCode::InvalidTopic, &["collides with \"a.b_c\""]);
    }
    cluster.create_topic("a-b-c", 1).unwrap();
    cluster.create_topic("a.b_c.", 1).unwrap();
}

#[test]
fn counts_are_within_their_limits() {
    let mut cluster = Cluster::new();
    let max = limits::PARTITIONS_PER_TOPIC_MAX;
    refused(cluster.create_topic("none", 0), ErrorCode::InvalidPartitions, &["1 to 10000"]);
    refused(cluster.create_topic("many", max + 1), ErrorCode::InvalidPartitions, &["1 to 10000"]);
    for number in 0..10 {
        cluster.create_topic(&format!("big{number}"), max).unwrap();
    }
    refused(cluster.create_topic("one", 1), ErrorCode::InvalidPartitions, &["at most 100000"]);
    cluster.delete_topic("big3").unwrap();
    cluster.create_topic("one", 1).unwrap();
}

#[test]
fn replicas_are_as_many_as_brokers_at_most() {
    let mut cluster = Cluster::new();
    let mut topic = new_topic("t", 1, &[]);
    for (factor, ok) in [(0, false), (1, true), (2, false)] {
        topic.replication_factor = Some(factor);
        let decision = create(&cluster, &topic);
        match ok {
            true => assert!(decision.is_ok()),
            false => refused(decision, ErrorCode::InvalidReplicationFactor, &["1 to 1"]),
        }
    }
    let epoch = cluster.image.broker(BROKER).unwrap().epoch;
    cluster.commit(stop_broker(&cluster.image, BROKER, epoch).unwrap());
    refused(create(&cluster, &topic), ErrorCode::InvalidReplicationFactor, &["no broker"]);
}

#[test]
fn defaults_fill_in_what_is_left_open_and_settings_are_checked() {
    let cluster = Cluster::new();
    let mut topic = new_topic("t", 1, &[]);
    topic.partitions = None;
    let defaults = TopicDefaults { partitions: 4, replication_factor: 3 };
    let request = CreateTopic { id: topic_id(9), topic: &topic, defaults };
    assert_eq!(create_topic(&cluster.image, request).unwrap().answer.partitions, 4);
    let topic = new_topic("t", 1, &[("durabilty", "os")]);
    refused(create(&cluster, &topic), ErrorCode::InvalidConfig, &["did you mean \"durability\""]);
    let topic = new_topic("t", 1, &[("min.insync.replicas", "2")]);
    refused(create(&cluster, &topic), ErrorCode::InvalidConfig, &["1 to 1"]);
}

#[test]
fn partitions_are_spread_over_brokers_and_directories() {
    let mut cluster = Cluster::new();
    let mut second = registration(2);
    second.broker = BrokerId(2);
    second.directories = vec![DirectoryId([2; 16]), DirectoryId([3; 16])];
    cluster.commit(register_broker(&cluster.image, &second).unwrap());
    let mut topic = new_topic("t", 4, &[]);
    topic.replication_factor = Some(2);
    cluster.commit(create(&cluster, &topic).unwrap());
    let topic = cluster.image.find_topic("t").unwrap();
    let leaders: Vec<_> = topic.partitions.iter().filter_map(|partition| partition.leader).collect();
    assert_eq!(leaders, [1, 2, 1, 2].map(BrokerId));
    let replicas = topic.partitions.iter().flat_map(|partition| &partition.replicas);
    let on_third = replicas.filter(|replica| replica.directory == DirectoryId([3; 16])).count();
    assert_eq!(on_third, 2, "each broker's directories fill evenly");
}

#[test]
fn a_deleted_topic_is_gone_and_its_name_is_free() {
    let mut cluster = Cluster::new();
    let id = cluster.create_topic("words", 2).unwrap();
    assert_eq!(cluster.delete_topic("words"), Ok(id));
    assert_eq!((cluster.image.topic(id), cluster.image.partition_count()), (None, 0));
    refused(cluster.delete_topic("words"), ErrorCode::UnknownTopicOrPartition, &["words"]);
    assert_ne!(cluster.create_topic("words", 2), Ok(id), "another topic");
}

#[test]
fn a_topic_in_use_stays() {
    let mut cluster = Cluster::new();
    for name in ["in", "out"] {
        cluster.create_topic(name, 1).unwrap();
    }
    cluster.add_module("m", None, 1).unwrap();
    cluster.deploy(&deployment("p", "m", &["in"], &["out"])).unwrap();
    refused(cluster.delete_topic("in"), ErrorCode::TopicInUse, &["processor \"p\""]);
    refused(cluster.delete_topic("out"), ErrorCode::TopicInUse, &["processor \"p\""]);
    refused(cluster.delete_topic("p-changelog"), ErrorCode::InternalTopic, &["state of processor \"p\""]);
    cluster.commit(delete_processor(&cluster.image, "p").unwrap());
    cluster.delete_topic("in").unwrap();
    cluster.delete_topic("out").unwrap();
}

fn alteration(name: &str, set: &[(&str, &str)], delete: &[&str]) -> AlterTopicRequest {
    let set = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let delete = delete.iter().map(|name| (*name).to_owned()).collect();
    AlterTopicRequest { name: name.to_owned(), set, delete, validate_only: false }
}

#[test]
fn settings_of_a_topic_change_by_a_record_and_what_is_refused_changes_nothing() {
    let mut cluster = Cluster::new();
    cluster.create_topic("words", 2).unwrap();
    let alter = |cluster: &Cluster, request: &AlterTopicRequest| alter_topic(&cluster.image, request);
    let decision = alter(&cluster, &alteration("words", &[("durability", "os"), ("segment.ms", "5")], &[])).unwrap();
    let answer = cluster.commit(decision);
    assert!(answer.iter().any(|setting| (setting.value.as_str(), setting.set_on_topic) == ("os", true)));
    let settings = |cluster: &Cluster| cluster.image.find_topic("words").unwrap().settings.clone();
    assert_eq!((settings(&cluster).durability, settings(&cluster).segment_ms), (Durability::Os, 5));
    let decision = alter(&cluster, &alteration("words", &[], &["durability"])).unwrap();
    cluster.commit(decision);
    assert_eq!((settings(&cluster).durability, settings(&cluster).segment_ms), (Durability::Fsync, 5));
    assert_eq!(cluster.replayed(), cluster.image);

    let same = alter(&cluster, &alteration("words", &[("segment.ms", "5")], &[])).unwrap();
    assert!(same.records.is_empty(), "what is so already is no change");
    let checked = AlterTopicRequest { validate_only: true, ..alteration("words", &[("segment.ms", "6")], &[]) };
    assert!(alter(&cluster, &checked).unwrap().records.is_empty());
    let config = ErrorCode::InvalidConfig;
    refused(alter(&cluster, &alteration("words", &[("segment.m", "1")], &[])), config, &["did you mean"]);
    refused(alter(&cluster, &alteration("words", &[("min.insync.replicas", "2")], &[])), config, &["1 to 1"]);
    refused(alter(&cluster, &alteration("wods", &[], &[])), ErrorCode::UnknownTopicOrPartition, &["words"]);
}

#[test]
fn settings_of_a_changelog_are_the_brokers() {
    let mut cluster = Cluster::new();
    cluster.create_topic("in", 1).unwrap();
    cluster.add_module("m", None, 1).unwrap();
    cluster.deploy(&deployment("p", "m", &["in"], &[])).unwrap();
    let changelog = cluster.image.topics().find(|topic| topic.internal).unwrap().name.to_string();
    let request = alteration(&changelog, &[("durability", "os")], &[]);
    refused(alter_topic(&cluster.image, &request), ErrorCode::InternalTopic, &["internal"]);
}

#[test]
fn a_key_extractor_must_be_there_and_stays_as_long_as_a_topic_goes_by_it() {
    let mut cluster = Cluster::new();
    let compact = [("cleanup.policy", "compact"), ("compaction.key.extractor", "json-key")];
    let topic = new_topic("rows", 1, &compact);
    refused(create(&cluster, &topic), ErrorCode::UnknownModule, &["no module \"json-key\""]);
    cluster.add_module("json-key", None, 5).unwrap();
    refused(create(&cluster, &topic), ErrorCode::InvalidConfig, &["world headwater:module/processor@0.1.0"]);
    for digest in [6, 7] {
        let world = "headwater:module/key-extractor@0.1.0".to_owned();
        let extractor = AddModule { world, ..module("json-key", None, digest) };
        let decision = add_module(&cluster.image, extractor).unwrap();
        cluster.commit(decision);
    }
    let decision = create(&cluster, &topic).unwrap();
    cluster.commit(decision);
    cluster.delete_module("json-key@2").unwrap();
    refused(cluster.delete_module("json-key"), ErrorCode::ModuleInUse, &["key extractor of topic \"rows\""]);
    cluster.delete_module("json-key@1").unwrap();
    refused(cluster.delete_module("json-key@3"), ErrorCode::ModuleInUse, &["module json-key@3"]);
    let alter = |set: &[(&str, &str)], delete: &[&str]| AlterTopicRequest {
        name: "rows".to_owned(),
        set: set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        delete: delete.iter().map(|name| (*name).to_owned()).collect(),
        validate_only: false,
    };
    let wrong = alter(&[("compaction.key.extractor", "other")], &[]);
    refused(alter_topic(&cluster.image, &wrong), ErrorCode::UnknownModule, &["no module \"other\""]);
    let decision = alter_topic(&cluster.image, &alter(&[], &["compaction.key.extractor"])).unwrap();
    cluster.commit(decision);
    assert_eq!(cluster.delete_module("json-key").unwrap(), 1);
    assert_eq!(cluster.replayed(), cluster.image);
}
