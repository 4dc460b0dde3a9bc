//! Guests that attack: each meets its limit, the error is in `describe` and in the metrics, the task's position is
//! right, and everybody else goes on. covers W2, STR-12

use crate::broker_process::Broker;
use crate::processors::{describe, upload};
use serde_json::Value;

/// A broker with the module `attack` between `in` and `out`, and with `filter` between `lines` and `passed`.
fn under_attack(words: &[&str]) -> Broker {
    let broker = Broker::start();
    for topic in ["in", "out", "lines", "passed"] {
        broker.run(&["topic", "create", topic]);
    }
    upload(&broker, "filter");
    let filter = ["--module", "filter", "--input", "lines", "--output", "passed", "--setting", "contains="];
    broker.run(&[&["processor", "deploy", "neighbour"], &filter[..]].concat());
    upload(&broker, "attack");
    broker.run(&[&deployment()[..], words].concat());
    broker
}

fn deployment() -> [&'static str; 11] {
    ["processor", "deploy", "p", "--module", "attack", "--input", "in", "--output", "out", "--store", "store"]
}

/// Produces `a`, the attack and `b`, which the error policy lets pass; what `describe` says then.
fn attacked(broker: &Broker, attack: &str) -> Value {
    broker.run_with_input(&["produce", "in"], &format!("a\n{attack}\nb\n"));
    broker.wait_until("the attack is over", || {
        let task = &describe(broker, "p")["tasks"][0];
        task["lag"] == 0 && task["skipped"] == 1
    });
    // The broker is up, the neighbour works, and what surrounds the attack is processed.
    broker.run_with_input(&["produce", "lines"], "still here\n");
    assert_eq!(broker.run(&["consume", "passed", "--from-beginning", "--max-messages", "1"]), "still here\n");
    let task = describe(broker, "p")["tasks"][0].clone();
    assert_eq!(task["state"], "running", "{task}");
    assert_eq!(task["positions"][0]["next_offset"], 3, "{task}");
    task
}

/// One attack under the policy `skip`: `message` is in `describe`, `kind` in the metrics, `a` and `b` in the output.
fn one_attack(attack: &str, message: &str, kind: &str) {
    let broker = under_attack(&["--on-error", "skip", "--retries", "0", "--state-max", "4MiB"]);
    let task = attacked(&broker, attack);
    let error = &task["last_error"];
    let said = error["message"].as_str().unwrap();
    assert!(said.contains(message), "{attack}: {said}");
    assert_eq!(error["record"]["offset"], 1, "{attack}: {error}");
    let counted = format!("headwater_processor_call_failures_total{{processor=\"p\",kind=\"{kind}\"}}");
    assert!(broker.metrics().contains(&counted), "{attack}: {}", broker.metrics());
    assert_eq!(broker.run(&["consume", "out", "--from-beginning", "--max-messages", "2"]), "a\nb\n", "{attack}");
}

#[test]
fn endless_output_meets_the_limit_of_a_step() {
    one_attack("flood-outputs", "output is larger than one step may be", "output-limit");
}

#[test]
fn state_over_its_quota_is_refused() {
    one_attack("flood-state", "state is at its limit", "error");
}

#[test]
fn endless_recursion_ends_at_the_guests_stack() {
    one_attack("recurse", "endless recursion?", "trap");
}

#[test]
fn what_was_not_deployed_can_t_be_used() {
    one_attack("undeclared-output", "deploy with more --output", "error");
    one_attack("undeclared-store", "--store", "error");
}

#[test]
fn lengths_that_point_nowhere_are_refused() {
    one_attack("garbage-index", "refuses the batch", "trap");
    one_attack("garbage-lengths", "refuses the batch", "trap");
    one_attack("garbage-keys", "refuses the entries", "trap");
}

#[test]
fn a_timer_that_fails_is_told_apart_from_the_record_that_set_it() {
    for (attack, message, kind) in
        [("timer-trap", "the timer says trap", "trap"), ("timer-spin", "CPU limit", "cpu-limit")]
    {
        // One record a step: the timer is due behind `b`, whose step it fails in.
        let words = ["--on-error", "skip", "--retries", "0", "--records-per-step-max", "1"];
        let broker = under_attack(&words);
        let task = attacked(&broker, attack);
        let said = task["last_error"]["message"].as_str().unwrap();
        assert!(said.contains(&format!("timer {attack:?} at ")), "{said}");
        assert!(said.contains(message) && task["last_error"]["record"].is_null(), "{task}");
        assert!(broker.metrics().contains(&format!("kind=\"{kind}\"")), "{}", broker.metrics());
        let all = broker.run(&["consume", "out", "--from-beginning", "--max-messages", "3"]);
        assert_eq!(all, format!("a\n{attack}\nb\n"), "no record is lost for a timer's sake");
    }
}

#[test]
fn timers_that_are_too_large_for_one_step_together_are_nobodys_fault() {
    let broker = under_attack(&["--on-error", "skip", "--retries", "0"]);
    broker.run_with_input(&["produce", "in"], "timers-large\n");
    broker.wait_until("every timer has fired", || {
        broker.json(&["offsets", "out"])[0]["offset"] == 7 || describe(&broker, "p")["tasks"][0]["skipped"] != 0
    });
    let task = describe(&broker, "p")["tasks"][0].clone();
    assert_eq!((&task["skipped"], &task["records_out"]), (&0.into(), &7.into()), "{task}");
}

#[test]
fn a_flood_of_log_lines_is_cut_to_its_rate() {
    let broker = under_attack(&["--log-lines-per-second-max", "10"]);
    broker.run_with_input(&["produce", "in"], "flood-log\n");
    assert_eq!(broker.run(&["consume", "out", "--from-beginning", "--max-messages", "1"]), "flood-log\n");
    let lines = broker.run(&["processor", "logs", "p"]).lines().count();
    assert!((10..1000).contains(&lines), "{lines} lines of 100,000 were kept");
}

#[test]
fn an_init_that_fails_never_takes_over() {
    let broker = under_attack(&[]);
    for (setting, message) in
        [("init=trap", "init says trap"), ("init=refuse", "init says refuse"), ("init=spin", "CPU limit")]
    {
        let (_, error) = broker.run_failing(&[&deployment()[..], &["--setting", setting]].concat());
        assert!(error.contains(message), "{setting}: {error}");
    }
    let description = describe(&broker, "p");
    assert_eq!((&description["revision"], &description["tasks"][0]["state"]), (&1.into(), &"running".into()));
    broker.run_with_input(&["produce", "in"], "a\n");
    assert_eq!(broker.run(&["consume", "out", "--from-beginning", "--max-messages", "1"]), "a\n");
}
