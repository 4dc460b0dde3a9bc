//! Retention: the oldest records of what tasks write go, while the tasks go on, and must be known to no less (STEP-11).
//!
//! What goes is kept here, so that the checkers see each log as if nothing had gone. Only outputs that no task reads: a
//! task whose input is gone stops, as it must.

use super::{Event, World};
use crate::sim::checker::{LoggedRecord, Violation, read_batches, records_of};
use crate::sim::trace::Who;
use headwater_broker::drive::TrimRequest;
use headwater_core::replica::Refusal;
use headwater_log::TrimJob;
use headwater_protocol::ids::{TopicId, TopicPartition};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Typical time between two looks.
const TRIM_US: u64 = 400_000;

/// What a broker's run answered to a trim.
type Answer = (usize, u64, Result<TrimJob, Refusal>);

/// What went, and what is under way.
#[derive(Default)]
pub(super) struct Retained {
    records: BTreeMap<TopicPartition, BTreeMap<i64, LoggedRecord>>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
}

impl Retained {
    /// A broker's process is gone, and what it had under way.
    pub(super) fn forget_jobs(&mut self, number: usize) {
        self.answers.lock().retain(|(node, ..)| *node != number);
    }

    /// A log that begins at `log_start`, with what went before it in front.
    pub(super) fn complete(&self, id: TopicPartition, log_start: i64, log: Vec<LoggedRecord>) -> Vec<LoggedRecord> {
        let Some(gone) = self.records.get(&id) else { return log };
        let mut complete: Vec<_> = gone.range(..log_start).map(|(_, record)| record.clone()).collect();
        complete.extend(log.into_iter().filter(|record| record.offset >= log_start));
        complete
    }
}

impl World {
    pub(super) fn schedule_trim(&mut self, number: usize) {
        if self.shape.retention {
            let (at_us, run) = (self.now_us + self.rng.delay(TRIM_US), self.nodes[number].run);
            self.schedule(at_us, Event::Trim { node: number, run });
        }
    }

    /// Does what was answered to earlier trims, and asks for another one.
    pub(super) fn trim(&mut self, number: usize) -> Result<(), Violation> {
        let run = self.nodes[number].run;
        let answers: Vec<Answer> = self.retained.answers.lock().drain(..).collect();
        for (_, _, answer) in answers.into_iter().filter(|(node, of, _)| (*node, *of) == (number, run)) {
            let freed = answer.ok().map(|job| (job.log_start_offset(), job.run().is_ok()));
            let numbers = freed.map_or([-1, 0], |(log_start, freed)| [log_start, i64::from(freed)]);
            self.trace.note(self.now_us, Who::Node(number), "trimmed", &numbers);
        }
        if !self.ending {
            self.ask_for_trim(number)?;
        }
        self.schedule_trim(number);
        Ok(())
    }

    fn ask_for_trim(&mut self, number: usize) -> Result<(), Violation> {
        let Some(broker) = &self.nodes[number].broker else { return Ok(()) };
        let image = broker.metadata.image();
        let read: BTreeSet<TopicId> = image.processors().flat_map(|it| it.inputs.iter().copied()).collect();
        let written: BTreeSet<TopicId> = image.processors().flat_map(|it| it.outputs.iter().copied()).collect();
        let is_choice = |id: &TopicPartition| {
            written.contains(&id.topic) && !read.contains(&id.topic) && !self.decay[number].concerns(&id.to_string())
        };
        let handles = broker.handles.lock();
        let choices: Vec<_> =
            handles.iter().filter(|(id, _)| is_choice(id)).map(|(id, handle)| (*id, Arc::clone(handle))).collect();
        drop(handles);
        let Some((id, handle)) = self.rng.pick(&choices).cloned() else { return Ok(()) };
        let (log_start, high_watermark) = (handle.view().log_start_offset(), handle.view().high_watermark());
        let below = u64::try_from(high_watermark - log_start).unwrap_or(0);
        let to = log_start + self.rng.between(0, below).cast_signed();
        // A read that fails is an injected fault: then nothing goes. Whole batches are read: one may go on behind `to`.
        let Ok(batches) = read_batches(handle.view().reader(), high_watermark) else { return Ok(()) };
        let batches = self.cleaned.complete(id, (log_start, high_watermark), batches)?;
        let kept = self.retained.records.entry(id).or_default();
        for batch in batches {
            let records = records_of(batch.bytes().clone(), log_start);
            for record in records.map_err(|found| Violation::new("served", format!("{id}: {found}")))? {
                kept.insert(record.offset, record);
            }
        }
        let (answers, run) = (Arc::clone(&self.retained.answers), self.nodes[number].run);
        let reply = Box::new(move |answer| answers.lock().push_back((number, run, answer)));
        let timestamp = self.nodes[number].clock.now(self.now_us).unix_ms;
        handle.trim(TrimRequest { to, timestamp, reply });
        self.trace.note(self.now_us, Who::Node(number), "trim", &[i64::from(id.partition), log_start, to]);
        *self.counts.entry("trim").or_default() += 1;
        Ok(())
    }
}
