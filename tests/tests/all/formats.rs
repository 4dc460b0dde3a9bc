//! Formats that last: the data directory of each release is opened, read and gone on with by every later one.
//!
//! `tests/fixtures/<version>/data` is what a broker of that version left after an orderly stop, without certificates;
//! `answers.json` is what it answered to [`questions`]. A release adds its own:
//!
//! ```sh
//! HEADWATER_WRITE_FIXTURE=0.1 RUSTFLAGS=--remap-path-prefix=$PWD=. cargo xtask test
//! ```
//!
//! What was written once is never written again.

use crate::broker_process::Broker;
use crate::processors::with_word_count;
use serde_json::{Value, json};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// Files of a data directory that a fixture goes without: keys, what names this machine, and the lock.
const LEFT_OUT: [&str; 5] = ["tls", "context.toml", "compiled", ".lock", "dev.lock"];

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap() {
            _ if LEFT_OUT.iter().any(|name| entry.file_name() == *name) => {}
            kind if kind.is_dir() => copy(&entry.path(), &target),
            _ => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// Lines of 20 keys, `count` of them.
fn rows(count: usize) -> String {
    let filling = "x".repeat(1000);
    (0..count).map(|number| format!("key-{:02}:{number} {filling}\n", number % 20)).collect()
}

fn is_idle(broker: &Broker) -> bool {
    broker.json(&["processor", "describe", "word-count"])["tasks"][0]["lag"] == 0
}

/// A broker that has used every kind of file, stopped in order.
fn used() -> Broker {
    let mut broker = with_word_count();
    // What is read here must never become too old.
    let keep = ["--set", "retention.ms=-1"];
    for topic in ["lines", "counts"] {
        broker.run(&[&["topic", "alter", topic][..], &keep].concat());
    }
    broker.run_with_input(&["produce", "lines"], "to be or not to be\nthat is the question\n");

    broker.run(&["topic", "create", "plain", "--partitions", "2", "--config", "retention.ms=-1"]);
    for (round, compression) in ["none", "lz4", "zstd"].iter().enumerate() {
        let lines: String = (0..50).map(|line| format!("{}:{round} {line}\n", line % 7)).collect();
        let produce = ["produce", "plain", "--key-separator", ":", "--compression", compression];
        broker.run_with_input(&produce, &lines);
    }
    let compacted = ["topic", "create", "compacted", "--config", "cleanup.policy=compact"];
    broker.run(&[&compacted[..], &["--config", "segment.bytes=1048576"]].concat());
    broker.run_with_input(&["produce", "compacted", "--key-separator", ":"], &rows(2_500));
    broker.wait_until("it is compacted", || {
        let described = broker.json(&["log", "describe", "compacted"]);
        described["partitions"][0]["compaction"]["cleanedBelow"].as_i64() > Some(500)
    });

    broker.run(&["topic", "create", "damaged", "--config", "retention.ms=-1"]);
    for round in 0..3 {
        broker.run_with_input(&["produce", "damaged"], &format!("{round}\n").repeat(100));
    }
    broker.wait_until("all is counted", || is_idle(&broker));
    broker.stop();
    flip(&broker);
    broker.restart();
    assert_eq!(broker.run_failing(&["log", "verify", "damaged"]).0, 1, "a range is in quarantine");
    broker.stop();
    broker.restart();
    broker
}

/// A bit of the second batch of the topic `damaged`, which is the only partition of three hundred one-digit records.
fn flip(broker: &Broker) {
    let directories = std::fs::read_dir(broker.data().join("logs")).unwrap().map(|entry| entry.unwrap().path());
    let snapshot = |path: &PathBuf| path.join(format!("{:020}.snapshot", 300)).exists();
    let directory = directories.filter(snapshot).collect::<Vec<_>>();
    assert_eq!(directory.len(), 1, "{directory:?}");
    let path = directory[0].join(format!("{:020}.log", 0));
    let dumped = broker.run(&["dump-log", "--batches-only", "--format", "json", path.to_str().unwrap()]);
    let second: Value = serde_json::from_str(dumped.lines().nth(1).unwrap()).unwrap();
    let position = second["batch"]["position"].as_u64().unwrap() + 100;
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[byte[0] ^ 0x55], position).unwrap();
}

/// What is asked of a data directory: each answer must be the same for ever.
fn questions(broker: &Broker) -> Value {
    let read = |topic: &str, more: &[&str]| {
        let consume = ["consume", topic, "--from-beginning", "--until-end", "--format", "json"];
        let text = broker.run(&[&consume[..], more].concat());
        let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines.sort_by_key(|line| (line["partition"].as_i64(), line["offset"].as_i64()));
        lines
    };
    // Rows of a kilobyte would make a long page: their checksum says as much.
    let compacted = serde_json::to_string(&read("compacted", &[])).unwrap();
    let plain = read("plain", &[]);
    let time = plain[60]["timestamp"].as_i64().unwrap().to_string();
    let (_, quarantine) = broker.run_failing(&["consume", "damaged", "--from-beginning", "--until-end"]);
    json!({
        "topics": each(&broker.json(&["topic", "list"]), &["id", "name", "partitions"]),
        "settings": own_settings(broker, "compacted"),
        "plain": plain,
        "plainAtTime": broker.json(&["offsets", "plain", "--time", &time]),
        "plainEnds": broker.json(&["offsets", "plain"]),
        "compacted": crc32c::crc32c(compacted.as_bytes()),
        "counts": read("counts", &[]),
        "quarantineIsNamed": quarantine.contains("offsets 100 up to 200 are damaged"),
        "damagedBehind": broker.run(&["consume", "damaged", "--partition", "0", "--offset", "200", "--until-end"]),
        "cleanedBelow": broker.json(&["log", "describe", "compacted"])["partitions"][0]["compaction"]["checkpoint"],
        "snapshots": snapshots(broker),
        "modules": each(&broker.json(&["module", "list"]), &["name", "digest"]),
    })
}

/// These fields of each: later versions may say more.
fn each(list: &Value, fields: &[&str]) -> Vec<Vec<Value>> {
    let rows = list.as_array().unwrap().iter();
    rows.map(|row| fields.iter().map(|field| row[field].clone()).collect()).collect()
}

fn own_settings(broker: &Broker, topic: &str) -> Vec<Vec<Value>> {
    let described = broker.json(&["topic", "describe", topic]);
    let settings = each(&described["settings"], &["set_on_topic", "name", "value"]);
    settings.into_iter().filter(|setting| setting[0] == true).collect()
}

fn snapshots(broker: &Broker) -> Value {
    let described = broker.json(&["log", "describe", "plain"]);
    let partitions = described["partitions"].as_array().unwrap();
    partitions.iter().map(|partition| partition["producerSnapshots"].clone()).collect()
}

fn write(version: &str) {
    let directory = fixtures().join(version);
    assert!(!directory.exists(), "{} is there: what was written once is never written again", directory.display());
    let mut broker = used();
    let answers = questions(&broker);
    broker.stop();
    copy(&broker.data(), &directory.join("data"));
    std::fs::write(directory.join("answers.json"), serde_json::to_string_pretty(&answers).unwrap() + "\n").unwrap();
}

// covers LOG-3, LOG-8, LOG-9, OUT-4
#[test]
fn the_data_of_every_version_is_read_and_gone_on_with() {
    if let Ok(version) = std::env::var("HEADWATER_WRITE_FIXTURE") {
        write(&version);
    }
    let versions: Vec<PathBuf> = std::fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!versions.is_empty());
    for version in versions {
        let answers: Value =
            serde_json::from_str(&std::fs::read_to_string(version.join("answers.json")).unwrap()).unwrap();
        let mut broker = Broker::on(|data| copy(&version.join("data"), data));
        let found = questions(&broker);
        for (question, answer) in answers.as_object().unwrap() {
            assert_eq!(&found[question], answer, "{}: {question}", version.display());
        }
        assert_eq!(found.as_object().map(serde_json::Map::len), answers.as_object().map(serde_json::Map::len));

        // Counts go on from where they were, across a kill.
        let end = broker.json(&["offsets", "counts"]);
        let records =
            end.as_array().unwrap().iter().map(|partition| partition["offset"].as_i64().unwrap()).sum::<i64>();
        assert_eq!(records, 10);
        broker.run_with_input(&["produce", "lines"], "to be\n");
        broker.kill();
        broker.restart();
        broker.wait_until("all is counted", || is_idle(&broker));
        let consume = ["consume", "counts", "--from-beginning", "--print-key", "--key-separator", "="];
        let counts = broker.run(&[&consume[..], &["--max-messages", "12"]].concat());
        assert!(["to=3", "be=3"].iter().all(|count| counts.lines().any(|line| line == *count)), "{counts}");
    }
}
