//! What becomes of records that a guest can't process, by the deployment's error policy. covers STR-12, OUT-1

use crate::broker_process::Broker;
use crate::processors::{describe, upload};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A broker with topics `in`, `out` and `bad`, and the module `trap`, which panics on the value `trap`.
fn with_trap(policy: &[&str]) -> Broker {
    let broker = Broker::start();
    for topic in ["in", "out", "bad"] {
        broker.run(&["topic", "create", topic]);
    }
    upload(&broker, "trap");
    let deploy = ["processor", "deploy", "p", "--module", "trap", "--input", "in", "--output", "out"];
    broker.run(&[&deploy[..], policy].concat());
    broker
}

const DEAD_LETTER: [&str; 4] = ["--on-error", "dead-letter", "--dead-letter-topic", "bad"];

/// So many records, of which those numbers are poison.
fn records(count: usize, poison: &[usize]) -> String {
    (0..count).fold(String::new(), |mut text, number| {
        if poison.contains(&number) {
            text.push_str("trap\n")
        } else {
            writeln!(text, "r{number}").unwrap()
        }
        text
    })
}

fn all_of(broker: &Broker, topic: &str, count: usize) -> Vec<String> {
    let count = count.to_string();
    let arguments = ["consume", topic, "--from-beginning", "--max-messages", &count];
    broker.run(&arguments).lines().map(str::to_owned).collect()
}

fn end_of(broker: &Broker, topic: &str) -> u64 {
    let offsets = broker.json(&["offsets", topic]);
    offsets.as_array().unwrap().iter().map(|found| found["offset"].as_u64().unwrap()).sum()
}

#[test]
fn one_poison_record_of_1000_becomes_one_dead_letter_and_999_outputs() {
    let broker = with_trap(&DEAD_LETTER);
    broker.run_with_input(&["produce", "in"], &records(1000, &[700]));
    let good: Vec<String> = (0..1000).filter(|number| *number != 700).map(|number| format!("r{number}")).collect();
    assert_eq!(all_of(&broker, "out", 999), good);

    let letter = broker.json(&["consume", "bad", "--from-beginning", "--max-messages", "1"]);
    assert_eq!(letter["value"], "trap");
    let headers: BTreeMap<String, String> = letter["headers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|header| (header["name"].as_str().unwrap().to_owned(), header["value"].as_str().unwrap().to_owned()))
        .collect();
    let header = |name: &str| headers[&format!("__headwater.errors.{name}")].clone();
    assert_eq!((header("topic"), header("partition"), header("offset")), ("in".into(), "0".into(), "700".into()));
    assert!(header("cause").contains("the record at offset 700 says trap"), "{headers:?}");
    let description = describe(&broker, "p");
    assert_eq!(header("module.digest"), description["digest"].as_str().unwrap());

    let task = &description["tasks"][0];
    assert_eq!((&task["dead_lettered"], &task["skipped"], &task["lag"]), (&1.into(), &0.into(), &0.into()));
    assert_eq!((&task["state"], &task["last_error"]["record"]["offset"]), (&"running".into(), &700.into()));
    assert_eq!((end_of(&broker, "out"), end_of(&broker, "bad")), (999, 1), "neither more nor less");
    let metrics = broker.metrics();
    assert!(metrics.contains("headwater_processor_dead_letters_total{processor=\"p\"} 1"), "{metrics}");
    assert!(metrics.contains("kind=\"trap\""), "{metrics}");
    // Looked for by halving, not one by one.
    assert!(task["restarts"].as_u64().unwrap() <= 13, "{task}");
}

#[test]
fn a_skipped_record_leaves_nothing_but_a_count_and_a_line() {
    let broker = with_trap(&["--on-error", "skip", "--retries", "0"]);
    broker.run_with_input(&["produce", "in"], &records(10, &[0, 4, 9]));
    assert_eq!(all_of(&broker, "out", 7).join(" "), "r1 r2 r3 r5 r6 r7 r8");
    broker.wait_until("the last one is skipped", || describe(&broker, "p")["tasks"][0]["lag"] == 0);
    let task = &describe(&broker, "p")["tasks"][0];
    assert_eq!((&task["skipped"], &task["dead_lettered"]), (&3.into(), &0.into()));
    let logs = broker.run(&["processor", "logs", "p"]);
    assert!(logs.contains("record in-0@4 was skipped") && logs.contains("says trap"), "{logs}");
    assert_eq!((end_of(&broker, "out"), end_of(&broker, "bad")), (7, 0));
}

#[test]
fn dead_letters_are_exact_through_kills() {
    let mut broker = with_trap(&[&DEAD_LETTER[..], &["--records-per-step-max", "50"]].concat());
    let (chunk, poison) = (300, [0, 1, 77, 150, 299]);
    let fail_points =
        ["before-commit-append", "after-commit-append", "after-commit-durable", "after-first-output-sent"];
    for point in fail_points {
        // Whatever waits is processed under the eyes of the fail point.
        broker.run(&["processor", "pause", "p"]);
        broker.run_with_input(&["produce", "in"], &records(chunk, &poison));
        broker.stop();
        // It may be gone before it serves, or before it has answered.
        broker.begin_with(&[("HEADWATER_FAIL_POINT", &format!("{point}:3"))]);
        while !broker.has_ended() {
            broker.command(&["processor", "resume", "p"]).output().unwrap();
        }
        assert!(!broker.wait_for_end().success(), "{point} is a kill, not a stop");
        broker.restart();
        // Killed before the answer, it is paused still.
        broker.run(&["processor", "resume", "p"]);
        broker.wait_until("all is processed", || describe(&broker, "p")["tasks"][0]["lag"] == 0);
    }
    let good = (chunk - poison.len()) * fail_points.len();
    let one: Vec<String> = (0..chunk).filter(|at| !poison.contains(at)).map(|at| format!("r{at}")).collect();
    assert_eq!(all_of(&broker, "out", good), vec![one; fail_points.len()].concat());
    let letters = all_of(&broker, "bad", poison.len() * fail_points.len());
    assert!(letters.iter().all(|letter| letter == "trap"));
    broker.wait_until("everything has left", || end_of(&broker, "bad") == letters.len() as u64);
    assert_eq!((end_of(&broker, "out"), end_of(&broker, "bad")), (good as u64, letters.len() as u64));
}

#[test]
fn a_dead_letter_topic_is_kept_as_long_as_it_is_needed() {
    let broker = with_trap(&DEAD_LETTER);
    let (_, error) = broker.run_failing(&["topic", "delete", "bad"]);
    assert!(error.contains("\"p\""), "{error}");
    let deploy = ["processor", "deploy", "p", "--module", "trap", "--input", "in", "--output", "out"];
    let to = |topic: &'static str| [&deploy[..], &DEAD_LETTER[..3], &[topic]].concat();
    let (_, error) = broker.run_failing(&to("baad"));
    assert!(error.contains("baad") && error.contains("bad"), "{error}");
    let (_, error) = broker.run_failing(&to("in"));
    assert!(error.contains("input"), "{error}");
    let (code, error) = broker.run_failing(&[&deploy[..], &["--dead-letter-topic", "bad"]].concat());
    assert!(code == 2 && error.contains("--on-error dead-letter"), "{error}");
    broker.run(&deploy);
    broker.run(&["topic", "delete", "bad"]);
}
