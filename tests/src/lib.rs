//! Tests that need more than one crate.
//!
//! ```text
//! tests/all ──── starts ───► headwater-under-test (the product, fail points compiled in)
//! src/bin/headwater-bench ─► the product's crates, and the named baselines, in one process
//! src/bin/headwater-sim ───► sim: the product's deciding code, log and loops, one thread, one seed
//! ```

pub mod sim;
