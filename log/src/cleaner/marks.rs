//! PURE: what the survey found out about each dirty record, a bit for each offset: so the second pass need not ask
//! again, whatever an answer costs.

/// Two bits for each offset of a range: whether the record there stays, and whether it is a tombstone.
#[derive(Default, Debug)]
pub(super) struct Marks {
    /// The first offset with bits.
    base_offset: i64,
    stays: Vec<u64>,
    tombstones: Vec<u64>,
}

impl Marks {
    /// Room for so many offsets; more take more memory.
    pub(super) fn with_room(offsets: i64) -> Self {
        let words = usize::try_from(offsets).unwrap_or(0).div_ceil(64);
        Self { base_offset: 0, stays: Vec::with_capacity(words), tombstones: Vec::with_capacity(words) }
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        (self.stays.capacity() + self.tombstones.capacity()) * size_of::<u64>()
    }

    /// Forgets everything; the next offset that is marked is the lowest.
    pub(super) fn clear(&mut self) {
        self.stays.clear();
        self.tombstones.clear();
    }

    /// Whether offsets up to and without `next_offset` fit `offsets_max`, given that `base_offset` is the lowest if
    /// none was marked yet.
    pub(super) fn fits(&self, base_offset: i64, next_offset: i64, offsets_max: i64) -> bool {
        let base_offset = if self.stays.is_empty() { base_offset } else { self.base_offset };
        next_offset - base_offset <= offsets_max
    }

    /// Makes room for a batch's offsets, which lie above all those marked before.
    pub(super) fn cover(&mut self, base_offset: i64, next_offset: i64) {
        if self.stays.is_empty() {
            self.base_offset = base_offset;
        }
        debug_assert!(base_offset >= self.base_offset, "batches come in order");
        let words = usize::try_from(next_offset - self.base_offset).unwrap_or(0).div_ceil(64);
        self.stays.resize(words.max(self.stays.len()), 0);
        self.tombstones.resize(words.max(self.tombstones.len()), 0);
    }

    pub(super) fn set_stays(&mut self, offset: i64, stays: bool) {
        set(&mut self.stays, self.base_offset, offset, stays);
    }

    pub(super) fn set_tombstone(&mut self, offset: i64) {
        set(&mut self.tombstones, self.base_offset, offset, true);
    }

    /// Whether the record at `offset` stays.
    pub(super) fn stays(&self, offset: i64) -> bool {
        is_set(&self.stays, self.base_offset, offset)
    }

    /// Whether the record at `offset` is a tombstone.
    pub(super) fn is_tombstone(&self, offset: i64) -> bool {
        is_set(&self.tombstones, self.base_offset, offset)
    }

    /// How many records at `from` up to and without `to` stay, and how many of these are tombstones.
    pub(super) fn count(&self, from: i64, to: i64) -> (u32, u32) {
        let Some(first) = usize::try_from(from - self.base_offset).ok() else { return (0, 0) };
        let end = usize::try_from(to - self.base_offset).unwrap_or(0);
        let (mut stay, mut tombstones) = (0, 0);
        for word in first / 64..end.div_ceil(64) {
            let Some((&stays, &deletes)) = self.stays.get(word).zip(self.tombstones.get(word)) else { break };
            let below = if word == end / 64 { (1 << (end % 64)) - 1 } else { u64::MAX };
            let from_first = if word == first / 64 { u64::MAX << (first % 64) } else { u64::MAX };
            let wanted = stays & below & from_first;
            stay += wanted.count_ones();
            tombstones += (wanted & deletes).count_ones();
        }
        (stay, tombstones)
    }
}

fn place(base_offset: i64, offset: i64) -> Option<(usize, u32)> {
    let bit = usize::try_from(offset - base_offset).ok()?;
    Some((bit / 64, (bit % 64) as u32))
}

fn set(words: &mut [u64], base_offset: i64, offset: i64, value: bool) {
    let Some((word, bit)) = place(base_offset, offset) else { return };
    if let Some(word) = words.get_mut(word) {
        *word = if value { *word | 1 << bit } else { *word & !(1 << bit) };
    }
}

fn is_set(words: &[u64], base_offset: i64, offset: i64) -> bool {
    place(base_offset, offset).is_some_and(|(word, bit)| words.get(word).is_some_and(|word| word >> bit & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn counts_are_what_the_bits_say(
            base_offset in 0..1000_i64,
            marks in prop::collection::vec((any::<bool>(), any::<bool>()), 1..300),
            from in 0..300_i64,
            length in 0..300_i64,
        ) {
            let mut bits = Marks::default();
            let end = base_offset + marks.len() as i64;
            bits.cover(base_offset, end);
            for (offset, (stays, is_tombstone)) in (base_offset..).zip(&marks) {
                bits.set_stays(offset, true);
                bits.set_stays(offset, *stays);
                if *is_tombstone {
                    bits.set_tombstone(offset);
                }
            }
            let (from, to) = (base_offset + from, base_offset + from + length);
            let wanted = (base_offset..).zip(&marks).filter(|(offset, _)| (from..to).contains(offset));
            let stay: Vec<_> = wanted.filter(|(_, (stays, _))| *stays).collect();
            let tombstones = stay.iter().filter(|(_, (_, is_tombstone))| *is_tombstone).count();
            prop_assert_eq!(bits.count(from, to), (stay.len() as u32, tombstones as u32));
            for (offset, (stays, is_tombstone)) in (base_offset..).zip(&marks) {
                prop_assert_eq!((bits.stays(offset), bits.is_tombstone(offset)), (*stays, *is_tombstone));
            }
            prop_assert!(!bits.stays(base_offset - 1) && !bits.stays(end + 64));
            prop_assert!(bits.fits(0, base_offset + 500, 500) && !bits.fits(0, base_offset + 501, 500));
        }
    }
}
