//! What the operating system allows, and what the broker's numbers say about it.

use crate::broker_process::Broker;
use std::io::Write as _;

/// The number behind a metric without labels; `None`: it is not shown.
fn metric(broker: &Broker, name: &str) -> Option<u64> {
    let text = broker.metrics();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned))?;
    Some(value.parse().unwrap_or_else(|error| panic!("{name} {value}: {error}")))
}

#[test]
fn a_broker_holds_more_partitions_than_files() {
    let mut broker = Broker::start_with_open_files(128, 700);
    broker.run(&["topic", "create", "t", "--partitions", "300"]);
    let input: String = (0..3000).map(|number| format!("{number}={number}\n")).collect();
    broker.run_with_input(&["produce", "t", "--key-separator", "="], &input);
    broker.stop();
    broker.restart();
    let offsets = broker.json(&["offsets", "t"]);
    let ends: Vec<u64> = offsets.as_array().unwrap().iter().map(|end| end["offset"].as_u64().unwrap()).collect();
    assert_eq!(ends.len(), 300);
    assert_eq!(ends.iter().sum::<u64>(), 3000);
    assert!(ends.iter().filter(|end| **end > 0).count() > 128, "too few partitions have records to show anything");
    assert_eq!(metric(&broker, "headwater_partitions"), Some(300));
    assert_eq!(metric(&broker, "headwater_open_files_max"), Some(700));
    // That is less than the configuration says, and the operator is told what to do.
    let output = broker.broker_output();
    for part in ["open 700 files", "make do with 188", "LimitNOFILE=4608", "log.open_files_max"] {
        assert!(output.contains(part), "{part:?} is missing:\n{output}");
    }
    // Every record is there, whichever files are open.
    let consumed = broker.run(&["consume", "t", "--from-beginning", "--max-messages", "3000"]);
    assert_eq!(consumed.lines().collect::<std::collections::BTreeSet<_>>().len(), 3000);
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", broker.process_id())).unwrap().count();
    assert!(descriptors < 300, "one for each partition at most, and there are others: {descriptors}");
}

/// covers LOG-2
#[test]
fn what_recovery_cuts_off_is_counted_in_the_run_that_cut_it_off() {
    let mut broker = Broker::start();
    broker.run(&["topic", "create", "t"]);
    broker.run_with_input(&["produce", "t"], "kept\n");
    broker.kill();
    let segment = broker.segment("00000000000000000000.log");
    std::fs::File::options().append(true).open(segment).unwrap().write_all(&[0xff; 100]).unwrap();
    broker.restart();
    assert_eq!(metric(&broker, "headwater_log_torn_tail_bytes_total"), Some(100));
    assert_eq!(broker.run(&["consume", "t", "--from-beginning", "--max-messages", "1"]), "kept\n");
}
