//! What happened, one line an event, and a hash over all of it: equal hashes mean equal runs.
//!
//! `docs/simulation.md` decodes the lines.

use std::collections::VecDeque;

/// The record of a run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    events: u64,
    prints: bool,
    last: VecDeque<String>,
    kept: usize,
}

impl Trace {
    /// An empty record; `prints` writes each line to standard error as it happens, `kept` of the last lines are kept.
    #[must_use]
    pub fn new(prints: bool, kept: usize) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, events: 0, prints, last: VecDeque::new(), kept }
    }

    /// Notes an event: when, who, what, and its numbers.
    pub fn note(&mut self, at_us: u64, who: Who, what: &'static str, numbers: &[i64]) {
        self.events += 1;
        self.mix(at_us);
        self.mix(who.number());
        for byte in what.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        for number in numbers {
            self.mix(number.cast_unsigned());
        }
        if self.prints || self.kept > 0 {
            self.keep(at_us, who, what, numbers);
        }
    }

    /// Says more about the event noted last, in words; no part of the hash.
    pub fn remark(&mut self, words: impl FnOnce() -> String) {
        if self.prints || self.kept > 0 {
            self.push(format!("{:>18} {}", "|", words()));
        }
    }

    fn mix(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    fn keep(&mut self, at_us: u64, who: Who, what: &'static str, numbers: &[i64]) {
        let mut line = format!("{:>12.6} {:<4} {what}", at_us as f64 / 1e6, who.to_string());
        for number in numbers {
            line.push(' ');
            line.push_str(&number.to_string());
        }
        self.push(line);
    }

    fn push(&mut self, line: String) {
        if self.prints {
            eprintln!("{line}");
        }
        if self.kept > 0 {
            if self.last.len() == self.kept {
                self.last.pop_front();
            }
            self.last.push_back(line);
        }
    }

    /// The hash over everything noted.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events were noted.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The last lines, oldest first.
    pub fn last(&self) -> impl Iterator<Item = &str> {
        self.last.iter().map(String::as_str)
    }
}

/// Who an event happened to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// The run itself.
    Run,
    /// A broker.
    Node(usize),
    /// A client.
    Client(usize),
    /// A task of a processor on a broker.
    Task(u32, u32),
}

impl Who {
    fn number(self) -> u64 {
        match self {
            Self::Run => 0,
            Self::Node(node) => 1 << 32 | node as u64,
            Self::Client(client) => 2 << 32 | client as u64,
            Self::Task(processor, task) => 3 << 62 | u64::from(processor) << 32 | u64::from(task),
        }
    }
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Run => f.write_str("-"),
            Self::Node(node) => write!(f, "n{node}"),
            Self::Client(client) => write!(f, "c{client}"),
            Self::Task(processor, task) => write!(f, "t{processor}.{task}"),
        }
    }
}
