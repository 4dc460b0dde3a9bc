//! Runs a processor on a laptop: the same SDK code as in a broker over stores, outputs and timers in memory.
//!
//! ```
//! use headwater_guest_sdk::testing::{TestRecord, TestRunner};
//! use headwater_guest_sdk::{Context, Deployment, Failure, OutRecord, Record, RecordProcessor};
//!
//! struct Shout;
//!
//! impl RecordProcessor for Shout {
//!     fn init(deployment: &Deployment) -> Result<Self, String> {
//!         deployment.needs(1, 0)?;
//!         Ok(Self)
//!     }
//!
//!     fn process(&mut self, record: &Record<'_>, context: &mut Context) -> Result<(), Failure> {
//!         let value = record.value_text().to_uppercase();
//!         Ok(context.emit(0, OutRecord::from(record).value(&value))?)
//!     }
//! }
//!
//! let mut runner = TestRunner::<Shout>::new(Deployment::for_test().output("loud")).unwrap();
//! runner.run(["hello", "world"]).unwrap();
//! assert_eq!(runner.take_output(0), [TestRecord::from("HELLO"), TestRecord::from("WORLD")]);
//! ```

mod host;
pub mod native;
mod record;

use crate::deployment::Deployment;
use crate::error::Failure;
use crate::extractor::{KeyExtractor, Settings, Verdict, extract_batch};
use crate::host::Host;
use crate::instance::Instance;
use crate::limits::TIMER_ROUNDS_MAX;
use crate::log::Level;
use crate::processor::Processor;
use crate::record::BatchMeta;
use host::TestHost;
pub use host::TestLimits;
pub use record::TestRecord;
use std::collections::BTreeMap;
use std::rc::Rc;

/// One task of a processor, without a broker.
///
/// Semantics are a broker's: a call that fails leaves nothing behind and the instance is replaced; timers fire after
/// the batch that moved stream time; what one call wrote is there in the next. Error policies are not played:
/// [`Failure`]s are returned.
pub struct TestRunner<P> {
    deployment: Deployment,
    host: Rc<TestHost>,
    instance: Instance<P>,
    /// Next offset, per input.
    next_offsets: BTreeMap<usize, i64>,
    stream_time: i64,
}

impl<P: Processor> TestRunner<P> {
    /// Starts a task. An error is what `init` said.
    pub fn new(deployment: Deployment) -> Result<Self, String> {
        Self::with_limits(deployment, TestLimits::default())
    }

    /// The same under other limits.
    pub fn with_limits(deployment: Deployment, limits: TestLimits) -> Result<Self, String> {
        let host = Rc::new(TestHost::new(limits, deployment.outputs.len(), deployment.stores.len()));
        let instance = Instance::start(&deployment, Rc::clone(&host) as Rc<dyn Host>)?;
        Ok(Self { deployment, host, instance, next_offsets: BTreeMap::new(), stream_time: -1 })
    }

    /// Processes these records of the first input as one batch, then the timers that are due.
    pub fn run<R: Into<TestRecord>>(&mut self, records: impl IntoIterator<Item = R>) -> Result<(), Failure> {
        self.run_input(0, records)
    }

    /// The same, each record as a batch of its own: results must not differ.
    pub fn run_each<R: Into<TestRecord>>(&mut self, records: impl IntoIterator<Item = R>) -> Result<(), Failure> {
        records.into_iter().try_for_each(|record| self.run([record]))
    }

    /// Processes records of input number `input` as one batch, then the timers that are due.
    pub fn run_input<R: Into<TestRecord>>(
        &mut self,
        input: usize,
        records: impl IntoIterator<Item = R>,
    ) -> Result<(), Failure> {
        let records: Vec<TestRecord> = records.into_iter().map(R::into).collect();
        let before = self.host.begin_step();
        let answer = self.step(input, &records);
        match self.host.end_step(answer) {
            Ok(stream_time) => {
                self.stream_time = stream_time;
                *self.next_offsets.entry(input).or_default() += i64::try_from(records.len()).unwrap_or(i64::MAX);
                Ok(())
            }
            Err(failure) => {
                self.host.restore(before);
                self.restart();
                Err(failure)
            }
        }
    }

    /// Replaces the instance, as a broker may between any two calls. What it knew outside of stores is gone.
    #[expect(clippy::missing_panics_doc, reason = "a test wants to hear of it")]
    pub fn restart(&mut self) {
        match Instance::start(&self.deployment, Rc::clone(&self.host) as Rc<dyn Host>) {
            Ok(instance) => self.instance = instance,
            #[expect(clippy::panic, reason = "only ever runs in tests")]
            Err(refusal) => panic!("init succeeded before and now says: {refusal}"),
        }
    }

    fn step(&mut self, input: usize, records: &[TestRecord]) -> Result<i64, Failure> {
        let meta = BatchMeta {
            input: u32::try_from(input).unwrap_or(u32::MAX),
            partition: self.deployment.task,
            base_offset: self.next_offsets.get(&input).copied().unwrap_or(0),
            stream_time: self.stream_time,
        };
        let (index, data) = record::pack(records);
        self.instance.process(meta, &index, &data)?;
        let stream_time = records.iter().fold(self.stream_time, |time, record| time.max(record.timestamp));
        for _ in 0..TIMER_ROUNDS_MAX {
            let due = self.host.take_due_timers(stream_time);
            if due.is_empty() {
                return Ok(stream_time);
            }
            self.instance.on_timers(stream_time, &due)?;
        }
        Err(Failure::new("timers set further timers that are due at once, without end"))
    }

    /// Takes what was emitted to output number `output` since the last time, in order.
    pub fn take_output(&mut self, output: usize) -> Vec<TestRecord> {
        self.host.take_output(output)
    }

    /// The entries of store number `store`; empty if there is no such store.
    pub fn store(&self, store: usize) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.host.store(store)
    }

    /// The timers that are set, with their times.
    pub fn timers(&self) -> BTreeMap<Vec<u8>, i64> {
        self.host.timers()
    }

    /// Takes the lines that were logged since the last time.
    pub fn take_logs(&mut self) -> Vec<(Level, String)> {
        self.host.take_logs()
    }

    /// The largest timestamp seen, -1 if none.
    pub fn stream_time(&self) -> i64 {
        self.stream_time
    }

    /// Calls that crossed to the host so far: what a batch costs beside the processor's own work.
    pub fn host_calls(&self) -> u64 {
        self.host.calls()
    }
}

/// What a key extractor with these settings says of records, without a broker.
///
/// # Errors
/// What `init` or `extract` says.
pub fn extract_keys<E: KeyExtractor>(
    settings: &[(&str, &str)],
    records: impl IntoIterator<Item = impl Into<TestRecord>>,
) -> Result<Vec<Verdict<'static>>, String> {
    let extractor = E::init(&Settings::new(settings.iter().copied()))?;
    let records: Vec<TestRecord> = records.into_iter().map(Into::into).collect();
    let (index, data) = record::pack(&records);
    let packed = extract_batch(&extractor, (0, 0), &index, &data)?;
    let (entries, _) = packed.index.as_chunks::<16>();
    let word = |entry: &[u8; 16], at: usize| {
        entry.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize)
    };
    let verdict = |entry: &[u8; 16]| {
        let (position, length) = (word(entry, 4), word(entry, 8));
        let key = packed.data.get(position..position + length).unwrap_or_default().to_vec();
        match entry[0] {
            0 => Verdict::Keep,
            1 => Verdict::Key(key.into()),
            _ => Verdict::Tombstone(key.into()),
        }
    };
    Ok(entries.iter().map(verdict).collect())
}

#[cfg(test)]
pub(crate) fn pack_records(records: &[TestRecord]) -> (Vec<u8>, Vec<u8>) {
    record::pack(records)
}

#[cfg(test)]
mod tests;
