//! Bytes that a disk has lost, under a real broker: their range is not served, everything else is.

use crate::broker_process::Broker;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const FIRST: &str = "00000000000000000000.log";

/// Three times 200 records, each in a request of its own, so that there are three batches at least.
fn produce_some(broker: &Broker) {
    broker.run(&["topic", "create", "words", "--partitions", "1"]);
    for round in 0..3 {
        let lines: String = (0..200).map(|line| format!("{round} {line}\n")).collect();
        broker.run_with_input(&["produce", "words"], &lines);
    }
}

fn flip(file: &Path, position: u64) {
    let file = std::fs::File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[byte[0] ^ 0x55], position).unwrap();
}

/// The batches of a segment: (first byte, first offset, offset behind).
fn batches(broker: &Broker, file: &Path) -> Vec<(u64, i64, i64)> {
    let dumped = broker.run(&["dump-log", "--batches-only", "--format", "json", file.to_str().unwrap()]);
    let lines = dumped.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines
        .filter_map(|line| {
            let batch = &line["batch"];
            Some((batch["position"].as_u64()?, batch["baseOffset"].as_i64()?, batch["lastOffset"].as_i64()? + 1))
        })
        .collect()
}

#[test]
fn a_flipped_byte_is_found_and_other_ranges_are_consumed() {
    // covers LOG-3
    let mut broker = Broker::start();
    produce_some(&broker);
    // What is in memory for readers at the end is not what the disk has lost.
    broker.stop();
    broker.restart();
    let file = broker.segment(FIRST);
    let batches = batches(&broker, &file);
    assert!(batches.len() >= 3, "{batches:?}");
    let (position, from, to) = batches[1];
    flip(&file, position + 100);

    // A consumer of another range goes on while the broker looks for it.
    let after = to.to_string();
    let count = (600 - to).to_string();
    let consume = ["consume", "words", "--partition", "0", "--offset", &after, "--max-messages", &count];
    assert_eq!(broker.run(&consume).lines().count() as i64, 600 - to);
    let (code, error) = broker.run_failing(&["log", "verify", "words"]);
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("one range") && error.contains("restore"), "{error}");
    assert_eq!(broker.run(&consume).lines().count() as i64, 600 - to);

    // Who comes to the range is told where it ends.
    let (_, error) = broker.run_failing(&["consume", "words", "--from-beginning", "--max-messages", "600"]);
    assert!(error.contains(&format!("offsets {from} up to {to}")), "{error}");
    assert!(error.contains(&format!("go on at offset {to}")) && error.contains(".log"), "{error}");

    // Whoever looks sees what is missing.
    let described = &broker.json(&["log", "describe", "words"])["partitions"][0];
    let range = &described["quarantined"][0];
    assert_eq!((range["from"].as_i64(), range["to"].as_i64()), (Some(from), Some(to)), "{described}");
    assert!(broker.run(&["log", "describe", "words"]).contains(&format!("IN QUARANTINE: offsets {from} up to {to}")));

    // It stays so, and what is produced now is served.
    broker.stop();
    broker.restart();
    broker.run_with_input(&["produce", "words"], "more\n");
    assert_eq!(
        broker.run(&["consume", "words", "--partition", "0", "--offset", "600", "--max-messages", "1"]),
        "more\n"
    );
    assert_eq!(broker.run_failing(&["log", "verify"]).0, 1);
    broker.stop();

    // Without a broker, too.
    let data = broker.data();
    let offline = ["log", "verify", "--format", "json", "--data-dir", data.to_str().unwrap()];
    let output = crate::broker_process::finish(broker.command(&offline), "");
    assert_eq!(output.status.code(), Some(1));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let partitions = document["partitions"].as_array().unwrap();
    let damaged: Vec<&serde_json::Value> =
        partitions.iter().flat_map(|partition| partition["damaged"].as_array().unwrap()).collect();
    assert_eq!(damaged.len(), 1, "{document}");
    assert_eq!((damaged[0]["from"].as_i64(), damaged[0]["to"].as_i64()), (Some(from), Some(to)));
    assert_eq!(damaged[0]["position"].as_u64(), Some(position));
}

#[test]
fn what_is_sound_is_called_so_and_a_wrong_question_is_answered() {
    let mut broker = Broker::start();
    produce_some(&broker);
    let text = broker.run(&["log", "verify", "words"]);
    assert!(text.contains("words-0") && text.contains("DAMAGED"), "{text}");
    let document = broker.json(&["log", "verify"]);
    assert!(document["partitions"][0]["batches"].as_u64().unwrap() >= 3, "{document}");
    let (code, error) = broker.run_failing(&["log", "verify", "words", "--partition", "7"]);
    assert!(code == 2 && error.contains("partitions 0 to 0"), "{code} {error}");
    assert!(broker.run_failing(&["log", "verify", "nosuch"]).1.contains("nosuch"));
    broker.stop();
    let empty = broker.scratch().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let (code, error) = broker.run_failing(&["log", "verify", "--data-dir", empty.to_str().unwrap()]);
    assert!(code == 2 && error.contains("data_dir"), "{code} {error}");
}

#[test]
fn one_partition_s_files_that_make_no_sense_cost_that_partition_only() {
    // covers LOG-3, LOG-10: each a file in the directory of one partition, and what the broker says of it
    let mut broker = Broker::start();
    produce_some(&broker);
    let segment = broker.segment(FIRST);
    broker.run(&["topic", "create", "other"]);
    broker.run_with_input(&["produce", "other"], "kept\n");
    broker.stop();
    let directory = segment.parent().unwrap().to_owned();
    let whole = std::fs::read(&segment).unwrap();
    let newer_snapshot = |bytes: &mut Vec<u8>| bytes[7] = 9;
    type Spoil<'a> = Box<dyn Fn() + 'a>;
    let cases: [(&str, Spoil<'_>, &str); 4] = [
        ("empty", Box::new(|| std::fs::write(&segment, b"").unwrap()), "00000000000000000000.log"),
        ("cut", Box::new(|| std::fs::write(&segment, &whole[..whole.len() / 3]).unwrap()), "00000000000000000000.log"),
        ("gone", Box::new(|| std::fs::remove_file(&segment).unwrap()), "missing"),
        (
            "a later version",
            Box::new(|| {
                let epochs = directory.join("leader-epoch.checkpoint");
                let mut bytes = std::fs::read(&epochs).unwrap();
                newer_snapshot(&mut bytes);
                let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..20]), &bytes[24..]);
                bytes[20..24].copy_from_slice(&crc.to_be_bytes());
                std::fs::write(&epochs, bytes).unwrap();
            }),
            "leader-epoch.checkpoint",
        ),
    ];
    let epochs = std::fs::read(directory.join("leader-epoch.checkpoint")).unwrap();
    for (what, spoil, named) in cases {
        spoil();
        broker.restart();
        assert_eq!(broker.run(&["consume", "other", "--from-beginning", "--max-messages", "1"]), "kept\n", "{what}");
        let (_, error) = broker.run_failing(&["consume", "words", "--from-beginning", "--max-messages", "1"]);
        assert!(!error.is_empty(), "{what}");
        let log = broker.broker_output();
        assert!(log.contains(named), "{what}: {log}");
        broker.stop();
        std::fs::write(&segment, &whole).unwrap();
        std::fs::write(directory.join("leader-epoch.checkpoint"), &epochs).unwrap();
    }
    // A foreign file is named and harms nobody.
    let mut foreign = std::fs::File::create(directory.join("notes.txt")).unwrap();
    foreign.write_all(b"what is this").unwrap();
    broker.restart();
    assert_eq!(broker.run(&["consume", "words", "--from-beginning", "--max-messages", "1"]), "0 0\n");
    assert!(broker.broker_output().contains("notes.txt"));
}
