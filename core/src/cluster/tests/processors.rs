//! Processors.

use super::*;
use crate::limits;
use headwater_protocol::ids::{ProcessorNumber, TopicPartition};

/// Topics `in` and `in2` of 3 partitions, `odd` of 2, `out` of 5; modules `m` 1 and 2.
fn cluster() -> Cluster {
    let mut cluster = Cluster::new();
    for (name, partitions) in [("in", 3), ("in2", 3), ("odd", 2), ("out", 5)] {
        cluster.create_topic(name, partitions).unwrap();
    }
    cluster.add_module("m", None, 1).unwrap();
    cluster.add_module("m", None, 2).unwrap();
    cluster
}

#[test]
fn the_first_deployment_brings_its_changelog() {
    let mut cluster = cluster();
    let request = deployment("count", "m@1", &["in", "in2"], &["out"]);
    let deployed = cluster.deploy(&request).unwrap();
    let digest = ModuleDigest([1; 32]);
    assert_eq!(deployed, Deployed { processor: ProcessorNumber(0), revision: 1, digest, tasks: 3 });
    assert_eq!(cluster.batches.last().unwrap().len(), 2, "one batch: both or none");
    let processor = cluster.image.find_processor("count").unwrap();
    assert_eq!((processor.tasks(), processor.generation, processor.paused), (3, 0, false));
    assert_eq!(processor.from, [[10, 11, 12], [10, 11, 12]]);
    assert_eq!(processor.module.label(), "m@1");
    let changelog = cluster.image.topic_by_name("count-changelog").unwrap();
    assert_eq!((changelog.id, changelog.internal, changelog.partition_count()), (processor.changelog, true, 3));
    assert_eq!(changelog.settings.max_message_bytes, 16 << 20);
    assert_eq!(cluster.image.processor_of_changelog(changelog.id), Some(processor));
    let anchor = cluster.image.topic_by_name("in").unwrap();
    let replicas = |topic: &TopicImage| topic.partitions.iter().map(|p| p.replicas.clone()).collect::<Vec<_>>();
    assert_eq!(replicas(changelog), replicas(anchor), "one placement group with the anchor");
}

#[test]
fn the_same_name_again_is_a_new_revision_of_the_same_processor() {
    let mut cluster = cluster();
    let mut request = deployment("count", "m@1", &["in"], &["out"]);
    cluster.deploy(&request).unwrap();
    cluster.commit(set_processor_paused(&cluster.image, "count", true).unwrap());
    let before = cluster.image.find_processor("count").unwrap().clone();
    request.module = "m".to_owned();
    request.outputs = vec!["in2".to_owned()];
    request.settings.clear();
    assert!(cluster.image.start_partitions(&request).is_empty(), "positions are in the changelog");
    let deployed = cluster.deploy(&request).unwrap();
    assert_eq!((deployed.processor, deployed.revision), (before.number, 2));
    let after = cluster.image.find_processor("count").unwrap();
    assert_eq!((after.module.label().as_str(), after.outputs.len(), after.settings.len()), ("m@2", 1, 0));
    assert_eq!((after.changelog, &after.from), (before.changelog, &before.from));
    assert!(after.paused, "who paused it resumes it");
    assert_eq!(cluster.batches.last().unwrap().len(), 1);
}

#[test]
fn inputs_and_stores_stay_as_they_are() {
    let mut cluster = cluster();
    let request = deployment("count", "m", &["in", "in2"], &[]);
    cluster.deploy(&request).unwrap();
    let invalid = ErrorCode::InvalidProcessor;
    for inputs in [&["in"][..], &["in2", "in"], &["in", "in2", "out"][..2][1..]] {
        let changed = deployment("count", "m", inputs, &[]);
        refused(cluster.deploy(&changed), invalid, &["reads in, in2, in this order", "Use another name"]);
    }
    let mut changed = request.clone();
    changed.stores.push("more".to_owned());
    refused(cluster.deploy(&changed), invalid, &["has the state stores counts", "delete the processor"]);
    changed.stores.clear();
    refused(cluster.deploy(&changed), invalid, &["can't change them"]);
}

#[test]
fn topics_that_can_t_be_read_or_written_are_refused_with_the_reason() {
    let mut cluster = cluster();
    let (invalid, unknown) = (ErrorCode::InvalidProcessor, ErrorCode::UnknownTopicOrPartition);
    let mut deploy = |inputs: &[&str], outputs: &[&str]| cluster.deploy(&deployment("p", "m", inputs, outputs));
    refused(deploy(&[], &["out"]), invalid, &["at least one input"]);
    refused(deploy(&["in", "in"], &[]), invalid, &["input \"in\" is named twice"]);
    refused(deploy(&["in"], &["out", "out"]), invalid, &["output \"out\" is named twice"]);
    refused(deploy(&["inn"], &[]), unknown, &["did you mean \"in\""]);
    refused(deploy(&["in"], &["outt"]), unknown, &["did you mean \"out\""]);
    refused(deploy(&["in"], &["out", "in"]), invalid, &["\"in\" is input and output", "for ever"]);
    refused(deploy(&["in", "odd"], &[]), invalid, &["\"in\" has 3", "\"odd\" has 2", "copartitioned"]);
    let many: Vec<String> = (0..65).map(|number| format!("t{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    refused(deploy(&many[..17], &[]), invalid, &["17 inputs", "at most 16"]);
    refused(deploy(&["in"], &many), invalid, &["65 outputs", "at most 64"]);
    deploy(&["in"], &["out"]).unwrap();
    refused(deploy(&["p-changelog"], &[]), ErrorCode::InternalTopic, &["input", "commits"]);
    refused(deploy(&["in"], &["p-changelog"]), ErrorCode::InternalTopic, &["output"]);
}

#[test]
fn names_leave_room_for_the_changelog_s() {
    let mut cluster = cluster();
    let invalid = ErrorCode::InvalidProcessor;
    let longest = "p".repeat(limits::PROCESSOR_NAME_BYTES_MAX);
    refused(
        cluster.deploy(&deployment(&format!("{longest}p"), "m", &["in"], &[])),
        invalid,
        &["at most 239", "-changelog"],
    );
    cluster.deploy(&deployment(&longest, "m", &["in"], &[])).unwrap();
    refused(cluster.deploy(&deployment("a b", "m", &["in"], &[])), invalid, &["processor name"]);
    cluster.create_topic("mine-changelog", 1).unwrap();
    let taken = cluster.deploy(&deployment("mine", "m", &["in"], &[]));
    refused(taken, ErrorCode::TopicAlreadyExists, &["changelog can't be made", "\"mine-changelog\" exists"]);
    cluster.create_topic("a_b", 1).unwrap();
    cluster.create_topic("x.y-changelog", 1).unwrap();
    let collides = cluster.deploy(&deployment("x_y", "m", &["in"], &[]));
    refused(collides, ErrorCode::InvalidTopic, &["collides with \"x.y-changelog\""]);
}

#[test]
fn modules_stores_settings_and_limits_are_checked() {
    let mut cluster = cluster();
    let invalid = ErrorCode::InvalidProcessor;
    refused(cluster.deploy(&deployment("p", "mm", &["in"], &[])), ErrorCode::UnknownModule, &["did you mean"]);
    let mut source = module("s", None, 5);
    source.world = "headwater:module/source@0.1.0".to_owned();
    cluster.commit(add_module(&cluster.image, source).unwrap());
    refused(
        cluster.deploy(&deployment("p", "s", &["in"], &[])),
        invalid,
        &["module/source@0.1.0", "of world processor"],
    );
    type Change = fn(&mut DeployProcessorRequest);
    let table: [(Change, &str); 13] = [
        (|request| request.stores = vec!["a".into(), "a".into()], "state store \"a\" is named twice"),
        (|request| request.stores = vec!["a/b".into()], "store name"),
        (|request| request.stores = (0..17).map(|n| n.to_string()).collect(), "17 state stores"),
        (|request| request.settings = vec![("a".into(), String::new()); 2], "setting \"a\" is given twice"),
        (|request| request.settings = vec![(String::new(), String::new())], "1 to 256 bytes"),
        (|request| request.settings = vec![("a".into(), "v".repeat(64 << 10))], "at most 65536"),
        (|request| request.settings = vec![("a".into(), String::new()); 257], "257 settings"),
        (|request| request.limits.memory_bytes_max = 65_535, "memory_bytes_max=65535 is out of range; it is 65536 to"),
        (|request| request.limits.cpu_ms_per_record_max = 0, "cpu_ms_per_record_max"),
        (|request| request.limits.output_bytes_per_step_max = 16 << 20, "output_bytes_per_step_max"),
        (|request| request.limits.state_bytes_max = 0, "state_bytes_max"),
        (|request| request.limits.log_lines_per_second_max = 10_001, "log_lines_per_second_max"),
        (|request| request.limits.records_per_step_max = 0, "records_per_step_max"),
    ];
    for (change, says) in table {
        let mut request = deployment("p", "m", &["in"], &[]);
        change(&mut request);
        refused(cluster.deploy(&request), invalid, &[says]);
    }
    cluster.deploy(&deployment("p", "m", &["in"], &[])).unwrap();
}

#[test]
fn a_deployment_needs_to_know_where_every_partition_begins() {
    let cluster = cluster();
    let request = deployment("p", "m", &["in"], &[]);
    let partitions = cluster.image.start_partitions(&request);
    assert_eq!(partitions.len(), 3);
    let mut starts: BTreeMap<TopicPartition, i64> = partitions.iter().map(|partition| (*partition, 0)).collect();
    starts.remove(&partitions[1]);
    let deploy = |starts: &BTreeMap<_, _>| {
        deploy_processor(&cluster.image, DeployProcessor { request: &request, starts, changelog: topic_id(99) })
    };
    refused(deploy(&starts), ErrorCode::Busy, &["partition 1 of \"in\""]);
    starts.insert(partitions[1], -1);
    refused(deploy(&starts), ErrorCode::Busy, &["partition 1 of \"in\""]);
    starts.insert(partitions[1], 5);
    assert!(deploy(&starts).is_ok());
}

#[test]
fn pausing_and_deleting() {
    let mut cluster = cluster();
    cluster.deploy(&deployment("p", "m", &["in"], &[])).unwrap();
    let pause =
        |cluster: &mut Cluster, paused| cluster.commit(set_processor_paused(&cluster.image, "p", paused).unwrap());
    assert!(!pause(&mut cluster, false));
    assert!(pause(&mut cluster, true));
    assert!(!pause(&mut cluster, true));
    assert!(cluster.image.find_processor("p").unwrap().paused);
    let unknown = ErrorCode::UnknownProcessor;
    refused(set_processor_paused(&cluster.image, "pp", true), unknown, &["no processor \"pp\"; did you mean \"p\""]);
    refused(delete_processor(&cluster.image, "x"), unknown, &["no processor \"x\""]);
    let deleted = cluster.commit(delete_processor(&cluster.image, "p").unwrap());
    assert_eq!(deleted.changelog_name, "p-changelog");
    assert_eq!(cluster.batches.last().unwrap().len(), 2, "one batch: both or none");
    assert_eq!(cluster.image.topic_by_name("p-changelog"), None);
    let again = cluster.deploy(&deployment("p", "m", &["in"], &[])).unwrap();
    assert_eq!((again.processor, again.revision), (ProcessorNumber(1), 1), "a number is never used again");
}

#[test]
fn the_error_policy_names_a_topic_that_is_there_and_no_input() {
    let mut cluster = cluster();
    let to = |topic: &str| ErrorPolicy { retries: 3, then: OnError::DeadLetter { topic: topic.to_owned() } };
    let with = |errors| DeployProcessorRequest { errors, ..deployment("count", "m@1", &["in"], &["out"]) };
    refused(cluster.deploy(&with(to("nowhere"))), ErrorCode::UnknownTopicOrPartition, &["nowhere"]);
    refused(cluster.deploy(&with(to("in"))), ErrorCode::InvalidProcessor, &["\"in\"", "again"]);
    let often = ErrorPolicy { retries: 101, then: OnError::Skip };
    refused(cluster.deploy(&with(often)), ErrorCode::InvalidProcessor, &["101", "0 to 100"]);
    cluster.deploy(&with(to("odd"))).unwrap();
    refused(cluster.deploy(&deployment("other", "m@1", &["count-changelog"], &[])), ErrorCode::InternalTopic, &[]);
    let processor = cluster.image.find_processor("count").unwrap();
    assert_eq!(processor.errors.describe(&cluster.image), to("odd"));
    let odd = cluster.image.topic_by_name("odd").unwrap().id;
    assert!(processor.uses(odd), "it can't be deleted meanwhile");
    // The policy is the deployment's: the next one brings its own.
    cluster.deploy(&deployment("count", "m@1", &["in"], &["out"])).unwrap();
    assert_eq!(cluster.image.find_processor("count").unwrap().errors, ErrorHandling::default());
}

#[test]
fn a_rollback_brings_back_what_ran_before_and_a_second_one_undoes_it() {
    let mut cluster = cluster();
    let first = DeployProcessorRequest {
        errors: ErrorPolicy { retries: 0, then: OnError::Skip },
        ..deployment("count", "m@1", &["in"], &["out"])
    };
    cluster.deploy(&first).unwrap();
    refused(rollback_processor(&cluster.image, "count"), ErrorCode::InvalidProcessor, &["once"]);
    refused(rollback_processor(&cluster.image, "cuont"), ErrorCode::UnknownProcessor, &["count"]);
    let second = DeployProcessorRequest {
        settings: vec![("separator".to_owned(), ",".to_owned())],
        ..deployment("count", "m@2", &["in"], &[])
    };
    cluster.deploy(&second).unwrap();
    let (before, from) = {
        let processor = cluster.image.find_processor("count").unwrap();
        (processor.deployment(), processor.from.clone())
    };

    let rolled = cluster.commit(rollback_processor(&cluster.image, "count").unwrap());
    assert_eq!((rolled.revision, rolled.module.as_str()), (3, "m@1"));
    let processor = cluster.image.find_processor("count").unwrap();
    assert_eq!((&processor.settings, processor.outputs.len()), (&first.settings, 1));
    assert_eq!(processor.errors, ErrorHandling { retries: 0, then: ErrorEnd::Skip });
    assert_eq!((&processor.from, processor.generation), (&from, 0));
    cluster.commit(rollback_processor(&cluster.image, "count").unwrap());
    assert_eq!(cluster.image.find_processor("count").unwrap().deployment(), before);

    cluster.delete_module("m@1").unwrap();
    refused(rollback_processor(&cluster.image, "count"), ErrorCode::UnknownModule, &["m@1", "deleted"]);
}

#[test]
fn a_shadow_runs_beside_until_it_is_ended_or_something_is_deployed() {
    let mut cluster = cluster();
    let shadow = DeployProcessorRequest { shadow: true, ..deployment("count", "m@2", &[], &[]) };
    refused(shadow_processor(&cluster.image, &shadow), ErrorCode::UnknownProcessor, &["count"]);
    cluster.deploy(&deployment("count", "m@1", &["in"], &["out"])).unwrap();
    refused(end_shadow(&cluster.image, "count"), ErrorCode::InvalidProcessor, &["no shadow"]);
    let began = cluster.commit(shadow_processor(&cluster.image, &shadow).unwrap());
    assert_eq!((began.revision, began.digest), (1, ModuleDigest([2; 32])));
    refused(cluster.delete_module("m@2"), ErrorCode::ModuleInUse, &["m@2", "count"]);
    assert_eq!(cluster.commit(end_shadow(&cluster.image, "count").unwrap()), "m@2");
    cluster.commit(shadow_processor(&cluster.image, &shadow).unwrap());
    cluster.deploy(&deployment("count", "m@1", &["in"], &["out"])).unwrap();
    assert_eq!(cluster.image.find_processor("count").unwrap().shadow, None);
    assert_eq!(cluster.replayed().find_processor("count").unwrap(), cluster.image.find_processor("count").unwrap());
}
