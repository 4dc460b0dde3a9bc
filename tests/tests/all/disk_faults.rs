//! A disk that fails under a real broker: what is refused, what goes on, and what is there afterwards.

use crate::broker_process::{Broker, finish};
use std::path::PathBuf;

/// A broker on a disk that fails as [`fail`] says, with a topic `lines` of which these records are acknowledged.
fn with_failing_disk(records: &str) -> Broker {
    let mut broker = Broker::start();
    broker.run(&["topic", "create", "lines", "--config", "segment.bytes=1048576"]);
    broker.run_with_input(&["produce", "lines"], records);
    broker.stop();
    let orders = orders(&broker);
    broker.restart_with(&[("HEADWATER_DISK_FAULTS", orders.to_str().unwrap())]);
    broker
}

fn orders(broker: &Broker) -> PathBuf {
    broker.scratch().join("disk-faults")
}

/// From now on these calls fail: lines of `operation error part-of-the-path`.
fn fail(broker: &Broker, what: &str) {
    // In one step: the broker reads it at every call.
    let new = broker.scratch().join("disk-faults.new");
    std::fs::write(&new, what).unwrap();
    std::fs::rename(new, orders(broker)).unwrap();
}

fn consume(broker: &Broker, topic: &str) -> String {
    broker.run(&["consume", topic, "--from-beginning", "--until-end"])
}

/// Produces with little patience; exit code and standard error of the failure.
fn refused(broker: &Broker, topic: &str, line: &str) -> (i32, String) {
    broker.run_failing_with_input(&["produce", topic, "--delivery-timeout-seconds", "2"], line)
}

/// The only partition's directory of a topic.
fn directory_of(broker: &Broker, topic: &str) -> PathBuf {
    let id = broker.json(&["topic", "describe", topic])["id"].as_str().unwrap().to_owned();
    broker.data().join("logs").join(format!("{id}-0"))
}

// covers LOG-7: nothing acknowledged is lost on a full disk, reads go on, and so do writes when there is room
#[test]
fn a_full_disk_refuses_writes_with_the_reason_until_there_is_room() {
    let mut broker = with_failing_disk("one\n");
    // So that the next producers get their ids without a write to the metadata log.
    broker.run_with_input(&["produce", "lines"], "two\n");
    fail(&broker, "write ENOSPC /logs/");
    let (code, error) = refused(&broker, "lines", "refused\n");
    assert!(code != 0 && error.contains("no space is left"), "{code} {error}");
    assert_eq!(consume(&broker, "lines"), "one\ntwo\n");
    let (_, error) = broker.run_failing(&["topic", "create", "another"]);
    assert!(error.contains("full"), "{error}");

    // Who waits gets it written when there is room.
    let waiting = std::thread::scope(|scope| {
        let produce = scope.spawn(|| finish(broker.command(&["produce", "lines"]), "waited\n"));
        let before = broker.broker_output().matches("an append failed").count();
        broker.wait_until("it was refused", || broker.broker_output().matches("an append failed").count() > before);
        fail(&broker, "");
        produce.join().unwrap()
    });
    assert!(waiting.status.success(), "{}", String::from_utf8_lossy(&waiting.stderr));
    broker.run(&["topic", "create", "another"]);
    assert_eq!(consume(&broker, "lines"), "one\ntwo\nwaited\n");
    broker.kill();
    broker.restart();
    assert_eq!(consume(&broker, "lines"), "one\ntwo\nwaited\n");
}

// covers LOG-7: a sync that failed is never tried again; the directory makes no more promises until a restart
#[test]
fn a_sync_that_fails_ends_writing_until_a_restart() {
    let mut broker = with_failing_disk("one\n");
    fail(&broker, "sync EIO /logs/");
    let (code, error) = refused(&broker, "lines", "refused\n");
    assert!(code != 0 && error.contains("sync") && error.contains("restart"), "{code} {error}");
    assert!(error.contains(broker.data().to_str().unwrap()), "which directory: {error}");
    // Though the disk says that all is well again.
    fail(&broker, "");
    let (_, error) = refused(&broker, "lines", "refused\n");
    assert!(error.contains("sync"), "{error}");
    assert_eq!(consume(&broker, "lines"), "one\n", "what was acknowledged is served, and nothing else");
    broker.kill();
    broker.restart();
    broker.run_with_input(&["produce", "lines"], "two\n");
    let lines = consume(&broker, "lines");
    // What was refused may be there or not; nobody was told that it is.
    assert!(lines.starts_with("one\n") && lines.ends_with("two\n"), "{lines}");
}

// covers LOG-7
#[test]
fn a_file_system_that_becomes_read_only_refuses_writes_and_serves_reads() {
    let mut broker = with_failing_disk("one\n");
    fail(&broker, "write EROFS /logs/\nsync EROFS /logs/\nrename EROFS /logs/\nsync-directory EROFS /logs/");
    let (code, error) = refused(&broker, "lines", "refused\n");
    assert!(code != 0 && error.to_lowercase().contains("read-only"), "{code} {error}");
    assert_eq!(consume(&broker, "lines"), "one\n");
    fail(&broker, "");
    broker.kill();
    broker.restart();
    broker.run_with_input(&["produce", "lines"], "two\n");
    assert!(consume(&broker, "lines").starts_with("one\n"));
}

// covers LOG-3: what can't be read is not damage: it is named, the others are served, and it is there again afterwards
#[test]
fn a_partition_that_cannot_be_read_is_named_and_the_others_are_served() {
    let broker = with_failing_disk("one\n");
    broker.run(&["topic", "create", "others"]);
    broker.run_with_input(&["produce", "others"], "else\n");
    let directory = directory_of(&broker, "lines");
    let name = directory.file_name().unwrap().to_str().unwrap().to_owned();
    fail(&broker, &format!("read EIO {name}"));
    let (code, error) = broker.run_failing(&["consume", "lines", "--from-beginning", "--until-end"]);
    assert!(code != 0 && error.contains("00000000000000000000.log") && error.contains("read"), "{code} {error}");
    assert_eq!(consume(&broker, "others"), "else\n");
    fail(&broker, "");
    assert_eq!(consume(&broker, "lines"), "one\n");
    assert!(!directory.join("quarantine.checkpoint").exists(), "nothing is known to be bad");
}

// covers LOG-10: a directory that disappears is never made again as an empty one
#[test]
fn a_directory_that_disappears_costs_its_partition_only_and_comes_back() {
    let mut broker = with_failing_disk("one\n");
    broker.run(&["topic", "create", "others"]);
    broker.run_with_input(&["produce", "others"], "else\n");
    let directory = directory_of(&broker, "lines");
    let away = broker.scratch().join("away");
    std::fs::rename(&directory, &away).unwrap();
    broker.run_with_input(&["produce", "others"], "more\n");
    broker.kill();
    broker.restart();
    let (code, error) = broker.run_failing(&["consume", "lines", "--from-beginning", "--max-messages", "1"]);
    assert!(code != 0 && !error.is_empty(), "{code}");
    assert!(broker.broker_output().contains("directory is missing"), "{}", broker.broker_output());
    assert!(!directory.exists(), "no empty one is made in its place");
    assert_eq!(consume(&broker, "others"), "else\nmore\n");
    broker.stop();
    std::fs::rename(&away, &directory).unwrap();
    broker.restart();
    broker.run_with_input(&["produce", "lines"], "two\n");
    assert_eq!(consume(&broker, "lines"), "one\ntwo\n");
}
