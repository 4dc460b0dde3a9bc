//! `headwater dump-log`: what an operator sees of a segment, whole and damaged.

use crate::broker_process::Broker;

fn lines_of(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

/// covers LOG-3
#[test]
fn a_segment_is_printed_beside_a_running_broker_and_a_flipped_byte_is_found_in_it() {
    let broker = Broker::start();
    broker.run(&["topic", "create", "t"]);
    for (key, value) in [("a", "first"), ("b", "second"), ("c", "third")] {
        broker.run_with_input(&["produce", "t", "--key-separator", "="], &format!("{key}={value}\n"));
    }
    let segment = broker.segment("00000000000000000000.log");
    let path = segment.to_str().unwrap();

    let text = broker.run(&["dump-log", path]);
    for part in ["offsets 0..1, byte 0, ", "offsets 2..3, ", "NO_HEADERS\tb\tsecond", "3 batches, 3 records, "] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    assert!(!broker.run(&["dump-log", "--batches-only", path]).contains("second"));

    let lines = lines_of(&broker.run(&["dump-log", "--format", "json", path]));
    let summary = &lines.last().unwrap()["summary"];
    assert_eq!((summary["batches"].as_u64(), summary["damagedBatches"].as_u64()), (Some(3), Some(0)));
    let records: Vec<_> = lines.iter().filter_map(|line| line["record"]["value"].as_str()).collect();
    assert_eq!(records, ["first", "second", "third"]);
    let third = lines.iter().filter(|line| line["batch"].is_object()).nth(2).unwrap();
    let third = usize::try_from(third["batch"]["position"].as_u64().unwrap()).unwrap();

    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[third - 2] ^= 1;
    let copy = tempfile::tempdir().unwrap();
    let copy = copy.path().join("00000000000000000000.log");
    std::fs::write(&copy, &bytes).unwrap();
    let (code, error) = broker.run_failing(&["dump-log", copy.to_str().unwrap()]);
    assert!(code == 1 && error.contains("batches with a wrong checksum: 1;"), "{code} {error}");

    std::fs::write(&copy, &bytes[..third + 20]).unwrap();
    let (code, error) = broker.run_failing(&["dump-log", copy.to_str().unwrap()]);
    assert!(code == 1 && error.contains(&format!("is damaged at byte {third} (offset 2)")), "{code} {error}");

    let foreign = copy.with_file_name("notes.txt");
    std::fs::write(&foreign, "x").unwrap();
    for (path, reason) in
        [(foreign, "is not the name of a segment"), (copy.with_file_name("00000000000000000009.log"), "No such file")]
    {
        let (code, error) = broker.run_failing(&["dump-log", path.to_str().unwrap()]);
        assert!(code == 1 && error.contains(reason), "{code} {error}");
    }
}
