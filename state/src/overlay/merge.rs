//! Range scans over layers of changes: newest first wins, deletes hide.

use crate::changes::StoreChanges;
use crate::{Scan, StateChanges, Visit};
use bytes::Bytes;
use std::collections::btree_map::Range;
use std::ops::{Bound, ControlFlow};

/// One layer's entries of a scan, in the scan's order.
struct Cursor<'a> {
    range: Range<'a, Bytes, Option<Bytes>>,
    head: Option<(&'a Bytes, &'a Option<Bytes>)>,
}

impl<'a> Cursor<'a> {
    fn new(changes: &'a StoreChanges, scan: &Scan<'_>) -> Self {
        let end = scan.end.map_or(Bound::Unbounded, Bound::Excluded);
        let mut cursor = Self { range: changes.range::<[u8], _>((Bound::Included(scan.start), end)), head: None };
        cursor.advance(scan.descending);
        cursor
    }

    fn advance(&mut self, descending: bool) {
        self.head = if descending { self.range.next_back() } else { self.range.next() };
    }
}

/// The layers of a scan as one ordered sequence of changes.
pub(super) struct LayerMerge<'a> {
    /// Newest first.
    cursors: Vec<Cursor<'a>>,
    descending: bool,
}

impl<'a> LayerMerge<'a> {
    /// `layers`: newest first. The scan's range must not be empty.
    pub(super) fn new(layers: impl Iterator<Item = &'a StateChanges>, scan: &Scan<'_>) -> Self {
        let cursors = layers
            .filter_map(|changes| changes.of_store(scan.store))
            .map(|changes| Cursor::new(changes, scan))
            .filter(|cursor| cursor.head.is_some())
            .collect();
        Self { cursors, descending: scan.descending }
    }

    fn is_before(&self, one: &[u8], other: &[u8]) -> bool {
        if self.descending { one > other } else { one < other }
    }

    /// The next change in the scan's order, the newest one where several layers change the key; `None` at the end.
    fn head(&self) -> Option<(&'a Bytes, &'a Option<Bytes>)> {
        let mut first: Option<(&'a Bytes, &'a Option<Bytes>)> = None;
        for (key, value) in self.cursors.iter().filter_map(|cursor| cursor.head) {
            // Strictly before: among equals the newest, which comes first here, stays.
            if first.is_none_or(|(best, _)| self.is_before(key, best)) {
                first = Some((key, value));
            }
        }
        first
    }

    fn skip(&mut self, key: &[u8]) {
        let descending = self.descending;
        for cursor in &mut self.cursors {
            if cursor.head.is_some_and(|(head, _)| head == key) {
                cursor.advance(descending);
            }
        }
    }

    /// Visits the changes that come before the store's entry (`key`, `value`), then that entry, unless a layer
    /// changes it: then the change, or nothing where the change is a delete.
    pub(super) fn visit_beside(&mut self, key: &[u8], value: &[u8], visit: &mut Visit<'_>) -> ControlFlow<()> {
        while let Some((layered_key, layered)) = self.head() {
            if self.is_before(key, layered_key) {
                break;
            }
            self.skip(layered_key);
            if let Some(layered) = layered {
                visit(layered_key, layered)?;
            }
            if layered_key == key {
                return ControlFlow::Continue(());
            }
        }
        visit(key, value)
    }

    /// Visits the changes beyond the store's last entry.
    pub(super) fn visit_rest(&mut self, visit: &mut Visit<'_>) -> ControlFlow<()> {
        while let Some((key, value)) = self.head() {
            self.skip(key);
            if let Some(value) = value {
                visit(key, value)?;
            }
        }
        ControlFlow::Continue(())
    }
}
