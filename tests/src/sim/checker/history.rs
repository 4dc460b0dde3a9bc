//! The history of sends and polls, analysed as Jepsen's Kafka checker does it: no acknowledged write is lost, no offset
//! means two things, nothing is there twice, polls go forwards without skipping, and in the end everything was seen.

use super::Violation;
use crate::sim::history::{History, Sent, What};
use headwater_protocol::ids::TopicPartition;
use std::collections::BTreeMap;

/// What a partition's topic promised in this run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Promise {
    /// Everything acknowledged is there in the end.
    Kept,
    /// The topic was deleted, or somebody asked for that: what is there is right, but it may be gone.
    Gone,
    /// Power was cut and the topic did not promise to survive that: offsets may mean something else afterwards.
    Nothing,
}

/// Analyses a whole history; `was_polled_to_end` when consumers read everything once more after all was quiet.
///
/// # Errors
/// The first anomaly.
pub fn check(
    history: &History,
    promise: impl Fn(TopicPartition) -> Promise,
    was_polled_to_end: bool,
) -> Result<(), Violation> {
    let mut keys: BTreeMap<TopicPartition, Key> = BTreeMap::new();
    let mut consumers: BTreeMap<(usize, TopicPartition), i64> = BTreeMap::new();
    for operation in history.operations() {
        match &operation.what {
            What::Send { number, outcome: Sent::Acknowledged { key, offset, .. } } => {
                if promise(*key) != Promise::Nothing {
                    keys.entry(*key).or_default().acknowledge(*key, *offset, *number)?;
                }
            }
            What::Poll { key, records } if promise(*key) != Promise::Nothing => {
                let position = consumers.entry((operation.process, *key)).or_insert(-1);
                let known = keys.entry(*key).or_default();
                for (offset, number) in records {
                    check_order(operation.process, *key, *position, *offset)?;
                    *position = *offset;
                    known.see(*key, *offset, *number)?;
                }
            }
            What::Seek { key } => drop(consumers.insert((operation.process, *key), -1)),
            What::Send { .. } | What::Poll { .. } => {}
        }
    }
    for (id, known) in keys.iter().filter(|(id, _)| promise(**id) == Promise::Kept) {
        known.check_end(*id, was_polled_to_end)?;
    }
    Ok(())
}

fn wrong(anomaly: &str, found: &str) -> Violation {
    Violation::new("history", format!("{anomaly}: {found}"))
}

fn check_order(process: usize, key: TopicPartition, position: i64, offset: i64) -> Result<(), Violation> {
    if position >= offset {
        let found = format!("client {process} was at {position} of {key} and was given {offset}");
        return Err(wrong("nonmonotonic poll", &found));
    }
    if position >= 0 && offset > position + 1 {
        let found = format!("client {process} was at {position} of {key} and was given {offset} next");
        return Err(wrong("poll skip", &found));
    }
    Ok(())
}

/// What is known of a partition.
#[derive(Default)]
struct Key {
    /// Numbers by offset, and whether they were polled.
    offsets: BTreeMap<i64, (u64, bool)>,
    /// Offsets by number.
    numbers: BTreeMap<u64, i64>,
}

impl Key {
    fn acknowledge(&mut self, id: TopicPartition, offset: i64, number: u64) -> Result<(), Violation> {
        self.place(id, offset, number, false)
    }

    fn see(&mut self, id: TopicPartition, offset: i64, number: u64) -> Result<(), Violation> {
        self.place(id, offset, number, true)
    }

    fn place(&mut self, id: TopicPartition, offset: i64, number: u64, polled: bool) -> Result<(), Violation> {
        let known = self.offsets.entry(offset).or_insert((number, false));
        if known.0 != number {
            return Err(wrong("inconsistent offset", &format!("{id} offset {offset} is #{} and #{number}", known.0)));
        }
        known.1 |= polled;
        match self.numbers.insert(number, offset) {
            Some(other) if other != offset => {
                Err(wrong("duplicate", &format!("#{number} is at offsets {other} and {offset} of {id}")))
            }
            _ => Ok(()),
        }
    }

    fn check_end(&self, id: TopicPartition, was_polled_to_end: bool) -> Result<(), Violation> {
        let highest = self.offsets.iter().rev().find(|(_, (_, polled))| *polled).map(|(offset, _)| *offset);
        let Some((offset, (number, _))) = self.offsets.iter().find(|(_, (_, polled))| !polled) else { return Ok(()) };
        if !was_polled_to_end {
            // Consumers seek: what they jumped over is no loss.
            return Ok(());
        }
        let anomaly = if highest.is_some_and(|highest| *offset < highest) { "lost write" } else { "unseen" };
        Err(wrong(anomaly, &format!("#{number} was acknowledged at {id} offset {offset} and never polled")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_protocol::ids::TopicId;

    const KEY: TopicPartition = TopicPartition { topic: TopicId([1; 16]), partition: 0 };

    type Sends<'a> = &'a [(u64, i64)];
    type Polls<'a> = &'a [(bool, &'a [(i64, u64)])];

    /// Sends with (number, offset), then polls by client 9, with a seek before each of them that says so.
    fn history(sent: &[(u64, i64)], polls: Polls<'_>) -> History {
        let mut history = History::default();
        for (number, offset) in sent {
            history.send(1, *number, *number);
            history.settle(*number, Sent::Acknowledged { key: KEY, offset: *offset, at_us: 50 });
        }
        for (seeks, records) in polls {
            if *seeks {
                history.note(9, 60, What::Seek { key: KEY });
            }
            history.note(9, 60, What::Poll { key: KEY, records: records.to_vec() });
        }
        history
    }

    fn anomaly(history: &History, promise: Promise) -> String {
        match check(history, |_| promise, true) {
            Ok(()) => "none".to_owned(),
            Err(violation) => violation.found.split(':').next().unwrap_or_default().to_owned(),
        }
    }

    #[test]
    fn good_histories_pass() {
        let sent = [(1, 0), (2, 1), (3, 2)];
        let whole: &[(i64, u64)] = &[(0, 1), (1, 2), (2, 3)];
        assert_eq!(anomaly(&history(&sent, &[(false, whole)]), Promise::Kept), "none");
        assert_eq!(
            anomaly(&history(&sent, &[(false, &whole[2..]), (true, whole), (true, whole)]), Promise::Kept),
            "none"
        );
        // A send that failed may be there.
        let mut unknown = history(&sent[..2], &[(false, whole)]);
        unknown.send(1, 9, 3);
        unknown.settle(3, Sent::Unknown { at_us: 10 });
        assert_eq!(anomaly(&unknown, Promise::Kept), "none");
    }

    #[test]
    fn each_anomaly_is_found() {
        let sent = [(1, 0), (2, 1), (3, 2)];
        let cases: [(Sends<'_>, Polls<'_>, &str); 8] = [
            (&sent, &[(false, &[(0, 1)]), (true, &[(2, 3)])], "lost write"),
            (&sent, &[(false, &[(0, 1), (1, 2)])], "unseen"),
            (&sent, &[], "unseen"),
            (&[(1, 0), (2, 0)], &[], "inconsistent offset"),
            (&sent, &[(false, &[(0, 1), (1, 7)])], "inconsistent offset"),
            (&sent, &[(false, &[(0, 1), (1, 2), (2, 3), (3, 1)])], "duplicate"),
            (&sent, &[(false, &[(0, 1), (1, 2)]), (false, &[(1, 2), (2, 3)])], "nonmonotonic poll"),
            (&sent, &[(true, &[(0, 1)]), (false, &[(2, 3)])], "poll skip"),
        ];
        for (sent, polls, expected) in cases {
            assert_eq!(anomaly(&history(sent, polls), Promise::Kept), expected, "{sent:?} {polls:?}");
        }
    }

    #[test]
    fn what_was_not_promised_is_not_missed() {
        let lost = history(&[(1, 0), (2, 1)], &[(false, &[(1, 2)])]);
        assert_eq!(anomaly(&lost, Promise::Gone), "none");
        let other = history(&[(1, 0), (2, 0)], &[]);
        assert_eq!(anomaly(&other, Promise::Gone), "inconsistent offset");
        assert_eq!(anomaly(&other, Promise::Nothing), "none");
    }
}
