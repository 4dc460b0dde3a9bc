//! Behaviour of batches.

mod bombs;
mod damage;
mod door;
mod fixtures;
mod raw;
mod roundtrip;
