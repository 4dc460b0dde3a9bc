//! Compaction as a user meets it: the newest of each key stays, sizes fall, and what is read gives the same table.

use crate::broker_process::Broker;
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
    document["brokers"][0]["logDirs"][0]["partitions"][0]["size"].as_u64().unwrap()
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
    produce(&broker, 16);
    broker.wait_until("the task has caught up", || caught_up(&broker));
    // What grows has up to 16 MiB, and as much may be dirty before half of it is; the state is 1000 counts.
    broker.wait_until("it is compacted", || size(&broker, "word-count-changelog") < 40 << 20);
    let description = broker.json(&["log-dirs", "--topic", "word-count-changelog"]);
    let partition = &description["brokers"][0]["logDirs"][0]["partitions"][0];
    assert_eq!(partition["logStartOffset"], 0, "nothing was deleted");
    let cleaned = std::fs::read_dir(broker.data().join("logs")).unwrap().flatten();
    assert!(cleaned.into_iter().any(|entry| entry.path().join("cleaner.checkpoint").exists()));

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
    assert!(newest.values().all(|count| count == "850"), "every word was counted {:?} times", newest.values().next());
}
