//! The cache's table: keys in one blob, values where the host put them, entries found by hash. No allocation per key
//! that is only read.

use crate::error::StateError;
use crate::packed::Reader;
use std::ops::Range;

/// Entries by key. Entry numbers are dense and hold until [`Table::clear`].
#[derive(Default)]
pub(super) struct Table {
    /// Open addressing, a power of two of them: 0 = free, otherwise entry number + 1.
    slots: Vec<u32>,
    entries: Vec<Entry>,
    keys: Vec<u8>,
    /// Answers of the host, that stored values point into.
    answers: Vec<Vec<u8>>,
    /// Entries to write back, in the order of first writing.
    dirty: Vec<u32>,
    bytes: usize,
}

struct Entry {
    hash: u32,
    dirty: bool,
    key: Range<usize>,
    value: Cached,
}

/// What is known of a value.
enum Cached {
    Unknown,
    Absent,
    Stored { answer: usize, at: Range<usize> },
    Written(Vec<u8>),
}

impl Table {
    /// Estimate of the memory it holds, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets everything; keeps memory for the next call.
    pub(super) fn clear(&mut self) {
        self.slots.fill(0);
        self.entries.clear();
        self.keys.clear();
        self.answers.clear();
        self.dirty.clear();
        self.bytes = 0;
    }

    /// The entry of a key, and whether it is new (and so unknown).
    pub(super) fn find_or_insert(&mut self, key: &[u8]) -> (usize, bool) {
        if self.entries.len() * 2 >= self.slots.len() {
            self.grow();
        }
        let hash = hash(key);
        let mask = self.slots.len() - 1;
        let mut slot = hash as usize & mask;
        while let Some(number) = (self.slots[slot] as usize).checked_sub(1) {
            let entry = &self.entries[number];
            if entry.hash == hash && self.keys[entry.key.clone()] == *key {
                return (number, false);
            }
            slot = (slot + 1) & mask;
        }
        let start = self.keys.len();
        self.keys.extend_from_slice(key);
        let key = start..self.keys.len();
        self.bytes += key.len() + size_of::<Entry>() + 2 * size_of::<u32>();
        self.entries.push(Entry { hash, dirty: false, key, value: Cached::Unknown });
        self.slots[slot] = self.entries.len() as u32;
        (self.entries.len() - 1, true)
    }

    fn grow(&mut self) {
        let count = (self.slots.len() * 2).max(64);
        self.slots.clear();
        self.slots.resize(count, 0);
        for (number, entry) in self.entries.iter().enumerate() {
            let mut slot = entry.hash as usize & (count - 1);
            while self.slots[slot] != 0 {
                slot = (slot + 1) & (count - 1);
            }
            self.slots[slot] = number as u32 + 1;
        }
    }

    pub(super) fn key(&self, entry: usize) -> &[u8] {
        &self.keys[self.entries[entry].key.clone()]
    }

    pub(super) fn is_unknown(&self, entry: usize) -> bool {
        matches!(self.entries[entry].value, Cached::Unknown)
    }

    pub(super) fn value(&self, entry: usize) -> Option<&[u8]> {
        value_of(&self.answers, &self.entries[entry].value)
    }

    /// Takes the host's answer for these entries; what was written meanwhile stays.
    pub(super) fn learn(&mut self, entries: &[usize], values: Vec<u8>) -> Result<(), StateError> {
        let answer = self.answers.len();
        let mut reader = Reader::new(&values);
        let mut end = 0;
        for &entry in entries {
            let value = reader.bytes().map_err(|_| StateError::Malformed)?;
            end += 4 + value.map_or(0, <[u8]>::len);
            let cached = value.map_or(Cached::Absent, |value| Cached::Stored { answer, at: end - value.len()..end });
            let known = &mut self.entries[entry].value;
            if matches!(known, Cached::Unknown) {
                *known = cached;
            }
        }
        if !reader.is_empty() {
            return Err(StateError::Malformed);
        }
        self.bytes += values.len();
        self.answers.push(values);
        Ok(())
    }

    /// Lets `change` edit the value (empty if there is none, or none is known) and lends it.
    pub(super) fn write(&mut self, entry: usize, change: impl FnOnce(&mut Vec<u8>)) -> &[u8] {
        let Self { entries, answers, dirty, bytes, .. } = self;
        let number = entry as u32;
        let entry = &mut entries[entry];
        if !entry.dirty {
            entry.dirty = true;
            dirty.push(number);
        }
        if !matches!(entry.value, Cached::Written(_)) {
            let old = value_of(answers, &entry.value).unwrap_or_default().to_vec();
            *bytes += old.capacity();
            entry.value = Cached::Written(old);
        }
        let Cached::Written(value) = &mut entry.value else { return &[] };
        let before = value.capacity();
        change(value);
        *bytes += value.capacity().saturating_sub(before);
        value
    }

    pub(super) fn delete(&mut self, entry: usize) {
        let number = entry as u32;
        let entry = &mut self.entries[entry];
        if !entry.dirty {
            entry.dirty = true;
            self.dirty.push(number);
        }
        entry.value = Cached::Absent;
    }

    /// Hands over every key that was written since the last time, with its value (none: deleted).
    pub(super) fn drain_dirty<E>(
        &mut self,
        mut each: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self { entries, answers, dirty, keys, .. } = self;
        for number in dirty.drain(..) {
            let entry = &mut entries[number as usize];
            entry.dirty = false;
            each(&keys[entry.key.clone()], value_of(answers, &entry.value))?;
        }
        Ok(())
    }
}

fn value_of<'a>(answers: &'a [Vec<u8>], cached: &'a Cached) -> Option<&'a [u8]> {
    match cached {
        Cached::Unknown | Cached::Absent => None,
        Cached::Stored { answer, at } => Some(&answers[*answer][at.clone()]),
        Cached::Written(value) => Some(value),
    }
}

/// Multiply and rotate over eight bytes at a time: a few instructions in wasm, where SipHash takes most of a lookup.
/// Someone who may produce could choose colliding keys and so slow that processor down, up to its CPU limit.
fn hash(key: &[u8]) -> u32 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| (hash.rotate_left(23) ^ word).wrapping_mul(FACTOR);
    let (words, tail) = key.as_chunks::<8>();
    let hash = words.iter().fold(key.len() as u64, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    let hash = mix(hash, u64::from_le_bytes(last));
    ((hash ^ (hash >> 29)).wrapping_mul(FACTOR) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn the_table_is_a_map(keys in prop::collection::vec(prop::collection::vec(0u8..4, 0..12), 0..400)) {
            let mut table = Table::default();
            let mut numbers = BTreeMap::new();
            for key in &keys {
                let (entry, new) = table.find_or_insert(key);
                prop_assert_eq!(new, !numbers.contains_key(key));
                prop_assert_eq!(*numbers.entry(key).or_insert(entry), entry);
                prop_assert_eq!(table.key(entry), &key[..]);
            }
        }
    }

    #[test]
    fn similar_keys_spread_over_the_slots() {
        let mut slots = vec![0u32; 1 << 14];
        for number in 0..1 << 13 {
            slots[hash(format!("key-{number:06}").as_bytes()) as usize & ((1 << 14) - 1)] += 1;
        }
        // Half as many keys as slots: a random function gives 7 or so in the fullest one.
        assert!(slots.iter().max() < Some(&12), "{:?}", slots.iter().max());
    }
}
