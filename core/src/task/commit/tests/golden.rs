//! The very bytes, as `docs/step-commit.md` draws them: a change here needs a new version byte.

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_record_of_a_commit_has_these_bytes() {
    let batch = RecordBatch::decode(Whole::full().encode()).unwrap();
    let records = batch.records(&headwater_protocol::batch::BatchLimits::INTERNAL).unwrap();
    let mut lines = Vec::new();
    for record in &records {
        let record = record.unwrap();
        let value = match record.key.unwrap() {
            // The verbatim batch is another format's business.
            [7, ..] => "batch".to_owned(),
            _ => record.value.map_or("null".to_owned(), hex),
        };
        lines.push(format!("{} {value}", hex(record.key.unwrap())));
    }
    let golden = include_str!("golden.txt");
    let golden: Vec<_> = golden.lines().collect();
    assert_eq!(lines, golden);
}
