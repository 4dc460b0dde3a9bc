//! A task's side that remembers what a guest did, and fails when asked to.

use crate::host::{EmitError, ProcessorHost, ScanRange, StateError, TimerError};
use crate::packed::{PackedEntries, PackedKeys, PackedTimers, PackedWriter};
use crate::records::EmittedRecords;
use headwater_protocol::messages::processor::LogLevel;
use std::collections::BTreeMap;

type Bytes = Vec<u8>;
/// Output, timestamp, key, value, partition.
type Emitted = (u32, i64, Option<Bytes>, Option<Bytes>, Option<u32>);

#[derive(Default)]
pub(crate) struct TestHost {
    pub(crate) emitted: Vec<Emitted>,
    pub(crate) entries: BTreeMap<Bytes, Bytes>,
    pub(crate) timers: BTreeMap<Bytes, i64>,
    pub(crate) lines: Vec<(LogLevel, String)>,
    pub(crate) emit_error: Option<EmitError>,
    pub(crate) state_error: Option<StateError>,
    pub(crate) timer_error: Option<TimerError>,
}

impl TestHost {
    pub(crate) fn line(&self, level: LogLevel) -> Option<&str> {
        self.lines.iter().find(|line| line.0 == level).map(|line| line.1.as_str())
    }
}

impl ProcessorHost for TestHost {
    fn emit(&mut self, output: u32, records: EmittedRecords<'_>) -> Result<(), EmitError> {
        if let Some(error) = &self.emit_error {
            return Err(error.clone());
        }
        let own = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        let records = records.iter();
        self.emitted.extend(records.map(|one| (output, one.timestamp, own(one.key), own(one.value), one.partition)));
        Ok(())
    }

    fn get_many(&mut self, _: u32, keys: PackedKeys<'_>, values: &mut PackedWriter) -> Result<(), StateError> {
        if let Some(error) = &self.state_error {
            return Err(error.clone());
        }
        let mut keys = keys.iter();
        keys.try_for_each(|key| values.push(self.entries.get(key).map(Vec::as_slice))).map_err(|_| StateError::TooLarge)
    }

    fn put_many(&mut self, _: u32, entries: PackedEntries<'_>) -> Result<(), StateError> {
        if let Some(error) = &self.state_error {
            return Err(error.clone());
        }
        for (key, value) in entries.iter() {
            match value {
                Some(value) => self.entries.insert(key.to_vec(), value.to_vec()),
                None => self.entries.remove(key),
            };
        }
        Ok(())
    }

    fn scan(&mut self, _: u32, range: ScanRange<'_>, entries: &mut PackedWriter) -> Result<bool, StateError> {
        assert!(!range.descending);
        let inside = |key: &[u8]| key >= range.start && range.end.is_none_or(|end| key < end);
        let mut found = self.entries.iter().filter(|(key, _)| inside(key));
        for (key, value) in found.by_ref().take(range.limit as usize) {
            if entries.push_entry(key, value).is_err() {
                return Ok(true);
            }
        }
        Ok(found.next().is_some())
    }

    fn set_timers(&mut self, timers: PackedTimers<'_>) -> Result<(), TimerError> {
        if let Some(error) = &self.timer_error {
            return Err(error.clone());
        }
        self.timers.extend(timers.iter().map(|(at, id)| (id.to_vec(), at)));
        Ok(())
    }

    fn cancel_timers(&mut self, ids: PackedKeys<'_>) -> Result<(), TimerError> {
        self.timers.retain(|id, _| !ids.iter().any(|cancelled| cancelled == id));
        Ok(())
    }

    fn log(&mut self, level: LogLevel, message: &str) {
        self.lines.push((level, message.to_owned()));
    }
}
