//! Compaction: changelogs, and what tasks write, are cleaned while the tasks go on (STEP-11, STEP-13, CMP-1, CMP-8).
//!
//! What is cleaned is kept here whole, so that the checkers see each log as if nothing had gone; what is left of it
//! must say the same of every key.

use super::{Event, World};
use crate::sim::checker::{Violation, read_batches, records_of};
use crate::sim::trace::Who;
use headwater_broker::drive::{ByCommitKey, CleaningSetup, clean};
use headwater_core::replica::{Cleanable, Refusal};
use headwater_log::cleaner::{ByRecordKey, RecordClassifier};
use headwater_protocol::batch::RecordBatch;
use headwater_protocol::ids::{TopicId, TopicPartition};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Typical time between two looks.
const CLEAN_US: u64 = 300_000;
/// Enough for every key of a run, or for a few: then it takes several passes.
const DEDUPE_BYTES: [usize; 2] = [1 << 20, 64 << 10];

/// What a broker's run answered to the question what may be cleaned.
type Answer = (usize, u64, TopicPartition, Result<Cleanable, Refusal>);

/// What was cleaned, and what is under way.
#[derive(Default)]
pub(super) struct Cleaned {
    batches: BTreeMap<TopicPartition, BTreeMap<i64, RecordBatch>>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
}

impl Cleaned {
    /// A broker's process is gone, and what it had under way.
    pub(super) fn forget_jobs(&mut self, number: usize) {
        self.answers.lock().retain(|(node, ..)| *node != number);
    }

    /// Whether records of a partition may be gone.
    pub(super) fn concerns(&self, id: TopicPartition) -> bool {
        self.batches.contains_key(&id)
    }

    /// A log from `log_start` up to `end`, as it was written: what was cleaned, then the rest.
    pub(super) fn complete(
        &self,
        id: TopicPartition,
        (log_start, end): (i64, i64),
        log: Vec<RecordBatch>,
    ) -> Result<Vec<RecordBatch>, Violation> {
        let Some(kept) = self.batches.get(&id) else { return Ok(log) };
        let behind = |batch: &&RecordBatch| {
            let header = batch.header();
            header.next_offset() > log_start && header.next_offset() <= end
        };
        let is_kept = |batch: &&RecordBatch| {
            let before = kept.range(..=batch.header().base_offset).next_back();
            before.is_some_and(|(_, before)| before.header().next_offset() > batch.header().base_offset)
        };
        let rest = log.iter().filter(|batch| !is_kept(batch));
        let mut complete: Vec<_> = kept.values().filter(behind).chain(rest).cloned().collect();
        complete.sort_by_key(|batch| batch.header().base_offset);
        let lacking = newest(&complete, log_start)?.into_iter().find(|(key, offset)| {
            let left = newest(&log, log_start).unwrap_or_default();
            left.get(key) != Some(offset)
        });
        match lacking {
            None => Ok(complete),
            Some((key, offset)) => {
                let key = String::from_utf8_lossy(&key).into_owned();
                Err(Violation::new(
                    "cleaned",
                    format!("{id}: the newest record of {key:?}, at {offset}, is gone (CMP-1)"),
                ))
            }
        }
    }
}

/// Where the newest record of each key lies, of records that anybody is shown.
fn newest(log: &[RecordBatch], log_start: i64) -> Result<BTreeMap<Vec<u8>, i64>, Violation> {
    let mut newest = BTreeMap::new();
    for batch in log {
        let records = records_of(batch.bytes().clone(), log_start).map_err(|found| Violation::new("served", found))?;
        for record in records.into_iter().filter(|record| !record.is_control) {
            // An outbox record is of no use below the floor; all else that a commit holds is state.
            let is_outbox = record.key.as_deref().is_some_and(|key| key.first() == Some(&7));
            if let Some(key) = record.key.filter(|_| !is_outbox) {
                newest.insert(key.to_vec(), record.offset);
            }
        }
    }
    Ok(newest)
}

impl World {
    pub(super) fn schedule_clean(&mut self, number: usize) {
        if self.shape.compaction {
            let (at_us, run) = (self.now_us + self.rng.delay(CLEAN_US), self.nodes[number].run);
            self.schedule(at_us, Event::Clean { node: number, run });
        }
    }

    /// Cleans what may be cleaned, and asks for another partition.
    pub(super) fn clean(&mut self, number: usize) -> Result<(), Violation> {
        let run = self.nodes[number].run;
        let answers: Vec<Answer> = self.cleaned.answers.lock().drain(..).collect();
        for (_, _, id, answer) in answers.into_iter().filter(|(node, of, ..)| (*node, *of) == (number, run)) {
            if let Ok(cleanable) = answer {
                self.clean_partition(number, id, &cleanable)?;
            }
        }
        if !self.ending {
            self.ask_cleanable(number);
        }
        self.schedule_clean(number);
        Ok(())
    }

    fn ask_cleanable(&mut self, number: usize) {
        let Some(broker) = &self.nodes[number].broker else { return };
        let image = broker.metadata.image();
        let read: BTreeSet<TopicId> = image.processors().flat_map(|it| it.inputs.iter().copied()).collect();
        // Not what a processor that is deployed later may read, nor what a start that is not durable hides for a while:
        // the checkers want to see what was there.
        let is_settled = !self.shape.processors_change && !self.shape.retention;
        let written = image.processors().flat_map(|it| it.outputs.iter().copied()).filter(|_| is_settled);
        let choices: BTreeSet<TopicId> = written
            .filter(|topic| !read.contains(topic))
            .chain(image.processors().map(|processor| processor.changelog))
            .collect();
        let is_choice =
            |id: &TopicPartition| choices.contains(&id.topic) && !self.decay[number].concerns(&id.to_string());
        let handles = broker.handles.lock();
        let choices: Vec<_> =
            handles.iter().filter(|(id, _)| is_choice(id)).map(|(id, handle)| (*id, Arc::clone(handle))).collect();
        drop(handles);
        let Some((id, handle)) = self.rng.pick(&choices).cloned() else { return };
        let (answers, run) = (Arc::clone(&self.cleaned.answers), self.nodes[number].run);
        handle.ask_cleanable(Box::new(move |answer| answers.lock().push_back((number, run, id, answer))));
    }

    fn clean_partition(&mut self, number: usize, id: TopicPartition, cleanable: &Cleanable) -> Result<(), Violation> {
        let Some(broker) = &self.nodes[number].broker else { return Ok(()) };
        let Some(handle) = broker.handles.lock().get(&id).map(Arc::clone) else { return Ok(()) };
        if self.decay[number].concerns(&id.to_string()) {
            return Ok(());
        }
        // A read that fails is an injected fault: then nothing is cleaned.
        let Ok(batches) = read_batches(handle.view().reader(), cleanable.upto) else { return Ok(()) };
        let kept = self.cleaned.batches.entry(id).or_default();
        for batch in batches {
            // What is left of one that was cleaned before has its place already.
            let before = kept.range(..=batch.header().base_offset).next_back();
            let is_kept = before.is_some_and(|(_, it)| it.header().next_offset() > batch.header().base_offset);
            if !is_kept {
                kept.insert(batch.header().base_offset, batch);
            }
        }
        let setup = CleaningSetup {
            dedupe_bytes_max: *self.rng.pick(&DEDUPE_BYTES).unwrap_or(&DEDUPE_BYTES[0]),
            seed: self.rng.between(0, u64::MAX - 1),
            now_ms: self.nodes[number].clock.now(self.now_us).unix_ms,
        };
        let mut classifier: Box<dyn RecordClassifier> =
            if handle.is_changelog() { Box::new(ByCommitKey) } else { Box::new(ByRecordKey) };
        let cleaned = clean(&handle, cleanable, setup, classifier.as_mut(), &mut |_| Ok(()));
        let numbers = cleaned.as_ref().map_or([-1, 0, 0], |report| {
            let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
            [i64::from(report.passes), bytes(report.bytes_before), bytes(report.bytes_after)]
        });
        self.trace.note(self.now_us, Who::Node(number), "cleaned", &numbers);
        if cleaned.is_ok_and(|report| report.bytes_after < report.bytes_before) {
            *self.counts.entry("clean").or_default() += 1;
        }
        Ok(())
    }
}
