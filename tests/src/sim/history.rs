//! What clients did and saw, as the Kafka workload of Jepsen records it: sends and polls with offsets, one operation a
//! line.
//!
//! ```text
//!   {:type :invoke, :f :send, :process 1, :time 9000000, :value [[:send "…-0" 17]]}
//!   {:type :ok, :f :send, :process 1, :time 12000000, :value [[:send "…-0" [4 17]]]}
//!   {:type :ok, :f :poll, :process 3, :time 15000000, :value [[:poll {"…-0" [[4 17] [5 19]]}]]}
//!   {:type :ok, :f :assign, :process 3, :time 16000000, :value ["…-0"]}
//! ```
//!
//! Keys are partitions, values the numbers that producers give their records. A send whose outcome is not known is
//! `:info`: it may be there, at most once. `:assign` stands where a consumer seeks.
//! [`super::checker::history`] analyses the operations.

use headwater_protocol::ids::TopicPartition;
use std::collections::BTreeMap;

/// One operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    /// The client.
    pub process: usize,
    /// When it began, or for what is known at once, when it happened; in microseconds of the run.
    pub at_us: u64,
    /// What it is.
    pub what: What,
}

/// What was done.
#[expect(missing_docs, reason = "fields are named for what they hold")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// A record was sent.
    Send { number: u64, outcome: Sent },
    /// Records were received: offset and number of each.
    Poll { key: TopicPartition, records: Vec<(i64, u64)> },
    /// The next poll begins somewhere else.
    Seek { key: TopicPartition },
}

/// What became of a send.
#[expect(missing_docs, reason = "fields are named for what they hold")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// Nothing is known yet.
    Open,
    /// It was acknowledged.
    Acknowledged { key: TopicPartition, offset: i64, at_us: u64 },
    /// It failed, and may be there all the same.
    Unknown { at_us: u64 },
}

/// All operations, in the order in which they began.
#[derive(Clone, Default, Debug)]
pub struct History {
    operations: Vec<Operation>,
    /// Where each send is.
    sends: BTreeMap<u64, usize>,
}

impl History {
    /// A record is about to be sent.
    pub fn send(&mut self, process: usize, at_us: u64, number: u64) {
        self.sends.insert(number, self.operations.len());
        self.operations.push(Operation { process, at_us, what: What::Send { number, outcome: Sent::Open } });
    }

    /// Something became of it.
    pub fn settle(&mut self, number: u64, became: Sent) {
        let place = self.sends.get(&number).and_then(|place| self.operations.get_mut(*place));
        if let Some(Operation { what: What::Send { outcome, .. }, .. }) = place {
            *outcome = became;
        }
    }

    /// Something else was done.
    pub fn note(&mut self, process: usize, at_us: u64, what: What) {
        self.operations.push(Operation { process, at_us, what });
    }

    /// The operations.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The history as Jepsen's checkers read it: one map of EDN a line, by time.
    #[must_use]
    pub fn to_edn(&self) -> String {
        let mut lines: Vec<(u64, String)> = Vec::with_capacity(2 * self.operations.len());
        for operation in &self.operations {
            self.add_lines(operation, &mut lines);
        }
        // Stable: what happened at the same time stays in the order in which it was noted.
        lines.sort_by_key(|(at_us, _)| *at_us);
        let mut text = String::new();
        for (index, (at_us, line)) in lines.iter().enumerate() {
            text.push_str(&format!("{{:index {index}, :time {}, {line}}}\n", at_us * 1000));
        }
        text
    }

    fn add_lines(&self, operation: &Operation, lines: &mut Vec<(u64, String)>) {
        let Operation { process, at_us, what } = operation;
        let begin = |kind: &str, f: &str| format!(":type :{kind}, :f :{f}, :process {process}, :value ");
        match what {
            What::Send { number, outcome } => {
                let key = match outcome {
                    Sent::Acknowledged { key, .. } => format!("\"{key}\""),
                    Sent::Open | Sent::Unknown { .. } => "nil".to_owned(),
                };
                lines.push((*at_us, format!("{}[[:send {key} {number}]]", begin("invoke", "send"))));
                match outcome {
                    Sent::Acknowledged { offset, at_us, .. } => {
                        lines.push((*at_us, format!("{}[[:send {key} [{offset} {number}]]]", begin("ok", "send"))));
                    }
                    Sent::Unknown { at_us } => {
                        lines.push((*at_us, format!("{}[[:send {key} {number}]]", begin("info", "send"))));
                    }
                    Sent::Open => {}
                }
            }
            What::Poll { key, records } => {
                let records: Vec<String> =
                    records.iter().map(|(offset, number)| format!("[{offset} {number}]")).collect();
                let polled = format!("[[:poll {{\"{key}\" [{}]}}]]", records.join(" "));
                lines.push((*at_us, format!("{}[[:poll]]", begin("invoke", "poll"))));
                lines.push((*at_us, format!("{}{polled}", begin("ok", "poll"))));
            }
            What::Seek { key } => {
                lines.push((*at_us, format!("{}[\"{key}\"]", begin("invoke", "assign"))));
                lines.push((*at_us, format!("{}[\"{key}\"]", begin("ok", "assign"))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_protocol::ids::TopicId;

    #[test]
    fn it_reads_as_jepsens_workload_has_it() {
        let key = TopicPartition { topic: TopicId([0x70; 16]), partition: 2 };
        let mut history = History::default();
        history.send(1, 10, 17);
        history.send(1, 11, 18);
        history.send(2, 12, 19);
        history.note(3, 20, What::Seek { key });
        history.note(3, 40, What::Poll { key, records: vec![(4, 17), (5, 18)] });
        history.settle(17, Sent::Acknowledged { key, offset: 4, at_us: 30 });
        history.settle(18, Sent::Unknown { at_us: 31 });
        let name = "70707070-7070-7070-7070-707070707070-2";
        let expected = [
            format!("{{:index 0, :time 10000, :type :invoke, :f :send, :process 1, :value [[:send \"{name}\" 17]]}}"),
            "{:index 1, :time 11000, :type :invoke, :f :send, :process 1, :value [[:send nil 18]]}".to_owned(),
            "{:index 2, :time 12000, :type :invoke, :f :send, :process 2, :value [[:send nil 19]]}".to_owned(),
            format!("{{:index 3, :time 20000, :type :invoke, :f :assign, :process 3, :value [\"{name}\"]}}"),
            format!("{{:index 4, :time 20000, :type :ok, :f :assign, :process 3, :value [\"{name}\"]}}"),
            format!("{{:index 5, :time 30000, :type :ok, :f :send, :process 1, :value [[:send \"{name}\" [4 17]]]}}"),
            "{:index 6, :time 31000, :type :info, :f :send, :process 1, :value [[:send nil 18]]}".to_owned(),
            "{:index 7, :time 40000, :type :invoke, :f :poll, :process 3, :value [[:poll]]}".to_owned(),
            format!(
                "{{:index 8, :time 40000, :type :ok, :f :poll, :process 3, :value {}}}",
                format_args!("[[:poll {{\"{name}\" [[4 17] [5 18]]}}]]"),
            ),
        ];
        assert_eq!(history.to_edn().lines().collect::<Vec<_>>(), expected);
    }
}
