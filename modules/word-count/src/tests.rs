use super::*;
use headwater_guest_sdk::testing::{TestRecord, TestRunner};
use std::collections::BTreeMap;

fn runner() -> TestRunner<WordCount> {
    TestRunner::new(Deployment::for_test().output("counts").store("counts")).unwrap()
}

fn outputs(runner: &mut TestRunner<WordCount>) -> Vec<(String, u64)> {
    let count = |record: &TestRecord| (record.key_text().into_owned(), record.value_text().parse().unwrap());
    runner.take_output(0).iter().map(count).collect()
}

/// The definition, written down once more.
fn straight_count(lines: &[&str]) -> Vec<(String, u64)> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let words = lines.iter().flat_map(|line| line.split(|c: char| !c.is_alphanumeric())).filter(|run| !run.is_empty());
    words
        .map(|word| {
            let count = counts.entry(word.to_lowercase()).or_default();
            *count += 1;
            (word.to_lowercase(), *count)
        })
        .collect()
}

const LINES: &[&str] =
    &["The cat's CAT, the 2 cats", "", "  Été/ÉTÉ été ΟΔΟΣ ٣٣ ", "“the”—the", "a the a THE a the the the the"];

#[test]
fn every_occurrence_raises_its_words_count_by_one() {
    let mut runner = runner();
    runner.run(LINES.iter().copied()).unwrap();
    let counted = outputs(&mut runner);
    assert_eq!(counted, straight_count(LINES));
    assert_eq!(counted.last(), Some(&("the".to_owned(), 10)));
    assert_eq!(runner.store(0).get(&b"the"[..]), Some(&b"10".to_vec()));
    assert_eq!(runner.host_calls(), 3); // get-many, put-many, emit
}

#[test]
fn counts_go_on_from_batch_to_batch_and_over_restarts() {
    let mut runner = runner();
    for line in LINES {
        runner.run([*line]).unwrap();
        runner.restart();
    }
    assert_eq!(outputs(&mut runner), straight_count(LINES));
}

#[test]
fn a_failed_deployment_says_what_it_lacks() {
    let refusal = TestRunner::<WordCount>::new(Deployment::for_test().output("counts")).err().unwrap();
    assert!(refusal.contains("--store"), "{refusal}");
}

#[test]
fn values_that_are_no_text_or_not_there_separate_words() {
    let mut runner = runner();
    let bytes = TestRecord { value: Some(b"on\xffe on".to_vec()), timestamp: 7, ..TestRecord::default() };
    runner.run([bytes, TestRecord::default()]).unwrap();
    let records = runner.take_output(0);
    assert_eq!(records.iter().map(TestRecord::key_text).collect::<Vec<_>>(), ["on", "e", "on"]);
    assert!(records.iter().all(|record| record.timestamp == 7));
}

#[test]
fn decimal_text_counts_like_numbers() {
    let mut count = Vec::new();
    for number in 1..=12_345u32 {
        add_one(&mut count);
        assert_eq!(count, number.to_string().into_bytes());
    }
}
