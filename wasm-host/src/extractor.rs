//! A key extractor: a guest without imports that says which key each record of a batch has.
//!
//! Limited as processors are: memory, CPU time by the record, what it answers by its memory. What it answers is checked
//! here: one verdict a record, each within what came with it.

use crate::bindings::{InputBatchArgument, SettingArgument, VerdictsResult};
use crate::error::HostError;
use crate::failure::{CallError, GuestFailure, cut, explain};
use crate::host::{EmitError, ProcessorHost, ScanRange, StateError, TimerError};
use crate::inspect::World;
use crate::instance::{Start, StoreData, begin_call, export};
use crate::limits::{self, InstanceLimits};
use crate::module::CompiledModule;
use crate::packed::{PackedEntries, PackedKeys, PackedTimers, PackedWriter};
use crate::records::EmittedRecords;
use headwater_protocol::batch::{BatchError, Record, Records};
use headwater_protocol::messages::processor::LogLevel;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use wasmtime::Store;
use wasmtime::component::Func;

/// Bytes of a verdict.
const VERDICT_STRIDE: usize = 16;

/// What a record is to compaction, as the guest says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyVerdict<'a> {
    /// It stays.
    Keep,
    /// It has this key.
    Key(&'a [u8]),
    /// It deletes this key.
    Tombstone(&'a [u8]),
}

/// Told of each record's verdict, in order.
pub type KeyVerdicts<'a> = &'a mut dyn FnMut(KeyVerdict<'_>);

/// One instance. Dropped as a whole when a call fails: nothing of it is ever entered again (W3). Its thread needs
/// [`GUEST_THREAD_STACK_BYTES`](crate::limits::GUEST_THREAD_STACK_BYTES) of stack.
pub struct KeyExtractorInstance {
    live: Option<(Store<StoreData>, Func)>,
    limits: InstanceLimits,
    /// Reused from call to call.
    index: Vec<u8>,
}

impl KeyExtractorInstance {
    /// Makes an instance and runs its `init`.
    ///
    /// # Errors
    /// [`CallError::Guest`]: `init` returned an error, trapped, or broke a limit; [`CallError::Host`], also for a
    /// module of another world.
    pub fn new(
        module: &CompiledModule,
        settings: &[(String, String)],
        limits: InstanceLimits,
    ) -> Result<Self, CallError> {
        if module.world() != World::KeyExtractor {
            return Err(HostError::Instantiate(format!("the module is a {}", module.world())).into());
        }
        let host: Arc<Mutex<dyn ProcessorHost>> = Arc::new(Mutex::new(Nobody));
        let stop = Arc::new(AtomicBool::new(false));
        let start = Start { limits, log_level: LogLevel::Error, host: &host, stop: &stop };
        let (mut store, instance) = start.instantiate(module)?;
        let init = export(&mut store, &instance, "init")?;
        let extract = export(&mut store, &instance, "extract")?;
        let settings = settings.iter().map(|(name, value)| SettingArgument { name, value }).collect::<Vec<_>>();
        begin_call(&mut store, limits.cpu_init_max, limits.fuel_budget(1))?;
        let called = init
            .typed::<(&[SettingArgument<'_>],), (Result<(), String>,)>(&store)
            .and_then(|init| init.call(&mut store, (&settings,)));
        match called {
            Ok((Ok(()),)) => Ok(Self { live: Some((store, extract)), limits, index: Vec::new() }),
            Ok((Err(message),)) => {
                Err(GuestFailure::Init(cut(&message, limits::FAILURE_MESSAGE_BYTES_MAX).to_owned()).into())
            }
            Err(error) => Err(explain(&error, store.data())),
        }
    }

    /// Asks about every record of a batch, in calls of at most [`limits::EXTRACT_RECORDS_MAX`] records and about
    /// [`limits::EXTRACT_BYTES_MAX`] bytes.
    ///
    /// # Errors
    /// [`CallError`]; the instance is dead then. A batch that can't be read is the host's error.
    pub fn extract(&mut self, records: &Records, verdicts: KeyVerdicts<'_>) -> Result<(), CallError> {
        let unreadable = |error: BatchError| HostError::Fault(error.to_string());
        let mut iter = records.iter().peekable();
        while iter.peek().is_some() {
            self.index.clear();
            let (mut count, mut start, mut end) = (0, None, 0);
            while let Some(next) = iter.peek() {
                let record = next.as_ref().map_err(|error| unreadable(error.clone()))?;
                let span = record.span();
                let begin = *start.get_or_insert(span.key_position);
                let record_end = span.headers_position.saturating_add(span.headers_bytes);
                let is_full = count >= limits::EXTRACT_RECORDS_MAX
                    || (count > 0 && (record_end - begin) as usize > limits::EXTRACT_BYTES_MAX);
                if is_full {
                    break;
                }
                push(&mut self.index, record, begin);
                (count, end) = (count + 1, record_end);
                drop(iter.next());
            }
            let range = start.unwrap_or(0) as usize..end as usize;
            let data = records.payload().get(range).unwrap_or_default();
            self.call(records.header().base_offset, count, data, verdicts)?;
        }
        Ok(())
    }

    fn call(
        &mut self,
        base_offset: i64,
        count: usize,
        data: &[u8],
        verdicts: KeyVerdicts<'_>,
    ) -> Result<(), CallError> {
        let (mut store, extract) = self.live.take().ok_or(GuestFailure::Dead)?;
        begin_call(&mut store, self.limits.cpu_budget(count), self.limits.fuel_budget(count))?;
        let argument =
            InputBatchArgument { input: 0, partition: 0, base_offset, stream_time: -1, index: &self.index, data };
        let called = extract
            .typed::<(InputBatchArgument<'_>,), (Result<VerdictsResult, String>,)>(&store)
            .and_then(|extract| extract.call(&mut store, (argument,)));
        let failed = |message: String| GuestFailure::Failed { index: None, message };
        match called {
            Ok((Ok(answer),)) => {
                read(&answer, count, verdicts).map_err(failed)?;
                self.live = Some((store, extract));
                Ok(())
            }
            Ok((Err(message),)) => Err(failed(cut(&message, limits::FAILURE_MESSAGE_BYTES_MAX).to_owned()).into()),
            Err(error) => Err(explain(&error, store.data())),
        }
    }
}

impl fmt::Debug for KeyExtractorInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyExtractorInstance").field("dead", &self.live.is_none()).finish()
    }
}

/// Writes the index entry of a record whose bytes are handed over from position `begin` of their payload on.
fn push(index: &mut Vec<u8>, record: &Record<'_>, begin: u32) {
    let span = record.span();
    index.extend(record.timestamp.to_le_bytes());
    index.extend(record.offset_delta.to_le_bytes());
    index.extend((span.key_position - begin).to_le_bytes());
    index.extend(span.key_bytes.to_le_bytes());
    index.extend((span.value_position - begin).to_le_bytes());
    index.extend(span.value_bytes.to_le_bytes());
    index.extend((span.headers_position - begin).to_le_bytes());
    index.extend(span.headers_bytes.to_le_bytes());
    index.extend([0; 4]);
}

/// Checks what the guest answered and passes it on.
fn read(answer: &VerdictsResult, count: usize, verdicts: KeyVerdicts<'_>) -> Result<(), String> {
    let (entries, rest) = answer.index.as_chunks::<VERDICT_STRIDE>();
    if entries.len() != count || !rest.is_empty() {
        return Err(format!("the module gave {} bytes of verdicts on {count} records", answer.index.len()));
    }
    for entry in entries {
        let word = |at: usize| {
            entry.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize)
        };
        let (position, length) = (word(4), word(8));
        let key = position.checked_add(length).and_then(|end| answer.data.get(position..end));
        let verdict = match (entry[0], key) {
            (0, _) => KeyVerdict::Keep,
            (1, Some(key)) => KeyVerdict::Key(key),
            (2, Some(key)) => KeyVerdict::Tombstone(key),
            (1 | 2, None) => return Err("the module names a key outside of its data".to_owned()),
            (other, _) => return Err(format!("the module gave the verdict {other}, which there is not")),
        };
        verdicts(verdict);
    }
    Ok(())
}

/// Whom a guest without imports can't call.
struct Nobody;

impl ProcessorHost for Nobody {
    fn emit(&mut self, _: u32, _: EmittedRecords<'_>) -> Result<(), EmitError> {
        Err(EmitError::UnknownOutput)
    }

    fn get_many(&mut self, _: u32, _: PackedKeys<'_>, _: &mut PackedWriter) -> Result<(), StateError> {
        Err(StateError::UnknownStore)
    }

    fn put_many(&mut self, _: u32, _: PackedEntries<'_>) -> Result<(), StateError> {
        Err(StateError::UnknownStore)
    }

    fn scan(&mut self, _: u32, _: ScanRange<'_>, _: &mut PackedWriter) -> Result<bool, StateError> {
        Err(StateError::UnknownStore)
    }

    fn set_timers(&mut self, _: PackedTimers<'_>) -> Result<(), TimerError> {
        Err(TimerError::QuotaExceeded)
    }

    fn cancel_timers(&mut self, _: PackedKeys<'_>) -> Result<(), TimerError> {
        Err(TimerError::QuotaExceeded)
    }

    fn log(&mut self, _: LogLevel, _: &str) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(entries: &[[u8; 16]], data: &[u8], count: usize) -> Result<Vec<String>, String> {
        let answer = VerdictsResult { index: entries.concat(), data: data.to_vec() };
        let mut told = Vec::new();
        read(&answer, count, &mut |verdict| told.push(format!("{verdict:?}"))).map(|()| told)
    }

    fn entry(kind: u8, position: u32, length: u32) -> [u8; 16] {
        let mut entry = [0; 16];
        entry[0] = kind;
        entry[4..8].copy_from_slice(&position.to_le_bytes());
        entry[8..12].copy_from_slice(&length.to_le_bytes());
        entry
    }

    // covers W6
    #[test]
    fn verdicts_that_do_not_hold_together_are_refused() {
        let good = [entry(0, 9, 9), entry(1, 1, 2), entry(2, 3, 0)];
        assert_eq!(verdicts(&good, b"abc", 3).unwrap(), ["Keep", "Key([98, 99])", "Tombstone([])"]);
        let refused = |entries: &[[u8; 16]], count| verdicts(entries, b"abc", count).unwrap_err();
        assert!(refused(&good, 4).contains("48 bytes of verdicts on 4 records"));
        assert!(refused(&[entry(3, 0, 0)], 1).contains("verdict 3"));
        assert!(refused(&[entry(1, 1, 3)], 1).contains("outside of its data"));
        assert!(refused(&[entry(2, u32::MAX, u32::MAX)], 1).contains("outside of its data"));
    }
}
