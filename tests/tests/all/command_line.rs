//! The command line as a newcomer meets it: help, wrong words, no broker, formats, orderly stops.

use crate::broker_process::{Broker, PATIENCE, finish, headwater_binary, signal};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

/// Runs `headwater` without any broker or context.
fn headwater(arguments: &[&str]) -> std::process::Output {
    let nowhere = tempfile::tempdir().unwrap();
    let mut command = Command::new(headwater_binary());
    command.args(arguments).current_dir(nowhere.path()).env_remove("HEADWATER_CONTEXT").env("HOME", nowhere.path());
    finish(command, "")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn every_command_explains_itself_with_examples() {
    for command in [
        &["dev"][..],
        &["broker"],
        &["topic", "create"],
        &["topic", "list"],
        &["topic", "describe"],
        &["topic", "alter"],
        &["topic", "delete-records"],
        &["topic", "delete"],
        &["produce"],
        &["consume"],
        &["offsets"],
        &["log-dirs"],
        &["dump-log"],
        &["log", "verify"],
        &["log", "describe"],
        &["module", "build"],
        &["module", "upload"],
        &["module", "list"],
        &["module", "describe"],
        &["module", "delete"],
        &["processor", "deploy"],
        &["processor", "list"],
        &["processor", "describe"],
        &["processor", "pause"],
        &["processor", "resume"],
        &["processor", "delete"],
        &["processor", "logs"],
    ] {
        let output = headwater(&[command, &["--help"]].concat());
        assert!(output.status.success(), "{command:?}");
        let help = text(&output.stdout);
        assert!(help.contains("Examples:"), "{command:?} has no examples:\n{help}");
        assert!(help.contains(&format!("headwater {}", command.join(" "))), "{command:?}:\n{help}");
        assert!(!help.contains('\u{1b}'), "colours without a terminal");
    }
}

#[test]
fn wrong_usage_is_told_from_failure_by_the_exit_code() {
    let output = headwater(&["topic", "crate", "t"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("create"), "the right word is suggested");
    let output = headwater(&["topic", "list", "--broker", "127.0.0.1:9"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn without_a_broker_the_way_to_get_one_is_named() {
    let mut broker = Broker::start();
    broker.kill();
    let (code, error) = broker.run_failing(&["topic", "list"]);
    assert_eq!(code, 1);
    assert!(error.contains("no broker at 127.0.0.1:") && error.contains("headwater dev"), "{error}");
}

#[test]
fn a_configuration_key_that_is_misspelt_is_named_with_the_right_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("broker.toml");
    std::fs::write(&path, "[log]\nwriter_thread = 3\n").unwrap();
    let output = headwater(&["broker", "--config", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("did you mean `log.writer_threads`"), "{}", text(&output.stderr));
}

#[test]
fn a_broker_that_anyone_could_reach_without_a_certificate_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("broker.toml");
    std::fs::write(&path, "listen = \"0.0.0.0:0\"\n[tls]\nclient_authentication = \"none\"\n").unwrap();
    let output = headwater(&["broker", "--config", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("loopback"), "{}", text(&output.stderr));
}

#[test]
fn the_sample_configuration_starts_a_broker_with_the_development_certificates() {
    let mut broker = Broker::start();
    broker.stop();
    let sample = text(&headwater(&["broker", "--print-sample-config"]).stdout);
    let tls = std::fs::read_dir(broker.data().join("tls")).unwrap().count();
    assert!(tls >= 3, "the development certificates lie below the data directory");
    let config = sample
        .replace("data_dir = \"headwater-data\"", &format!("data_dir = {:?}", broker.data().display().to_string()))
        .replace("\"tls/", &format!("\"{}/tls/", broker.data().display()))
        .replace("127.0.0.1:9092", "127.0.0.1:0")
        .replace("127.0.0.1:9644", "127.0.0.1:0");
    let path = broker.scratch().join("broker.toml");
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new(headwater_binary());
    command.args(["broker", "--config", path.to_str().unwrap()]).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let serving = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("127.0.0.1:")));
    assert!(serving.is_some(), "the broker never said that it serves");
    signal(child.id(), "TERM");
    assert!(child.wait().unwrap().success());
}

#[test]
fn topics_records_and_offsets_survive_an_orderly_stop_and_a_kill() {
    let mut broker = Broker::start();
    broker.run(&["topic", "create", "t", "--partitions", "2"]);
    broker.run_with_input(&["produce", "t", "--key-separator", "="], "a=1\nb=2\n");
    broker.stop();
    broker.restart();
    broker.run_with_input(&["produce", "t", "--key-separator", "="], "a=3\n");
    broker.kill();
    broker.restart();
    let records =
        broker.run(&["consume", "t", "--from-beginning", "--print-key", "--key-separator", "=", "--max-messages", "3"]);
    let mut records: Vec<&str> = records.lines().collect();
    assert!(records.iter().position(|record| *record == "a=1") < records.iter().position(|record| *record == "a=3"));
    records.sort_unstable();
    assert_eq!(records, ["a=1", "a=3", "b=2"]);
    let epochs = broker.json(&["topic", "describe", "t"]).to_string();
    assert!(epochs.contains("\"leader_epoch\":2"), "each start begins a new reign: {epochs}");
}

#[test]
fn topics_are_refused_with_the_reason_and_nothing_is_made() {
    let broker = Broker::start();
    for (arguments, reason) in [
        (&["topic", "create", "a/b"][..], "name"),
        (&["topic", "create", ".."], "name"),
        (&["topic", "create", &"x".repeat(250)], "249"),
        (&["topic", "create", "t", "--partitions", "0"], "partition"),
        (&["topic", "create", "t", "--partitions", "1000000"], "partition"),
        (&["topic", "create", "t", "--replication-factor", "3"], "broker"),
        (&["topic", "create", "t", "--config", "durabilty=os"], "durability"),
        (&["topic", "create", "t", "--config", "durability=maybe"], "fsync"),
        (&["topic", "create", "t", "--config", "segment.bytes=1"], "segment.bytes"),
        (&["topic", "describe", "nope"], "nope"),
        (&["topic", "delete", "nope"], "nope"),
        (&["produce", "nope", "--file", "/dev/null"], "nope"),
        (&["offsets", "nope"], "nope"),
        (&["log-dirs", "--topic", "nope"], "nope"),
        (&["processor", "describe", "nope"], "nope"),
        (&["module", "describe", "nope"], "nope"),
    ] {
        let (code, error) = broker.run_failing(arguments);
        assert!(code == 1 || code == 2, "{arguments:?}: {code}");
        assert!(error.contains(reason), "{arguments:?} does not say {reason:?}: {error}");
    }
    assert_eq!(broker.json(&["topic", "list"]), serde_json::json!([]));
}

#[test]
fn settings_of_a_topic_in_use_change_with_the_next_batch_and_survive_a_kill() {
    let mut broker = Broker::start();
    broker.run(&["topic", "create", "t", "--config", "segment.bytes=1048576"]);
    let line = format!("{}\n", "x".repeat(4000));
    broker.run_with_input(&["produce", "t"], &line);
    for (arguments, reason) in [
        (&["topic", "alter", "t", "--set", "segment.byte=2"][..], "did you mean \"segment.bytes\""),
        (&["topic", "alter", "t", "--set", "max.message.bytes=1"], "1024"),
        (&["topic", "alter", "t", "--delete", "durabilty"], "did you mean \"durability\""),
        (&["topic", "alter", "nope", "--delete", "durability"], "no topic"),
        (&["topic", "alter", "t"], "--set"),
    ] {
        let (code, error) = broker.run_failing(arguments);
        assert!((code == 1 || code == 2) && error.contains(reason), "{arguments:?}: {code} {error}");
    }
    let settings = ["topic", "alter", "t", "--set", "max.message.bytes=2000", "--delete", "segment.bytes"];
    let altered = broker.json(&settings)["settings"].to_string();
    assert!(altered.contains(r#"{"name":"max.message.bytes","set_on_topic":true,"value":"2000"}"#), "{altered}");
    assert!(altered.contains(r#"{"name":"segment.bytes","set_on_topic":false,"value":"1073741824"}"#), "{altered}");
    let refuses = |broker: &Broker| {
        let error = broker.run_failing_with_input(&["produce", "t"], &line).1;
        assert!(error.contains("2000"), "the new limit holds: {error}");
    };
    refuses(&broker);
    broker.kill();
    broker.restart();
    refuses(&broker);
    broker.run(&["topic", "alter", "t", "--delete", "max.message.bytes"]);
    broker.run_with_input(&["produce", "t"], &line);
    let text = broker.run(&["topic", "describe", "t", "--all-settings"]);
    assert!(text.contains("max.message.bytes") && text.contains("default"), "{text}");
}

#[test]
fn records_are_deleted_by_hand_and_by_retention_and_do_not_come_back() {
    let mut broker = Broker::start();
    broker.run(&["topic", "create", "t", "--config", "segment.bytes=1048576"]);
    let line = "x".repeat(1000);
    let input: String = (0..3000).map(|number| format!("{number} {line}\n")).collect();
    broker.run_with_input(&["produce", "t"], &input);
    let start_of =
        |broker: &Broker| broker.json(&["offsets", "t", "--time", "earliest"])[0]["offset"].as_i64().unwrap();
    let delete = ["topic", "delete-records", "t", "--partition", "0", "--before"];
    for (before, reason) in [("3001", "0 to 3000"), ("-5", "0 or more"), ("soon", "latest")] {
        let error = broker.run_failing(&[&delete[..], &[before]].concat()).1;
        assert!(error.contains(reason), "{error}");
    }
    let deleted = broker.json(&[&delete[..], &["700"]].concat());
    assert_eq!(deleted[0]["log_start_offset"], 700);
    broker.kill();
    broker.restart();
    assert_eq!(start_of(&broker), 700, "what was answered is durable");
    let from = ["consume", "t", "--partition", "0", "--offset"];
    let first = broker.run(&[&from[..], &["700", "--max-messages", "1"]].concat());
    assert!(first.starts_with("700 x"), "{first}");
    let error = broker.run_failing(&[&from[..], &["699", "--max-messages", "1"]].concat()).1;
    assert!(error.contains("700 to 3000"), "{error}");

    let segments = |broker: &Broker| {
        std::fs::read_dir(broker.data().join("logs"))
            .unwrap()
            .flatten()
            .flat_map(|entry| std::fs::read_dir(entry.path()).into_iter().flatten().flatten())
            .filter(|file| file.path().extension().is_some_and(|extension| extension == "log"))
            .count()
    };
    let before = segments(&broker);
    broker.run(&["topic", "alter", "t", "--set", "retention.bytes=1000000"]);
    broker.wait_until("the oldest segments go", || start_of(&broker) > 700 && segments(&broker) < before);
    assert!(start_of(&broker) < 3000, "not the one that grows");
    broker.run(&["topic", "alter", "t", "--set", "retention.ms=0"]);
    broker.wait_until("all records go", || start_of(&broker) == 3000);
    broker.run(&["topic", "alter", "t", "--delete", "retention.ms"]);
    broker.run_with_input(&["produce", "t"], "next\n");
    broker.kill();
    broker.restart();
    assert_eq!(broker.run(&["consume", "t", "--from-beginning", "--max-messages", "1"]), "next\n");
}

#[test]
fn a_consumer_follows_until_it_is_interrupted_and_then_ends_well() {
    let broker = Broker::start();
    broker.run(&["topic", "create", "t"]);
    let mut command = broker.command(&["consume", "t", "--from-beginning"]);
    let mut consumer = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(consumer.stdout.take().unwrap()).lines();
    for word in ["first", "second"] {
        broker.run_with_input(&["produce", "t"], &format!("{word}\n"));
        assert_eq!(lines.next().unwrap().unwrap(), word, "it follows");
    }
    signal(consumer.id(), "INT");
    let status = consumer.wait().unwrap();
    assert!(status.success(), "an interrupted consumer ended with {status} within {PATIENCE:?}");
}

#[test]
fn every_line_becomes_one_record_whatever_acks_durability_and_compression() {
    let broker = Broker::start();
    let input: String = (0..2000).map(|number| format!("line number {number} of two thousand\n")).collect();
    for (topic, durability) in [("synced", "fsync"), ("cached", "os")] {
        broker.run(&["topic", "create", topic, "--config", &format!("durability={durability}")]);
        for (round, (acks, compression)) in [("0", "none"), ("1", "lz4"), ("all", "zstd")].into_iter().enumerate() {
            broker.run_with_input(&["produce", topic, "--acks", acks, "--compression", compression], &input);
            let expected = (round + 1) * 2000;
            broker.wait_until("all lines are there", || {
                broker.json(&["offsets", topic]).to_string().contains(&format!("\"offset\":{expected}"))
            });
        }
        let records = broker.run(&["consume", topic, "--from-beginning", "--max-messages", "6000"]);
        assert_eq!(records, input.repeat(3));
    }
}
