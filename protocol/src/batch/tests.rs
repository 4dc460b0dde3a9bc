//! Behaviour of batches.

mod bombs;
mod cleaned;
mod damage;
mod door;
mod fixtures;
mod raw;
mod roundtrip;
