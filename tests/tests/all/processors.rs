//! Processors as a user meets them: build, upload, deploy, describe, and what happens when a guest misbehaves.

use crate::broker_process::Broker;
use crate::components::component;
use serde_json::Value;

/// Uploads a module of ours under its own name.
pub(crate) fn upload(broker: &Broker, name: &str) {
    broker.run(&["module", "upload", name, component(name).to_str().unwrap()]);
}

pub(crate) fn describe(broker: &Broker, processor: &str) -> Value {
    broker.json(&["processor", "describe", processor])
}

fn task(description: &Value, task: usize) -> &Value {
    &description["tasks"][task]
}

/// A broker with topics `lines` (1 partition) and `counts` (3), and word-count between them.
pub(crate) fn with_word_count() -> Broker {
    let broker = Broker::start();
    broker.run(&["topic", "create", "lines"]);
    broker.run(&["topic", "create", "counts", "--partitions", "3"]);
    upload(&broker, "word-count");
    let deploy = ["processor", "deploy", "word-count", "--module", "word-count", "--input", "lines"];
    broker.run(&[&deploy[..], &["--output", "counts", "--store", "counts"]].concat());
    broker
}

#[test]
fn words_are_counted_and_the_state_is_described() {
    let broker = with_word_count();
    broker.run_with_input(&["produce", "lines"], "to be or not to be\nthat is the question\nto be\n");
    let records = broker.run(&[
        "consume",
        "counts",
        "--from-beginning",
        "--print-key",
        "--key-separator",
        "=",
        "--max-messages",
        "12",
    ]);
    let mut counted: Vec<&str> = records.lines().collect();
    counted.sort_unstable();
    let expected =
        ["be=1", "be=2", "be=3", "is=1", "not=1", "or=1", "question=1", "that=1", "the=1", "to=1", "to=2", "to=3"];
    assert_eq!(counted, expected);

    broker.wait_until("the task has caught up", || describe(&broker, "word-count")["tasks"][0]["lag"] == 0);
    let description = describe(&broker, "word-count");
    let task = task(&description, 0);
    assert_eq!(task["state"], "running");
    assert_eq!(task["records_in"], 3);
    assert_eq!(task["records_out"], 12);
    assert!(task["memory_bytes"].as_u64().unwrap() >= 64 << 10);
    assert!(task["state_bytes"].as_u64().unwrap() > 0);
    assert!(task["cpu_us"].as_u64().unwrap() > 0);
}

#[test]
fn a_trap_names_the_record_and_the_panic_and_a_neighbour_goes_on() {
    let broker = with_word_count();
    broker.run(&["topic", "create", "in"]);
    broker.run(&["topic", "create", "out"]);
    upload(&broker, "trap");
    broker.run(&["processor", "deploy", "trapped", "--module", "trap", "--input", "in", "--output", "out"]);
    broker.run_with_input(&["produce", "in"], "a\nb\nc\ntrap\nd\n");
    broker.wait_until("the guest has failed", || describe(&broker, "trapped")["tasks"][0]["state"] == "failed");

    let description = describe(&broker, "trapped");
    let error = &task(&description, 0)["last_error"];
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("guest") || message.contains("trapped"), "the culprit is not named: {message}");
    assert!(message.contains("panic"), "the panic's message is missing: {message}");
    assert_eq!(error["record"].to_string().matches('3').count(), 1, "offset 3 is the record at fault: {error}");
    // What precedes the record is committed, and its outputs are there.
    assert_eq!(broker.run(&["consume", "out", "--from-beginning", "--max-messages", "3"]), "a\nb\nc\n");

    broker.run_with_input(&["produce", "lines"], "still here\n");
    let records = broker.run(&["consume", "counts", "--from-beginning", "--print-key", "--max-messages", "2"]);
    assert!(records.contains("still") && records.contains("here"));
    // Resuming tries again, and meets the same record.
    broker.run(&["processor", "resume", "trapped"]);
    broker.wait_until("it fails again", || describe(&broker, "trapped")["tasks"][0]["state"] == "failed");
    let logs = broker.run(&["processor", "logs", "trapped"]);
    assert!(logs.contains("panic") || logs.contains("trap"), "{logs}");
}

#[test]
fn a_guest_that_takes_all_memory_meets_its_limit() {
    let broker = Broker::start();
    broker.run(&["topic", "create", "in"]);
    broker.run(&["topic", "create", "out"]);
    upload(&broker, "hog");
    broker.run(&["processor", "deploy", "hog", "--module", "hog", "--input", "in", "--output", "out"]);
    broker.run_with_input(&["produce", "in"], "a\nhog\n");
    broker.wait_until("the guest has failed", || describe(&broker, "hog")["tasks"][0]["state"] == "failed");
    let description = describe(&broker, "hog");
    let message = task(&description, 0)["last_error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("memory") && message.contains("64 MiB"), "{message}");
    assert_eq!(broker.run(&["topic", "list"]).matches("in").count(), 1, "the broker answers as before");
}

#[test]
fn a_guest_that_never_returns_is_stopped_and_nobody_else_waits_for_it() {
    let broker = with_word_count();
    broker.run(&["topic", "create", "in"]);
    broker.run(&["topic", "create", "out"]);
    upload(&broker, "spin");
    broker.run(&["processor", "deploy", "spin", "--module", "spin", "--input", "in", "--output", "out"]);
    broker.run_with_input(&["produce", "in"], "a\nspin\nb\n");
    // While it spins, the neighbour works.
    broker.run_with_input(&["produce", "lines"], "on and on\n");
    broker.run(&["consume", "counts", "--from-beginning", "--max-messages", "3"]);
    broker.wait_until("the guest has failed", || describe(&broker, "spin")["tasks"][0]["state"] == "failed");
    let description = describe(&broker, "spin");
    let message = task(&description, 0)["last_error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("CPU"), "{message}");
    assert_eq!(broker.run(&["consume", "out", "--from-beginning", "--max-messages", "1"]), "a\n");
}

#[test]
fn a_paused_processor_waits_and_a_resumed_one_goes_on() {
    let broker = with_word_count();
    broker.run(&["processor", "pause", "word-count"]);
    broker.wait_until("it is paused", || describe(&broker, "word-count")["tasks"][0]["state"] == "paused");
    broker.run_with_input(&["produce", "lines"], "one two\n");
    let description = describe(&broker, "word-count");
    assert_eq!(task(&description, 0)["lag"], 1);
    assert_eq!(broker.json(&["offsets", "counts"]).to_string().matches("\"offset\":0").count(), 3);
    broker.run(&["processor", "resume", "word-count"]);
    broker.run(&["consume", "counts", "--from-beginning", "--max-messages", "2"]);
}

#[test]
fn deploying_again_swaps_the_module_and_keeps_the_state() {
    let broker = with_word_count();
    broker.run_with_input(&["produce", "lines"], "again\n");
    broker.run(&["consume", "counts", "--from-beginning", "--max-messages", "1"]);
    let deploy = ["processor", "deploy", "word-count", "--module", "word-count@1", "--input", "lines"];
    broker.run(&[&deploy[..], &["--output", "counts", "--store", "counts"]].concat());
    assert_eq!(describe(&broker, "word-count")["revision"], 2);
    broker.run_with_input(&["produce", "lines"], "again\n");
    let records = broker.run(&["consume", "counts", "--from-beginning", "--print-key", "--max-messages", "2"]);
    assert!(records.contains("again\t2"), "the count went on: {records}");
}

#[test]
fn after_a_swap_the_new_code_runs_with_its_own_outputs_and_settings() {
    let broker = Broker::start();
    for topic in ["lines", "one", "two"] {
        broker.run(&["topic", "create", topic]);
    }
    upload(&broker, "filter");
    let deploy = |output: &str, setting: &str| {
        let words = ["processor", "deploy", "f", "--module", "filter", "--input", "lines", "--output", output];
        broker.run(&[&words[..], &["--setting", setting]].concat());
    };
    let pass = |lines: &str, topic: &str, count: &str| {
        broker.run_with_input(&["produce", "lines"], lines);
        broker.run(&["consume", topic, "--from-beginning", "--max-messages", count])
    };
    deploy("one", "contains=a");
    assert_eq!(pass("a1\nb1\n", "one", "1"), "a1\n");
    deploy("two", "contains=b");
    assert_eq!(pass("a2\nb2\n", "two", "1"), "b2\n");
    broker.run(&["processor", "rollback", "f"]);
    assert_eq!(pass("b3\na3\n", "one", "2"), "a1\na3\n");
    assert_eq!(broker.json(&["offsets", "two"])[0]["offset"], 1);
}

#[test]
fn a_deleted_processor_takes_its_changelog_along() {
    let broker = with_word_count();
    let internal = |broker: &Broker| broker.run(&["topic", "list", "--internal"]);
    assert!(internal(&broker).contains("word-count-changelog"));
    let (_, error) = broker.run_failing(&["topic", "delete", "lines"]);
    assert!(error.contains("word-count"), "who uses the topic? {error}");
    std::fs::write(broker.scratch().join("line"), "mine\n").unwrap();
    let (_, error) = broker.run_failing(&["produce", "word-count-changelog", "--file", "line"]);
    assert!(error.contains("internal") || error.contains("changelog"), "{error}");
    broker.run(&["processor", "delete", "word-count"]);
    assert!(!internal(&broker).contains("word-count-changelog"));
    broker.run(&["topic", "delete", "lines"]);
}

#[test]
fn what_is_no_processor_is_refused_with_the_reason() {
    let broker = Broker::start();
    let file = |name: &str, bytes: &[u8]| {
        let path = broker.scratch().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let refused = |path: &str| broker.run_failing(&["module", "upload", "m", path]).1;
    let text = file("text.wasm", b"this is not wasm at all, it is a sentence");
    assert!(refused(&text).contains("not WebAssembly") || refused(&text).contains("not wasm"), "{}", refused(&text));
    let core = file("core.wasm", b"\0asm\x01\0\0\0");
    assert!(refused(&core).contains("core module") && refused(&core).contains("headwater module build"));
    let empty_component = file("component.wasm", b"\0asm\x0d\0\x01\0");
    assert!(refused(&empty_component).contains("world") || refused(&empty_component).contains("export"));
    let huge = file("huge.wasm", &vec![0; (16 << 20) + 1]);
    assert!(refused(&huge).contains("at most 16777216"), "{}", refused(&huge));
    assert!(broker.json(&["module", "list"]).to_string().len() < 40, "nothing was stored");
}

#[test]
fn a_shadow_writes_nothing_and_reports_the_first_difference() {
    let broker = with_word_count();
    broker.run(&["topic", "create", "passed"]);
    upload(&broker, "filter");
    let deploy = ["processor", "deploy", "f", "--module", "filter", "--input", "lines", "--output", "passed"];
    broker.run(&[&deploy[..], &["--setting", "contains=a"]].concat());
    let shadow = |name: &str, words: &[&str]| {
        let module = if name == "f" { "filter" } else { "word-count" };
        broker.run(&[&["processor", "deploy", name, "--module", module, "--shadow"], words].concat());
    };
    shadow("f", &["--setting", "contains=b"]);
    // The same code over the same state, and one that is refused before it begins.
    shadow("word-count", &[]);
    let refused = ["processor", "deploy", "f", "--module", "filter", "--shadow"];
    assert!(broker.run_failing(&refused).1.contains("--setting contains=TEXT"));

    broker.run_with_input(&["produce", "lines"], "ab\na\n");
    assert_eq!(broker.run(&["consume", "passed", "--from-beginning", "--max-messages", "2"]), "ab\na\n");
    broker.wait_until("both are through", || {
        ["f", "word-count"].iter().all(|name| describe(&broker, name)["tasks"][0]["shadow"]["records"] == 2)
    });
    let description = describe(&broker, "f");
    assert_eq!((&description["shadow_module"], &description["revision"]), (&"filter@1".into(), &1.into()));
    let report = &description["tasks"][0]["shadow"];
    assert!(report["differing_steps"].as_u64().unwrap() >= 1, "{report}");
    let first = report["first_difference"].as_str().unwrap();
    assert!(first.contains("deployed 2, shadow 1") || first.contains("deployed 1, shadow 0"), "{first}");
    assert!(broker.run(&["processor", "describe", "f"]).contains("shadow of task 0"));
    let same = &describe(&broker, "word-count")["tasks"][0];
    assert_eq!(same["shadow"]["differing_steps"], 0, "{same}");
    assert_eq!(same["records_out"], 2, "what the shadow emits goes nowhere");

    broker.run(&["processor", "end-shadow", "f"]);
    assert!(describe(&broker, "f")["shadow_module"].is_null());
    assert!(broker.run_failing(&["processor", "end-shadow", "f"]).1.contains("no shadow"));
    broker.run_with_input(&["produce", "lines"], "b\nca\n");
    assert_eq!(broker.run(&["consume", "passed", "--from-beginning", "--max-messages", "3"]), "ab\na\nca\n");
}

#[test]
fn a_rollback_brings_back_the_former_code_and_keeps_the_state() {
    let broker = with_word_count();
    broker.run_with_input(&["produce", "lines"], "again\n");
    broker.run(&["consume", "counts", "--from-beginning", "--max-messages", "1"]);
    assert!(broker.run_failing(&["processor", "rollback", "word-count"]).1.contains("once"));
    let deploy =
        ["processor", "deploy", "word-count", "--module", "word-count", "--input", "lines", "--output", "counts"];
    broker.run(&[&deploy[..], &["--store", "counts", "--setting", "new=1", "--records-per-step-max", "7"]].concat());
    let description = describe(&broker, "word-count");
    assert_eq!(
        (&description["previous_module"], &description["settings"]["new"]),
        (&"word-count@1".into(), &"1".into())
    );
    let rolled = broker.json(&["processor", "rollback", "word-count"]);
    assert_eq!((&rolled["module"], &rolled["revision"]), (&"word-count@1".into(), &3.into()));
    let description = describe(&broker, "word-count");
    assert_eq!(
        (description["settings"].to_string(), &description["limits"]["records_per_step_max"]),
        ("{}".into(), &1000.into())
    );
    broker.run_with_input(&["produce", "lines"], "again\n");
    let records = broker.run(&["consume", "counts", "--from-beginning", "--print-key", "--max-messages", "2"]);
    assert!(records.contains("again\t2"), "the count went on: {records}");
    let task = describe(&broker, "word-count")["tasks"][0].clone();
    assert!(task["swap_us"].as_u64().is_some() && task["restarts"] == 0, "swapped in place: {task}");
}
