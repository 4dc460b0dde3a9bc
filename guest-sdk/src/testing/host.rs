//! The host of a unit test: one task's stores, timers and outputs in memory, checked as a broker checks them.

use super::record::{self, TestRecord};
use crate::error::{EmitError, Failure, StateError, TimerError};
use crate::host::{Host, Page};
use crate::log::Level;
use crate::packed::{self, Reader};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::mem;
use std::ops::Bound;

/// The limits of a test's host; the defaults are a broker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TestLimits {
    /// Bytes of keys, values and headers that one step may emit.
    pub output_bytes_per_step_max: usize,
    /// Bytes of keys and values in all stores of the task.
    pub state_bytes_max: usize,
    /// Bytes of one key of a store.
    pub state_key_bytes_max: usize,
    /// Bytes of one value of a store.
    pub state_value_bytes_max: usize,
    /// Packed bytes of one answer of a store.
    pub state_answer_bytes_max: usize,
    /// Bytes of a timer's id.
    pub timer_id_bytes_max: usize,
    /// Timers of the task.
    pub timers_max: usize,
}

impl Default for TestLimits {
    fn default() -> Self {
        Self {
            output_bytes_per_step_max: 8 << 20,
            state_bytes_max: 1 << 30,
            state_key_bytes_max: 60 << 10,
            state_value_bytes_max: 8 << 20,
            state_answer_bytes_max: 32 << 20,
            timer_id_bytes_max: 1 << 10,
            timers_max: 1 << 20,
        }
    }
}

/// What belongs to the task and is undone when a call is discarded.
#[derive(Clone, Default)]
pub(super) struct Task {
    stores: Vec<BTreeMap<Vec<u8>, Vec<u8>>>,
    timers: BTreeMap<Vec<u8>, i64>,
    outputs: Vec<Vec<TestRecord>>,
    output_bytes: usize,
}

pub(super) struct TestHost {
    limits: TestLimits,
    task: RefCell<Task>,
    in_step: Cell<bool>,
    /// A limit was broken that the host does not forgive, whatever the guest answers.
    too_large: Cell<bool>,
    lines: RefCell<Vec<(Level, String)>>,
    calls: Cell<u64>,
}

impl TestHost {
    pub(super) fn new(limits: TestLimits, outputs: usize, stores: usize) -> Self {
        let task =
            Task { stores: vec![BTreeMap::new(); stores], outputs: vec![Vec::new(); outputs], ..Task::default() };
        Self {
            limits,
            task: RefCell::new(task),
            in_step: Cell::new(false),
            too_large: Cell::new(false),
            lines: RefCell::default(),
            calls: Cell::new(0),
        }
    }

    /// Opens a step; what it returns undoes the step.
    pub(super) fn begin_step(&self) -> Task {
        self.in_step.set(true);
        self.too_large.set(false);
        let mut task = self.task.borrow_mut();
        task.output_bytes = 0;
        task.clone()
    }

    /// Closes a step and says whether it is kept.
    pub(super) fn end_step<T>(&self, answer: Result<T, Failure>) -> Result<T, Failure> {
        self.in_step.set(false);
        if self.too_large.get() { answer.and(Err(Failure::new(EmitError::TooLarge))) } else { answer }
    }

    pub(super) fn restore(&self, before: Task) {
        self.task.replace(before);
    }

    pub(super) fn take_output(&self, output: usize) -> Vec<TestRecord> {
        self.task.borrow_mut().outputs.get_mut(output).map(mem::take).unwrap_or_default()
    }

    pub(super) fn store(&self, store: usize) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.task.borrow().stores.get(store).cloned().unwrap_or_default()
    }

    pub(super) fn timers(&self) -> BTreeMap<Vec<u8>, i64> {
        self.task.borrow().timers.clone()
    }

    pub(super) fn take_logs(&self) -> Vec<(Level, String)> {
        self.lines.take()
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls.get()
    }

    /// Removes the timers that are due; packed, in order of (time, id).
    pub(super) fn take_due_timers(&self, stream_time: i64) -> Vec<u8> {
        let timers = &mut self.task.borrow_mut().timers;
        let mut due: Vec<_> = timers.extract_if(.., |_, at| *at <= stream_time).map(|(id, at)| (at, id)).collect();
        due.sort();
        let mut list = Vec::new();
        for (at, id) in due {
            list.extend(at.to_le_bytes());
            packed::push(&mut list, Some(&id));
        }
        list
    }

    /// Counts a call, and refuses it from `init`.
    fn enter<E>(&self, outside: E) -> Result<(), E> {
        self.calls.set(self.calls.get() + 1);
        if self.in_step.get() { Ok(()) } else { Err(outside) }
    }
}

impl Host for TestHost {
    fn emit(&self, output: u32, index: &[u8], data: &[u8]) -> Result<(), EmitError> {
        self.enter(EmitError::OutsideStep)?;
        let mut task = self.task.borrow_mut();
        let bytes = task.output_bytes + data.len();
        let emitted = task.outputs.get_mut(output as usize).ok_or(EmitError::UnknownOutput)?;
        let records = record::unpack(index, data).ok_or(EmitError::Malformed)?;
        if bytes > self.limits.output_bytes_per_step_max {
            self.too_large.set(true);
            return Err(EmitError::TooLarge);
        }
        emitted.extend(records);
        task.output_bytes = bytes;
        Ok(())
    }

    fn get_many(&self, store: u32, keys: &[u8]) -> Result<Vec<u8>, StateError> {
        self.enter(StateError::OutsideStep)?;
        let task = self.task.borrow();
        let store = task.stores.get(store as usize).ok_or(StateError::UnknownStore)?;
        let mut reader = Reader::new(keys);
        let mut values = Vec::new();
        while !reader.is_empty() {
            let key = reader.present().map_err(|_| StateError::Malformed)?;
            packed::push(&mut values, store.get(key).map(Vec::as_slice));
            if values.len() > self.limits.state_answer_bytes_max {
                return Err(StateError::TooLarge);
            }
        }
        Ok(values)
    }

    fn put_many(&self, store: u32, entries: &[u8]) -> Result<(), StateError> {
        self.enter(StateError::OutsideStep)?;
        let mut task = self.task.borrow_mut();
        let store = store as usize;
        let mut changed = task.stores.get(store).ok_or(StateError::UnknownStore)?.clone();
        let mut reader = Reader::new(entries);
        while !reader.is_empty() {
            let key = reader.present().map_err(|_| StateError::Malformed)?;
            match reader.bytes().map_err(|_| StateError::Malformed)? {
                None => drop(changed.remove(key)),
                Some(value) => {
                    let TestLimits { state_key_bytes_max, state_value_bytes_max, .. } = self.limits;
                    if key.len() > state_key_bytes_max || value.len() > state_value_bytes_max {
                        return Err(StateError::TooLarge);
                    }
                    changed.insert(key.to_vec(), value.to_vec());
                }
            }
        }
        let bytes = |store: &BTreeMap<Vec<u8>, Vec<u8>>| store.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
        let before: usize = task.stores.iter().map(bytes).sum();
        let after = before - bytes(&task.stores[store]) + bytes(&changed);
        if after > self.limits.state_bytes_max {
            return Err(StateError::QuotaExceeded);
        }
        task.stores[store] = changed;
        Ok(())
    }

    fn scan(&self, store: u32, start: &[u8], end: &[u8], limit: u32, descending: bool) -> Result<Page, StateError> {
        self.enter(StateError::OutsideStep)?;
        let task = self.task.borrow();
        let store = task.stores.get(store as usize).ok_or(StateError::UnknownStore)?;
        let mut page = Page { entries: Vec::new(), more: false };
        if !end.is_empty() && start >= end {
            return Ok(page);
        }
        let end = if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end) };
        let mut range = store.range::<[u8], _>((Bound::Included(start), end));
        let mut next = || if descending { range.next_back() } else { range.next() };
        let mut entries = 0;
        while let Some((key, value)) = next() {
            let bytes = page.entries.len() + packed::size(key) + packed::size(value);
            if entries == limit || (entries > 0 && bytes > self.limits.state_answer_bytes_max) {
                page.more = true;
                break;
            }
            packed::push(&mut page.entries, Some(key));
            packed::push(&mut page.entries, Some(value));
            entries += 1;
        }
        Ok(page)
    }

    fn set_timers(&self, timers: &[u8]) -> Result<(), TimerError> {
        self.enter(TimerError::OutsideStep)?;
        let mut task = self.task.borrow_mut();
        let mut changed = task.timers.clone();
        let mut reader = Reader::new(timers);
        while !reader.is_empty() {
            let at = reader.i64().map_err(|_| TimerError::Malformed)?;
            let id = reader.present().map_err(|_| TimerError::Malformed)?;
            if id.len() > self.limits.timer_id_bytes_max {
                return Err(TimerError::TooLarge);
            }
            changed.insert(id.to_vec(), at);
        }
        if changed.len() > self.limits.timers_max {
            return Err(TimerError::QuotaExceeded);
        }
        task.timers = changed;
        Ok(())
    }

    fn cancel_timers(&self, ids: &[u8]) -> Result<(), TimerError> {
        self.enter(TimerError::OutsideStep)?;
        let mut task = self.task.borrow_mut();
        let mut reader = Reader::new(ids);
        while !reader.is_empty() {
            let id = reader.present().map_err(|_| TimerError::Malformed)?;
            task.timers.remove(id);
        }
        Ok(())
    }

    fn log(&self, level: Level, message: &str) {
        self.lines.borrow_mut().push((level, message.to_owned()));
    }
}
