//! What documents say and a machine knows: names, numbers, links. Prose is for reviews.

use crate::tidy::{assert_none, breaches, files, root, shown};
use headwater_broker::config::SAMPLE;
use headwater_protocol::messages::processor::ProcessorLimits;
use headwater_wasm_host::InstanceLimits;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Families of rule ids; `W` has no hyphen. Ids of Kafka's proposals and of standards are none of ours.
const FAMILIES: &[&str] =
    &["LOG-", "IDP-", "STEP-", "OUT-", "STR-", "REP-", "TRN-", "RDC-", "RAFT-", "CMP-", "CON-", "GRP-", "TXN-", "W"];

/// DESIGN §1: the field's words and no others.
const WORDS: &[&str] = &[
    "broker",
    "controller",
    "topic",
    "partition",
    "offset",
    "record",
    "record batch",
    "segment",
    "leader",
    "follower",
    "replica",
    "ISR",
    "ELR",
    "leader epoch",
    "high watermark",
    "log end offset",
    "last stable offset",
    "producer id, producer epoch, sequence",
    "consumer group",
    "coordinator",
    "tombstone",
    "changelog",
    "task",
    "step",
    "state store",
    "stream time",
    "grace",
    "module",
    "component",
    "world",
    "capability",
];

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The rows of all tables of a document, cell by cell, without the lines that draw them.
fn rows(document: &str) -> Vec<Vec<String>> {
    let text = read(document);
    let lines = text.lines().filter(|line| line.starts_with('|') && !line.starts_with("|---"));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    lines.map(cells).collect()
}

/// First and second cell of those rows whose first cell is code, such as `` `listen` ``, that `wanted` takes.
fn facts(document: &str, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, String> {
    let code = |cell: &str| cell.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')).map(str::to_owned);
    let pairs = rows(document).into_iter().filter_map(|row| Some((code(row.first()?)?, row.get(1)?.clone())));
    pairs.filter(|(name, _)| wanted(name)).collect()
}

/// The value of `pub const NAME: type = value;` in a file of limits, where it is a number or a shift of one.
fn constant(file: &str, name: &str) -> u64 {
    let text = read(file);
    let line = text.lines().find(|line| line.contains(&format!("const {name}:")));
    let line = line.unwrap_or_else(|| panic!("{file} has no {name}"));
    let value = line.split_once("= ").and_then(|(_, value)| value.split_once(';')).unwrap().0;
    let number = |text: &str| text.trim().replace('_', "").parse::<u64>().unwrap_or_else(|_| panic!("{file}: {line}"));
    match value.split_once("<<") {
        Some((base, shift)) => number(base) << number(shift),
        None => number(value),
    }
}

/// Bytes as documents write them.
fn size(bytes: u64) -> String {
    match bytes {
        _ if bytes.is_multiple_of(1 << 30) => format!("{} GiB", bytes >> 30),
        _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} B"),
    }
}

/// A count as documents write it: 1,048,576.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap());
    groups.collect::<Vec<_>>().join(",")
}

/// The keys of the sample configuration, dotted, with their defaults as they stand there.
fn sample_keys() -> BTreeMap<String, String> {
    let mut section = String::new();
    let mut keys = BTreeMap::new();
    for line in SAMPLE.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = format!("{name}.");
        } else if !line.starts_with('#')
            && let Some((key, value)) = line.split_once(" = ")
        {
            keys.insert(format!("{section}{key}"), value.to_owned());
        }
    }
    keys
}

#[test]
fn operations_has_every_configuration_key_with_its_default() {
    let keys = sample_keys();
    let is_key = |name: &str| keys.contains_key(name) || name.contains('.') && !name.contains(".insync.");
    let topic_settings = topic_settings();
    let told = facts("docs/operations.md", |name| is_key(name) && !topic_settings.contains(name));
    assert_eq!(told, keys);
}

/// Names of topics' settings, as the code has them.
fn topic_settings() -> BTreeSet<String> {
    let code = read("core/src/cluster/settings.rs") + &read("core/src/cluster/settings/compaction.rs");
    let constants = code.lines().map(|line| line.strip_prefix("pub(super) ").unwrap_or(line));
    let names = constants.filter_map(|line| line.strip_prefix("const ")?.split_once(": &str = \""));
    names.map(|(_, value)| value.trim_end_matches("\";").to_owned()).collect()
}

#[test]
fn operations_has_every_topic_setting() {
    let settings = topic_settings();
    assert!(settings.contains("durability"), "{settings:?}");
    let told = facts("docs/operations.md", |name| settings.contains(name));
    assert_eq!(told.into_keys().collect::<BTreeSet<_>>(), settings);
}

#[test]
fn operations_has_every_metric() {
    let code = read("broker/src/metrics.rs");
    let names = code.lines().filter_map(|line| line.strip_prefix("pub(crate) const ")?.split_once(": &str = \""));
    let names: BTreeSet<String> = names.map(|(_, value)| value.trim_end_matches("\";").to_owned()).collect();
    assert!(names.len() > 10, "{names:?}");
    let told = facts("docs/operations.md", |name| name.starts_with("headwater_"));
    assert_eq!(told.into_keys().collect::<BTreeSet<_>>(), names);
}

#[test]
fn processors_has_the_limits_that_hold_by_default() {
    let limits = ProcessorLimits::default();
    let guest = InstanceLimits::default();
    let core = |name: &str| constant("core/src/limits.rs", name);
    let task = |name: &str| constant("core/src/task/limits.rs", name);
    let state = |name: &str| size(constant("state/src/limits.rs", name));
    let configured = |key: &str| sample_keys()[key].parse::<u64>().unwrap();
    let expected = [
        ("memory of an instance", size(limits.memory_bytes_max)),
        ("CPU time per record", format!("{} ms", limits.cpu_ms_per_record_max)),
        ("CPU time of one call", format!("{} s", guest.cpu_per_call_max.as_secs())),
        ("CPU time to start an instance", format!("{} s", guest.cpu_init_max.as_secs())),
        ("records handed over in one call", limits.records_per_step_max.to_string()),
        ("output of one step", size(limits.output_bytes_per_step_max)),
        ("keys and values in a task's stores", size(limits.state_bytes_max)),
        ("a key of a store, a value", format!("{}, {}", state("KEY_BYTES_MAX"), state("VALUE_BYTES_MAX"))),
        ("state changes of one step", state("STEP_CHANGE_BYTES_MAX")),
        ("bytes of one call between module and broker", size(guest.hostcall_bytes_max as u64)),
        (
            "timers of a task, a timer's id",
            format!("{}; {}", count(task("TIMERS_MAX")), size(task("TIMER_ID_BYTES_MAX"))),
        ),
        ("log lines", format!("{} a second", limits.log_lines_per_second_max)),
        ("a log line, an error's message", format!("{}; the rest", size(guest.log_message_bytes_max as u64))),
        (
            "size of a module, its functions",
            format!("{}, {}", size(configured("modules.module_bytes_max")), count(configured("modules.functions_max"))),
        ),
        (
            "inputs, outputs, stores, settings of a processor",
            format!(
                "{}, {}, {}, {}",
                core("INPUTS_PER_PROCESSOR_MAX"),
                core("OUTPUTS_PER_PROCESSOR_MAX"),
                core("STORES_PER_PROCESSOR_MAX"),
                core("SETTINGS_MAX")
            ),
        ),
    ];
    let rows = rows("docs/processors.md");
    for (limit, default) in expected {
        let row = rows.iter().find(|row| row[0].starts_with(limit));
        let row = row.unwrap_or_else(|| panic!("docs/processors.md has no limit {limit:?}"));
        assert!(row[1].starts_with(&default), "docs/processors.md: {limit}: {:?}, it is {default:?}", row[1]);
    }
}

/// The rule ids in a line, as they stand: a range `IDP-1…5` names its first.
fn rule_ids(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    let words = line.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-');
    for word in words {
        for family in FAMILIES {
            let number = word.strip_prefix(family).unwrap_or_default();
            if !number.is_empty() && number.len() <= 2 && number.bytes().all(|digit| digit.is_ascii_digit()) {
                found.push(word.to_owned());
            }
        }
    }
    found
}

/// The rules in the tables of docs/rules.md, with how they stand.
fn rules() -> BTreeMap<String, String> {
    let mut rules = BTreeMap::new();
    for row in rows("docs/rules.md") {
        if let [id, _, state] = row.as_slice()
            && rule_ids(id) == [id.as_str()]
        {
            assert!(rules.insert(id.clone(), state.clone()).is_none(), "{id} is told twice");
        }
    }
    rules
}

#[test]
fn every_rule_that_code_cites_is_told() {
    let rules = rules();
    assert!(rules.len() > 60, "{rules:?}");
    let untold = breaches(&[".rs", ".wit"], |_, line| {
        let untold: Vec<String> = rule_ids(line).into_iter().filter(|id| !rules.contains_key(id)).collect();
        (!untold.is_empty()).then(|| format!("docs/rules.md has no {}", untold.join(", ")))
    });
    assert_none(&untold);
}

#[test]
fn every_rule_that_is_called_tested_is_cited_by_a_test() {
    let mut cited = BTreeSet::new();
    for path in files(&[".rs"]) {
        let is_tests = shown(&path).contains("tests");
        for line in fs::read_to_string(&path).unwrap().lines() {
            if is_tests || line.contains("covers ") {
                cited.extend(rule_ids(line));
            }
        }
    }
    for (id, state) in rules() {
        assert!(["tested", "built", "part", "later"].contains(&state.as_str()), "{id} stands at {state:?}");
        assert!(state != "tested" || cited.contains(&id), "docs/rules.md calls {id} tested; no test cites it");
    }
}

#[test]
fn the_glossary_defines_the_fields_words() {
    let glossary = read("docs/glossary.md");
    let missing = WORDS.iter().filter(|word| !glossary.contains(&format!("\n- **{word}**")));
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&&str>::new());
}

#[test]
fn the_readmes_processor_is_the_one_that_doc_tests_run() {
    let sdk = read("guest-sdk/src/lib.rs");
    let example = sdk.split("//! ```\n").find(|block| block.contains("export_processor!(")).unwrap();
    let lines = example.lines().map(|line| line.trim_start_matches("//!").strip_prefix(' ').unwrap_or_default());
    let shown: Vec<&str> = lines.filter(|line| !line.starts_with('#')).collect();
    let readme = read("README.md");
    let printed = readme.split("```rust\n").nth(1).and_then(|rest| rest.split_once("```")).unwrap().0;
    assert_eq!(printed.trim(), shown.join("\n").trim());
}

/// Links of a line: `(target)` behind `]`.
fn links(line: &str) -> Vec<&str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target).collect()
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let dead = breaches(&[".md"], |document, line| {
        let from = document.parent().unwrap();
        let leads = |target: &&str| {
            let path = target.split('#').next().unwrap();
            target.contains("://") || path.is_empty() || from.join(path).exists()
        };
        let dead: Vec<&str> = links(line).into_iter().filter(|target| !leads(target)).collect();
        (!dead.is_empty()).then(|| format!("leads nowhere: {}", dead.join(", ")))
    });
    assert_none(&dead);
}

#[test]
fn every_path_that_documents_and_code_name_is_there() {
    let is_ours = |path: &str| {
        let first = path.split('/').next().unwrap();
        let is_exact = !path.contains(['*', '<', '…', ' ', '$', ',']);
        path.contains('/') && is_exact && !first.is_empty() && first != "." && root().join(first).is_dir()
    };
    let missing = breaches(&[".md", ".rs"], |document, line| {
        let is_code = document.extension().is_some_and(|ending| ending == "rs");
        // In code, only comments name paths for readers.
        if is_code && !line.trim_start().starts_with("//") {
            return None;
        }
        let named = line.split('`').skip(1).step_by(2).filter(|path| is_ours(path));
        let missing: Vec<&str> = named.filter(|path| !is_there(document, path)).collect();
        (!missing.is_empty()).then(|| format!("there is no {}", missing.join(", ")))
    });
    assert_none(&missing);
}

/// Whether a path that a document names is there: from the top, from its crate's directory, or beside it.
fn is_there(document: &Path, path: &str) -> bool {
    document.ancestors().skip(1).take_while(|above| above.starts_with(root())).any(|above| above.join(path).exists())
}
