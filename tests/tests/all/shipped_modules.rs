//! The modules that come with Headwater, in a broker: what their own tests show natively holds there too.

use crate::broker_process::Broker;
use crate::processors::{describe, upload};

/// A broker with the module between topics `in` and `out`.
fn with_module(name: &str, words: &[&str]) -> Broker {
    let broker = Broker::start();
    broker.run(&["topic", "create", "in"]);
    broker.run(&["topic", "create", "out"]);
    upload(&broker, name);
    let deploy = ["processor", "deploy", name, "--module", name, "--input", "in", "--output", "out"];
    broker.run(&[&deploy[..], words].concat());
    broker
}

/// Everything in `out` once all of `in` is processed.
fn outputs(broker: &Broker, name: &str) -> Vec<String> {
    broker.wait_until("all is processed", || describe(broker, name)["tasks"][0]["lag"] == 0);
    let words = ["consume", "out", "--from-beginning", "--until-end", "--print-key", "--key-separator", "="];
    broker.run(&words).lines().map(str::to_owned).collect()
}

#[test]
fn redact_masks_and_stops_in_front_of_what_it_can_t_read() {
    let broker = with_module("redact", &["--setting", "fields=/email", "--on-error", "skip"]);
    broker.run_with_input(&["produce", "in"], "{\"email\":\"a@b\",\"n\":1}\nemail=a@b\n{\"n\":2}\n");
    let values: Vec<String> = outputs(&broker, "redact");
    assert_eq!(values, ["null={\"email\":\"***\",\"n\":1}", "null={\"n\":2}"]);
    assert_eq!(describe(&broker, "redact")["tasks"][0]["skipped"], 1);
    let (_, error) = broker.run_failing(&[
        "processor",
        "deploy",
        "other",
        "--module",
        "redact",
        "--input",
        "in",
        "--output",
        "out",
        "--setting",
        "fields=a",
    ]);
    assert!(error.contains("/a"), "{error}");
}

#[test]
fn dedupe_passes_an_id_once_also_over_a_restart() {
    let mut broker = with_module("dedupe", &["--store", "ids"]);
    let produce = ["produce", "in", "--key-separator", "="];
    broker.run_with_input(&produce, "a=1\nb=2\na=3\n");
    assert_eq!(outputs(&broker, "dedupe"), ["a=1", "b=2"]);
    broker.kill();
    broker.restart();
    broker.run_with_input(&produce, "b=4\nc=5\n");
    assert_eq!(outputs(&broker, "dedupe"), ["a=1", "b=2", "c=5"]);
}
