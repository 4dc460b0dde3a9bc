//! PURE: the newest offset of each key, in memory that is decided beforehand: 24 bytes a key and a fifth for room.

/// 128 bits of a key. Two keys of one hash would count as one; among 10^9 keys that is a matter of 10^-21.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct KeyHash([u64; 2]);

impl KeyHash {
    pub(super) fn of(hash: u128) -> Self {
        Self([hash as u64, (hash >> 64) as u64])
    }
}

/// A slot: both halves of the hash, and the offset + 1; 0: free.
type Slot = [u64; 3];

/// Bytes of a slot.
const SLOT_BYTES: usize = size_of::<Slot>();

/// Open addressing with linear probing. Keys are never removed, only all of them.
#[derive(Debug)]
pub(super) struct KeyMap {
    slots: Vec<Slot>,
    keys: usize,
}

impl KeyMap {
    /// A map for `keys` keys, or as many as fit `bytes_max`.
    pub(super) fn new(keys: usize, bytes_max: usize) -> Self {
        let wanted = keys.saturating_add(keys / 4).saturating_add(1);
        // One always stays free, or a search would not end.
        let slots = wanted.min(bytes_max / SLOT_BYTES).max(2);
        Self { slots: vec![[0; 3]; slots], keys: 0 }
    }

    /// How many more keys it takes for certain.
    pub(super) fn room(&self) -> usize {
        (self.slots.len() - (self.slots.len() / 5).max(1)).saturating_sub(self.keys)
    }

    pub(super) fn bytes(&self) -> usize {
        self.slots.len() * SLOT_BYTES
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.keys
    }

    pub(super) fn clear(&mut self) {
        self.slots.fill([0; 3]);
        self.keys = 0;
    }

    /// Notes that a key's newest record so far is at `offset`, which is not negative; the one before it, if any. The
    /// caller has looked at [`Self::room`].
    pub(super) fn note(&mut self, key: KeyHash, offset: i64) -> Option<i64> {
        debug_assert!(self.room() > 0 && offset >= 0, "only what there is room for is noted");
        let place = self.place_of(key);
        let slot = self.slots.get_mut(place)?;
        let before = (slot[2] > 0).then(|| (slot[2] - 1).cast_signed());
        self.keys += usize::from(before.is_none());
        *slot = [key.0[0], key.0[1], offset.cast_unsigned() + 1];
        before
    }

    /// Whether the key is known.
    pub(super) fn contains(&self, key: KeyHash) -> bool {
        self.slots.get(self.place_of(key)).is_some_and(|slot| slot[2] > 0)
    }

    /// The slot that has the key, or would have it.
    fn place_of(&self, key: KeyHash) -> usize {
        let [low, high] = key.0;
        // As even as a remainder, and one multiplication.
        let mut place = ((u128::from(low) * self.slots.len() as u128) >> 64) as usize;
        // Ends: there is always a free slot.
        loop {
            match self.slots.get(place) {
                Some(slot) if slot[2] != 0 && !(slot[0] == low && slot[1] == high) => place += 1,
                Some(_) => return place,
                None => place = 0,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_knows_what_a_map_would(entries in prop::collection::vec((0..40_u8, any::<bool>()), 0..200)) {
            let mut map = KeyMap::new(100, 1 << 20);
            let mut model = BTreeMap::new();
            for (offset, (key, is_crowded)) in (0_i64..).zip(entries) {
                // Half of them begin at the same slot.
                let low = if is_crowded { 0 } else { u64::MAX / 40 * u64::from(key) };
                let key = KeyHash([low, u64::from(key)]);
                prop_assert_eq!(map.contains(key), model.contains_key(&key.0));
                prop_assert_eq!(map.note(key, offset), model.insert(key.0, offset));
                prop_assert_eq!(map.len(), model.len());
            }
            map.clear();
            prop_assert!(model.keys().all(|key| !map.contains(KeyHash(*key))));
        }
    }

    #[test]
    fn memory_is_what_was_allowed_and_what_fits_is_promised() {
        let mut map = KeyMap::new(usize::MAX, 24_000);
        assert_eq!((map.bytes(), map.room()), (24_000, 800));
        for key in 0..800 {
            map.note(KeyHash([u64::MAX, key]), 5);
        }
        assert_eq!((map.room(), map.len()), (0, 800));
        assert!(!map.contains(KeyHash([u64::MAX, 801])), "a search for what is not there ends");
        assert!(KeyMap::new(1000, 1 << 30).bytes() < 31_000, "a small log takes little");
    }
}
