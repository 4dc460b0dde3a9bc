//! A task's changelog, its state and its outputs are what the step protocol promises: commits tile the input (OUT-3),
//! state is the fold (OUT-4), each output is there once and in order (OUT-1), nothing acknowledged is missing (OUT-5),
//! floors are true (OUT-6).

#[cfg(test)]
mod tests;

use super::{LoggedRecord, Violation};
use crate::sim::guest::{GuestKind, output_value, words_of};
use headwater_core::task::commit::{Commit, InputRange};
use headwater_protocol::batch::{BatchLimits, RecordBatch};
use headwater_protocol::ids::{ProducerId, TaskProducer, TopicId, TopicPartition};
use headwater_protocol::partitioner::partition_for_key;
use std::collections::{BTreeMap, BTreeSet};

/// A task as its deployment has it, and the logs it touches.
pub struct TaskLogs<'a> {
    /// Its identity.
    pub task: TaskProducer,
    /// Where it began, by input partition.
    pub starts: BTreeMap<TopicPartition, i64>,
    /// Where it writes: topic and partitions.
    pub output: (TopicId, u32),
    /// Its changelog, whole.
    pub changelog: &'a [RecordBatch],
    /// Whole logs of inputs and outputs.
    pub logs: &'a BTreeMap<TopicPartition, Vec<LoggedRecord>>,
}

/// What the commits add up to.
#[derive(Debug, Default)]
pub struct Fold {
    /// Where each input is read on.
    pub positions: BTreeMap<TopicPartition, i64>,
    /// The state.
    pub state: BTreeMap<Vec<u8>, Vec<u8>>,
    /// All outputs: (step, key, value), by partition.
    outputs: BTreeMap<TopicPartition, Vec<Output>>,
    floor: u64,
    steps: u64,
}

type Output = (u64, Vec<u8>, Vec<u8>);

fn wrong(task: TaskProducer, found: &str) -> Violation {
    Violation::new("steps", format!("task {}.{}: {found}", task.processor.0, task.task))
}

impl TaskLogs<'_> {
    /// Checks all of it; with `complete` every output must have arrived. Gives the fold.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self, complete: bool) -> Result<Fold, Violation> {
        let mut fold = Fold { positions: self.starts.clone(), ..Fold::default() };
        for batch in self.changelog.iter().filter(|batch| Commit::is_commit(batch.header())) {
            let commit = Commit::decode(batch).map_err(|error| wrong(self.task, &error.to_string()))?;
            self.add(&mut fold, &commit)?;
        }
        self.check_outputs(&fold, complete)?;
        Ok(fold)
    }

    fn add(&self, fold: &mut Fold, commit: &Commit) -> Result<(), Violation> {
        let step = commit.step();
        let wrong = |found: String| wrong(self.task, &format!("step {}: {found}", step.step));
        if step.step != fold.steps {
            return Err(wrong(format!("follows {} steps (STEP-2)", fold.steps)));
        }
        if step.floor < fold.floor {
            return Err(wrong(format!("the floor fell from {} to {} (STEP-12)", fold.floor, step.floor)));
        }
        let kind = GuestKind::of(step.revision.module).ok_or_else(|| wrong("of an unknown module".to_owned()))?;
        let mut expected = Vec::new();
        for range in &step.inputs {
            let position = fold.positions.entry(range.input).or_default();
            if range.from != *position || range.to <= range.from {
                let found = format!("reads {} {}..{} at {position} (OUT-3)", range.input, range.from, range.to);
                return Err(wrong(found));
            }
            *position = range.to;
            self.run(&mut fold.state, kind, range, &mut expected).map_err(wrong)?;
        }
        let mut changes: BTreeMap<&[u8], Option<&[u8]>> = BTreeMap::new();
        let collected: Vec<_> = commit.shared_changes().collect();
        for (_, key, value) in &collected {
            changes.insert(key, value.as_deref());
        }
        let touched: BTreeSet<&Vec<u8>> = expected.iter().map(|(key, _)| key).collect();
        for key in touched {
            let there = changes.remove(key.as_slice()).flatten();
            if there != fold.state.get(key).map(Vec::as_slice) {
                return Err(wrong(format!("counts {:?} as {there:?} (OUT-4)", String::from_utf8_lossy(key))));
            }
        }
        if let Some(key) = changes.keys().next() {
            return Err(wrong(format!("changes {:?} without cause (OUT-4)", String::from_utf8_lossy(key))));
        }
        self.add_outputs(fold, commit, kind, &expected)?;
        (fold.floor, fold.steps) = (step.floor, fold.steps + 1);
        Ok(())
    }

    /// What the guest does with a range, done again on the input as it is now.
    fn run(
        &self,
        state: &mut BTreeMap<Vec<u8>, Vec<u8>>,
        kind: GuestKind,
        range: &InputRange,
        expected: &mut Vec<(Vec<u8>, String)>,
    ) -> Result<(), String> {
        let input = self.logs.get(&range.input).ok_or("an input that is not there")?;
        let begin = input.partition_point(|record| record.offset < range.from);
        let end = input.partition_point(|record| record.offset < range.to);
        let records: Vec<_> = input[begin..end].iter().filter(|record| !record.is_control).collect();
        if records.len() != range.record_count as usize {
            let (seen, there) = (range.record_count, records.len());
            return Err(format!("saw {seen} records in {}..{}, {there} are there (STEP-5)", range.from, range.to));
        }
        let first = records.first().map_or(0, |record| record.offset);
        for record in &records {
            for word in words_of(kind, record.value.as_deref().unwrap_or_default()) {
                let before = state.get(&word).map_or(0, |value| crate::sim::guest::decode_count(value));
                state.insert(word.clone(), (before + 1).to_string().into_bytes());
                let value = output_value(kind, before + 1, record.offset, (first, records.len()), 0);
                expected.push((word, value));
            }
        }
        Ok(())
    }

    fn add_outputs(
        &self,
        fold: &mut Fold,
        commit: &Commit,
        kind: GuestKind,
        expected: &[(Vec<u8>, String)],
    ) -> Result<(), Violation> {
        let step = commit.step().step;
        let wrong = |found: String| wrong(self.task, &format!("step {step}: {found}"));
        let (topic, partitions) = self.output;
        let mut due: BTreeMap<TopicPartition, Vec<&(Vec<u8>, String)>> = BTreeMap::new();
        for output in expected {
            let partition = partition_for_key(&output.0, partitions);
            due.entry(TopicPartition { topic, partition }).or_default().push(output);
        }
        for batch in commit.outbox() {
            let all = fold.outputs.entry(batch.output).or_default();
            if batch.first != all.len() as u64 {
                return Err(wrong(format!("number {} where {} was due (STEP-8)", batch.first, all.len())));
            }
            let decoded = RecordBatch::decode(batch.bytes.clone()).and_then(|it| it.records(&BatchLimits::INTERNAL));
            let decoded = decoded.map_err(|error| wrong(error.to_string()))?;
            let due = due.entry(batch.output).or_default();
            for record in decoded.iter() {
                let record = record.map_err(|error| wrong(error.to_string()))?;
                let (key, value) = (record.key.unwrap_or_default(), record.value.unwrap_or_default());
                let wanted = (!due.is_empty()).then(|| due.remove(0));
                let same = wanted.is_some_and(|(wanted_key, wanted_value)| {
                    wanted_key == key && (kind == GuestKind::Forgetful || wanted_value.as_bytes() == value)
                });
                if !same {
                    return Err(wrong("an output that its input does not give (OUT-1)".to_owned()));
                }
                all.push((step, key.to_vec(), value.to_vec()));
            }
        }
        if due.values().all(Vec::is_empty) { Ok(()) } else { Err(wrong("outputs are missing (OUT-1)".to_owned())) }
    }

    fn check_outputs(&self, fold: &Fold, complete: bool) -> Result<(), Violation> {
        let (topic, partitions) = self.output;
        for partition in 0..partitions {
            let id = TopicPartition { topic, partition };
            let nothing = Vec::new();
            let due = fold.outputs.get(&id).unwrap_or(&nothing);
            let ours = |record: &&LoggedRecord| {
                let task = ProducerId(record.producer_id).task().filter(|_| !record.is_control);
                task.is_some_and(|task| (task.processor, task.task) == (self.task.processor, self.task.task))
            };
            let mut arrived = 0;
            for record in self.logs.get(&id).unwrap_or(&Vec::new()).iter().filter(ours) {
                let (key, value) = (record.key.as_deref(), record.value.as_deref());
                let same = due.get(arrived).is_some_and(|due| (key, value) == (Some(&due.1[..]), Some(&due.2[..])));
                if !same {
                    let found = format!("{id} offset {} is not output {arrived} of the commits (OUT-1)", record.offset);
                    return Err(wrong(self.task, &found));
                }
                arrived += 1;
            }
            if let Some((step, ..)) = due.get(arrived).filter(|due| due.0 < fold.floor) {
                let found =
                    format!("the floor is {}, output {arrived} of step {step} is not in {id} (OUT-5, 6)", fold.floor);
                return Err(wrong(self.task, &found));
            }
            if complete && arrived < due.len() {
                let found = format!("{} of {} outputs are in {id} (OUT-2)", arrived, due.len());
                return Err(wrong(self.task, &found));
            }
        }
        Ok(())
    }
}
