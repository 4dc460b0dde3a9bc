//! Which partition a record goes to: by key as Kafka's clients do it, without a key evenly by batch.

/// Kafka's murmur2 (32 bits, seed `0x9747b28c`), so that a key lands where every other client puts it.
pub fn murmur2(bytes: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;

    // Kafka's keys are shorter than 4 GiB; for longer ones the length wraps as its `int` would.
    let mut hash = SEED ^ bytes.len() as u32;
    let (words, tail) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        let rest = tail.iter().rev().fold(0, |rest, byte| rest << 8 | u32::from(*byte));
        hash = (hash ^ rest).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

/// The partition of `key` in a topic of `partitions`: `(murmur2 & 0x7fffffff) % partitions`. 0 for no partitions.
pub fn partition_for_key(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff).checked_rem(partitions).unwrap_or(0)
}

/// Spreads records without a key: one partition until its batch is full, then the next one, so that batches are
/// large and partitions even (KIP-480's purpose). Deterministic: the same seed and calls give the same partitions.
#[derive(Clone, Debug)]
pub struct KeylessSpread {
    turn: u32,
}

impl KeylessSpread {
    /// Starts at a partition that `seed` picks. Producers should differ in it, else they all start at one partition.
    pub fn new(seed: u64) -> Self {
        // Neighbouring seeds must not start at neighbouring partitions in lockstep; murmur2 mixes them.
        Self { turn: murmur2(&seed.to_le_bytes()) }
    }

    /// Where the next keyless record goes in a topic of `partitions`. 0 for no partitions.
    pub fn partition(&self, partitions: u32) -> u32 {
        self.turn.checked_rem(partitions).unwrap_or(0)
    }

    /// Moves on: the current partition's batch is full, or was sent.
    pub fn batch_full(&mut self) {
        self.turn = self.turn.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(serde::Deserialize)]
    struct Vector {
        key: String,
        hash: u32,
        of_7: u32,
    }

    fn from_hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn keys_hash_as_kafkas_java_client_hashes_them() {
        // The vectors of Kafka's UtilsTest, as its `int`s.
        let vectors: [(&[u8], i32); 7] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
            (b"", 275_646_681),
        ];
        for (key, hash) in vectors {
            assert_eq!(murmur2(key).cast_signed(), hash, "{key:?}");
        }
    }

    #[test]
    fn keys_go_where_a_python_client_puts_them() {
        let vectors: Vec<Vector> = serde_json::from_str(include_str!("../fixtures/murmur2.json")).unwrap();
        assert_eq!(vectors.len(), 46);
        for vector in vectors {
            let key = from_hex(&vector.key);
            assert_eq!(murmur2(&key), vector.hash, "{}", vector.key);
            assert_eq!(partition_for_key(&key, 7), vector.of_7, "{}", vector.key);
        }
    }

    #[test]
    fn keyless_records_stay_until_the_batch_is_full_and_then_visit_every_partition() {
        let mut spread = KeylessSpread::new(1);
        let first = spread.partition(5);
        assert_eq!(spread.partition(5), first);
        let mut visits = [0; 5];
        for _ in 0..500 {
            visits[spread.partition(5) as usize] += 1;
            spread.batch_full();
        }
        assert_eq!(visits, [100; 5]);
        let starts: std::collections::BTreeSet<_> =
            (0..100).map(|seed| KeylessSpread::new(seed).partition(5)).collect();
        assert_eq!(starts.len(), 5, "seeds start at different partitions");
    }

    #[test]
    fn no_partitions_are_not_divided_by() {
        assert_eq!(partition_for_key(b"key", 0), 0);
        assert_eq!(KeylessSpread::new(7).partition(0), 0);
    }

    proptest! {
        #[test]
        fn partitions_are_in_range(key in proptest::collection::vec(any::<u8>(), 0..64), partitions in 1..=u32::MAX) {
            prop_assert!(partition_for_key(&key, partitions) < partitions);
            prop_assert!(KeylessSpread::new(key.len() as u64).partition(partitions) < partitions);
        }
    }
}
