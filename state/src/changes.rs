//! What one step changes.

use crate::StoreNumber;
use bytes::Bytes;
use std::collections::BTreeMap;

/// One change: `value` is what the key has from now on, `None` deletes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StateChange<'a> {
    /// The store.
    pub store: StoreNumber,
    /// The key.
    pub key: &'a [u8],
    /// The new value, or `None` when the key is deleted.
    pub value: Option<&'a [u8]>,
}

/// Changes of one store by key.
pub(crate) type StoreChanges = BTreeMap<Bytes, Option<Bytes>>;

/// The changes of one step: for each (store, key) the last one.
///
/// Keys and values share the buffers they came in (a guest's packed `put-many`, a commit batch), so that a change
/// costs no allocation of its own; a store that keeps entries for long copies them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StateChanges {
    stores: BTreeMap<StoreNumber, StoreChanges>,
    len: usize,
    bytes: usize,
}

impl StateChanges {
    /// No changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a change; returns the one of the same key that it replaces, if there is one.
    pub fn insert(&mut self, store: StoreNumber, key: Bytes, value: Option<Bytes>) -> Option<Option<Bytes>> {
        let key_bytes = key.len();
        self.bytes += value.as_ref().map_or(0, Bytes::len);
        let replaced = self.stores.entry(store).or_default().insert(key, value);
        match &replaced {
            Some(old) => self.bytes -= old.as_ref().map_or(0, Bytes::len),
            None => {
                self.len += 1;
                self.bytes += key_bytes;
            }
        }
        replaced
    }

    /// Forgets the change of `key`.
    pub(crate) fn forget(&mut self, store: StoreNumber, key: &[u8]) {
        if let Some((key, value)) = self.stores.get_mut(&store).and_then(|changes| changes.remove_entry(key)) {
            self.len -= 1;
            self.bytes -= key.len() + value.map_or(0, |value| value.len());
        }
    }

    /// What the changes say about `key`: `None` nothing, `Some(None)` that it is deleted.
    pub fn get(&self, store: StoreNumber, key: &[u8]) -> Option<Option<&[u8]>> {
        let value = self.stores.get(&store)?.get(key)?;
        Some(value.as_deref())
    }

    /// All changes, ordered by store, then key.
    pub fn iter(&self) -> impl Iterator<Item = StateChange<'_>> {
        self.stores.iter().flat_map(|(store, changes)| {
            changes.iter().map(|(key, value)| StateChange { store: *store, key, value: value.as_deref() })
        })
    }

    /// Changes of one store.
    pub(crate) fn of_store(&self, store: StoreNumber) -> Option<&StoreChanges> {
        self.stores.get(&store)
    }

    /// Number of keys changed.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets all changes.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Extend<(StoreNumber, Bytes, Option<Bytes>)> for StateChanges {
    fn extend<I: IntoIterator<Item = (StoreNumber, Bytes, Option<Bytes>)>>(&mut self, changes: I) {
        for (store, key, value) in changes {
            self.insert(store, key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    #[test]
    fn the_last_change_of_a_key_stands_and_sizes_follow() {
        let mut changes = StateChanges::new();
        assert_eq!(changes.insert(StoreNumber(1), bytes("k"), Some(bytes("long value"))), None);
        assert_eq!(changes.bytes(), 11);
        assert_eq!(changes.insert(StoreNumber(1), bytes("k"), Some(bytes("v"))), Some(Some(bytes("long value"))));
        assert_eq!((changes.len(), changes.bytes()), (1, 2));
        assert_eq!(changes.insert(StoreNumber(1), bytes("k"), None), Some(Some(bytes("v"))));
        assert_eq!((changes.len(), changes.bytes()), (1, 1));
        assert_eq!(changes.get(StoreNumber(1), b"k"), Some(None));
        assert_eq!(changes.get(StoreNumber(0), b"k"), None);
        changes.forget(StoreNumber(1), b"k");
        assert_eq!((changes.len(), changes.bytes(), changes.get(StoreNumber(1), b"k")), (0, 0, None));
    }

    #[test]
    fn changes_come_ordered_by_store_then_key() {
        let mut changes = StateChanges::new();
        changes.extend([
            (StoreNumber(2), bytes("a"), None),
            (StoreNumber(1), bytes("b"), Some(bytes("1"))),
            (StoreNumber(1), bytes("a"), None),
        ]);
        let order: Vec<_> = changes.iter().map(|change| (change.store.0, change.key)).collect();
        assert_eq!(order, [(1, &b"a"[..]), (1, b"b"), (2, b"a")]);
    }
}
