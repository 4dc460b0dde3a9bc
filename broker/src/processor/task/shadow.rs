//! Other code beside the task's own: it is given the same records over the same state, and what it did is thrown away
//! once it is compared.
//!
//! ```text
//!   records ─► shadow ─► trace ─┐            of one step, from the state before it;
//!      │                        ├─ compare   nothing of the shadow's stays
//!      └─────► guest ──► trace ─┘
//!                └─► commit, as ever
//! ```
//!
//! Every step begins with the state that the deployed code has left, so one difference does not make all later steps
//! differ. The shadow costs its CPU time on the task's thread.

use super::TaskSetting;
use super::commands::GuestStopper;
use super::surroundings::{Surroundings, TaskGuest};
use crate::processor::host::{StepTrace, TaskHost, TracedRecord};
use headwater_protocol::messages::processor::{LogLevel, ShadowReport};
use headwater_wasm_host::{CallError, InputBatch};
use parking_lot::Mutex;
use std::sync::Arc;

/// Bytes of a key or value that a difference shows.
const SHOWN_BYTES_MAX: usize = 80;

/// A shadow, and what was seen of it.
pub(super) struct Shadow<G> {
    guest: G,
    report: ShadowReport,
    /// What it did in the step that runs.
    traced: Option<Result<StepTrace, String>>,
    /// What the deployed code did in that step.
    expected: Option<StepTrace>,
}

impl<G: TaskGuest> Shadow<G> {
    /// The shadow that a setting asks for. One that can't be loaded is told in the processor's log, and hurts nobody.
    pub(super) fn load<S: Surroundings<Guest = G>>(
        surroundings: &S,
        setting: &TaskSetting,
        host: &Arc<Mutex<TaskHost>>,
    ) -> Option<Self> {
        let processor = Arc::new(setting.processor.shadowing()?);
        let shadow =
            TaskSetting { task: setting.task, processor, image: setting.image.clone(), log: Arc::clone(&setting.log) };
        match surroundings.load_guest(&shadow, Arc::clone(host)) {
            Ok(guest) => Some(Self { guest, report: ShadowReport::default(), traced: None, expected: None }),
            Err(failure) => {
                let line = format!("the shadow can't run: {}", failure.message);
                setting.log.write(setting.task, LogLevel::Error, &line);
                None
            }
        }
    }

    /// Runs the step's records and timers, and takes back what that did.
    pub(super) fn run(
        &mut self,
        host: &Mutex<TaskHost>,
        batch: Option<InputBatch<'_>>,
        timers: Option<(i64, &[u8])>,
        stopper: &GuestStopper,
    ) {
        host.lock().begin_trace();
        let called = self.call(batch, timers, stopper);
        let mut host = host.lock();
        self.traced = Some(called.map(|()| host.trace()).map_err(|error| format!("the shadow failed: {error}")));
        host.discard();
        if matches!(self.traced, Some(Err(_))) {
            self.guest.drop_instance();
        }
        host.begin_trace();
    }

    fn call(
        &mut self,
        batch: Option<InputBatch<'_>>,
        timers: Option<(i64, &[u8])>,
        stopper: &GuestStopper,
    ) -> Result<(), CallError> {
        if let Some(batch) = batch {
            self.guest.process(batch, stopper)?;
        }
        match timers {
            Some((stream_time, packed)) => self.guest.on_timers(stream_time, packed, stopper),
            None => Ok(()),
        }
    }

    /// The step was discarded: there is nothing to compare.
    pub(super) fn forget(&mut self) {
        (self.traced, self.expected) = (None, None);
    }

    /// What the deployed code did on the same.
    pub(super) fn expect(&mut self, expected: StepTrace) {
        self.expected = Some(expected);
    }

    /// The step is committed: it counts. The first difference ever, if this is it.
    pub(super) fn compare(&mut self, records: u64) -> Option<&str> {
        let (traced, expected) = self.traced.take().zip(self.expected.take())?;
        self.report.records += records;
        self.report.steps += 1;
        let difference = match traced {
            Ok(traced) => difference(&expected, &traced)?,
            Err(failure) => failure,
        };
        self.report.differing_steps += 1;
        if self.report.first_difference.is_some() {
            return None;
        }
        self.report.first_difference = Some(difference);
        self.report.first_difference.as_deref()
    }

    /// What was seen.
    pub(super) fn report(&self) -> ShadowReport {
        self.report.clone()
    }
}

/// The first thing in which two steps differ, in words.
fn difference(expected: &StepTrace, traced: &StepTrace) -> Option<String> {
    let (outputs, others) = (&expected.outputs, &traced.outputs);
    if let Some(place) = outputs.iter().zip(others).position(|(one, other)| one != other) {
        let (one, other) = (record(&outputs[place]), record(&others[place]));
        return Some(format!("output {place} of a step: deployed {one}, shadow {other}"));
    }
    if outputs.len() != others.len() {
        return Some(format!("outputs of a step: deployed {}, shadow {}", outputs.len(), others.len()));
    }
    if expected.changes != traced.changes {
        let change = expected.changes.iter().zip(&traced.changes).find(|(one, other)| one != other);
        return Some(match change {
            Some(((store, key, value), (_, other_key, other_value))) => format!(
                "state of store {store}: deployed {} = {}, shadow {} = {}",
                text(Some(key)),
                text(value.as_deref()),
                text(Some(other_key)),
                text(other_value.as_deref())
            ),
            None => format!(
                "state: the deployed module changed {} keys in a step, the shadow {}",
                expected.changes.len(),
                traced.changes.len()
            ),
        });
    }
    (expected.timers != traced.timers).then(|| {
        let (deployed, shadow) = (expected.timers.len(), traced.timers.len());
        format!("timers: the deployed module changed {deployed} in a step, the shadow {shadow}, or other ones")
    })
}

fn record(record: &TracedRecord) -> String {
    let TracedRecord { output, timestamp, key, value, .. } = record;
    format!("(output {output}, key {}, value {}, at {timestamp})", text(key.as_deref()), text(value.as_deref()))
}

fn text(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "null".to_owned() };
    let shown = bytes.get(..bytes.len().min(SHOWN_BYTES_MAX)).unwrap_or_default();
    format!("{:?}", String::from_utf8_lossy(shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emitted(value: &str) -> TracedRecord {
        let value = Some(value.as_bytes().to_vec());
        TracedRecord { output: 0, partition: None, timestamp: 5, key: None, value, headers: Vec::new() }
    }

    #[test]
    fn the_first_difference_is_named() {
        let step = StepTrace {
            outputs: vec![emitted("a"), emitted("b")],
            changes: vec![(0, b"k".to_vec(), Some(b"1".to_vec()))],
            ..StepTrace::default()
        };
        assert_eq!(difference(&step, &step), None);
        let other = StepTrace { outputs: vec![emitted("a"), emitted("c")], ..step.clone() };
        let words = difference(&step, &other).unwrap();
        assert!(words.contains("output 1") && words.contains("\"b\"") && words.contains("\"c\""), "{words}");
        let fewer = StepTrace { outputs: vec![emitted("a")], ..step.clone() };
        assert_eq!(difference(&step, &fewer).unwrap(), "outputs of a step: deployed 2, shadow 1");
        let state = StepTrace { changes: vec![(0, b"k".to_vec(), None)], ..step.clone() };
        let words = difference(&step, &state).unwrap();
        assert_eq!(words, "state of store 0: deployed \"k\" = \"1\", shadow \"k\" = null");
        let timers = StepTrace { timers: [(bytes::Bytes::from_static(b"t"), Some(9))].into(), ..step.clone() };
        assert!(difference(&step, &timers).unwrap().starts_with("timers"));
    }
}
