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
