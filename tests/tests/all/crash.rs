//! Exactly once through `kill -9`: while text streams in, the broker dies again and again; afterwards each word's
//! counts on the output topic rise by exactly one from 1 to the exact total, none missing, none twice.
//!
//! covers STEP-1, STEP-4, STEP-8, STEP-9, STEP-10, STEP-12, STEP-14 in the assembled broker.

use crate::broker_process::Broker;
use crate::processors::with_word_count;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The places of `broker::fail_point`, in the order in which a step passes them.
const FAIL_POINTS: [&str; 6] = [
    "before-commit-append",
    "after-commit-append",
    "after-commit-durable",
    "after-first-output-sent",
    "before-output-acknowledged",
    "after-output-acknowledged",
];

/// Lines of text; each has a word of its own and words that recur.
fn lines(from: usize, to: usize) -> String {
    (from..to).fold(String::new(), |mut text, number| {
        writeln!(text, "w{} w{} w{} every line{number}", number % 7, number % 31, number % 101).unwrap();
        text
    })
}

/// Occurrences of each word in the first `count` lines.
fn totals(count: usize) -> HashMap<String, u64> {
    let mut totals = HashMap::new();
    for word in lines(0, count).split_whitespace() {
        *totals.entry(word.to_owned()).or_default() += 1;
    }
    totals
}

/// One `headwater produce` that lives through every kill, as a user's would: it is fed until told to end.
struct Stream {
    producer: Child,
    ended: Arc<AtomicBool>,
    feeder: JoinHandle<usize>,
}

impl Stream {
    fn begin(broker: &Broker) -> Self {
        let mut command = broker.command(&["produce", "lines"]);
        let mut producer = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut input = producer.stdin.take().unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let feeder = std::thread::spawn({
            let ended = Arc::clone(&ended);
            move || {
                let mut fed = 0;
                while !ended.load(Ordering::Relaxed) {
                    input.write_all(lines(fed, fed + LINES_AT_A_TIME).as_bytes()).unwrap();
                    fed += LINES_AT_A_TIME;
                    std::thread::sleep(Duration::from_millis(5));
                }
                fed
            }
        });
        // A producer that finds no broker when it starts gives up, as it should; one that found it waits for it.
        broker.wait_until("the producer has delivered something", || {
            broker.json(&["offsets", "lines"]).as_array().unwrap().iter().any(|found| found["offset"] != 0)
        });
        Self { producer, ended, feeder }
    }

    /// Ends the text; how many lines it had. Fails unless every one of them was acknowledged.
    fn end(mut self, broker: &Broker) -> usize {
        self.ended.store(true, Ordering::Relaxed);
        let fed = self.feeder.join().unwrap();
        let mut status = None;
        broker.wait_until("the producer has delivered everything", || {
            status = self.producer.try_wait().unwrap();
            status.is_some()
        });
        assert!(status.unwrap().success(), "the producer failed");
        fed
    }
}

/// Lines that are written to the producer together.
const LINES_AT_A_TIME: usize = 20;

/// Reads the whole output and checks it against the first `count` lines.
fn check_counts(broker: &Broker, count: usize) {
    let totals = totals(count);
    let occurrences: u64 = totals.values().sum();
    broker.wait_until("every output is there", || {
        let offsets = broker.json(&["offsets", "counts"]);
        let there: u64 = offsets.as_array().unwrap().iter().map(|found| found["offset"].as_u64().unwrap()).sum();
        assert!(there <= occurrences, "{there} outputs of {occurrences} occurrences: something was written twice");
        there == occurrences
    });
    let most = occurrences.to_string();
    let records = broker.run(&[
        "consume",
        "counts",
        "--from-beginning",
        "--print-key",
        "--key-separator",
        "\t",
        "--max-messages",
        &most,
    ]);
    let mut counts: HashMap<&str, u64> = HashMap::new();
    for record in records.lines() {
        let (word, number) = record.split_once('\t').unwrap();
        let last = counts.entry(word).or_default();
        assert_eq!(number.parse::<u64>().unwrap(), *last + 1, "the count of {word:?} after {last}");
        *last += 1;
    }
    for (word, total) in &totals {
        assert_eq!(counts.get(word.as_str()), Some(total), "the count of {word:?}");
    }
    assert_eq!(counts.len(), totals.len(), "words that no line has");
}

/// Deletes everything that may be deleted: indexes and compiled modules are caches (LOG-4).
fn delete_caches(broker: &Broker) {
    let mut deleted = 0;
    for partition in std::fs::read_dir(broker.data().join("logs")).unwrap().flatten() {
        let Ok(files) = std::fs::read_dir(partition.path()) else { continue };
        for file in files.flatten().map(|file| file.path()) {
            if file.extension().is_some_and(|ending| ending == "index" || ending == "timeindex") {
                std::fs::remove_file(file).unwrap();
                deleted += 1;
            }
        }
    }
    std::fs::remove_dir_all(broker.data().join("compiled")).unwrap();
    assert!(deleted > 0, "no index was there to delete");
}

#[test]
fn counts_are_exact_after_two_kills_at_each_fail_point() {
    let mut broker = with_word_count();
    let stream = Stream::begin(&broker);
    for place in FAIL_POINTS {
        for nth in [1, 3] {
            broker.stop();
            broker.restart_with(&[("HEADWATER_FAIL_POINT", &format!("{place}:{nth}"))]);
            let status = broker.wait_for_end();
            assert!(!status.success(), "{place} is a kill, not a stop");
            broker.restart();
        }
    }
    let fed = stream.end(&broker);
    check_counts(&broker, fed);
}

#[test]
fn counts_are_exact_after_five_kills_at_random_and_without_any_cache() {
    let mut broker = with_word_count();
    let stream = Stream::begin(&broker);
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..5 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_millis(20 + (random >> 33) % 400));
        broker.kill();
        broker.restart();
    }
    let fed = stream.end(&broker);
    check_counts(&broker, fed);

    // State is where the changelog is: without any local cache the counts go on as before.
    broker.stop();
    delete_caches(&broker);
    broker.restart();
    broker.run_with_input(&["produce", "lines"], &lines(fed, fed + 100));
    check_counts(&broker, fed + 100);
}
