//! Every limit of this crate, its unit last.

/// Longest key a store takes, in bytes. The LSM engine's own limit is 65,535, store number and task prefix included.
pub const KEY_BYTES_MAX: usize = 60 << 10;

/// Longest value a store takes, in bytes: half of what a commit has room for.
pub const VALUE_BYTES_MAX: usize = 8 << 20;

/// Steps whose changes an overlay holds at once (DESIGN §6).
pub const UNCOMMITTED_STEPS_MAX: usize = 8;

/// Bytes of keys and values that one step may change: what fits a commit (16 MiB).
pub const STEP_CHANGE_BYTES_MAX: usize = 16 << 20;

/// What an entry is counted as beyond its key and value, in bytes, so that a quota also holds back many tiny entries.
pub const ENTRY_OVERHEAD_BYTES: u64 = 64;
