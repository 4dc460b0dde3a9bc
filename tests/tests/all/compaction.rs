//! Compaction as a user meets it: the newest of each key stays, sizes fall, and what is read gives the same table.

use crate::broker_process::Broker;
use crate::components::component;
use crate::processors::with_word_count;
use std::collections::BTreeMap;

/// What a reader from the beginning has at the end, and how many records it was given.
fn table(broker: &Broker, topic: &str) -> (BTreeMap<String, String>, usize) {
    let end = broker.json(&["offsets", topic])[0]["offset"].as_u64().unwrap();
    let from = ["consume", topic, "--from-beginning", "--until-end", "--print-key", "--key-separator", "="];
    let text = broker.run(&from);
    let rows: Vec<_> = text.lines().filter_map(|line| line.split_once('=')).collect();
    assert!(rows.len() as u64 <= end);
    let count = rows.len();
    (rows.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(), count)
}

fn size(broker: &Broker, topic: &str) -> u64 {
    let document = broker.json(&["log-dirs", "--topic", topic]);
    document["brokers"][0]["logDirs"][0]["partitions"][0]["sizeBytes"].as_u64().unwrap()
}

/// A metric without labels; 0 before it was set.
fn metric(broker: &Broker, name: &str) -> f64 {
    let metrics = broker.metrics();
    let line = metrics.lines().find(|line| line.split_whitespace().next() == Some(name));
    line.and_then(|line| line.split_whitespace().last()?.parse().ok()).unwrap_or(0.0)
}

/// Lines of 100 keys with values of 1 KB, `count` of them.
fn lines(count: usize) -> String {
    let filling = "x".repeat(1000);
    (0..count).map(|number| format!("key-{:02}:{number} {filling}\n", number % 100)).collect()
}

// covers CMP-1, CMP-6, CMP-8
#[test]
fn a_compacted_topic_shrinks_to_the_newest_of_each_key_and_says_the_same() {
    let mut broker = Broker::start();
    let create = ["topic", "create", "t", "--config", "cleanup.policy=compact", "--config", "segment.bytes=1048576"];
    broker.run(&create);
    let error = broker.run_failing_with_input(&["produce", "t"], "no key\n").1;
    assert!(error.contains("key"), "{error}");
    broker.run_with_input(&["produce", "t", "--key-separator", ":"], &lines(8_000));
    broker.wait_until("it is compacted", || size(&broker, "t") < 3_000_000);
    let (rows, count) = table(&broker, "t");
    assert!(count < 3000, "{count} records are left");
    let newest = |(key, value): (&String, &String)| {
        let number: usize = key.strip_prefix("key-").unwrap().parse().unwrap();
        value.starts_with(&format!("{} ", 7_900 + number))
    };
    assert!(rows.len() == 100 && rows.iter().all(newest));

    broker.kill();
    broker.restart();
    assert_eq!(table(&broker, "t").0, rows);
    broker.run_with_input(&["produce", "t", "--key-separator", ":"], "key-07:last\n");
    assert_eq!(table(&broker, "t").0["key-07"], "last");
}

/// What `log describe` says of the first partition of a topic.
fn describe(broker: &Broker, topic: &str) -> serde_json::Value {
    broker.json(&["log", "describe", topic])["partitions"][0].clone()
}

// covers CMP-1, CMP-2: what an operator is told of a log before and after it is cleaned
#[test]
fn a_log_is_described_segment_by_segment_with_what_the_cleaner_did_and_why_it_stopped() {
    let mut broker = Broker::start();
    let create = ["topic", "create", "t", "--config", "cleanup.policy=compact", "--config", "segment.bytes=1048576"];
    broker.run(&[&create[..], &["--config", "min.cleanable.dirty.ratio=1"]].concat());
    broker.run_with_input(&["produce", "t", "--key-separator", ":"], &lines(8_000));
    let before = describe(&broker, "t");
    let segments = before["segments"].as_array().unwrap();
    assert!(segments.len() >= 7, "{before}");
    let sum = |field: &str| segments.iter().map(|segment| segment[field].as_u64().unwrap()).sum::<u64>();
    assert_eq!(before["sizeBytes"], sum("sizeBytes"));
    assert_eq!(before["sizeBytes"], size(&broker, "t"));
    assert_eq!(before["recoveryPoint"], 8_000, "what is acknowledged is synced");
    assert_eq!((&before["logStartOffset"], &before["highWatermark"]), (&0.into(), &8_000.into()));
    for (number, pair) in segments.windows(2).enumerate() {
        assert_eq!(pair[0]["endOffset"], pair[1]["baseOffset"], "{number}");
        assert_eq!((&pair[0]["isSealed"], &pair[0]["syncedBytes"]), (&true.into(), &pair[0]["sizeBytes"]));
        assert!(pair[0]["indexBytes"].as_u64() > Some(48), "{}", pair[0]);
        assert!(pair[0]["firstTimestamp"].as_i64() <= pair[0]["maxTimestamp"].as_i64(), "{}", pair[0]);
        assert!(pair[0]["firstTimestamp"].as_i64() > Some(1_700_000_000_000), "{}", pair[0]);
    }
    let compaction = &before["compaction"];
    assert_eq!((&compaction["key"]["by"], &compaction["checkpoint"]), (&"record key".into(), &0.into()));
    assert_eq!((&compaction["dirtyRatio"], &compaction["isDue"]), (&1.0.into(), &false.into()), "{compaction}");
    assert!(compaction["lastCleaning"].is_null() && compaction["stopped"].is_null(), "{compaction}");

    broker.run(&["topic", "alter", "t", "--set", "min.cleanable.dirty.ratio=0.1"]);
    broker.wait_until("it is cleaned", || !describe(&broker, "t")["compaction"]["lastCleaning"].is_null());
    let after = describe(&broker, "t");
    let (compaction, segments) = (&after["compaction"], after["segments"].as_array().unwrap());
    let sealed_end = &segments[segments.len() - 2]["endOffset"];
    assert_eq!((&compaction["cleanedBelow"], &compaction["checkpoint"]), (sealed_end, sealed_end), "{after}");
    assert_eq!((&compaction["dirtyBytes"], &compaction["dirtyRatio"]), (&0.into(), &0.0.into()), "{after}");
    let last = &compaction["lastCleaning"];
    assert_eq!((&last["sizeBytesBefore"], &last["sizeBytesAfter"]), (&before["sizeBytes"], &after["sizeBytes"]));
    let text = broker.run(&["log", "describe", "t", "--partition", "0"]);
    for part in ["t-0\n", "recovery point:", "record key", "ratio 0.00", "became", "sealed", "growing", "SEGMENT"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }

    // After an orderly stop there is a snapshot; the last cleaning is forgotten, its checkpoint is not.
    broker.stop();
    broker.restart();
    let again = describe(&broker, "t");
    assert_eq!(again["producerSnapshots"].as_array().unwrap().last(), Some(&8_000.into()), "{again}");
    assert_eq!(again["compaction"]["checkpoint"], *sealed_end);

    upload(&broker, "bad-key");
    create_by(&broker, "spoilt", "bad-key", "x=y");
    broker.run_with_input(&["produce", "spoilt"], &format!("a\ntrap\n{}", "b\n".repeat(3)));
    let filling = format!("{}\n", "y".repeat(1000)).repeat(3_000);
    broker.run_with_input(&["produce", "spoilt"], &filling);
    broker.wait_until("it has stopped", || !describe(&broker, "spoilt")["compaction"]["stopped"].is_null());
    let spoilt = describe(&broker, "spoilt");
    let key = &spoilt["compaction"]["key"];
    assert_eq!((&key["by"], &key["module"]), (&"key extractor".into(), &"bad-key".into()));
    assert_eq!(key["settings"], serde_json::json!([["x", "y"]]));
    assert_eq!(key["digest"].as_str().map(str::len), Some(64));
    assert!(spoilt["compaction"]["stopped"].as_str().unwrap().contains("offset 0"), "{spoilt}");
    assert!(broker.run(&["log", "describe", "spoilt"]).contains("COMPACTION STOPPED"));

    let error = broker.run_failing(&["log", "describe", "t", "--partition", "7"]);
    assert!(error.0 == 2 && error.1.contains("partitions 0 to 0"), "{error:?}");
    assert!(broker.run_failing(&["log", "describe", "nosuch"]).1.contains("nosuch"));
    assert_eq!(broker.json(&["log", "describe"])["partitions"].as_array().unwrap().len(), 2);
}

// covers STEP-13, STR-6
#[test]
fn a_changelog_stays_as_large_as_its_state() {
    let mut broker = with_word_count();
    let produce = |broker: &Broker, rounds: usize| {
        let words: String = (0..1000).map(|word| format!("word{word}\n")).collect();
        for _ in 0..rounds {
            broker.run_with_input(&["produce", "lines"], &words.repeat(50));
        }
    };
    let caught_up = |broker: &Broker| broker.json(&["processor", "describe", "word-count"])["tasks"][0]["lag"] == 0;
    // About 80 MB of commits.
    produce(&broker, 40);
    broker.wait_until("the task has caught up", || caught_up(&broker));
    // What grows has up to 16 MiB; what is closed is cleaned down to 1000 counts, and was a lot more.
    broker.wait_until("it is compacted", || {
        metric(&broker, "headwater_cleaner_removed_bytes_total") > 30e6
            && size(&broker, "word-count-changelog") < 20 << 20
    });
    let description = broker.json(&["log-dirs", "--topic", "word-count-changelog"]);
    let partition = &description["brokers"][0]["logDirs"][0]["partitions"][0];
    assert_eq!(partition["logStartOffset"], 0, "nothing was deleted");

    broker.kill();
    broker.restart();
    produce(&broker, 1);
    broker.wait_until("the task has caught up", || caught_up(&broker));
    let counts =
        broker.run(&["consume", "counts", "--from-beginning", "--until-end", "--print-key", "--key-separator", "="]);
    let mut newest = BTreeMap::new();
    for (word, count) in counts.lines().filter_map(|line| line.split_once('=')) {
        newest.insert(word.to_owned(), count.to_owned());
    }
    assert_eq!(newest.len(), 1000);
    assert!(newest.values().all(|count| count == "2050"), "every word was counted {:?} times", newest.values().next());
}

/// Uploads a module of ours under its own name.
fn upload(broker: &Broker, name: &str) {
    broker.run(&["module", "upload", name, component(name).to_str().unwrap()]);
}

/// Creates a topic that is compacted by a key extractor.
fn create_by(broker: &Broker, topic: &str, extractor: &str, settings: &str) {
    let settings = [
        "cleanup.policy=compact".to_owned(),
        "segment.bytes=1048576".to_owned(),
        format!("compaction.key.extractor={extractor}"),
        format!("compaction.key.extractor.settings={settings}"),
    ];
    let configs = settings.iter().flat_map(|setting| ["--config", setting]);
    broker.run(&["topic", "create", topic].into_iter().chain(configs).collect::<Vec<_>>());
}

/// The newest row of each id, and how many rows there are.
fn rows(broker: &Broker, topic: &str) -> (BTreeMap<String, String>, usize) {
    let text = broker.run(&["consume", topic, "--from-beginning", "--until-end"]);
    let id = |row: &str| serde_json::from_str::<serde_json::Value>(row).unwrap()["id"].to_string();
    (text.lines().map(|row| (id(row), row.to_owned())).collect(), text.lines().count())
}

fn change_data(count: usize) -> String {
    let filling = "x".repeat(900);
    (0..count).map(|number| format!("{{\"id\":{},\"at\":{number},\"note\":\"{filling}\"}}\n", number % 50)).collect()
}

// covers CMP-1, CMP-6: what has no key but inside of its value
#[test]
fn rows_are_compacted_by_what_an_extractor_finds_in_their_json() {
    let mut broker = Broker::start();
    let wrong = ["topic", "create", "t", "--config", "cleanup.policy=compact", "--config"];
    let error = broker.run_failing(&[&wrong[..], &["compaction.key.extractor=json-key"]].concat()).1;
    assert!(error.contains("no module \"json-key\""), "{error}");
    upload(&broker, "json-key");
    create_by(&broker, "t", "json-key", "pointer=/id");
    broker.run_with_input(&["produce", "t"], &change_data(9_000));
    let (before, all) = rows(&broker, "t");
    broker.run(&["topic", "alter", "t", "--set", "min.cleanable.dirty.ratio=0.01"]);
    broker.wait_until("it is compacted", || rows(&broker, "t").1 < all / 2);
    assert_eq!(rows(&broker, "t").0, before);
    let error = broker.run_failing(&["module", "delete", "json-key"]).1;
    assert!(error.contains("key extractor of topic \"t\""), "{error}");

    // Other settings: cleaned again from the start, by another key.
    // What stays in the segment that grows is the same.
    let left = rows(&broker, "t").1;
    broker.run(&["topic", "alter", "t", "--set", "compaction.key.extractor.settings=pointer=/note"]);
    broker.wait_until("it is compacted again", || rows(&broker, "t").1 < left - 40);
    broker.kill();
    broker.restart();
    assert_eq!(rows(&broker, "t").0, before);
}

// covers W1, W2, W4, W6
#[test]
fn an_extractor_that_fails_stops_the_compaction_of_its_partition_and_loses_nothing() {
    let broker = Broker::start();
    upload(&broker, "bad-key");
    let topics = ["trap", "spin", "hog", "fail"];
    let filling = "x".repeat(500);
    for topic in topics {
        create_by(&broker, topic, "bad-key", "x=y");
        let input: String = (0..5000).map(|number| format!("{} {filling}\n", number % 7)).collect();
        broker.run_with_input(&["produce", topic], &format!("{input}{topic}\n{input}"));
    }
    let stopped = |broker: &Broker| metric(broker, "headwater_cleaner_stopped_partitions");
    broker.wait_until("all four have stopped", || stopped(&broker) > 3.5);
    for topic in topics {
        let text = broker.run(&["consume", topic, "--from-beginning", "--until-end"]);
        assert_eq!(text.lines().count(), 10_001, "{topic}");
        let failures = format!("headwater_cleaner_failures_total{{topic=\"{topic}\"}} 1");
        assert!(broker.metrics().contains(&failures), "{topic}: {}", broker.metrics());
    }
    assert!(broker.broker_output().contains("compaction stopped"), "the operator is told");
    // With an extractor that does not fail it goes on.
    for topic in topics {
        broker.run(&["topic", "alter", topic, "--set", "compaction.key.extractor.settings=tame=yes"]);
    }
    broker.wait_until("all are compacted", || topics.iter().all(|topic| size(&broker, topic) < 2_500_000));
    broker.wait_until("none has stopped", || stopped(&broker) < 0.5);
}
