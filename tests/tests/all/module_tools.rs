//! `headwater module new` and `headwater module test`: from nothing to outputs without a broker.

use crate::broker_process::{finish, headwater_binary};
use crate::components::component;
use std::path::Path;
use std::process::Command;

fn headwater(directory: &Path, words: &[&str]) -> Result<String, String> {
    let mut command = Command::new(headwater_binary());
    command.args(words).current_dir(directory);
    command.env("CARGO_TARGET_DIR", std::env::temp_dir().join("headwater-document-modules"));
    let output = finish(command, "");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[test]
fn a_new_crate_of_each_template_passes_its_test_and_runs_on_a_file() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path();
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("guest-sdk");
    let sdk = sdk.to_str().unwrap();
    std::fs::write(directory.join("records.jsonl"), "{\"key\": \"a\", \"value\": \"5\", \"timestamp\": 1}\n").unwrap();
    for (name, template, words) in [
        ("passes", "filter", &["--output", "out", "--setting", "contains=5"][..]),
        ("sums", "stateful", &["--output", "out", "--store", "totals"][..]),
    ] {
        let said = headwater(directory, &["module", "new", name, "--template", template, "--sdk", sdk]).unwrap();
        assert!(said.contains("headwater module build"), "{said}");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["test", "--quiet", "--offline"]).current_dir(directory.join(name));
        cargo.env("CARGO_TARGET_DIR", directory.join("target"));
        let tested = finish(cargo, "");
        assert!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stderr));
        let run = [&["module", "test", "records.jsonl", "--path", name][..], words].concat();
        let printed = headwater(directory, &run).unwrap();
        let first = printed.lines().next().unwrap();
        let first: serde_json::Value = serde_json::from_str(first).unwrap();
        let expected = serde_json::json!({"output": "out", "key": "a", "value": "5", "timestamp": 1});
        assert_eq!(first, expected, "{printed}");
    }
    let again = headwater(directory, &["module", "new", "sums", "--sdk", sdk]).unwrap_err();
    assert!(again.contains("exists"), "{again}");
    let nowhere = headwater(directory, &["module", "new", "other"]).unwrap_err();
    assert!(nowhere.contains("--sdk"), "{nowhere}");
    let name = headwater(directory, &["module", "new", "9lives", "--sdk", sdk]).unwrap_err();
    assert!(name.contains("begin with a letter"), "{name}");
}

#[test]
fn a_module_on_a_file_gives_what_a_broker_would_and_names_the_lines_that_fail() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path();
    std::fs::write(directory.join("lines"), "to be or not to be\n").unwrap();
    let word_count = component("word-count");
    let module = ["module", "test", "lines", "--module", word_count.to_str().unwrap(), "-o", "counts", "-s", "counts"];
    let printed = headwater(directory, &module).unwrap();
    let lines: Vec<serde_json::Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seen: Vec<String> = lines
        .iter()
        .map(|line| {
            let place = line.get("output").or(line.get("store")).unwrap().as_str().unwrap();
            format!("{place} {}={}", line["key"].as_str().unwrap(), line["value"].as_str().unwrap())
        })
        .collect();
    let outputs = ["to=1", "be=1", "or=1", "not=1", "to=2", "be=2"];
    let state = ["be=2", "not=1", "or=1", "to=2"];
    let expected: Vec<String> = outputs.iter().chain(&state).map(|entry| format!("counts {entry}")).collect();
    assert_eq!(seen, expected);

    std::fs::write(directory.join("bad"), "a\ntrap\nb\n").unwrap();
    let trap = component("trap");
    let words =
        ["module", "test", "bad", "--module", trap.to_str().unwrap(), "-o", "out", "--records-per-step-max", "1"];
    let error = headwater(directory, &words).unwrap_err();
    assert!(error.contains("lines 2 to 2 of bad") && error.contains("says trap"), "{error}");
    let extractor = component("json-key");
    let extractor = ["module", "test", "lines", "--module", extractor.to_str().unwrap()];
    assert!(headwater(directory, &extractor).unwrap_err().contains("only processors"));
    let missing = headwater(directory, &module[..5]).unwrap_err();
    assert!(missing.contains("--output"), "{missing}");
}
