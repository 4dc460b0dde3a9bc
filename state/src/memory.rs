//! A store in memory: gone with the process, rebuilt from the changelog.

use crate::{ChangelogPosition, Found, Scan, StateChanges, StateError, StateStore, StoreNumber, Visit, entry_bytes};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

type Entries = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// A [`StateStore`] of ordered maps. It copies what it keeps, so that no large commit stays alive for a small value.
#[derive(Debug, Default)]
pub struct MemoryStore {
    stores: BTreeMap<StoreNumber, Entries>,
    position: Option<ChangelogPosition>,
    state_bytes: u64,
}

impl MemoryStore {
    /// An empty store without a position.
    pub fn new() -> Self {
        Self::default()
    }

    fn put(&mut self, store: StoreNumber, key: &[u8], value: &[u8]) {
        let entries = self.stores.entry(store).or_default();
        // Looking up first saves the copy of the key when it is there, which is the common case (counters).
        if let Some(present) = entries.get_mut(key) {
            self.state_bytes = self.state_bytes + value.len() as u64 - present.len() as u64;
            if present.len() == value.len() {
                present.copy_from_slice(value);
            } else {
                *present = value.into();
            }
        } else {
            entries.insert(key.into(), value.into());
            self.state_bytes += entry_bytes(key.len(), value.len());
        }
    }

    fn delete(&mut self, store: StoreNumber, key: &[u8]) {
        let Entry::Occupied(mut entries) = self.stores.entry(store) else { return };
        if let Some((key, value)) = entries.get_mut().remove_entry(key) {
            self.state_bytes -= entry_bytes(key.len(), value.len());
        }
        if entries.get().is_empty() {
            entries.remove();
        }
    }
}

impl StateStore for MemoryStore {
    fn get(&self, store: StoreNumber, key: &[u8], found: &mut Found<'_>) -> Result<(), StateError> {
        found(self.stores.get(&store).and_then(|entries| entries.get(key)).map(AsRef::as_ref));
        Ok(())
    }

    fn scan(&self, scan: &Scan<'_>, visit: &mut Visit<'_>) -> Result<(), StateError> {
        let Some(entries) = self.stores.get(&scan.store).filter(|_| !scan.is_empty()) else { return Ok(()) };
        let end = scan.end.map_or(Bound::Unbounded, Bound::Excluded);
        let mut range = entries.range::<[u8], _>((Bound::Included(scan.start), end));
        for _ in 0..scan.limit {
            let next = if scan.descending { range.next_back() } else { range.next() };
            let Some((key, value)) = next else { break };
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn apply(&mut self, changes: &StateChanges, position: ChangelogPosition) -> Result<(), StateError> {
        self.check_position(position)?;
        for change in changes.iter() {
            match change.value {
                Some(value) => self.put(change.store, change.key, value),
                None => self.delete(change.store, change.key),
            }
        }
        self.position = Some(position);
        Ok(())
    }

    fn position(&self) -> Option<ChangelogPosition> {
        self.position
    }

    fn clear(&mut self) -> Result<(), StateError> {
        *self = Self::default();
        Ok(())
    }

    fn state_bytes(&self) -> u64 {
        self.state_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{self, Fixture};

    struct InMemory;

    impl Fixture for InMemory {
        type Store = MemoryStore;

        fn open(&self) -> MemoryStore {
            MemoryStore::new()
        }

        fn reopen(&self, store: MemoryStore) -> MemoryStore {
            store
        }
    }

    #[test]
    fn keeps_the_contract() {
        contract::run(&InMemory);
    }
}
