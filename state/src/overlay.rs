//! Changes that are not below the changelog's high watermark yet, over the store that holds what is.

mod merge;
#[cfg(test)]
mod tests;

use crate::limits::{KEY_BYTES_MAX, STEP_CHANGE_BYTES_MAX, UNCOMMITTED_STEPS_MAX, VALUE_BYTES_MAX};
use crate::{ChangelogPosition, Found, Scan, StateChanges, StateError, StateStore, StoreNumber, Visit, entry_bytes};
use bytes::Bytes;
use headwater_mutants::{Mutant, lacks};
use merge::LayerMerge;
use std::collections::VecDeque;
use std::ops::ControlFlow;

/// Limits of an overlay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OverlayLimits {
    /// Steps that may be uncommitted at once.
    pub uncommitted_steps_max: usize,
    /// Bytes of keys and values that one step may change.
    pub step_change_bytes_max: usize,
    /// The task's quota: size of all its entries, uncommitted changes included, as [`entry_bytes`] counts.
    pub state_bytes_max: u64,
}

impl Default for OverlayLimits {
    fn default() -> Self {
        Self {
            uncommitted_steps_max: UNCOMMITTED_STEPS_MAX,
            step_change_bytes_max: STEP_CHANGE_BYTES_MAX,
            state_bytes_max: 1 << 30,
        }
    }
}

/// Why an overlay refuses a change or an order.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// Guest: its stores would outgrow the task's quota.
    #[error("state would grow to {needed} bytes, the processor's limit is {limit}: delete entries or raise the limit")]
    QuotaExceeded {
        /// Bytes that the state would have.
        needed: u64,
        /// `state_bytes_max` of the deployment.
        limit: u64,
    },
    /// Guest: this step changes more than a commit holds; the step is run again on fewer records.
    #[error("the step changes {needed} bytes of state, a commit holds {limit}: it has to run on fewer records")]
    StepTooLarge {
        /// Bytes of changes that the step would have.
        needed: usize,
        /// `step_change_bytes_max`.
        limit: usize,
    },
    /// Guest: a key longer than [`KEY_BYTES_MAX`].
    #[error("a state key of {bytes} bytes is over the limit of {KEY_BYTES_MAX}")]
    KeyTooLong {
        /// Its length.
        bytes: usize,
    },
    /// Guest: a value longer than [`VALUE_BYTES_MAX`].
    #[error("a state value of {bytes} bytes is over the limit of {VALUE_BYTES_MAX}")]
    ValueTooLong {
        /// Its length.
        bytes: usize,
    },
    /// Us: steps come out of order, or more than may be uncommitted.
    #[error("step {step} can't be {action} here (layers: {oldest:?}..={newest:?}); this broker has a bug")]
    OutOfOrder {
        /// The step.
        step: u64,
        /// What was asked.
        action: &'static str,
        /// Oldest step in the overlay.
        oldest: Option<u64>,
        /// Newest step in the overlay.
        newest: Option<u64>,
    },
    /// The store beneath failed.
    #[error(transparent)]
    Store(#[from] StateError),
}

#[derive(Debug)]
struct Layer {
    step: u64,
    changes: StateChanges,
    /// By how much the visible state grows by this layer, in bytes as [`entry_bytes`] counts.
    growth: i64,
}

/// A key that was put, and the change of the open step that this replaced.
type Undo = (Bytes, Option<Option<Bytes>>);

/// A store with up to [`OverlayLimits::uncommitted_steps_max`] uncommitted steps and one open step on top.
///
/// Order of use: [`Self::put_many`] while the guest runs, then [`Self::push`] under the step's number or
/// [`Self::discard`]; [`Self::settle`] for each step, in order, once it is below the changelog's high watermark.
#[derive(Debug)]
pub struct Overlay<S> {
    store: S,
    layers: VecDeque<Layer>,
    open: StateChanges,
    open_growth: i64,
    limits: OverlayLimits,
}

impl<S: StateStore> Overlay<S> {
    /// An overlay without changes over `store`.
    pub fn new(store: S, limits: OverlayLimits) -> Self {
        Self { store, layers: VecDeque::new(), open: StateChanges::new(), open_growth: 0, limits }
    }

    /// The store beneath: what is below the high watermark.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Gives the store back; uncommitted changes are dropped.
    pub fn into_store(self) -> S {
        self.store
    }

    /// Limits in force.
    pub fn limits(&self) -> &OverlayLimits {
        &self.limits
    }

    /// Replaces the limits (a new deployment); entries beyond a lower quota stay, growth is refused.
    pub fn set_limits(&mut self, limits: OverlayLimits) {
        self.limits = limits;
    }

    /// Steps that are pushed and not settled.
    pub fn uncommitted_steps(&self) -> usize {
        self.layers.len()
    }

    /// Bytes of keys and values in uncommitted layers and the open step.
    pub fn uncommitted_bytes(&self) -> usize {
        self.layers.iter().map(|layer| layer.changes.bytes()).sum::<usize>() + self.open.bytes()
    }

    /// Size of the state as the open step sees it, as [`entry_bytes`] counts.
    pub fn state_bytes(&self) -> u64 {
        let growth = self.layers.iter().map(|layer| layer.growth).sum::<i64>() + self.open_growth;
        self.store.state_bytes().saturating_add_signed(growth)
    }

    /// Changes of the open step.
    pub fn open_changes(&self) -> &StateChanges {
        &self.open
    }

    /// Calls `found` for each key in order with what the open step sees.
    ///
    /// # Errors
    /// Those of the store beneath.
    pub fn get_many(
        &self,
        store: StoreNumber,
        keys: &mut dyn Iterator<Item = &[u8]>,
        found: &mut Found<'_>,
    ) -> Result<(), StateError> {
        if self.open.is_empty() && self.layers.is_empty() {
            return self.store.get_many(store, keys, found);
        }
        for key in keys {
            self.get(store, key, found)?;
        }
        Ok(())
    }

    fn get(&self, store: StoreNumber, key: &[u8], found: &mut Found<'_>) -> Result<(), StateError> {
        let layered = self.newest_first().find_map(|changes| changes.get(store, key));
        match layered {
            Some(value) => {
                found(value);
                Ok(())
            }
            None => self.store.get(store, key, found),
        }
    }

    /// Visits entries as the open step sees them, in the scan's order, until range, limit or visitor ends it.
    ///
    /// # Errors
    /// Those of the store beneath; entries visited until then are right.
    pub fn scan(&self, scan: &Scan<'_>, visit: &mut Visit<'_>) -> Result<(), StateError> {
        if scan.is_empty() {
            return Ok(());
        }
        let mut left = scan.limit;
        let mut counted = |key: &[u8], value: &[u8]| {
            left -= 1;
            let flow = visit(key, value);
            if left == 0 { ControlFlow::Break(()) } else { flow }
        };
        let mut layers = LayerMerge::new(self.newest_first(), scan);
        let mut ended = false;
        let beneath = Scan { limit: usize::MAX, ..*scan };
        self.store.scan(&beneath, &mut |key, value| {
            let flow = layers.visit_beside(key, value, &mut counted);
            ended = flow.is_break();
            flow
        })?;
        if !ended {
            // Break or not, nothing is left to visit afterwards.
            let (ControlFlow::Continue(()) | ControlFlow::Break(())) = layers.visit_rest(&mut counted);
        }
        Ok(())
    }

    fn newest_first(&self) -> impl Iterator<Item = &StateChanges> {
        std::iter::once(&self.open).chain(self.layers.iter().rev().map(|layer| &layer.changes))
    }

    /// Adds changes to the open step: all of them, or none when it answers with an error.
    ///
    /// # Errors
    /// [`OverlayError::KeyTooLong`], [`OverlayError::ValueTooLong`], [`OverlayError::QuotaExceeded`] (not when the
    /// changes shrink the state), [`OverlayError::StepTooLarge`], and those of the store beneath.
    pub fn put_many(
        &mut self,
        store: StoreNumber,
        entries: impl IntoIterator<Item = (Bytes, Option<Bytes>)>,
    ) -> Result<(), OverlayError> {
        let growth_before = self.open_growth;
        let mut undo = Vec::new();
        let mut outcome = Ok(());
        for (key, value) in entries {
            outcome = self.put(store, key, value, &mut undo);
            if outcome.is_err() {
                break;
            }
        }
        outcome = outcome.and_then(|()| self.check_quotas(self.open_growth > growth_before));
        if outcome.is_err() {
            for (key, replaced) in undo.into_iter().rev() {
                match replaced {
                    Some(value) => drop(self.open.insert(store, key, value)),
                    None => self.open.forget(store, &key),
                }
            }
            self.open_growth = growth_before;
        }
        outcome
    }

    fn put(
        &mut self,
        store: StoreNumber,
        key: Bytes,
        value: Option<Bytes>,
        undo: &mut Vec<Undo>,
    ) -> Result<(), OverlayError> {
        let value_bytes = value.as_ref().map_or(0, Bytes::len);
        if key.len() > KEY_BYTES_MAX {
            return Err(OverlayError::KeyTooLong { bytes: key.len() });
        }
        if value_bytes > VALUE_BYTES_MAX {
            return Err(OverlayError::ValueTooLong { bytes: value_bytes });
        }
        let growth = self.growth_by(store, &key, value.as_ref().map(Bytes::len))?;
        let replaced = self.open.insert(store, key.clone(), value);
        undo.push((key, replaced));
        self.open_growth += growth;
        let needed = self.open.bytes();
        if needed > self.limits.step_change_bytes_max {
            return Err(OverlayError::StepTooLarge { needed, limit: self.limits.step_change_bytes_max });
        }
        Ok(())
    }

    /// By how much the visible state grows when `key` gets a value of this length.
    fn growth_by(&self, store: StoreNumber, key: &[u8], value_bytes: Option<usize>) -> Result<i64, StateError> {
        let mut before = 0;
        self.get(store, key, &mut |value| {
            before = value.map_or(0, |value| entry_bytes(key.len(), value.len()));
        })?;
        let after = value_bytes.map_or(0, |bytes| entry_bytes(key.len(), bytes));
        Ok(after as i64 - before as i64)
    }

    fn check_quotas(&self, grown: bool) -> Result<(), OverlayError> {
        let needed = self.state_bytes();
        if grown && needed > self.limits.state_bytes_max {
            return Err(OverlayError::QuotaExceeded { needed, limit: self.limits.state_bytes_max });
        }
        Ok(())
    }

    /// Drops the open step's changes: its run failed or is tried again.
    pub fn discard(&mut self) {
        self.open.clear();
        self.open_growth = 0;
    }

    /// Closes the open step under its number: its commit has been handed to the changelog.
    ///
    /// # Errors
    /// [`OverlayError::OutOfOrder`] unless `step` is beyond all others and within the limit; the step stays open.
    pub fn push(&mut self, step: u64) -> Result<(), OverlayError> {
        if self.layers.len() >= self.limits.uncommitted_steps_max {
            return Err(self.out_of_order(step, "pushed"));
        }
        self.check_newest(step)?;
        let changes = std::mem::take(&mut self.open);
        let growth = std::mem::take(&mut self.open_growth);
        self.layers.push_back(Layer { step, changes, growth });
        Ok(())
    }

    /// Adds a step that a takeover found in the changelog above the high watermark. It is taken whatever the limits
    /// say, for it has been appended already; their number is bounded by what the changelog holds there.
    ///
    /// # Errors
    /// [`OverlayError::OutOfOrder`] unless `step` is beyond all others and no step is open.
    pub fn push_inherited(&mut self, step: u64, changes: StateChanges) -> Result<(), OverlayError> {
        self.check_newest(step)?;
        if !self.open.is_empty() {
            return Err(self.out_of_order(step, "inherited"));
        }
        let mut growth = 0;
        for change in changes.iter() {
            growth += self.growth_by(change.store, change.key, change.value.map(<[u8]>::len))?;
        }
        self.layers.push_back(Layer { step, changes, growth });
        Ok(())
    }

    /// Moves the changes of `position.step` into the store, with the position: the step is below the changelog's
    /// high watermark. A step without a layer (an empty commit) only moves the position.
    ///
    /// # Errors
    /// [`OverlayError::OutOfOrder`] when an older step is still in the overlay; those of the store, and then the
    /// layer stays.
    pub fn settle(&mut self, position: ChangelogPosition) -> Result<(), OverlayError> {
        match self.layers.front() {
            Some(oldest) if oldest.step < position.step => Err(self.out_of_order(position.step, "settled")),
            Some(oldest) if oldest.step == position.step && lacks(Mutant::ChangesApartFromPosition) => {
                self.layers.pop_front();
                Ok(self.store.apply(&StateChanges::new(), position)?)
            }
            Some(oldest) if oldest.step == position.step => {
                self.store.apply(&oldest.changes, position)?;
                self.layers.pop_front();
                Ok(())
            }
            _ => Ok(self.store.apply(&StateChanges::new(), position)?),
        }
    }

    /// Takes back the newest step: its commit was not appended. The open step is dropped with it.
    ///
    /// # Errors
    /// [`OverlayError::OutOfOrder`] unless `step` is the newest.
    pub fn drop_newest(&mut self, step: u64) -> Result<(), OverlayError> {
        if self.layers.back().is_none_or(|newest| newest.step != step) {
            return Err(self.out_of_order(step, "dropped"));
        }
        self.discard();
        self.layers.pop_back();
        Ok(())
    }

    fn check_newest(&self, step: u64) -> Result<(), OverlayError> {
        let settled = self.store.position().map(|position| position.step);
        let newest = self.layers.back().map(|layer| layer.step).or(settled);
        if newest.is_some_and(|newest| newest >= step) {
            return Err(self.out_of_order(step, "pushed"));
        }
        Ok(())
    }

    fn out_of_order(&self, step: u64, action: &'static str) -> OverlayError {
        let oldest = self.layers.front().map(|layer| layer.step);
        let newest = self.layers.back().map(|layer| layer.step);
        OverlayError::OutOfOrder { step, action, oldest, newest }
    }
}
