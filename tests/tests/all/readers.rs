//! Readers at different speeds: who is served from memory, who from the files, as the broker itself counts it.

use crate::broker_process::Broker;

/// Reads of logs from this source so far.
fn reads(broker: &Broker, source: &str) -> u64 {
    let line = format!("headwater_log_reads_total{{source=\"{source}\"}} ");
    let text = broker.metrics();
    text.lines().find_map(|shown| shown.strip_prefix(&line)).map_or(0, |count| count.parse().unwrap())
}

#[test]
fn a_reader_at_the_end_costs_no_read_of_a_file_beside_one_that_reads_everything() {
    let mut broker = Broker::start();
    broker.run(&["topic", "create", "history", "--partitions", "1"]);
    broker.run(&["topic", "create", "live", "--partitions", "1"]);
    let lines: String = (0..2000).map(|line| format!("line {line}\n")).collect();
    broker.run_with_input(&["produce", "history"], &lines);
    // What is in memory goes with the process.
    broker.stop();
    broker.restart();
    assert_eq!((reads(&broker, "memory"), reads(&broker, "file")), (0, 0));

    // Two who read everything, as a consumer and as who checks the disk, and one at the end.
    const ROUNDS: i64 = 10;
    let consume = |broker: &Broker, offset: i64| {
        let (line, offset) = (format!("{offset}\n"), offset.to_string());
        broker.run_with_input(&["produce", "live"], &line);
        let consume = ["consume", "live", "--partition", "0", "--offset", &offset, "--max-messages", "1"];
        assert_eq!(broker.run(&consume), line);
    };
    std::thread::scope(|scope| {
        let history = scope.spawn(|| {
            for _ in 0..ROUNDS {
                assert_eq!(broker.run(&["consume", "history", "--from-beginning", "--max-messages", "2000"]), lines);
            }
        });
        (0..ROUNDS).for_each(|offset| consume(&broker, offset));
        history.join().unwrap();
    });
    let (memory, file) = (reads(&broker, "memory"), reads(&broker, "file"));
    assert!(memory >= ROUNDS as u64 && file >= ROUNDS as u64, "{memory} {file}");
    std::thread::scope(|scope| {
        let verifying = scope.spawn(|| (0..ROUNDS).for_each(|_| drop(broker.run(&["log", "verify", "history"]))));
        (ROUNDS..2 * ROUNDS).for_each(|offset| consume(&broker, offset));
        verifying.join().unwrap();
    });
    assert_eq!(reads(&broker, "file"), file, "whoever reads at the end reads no file");
    assert!(reads(&broker, "memory") >= memory + ROUNDS as u64);
}
