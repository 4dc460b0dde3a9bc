//! Named limits of the SDK: how much it gathers before it calls the host. The host's own limits are separate, and
//! always at least as large.

/// Bytes of index and data that one output buffers before they are emitted.
pub const OUTPUT_BUFFER_BYTES_MAX: usize = 256 << 10;

/// Packed bytes of one `get-many` question; a longer list of keys is asked for in parts. Low, because the answer comes
/// in one piece and nobody knows how large the values are.
pub const GET_KEYS_BYTES_MAX: usize = 64 << 10;

/// Packed bytes of one `put-many`, unless a single entry is larger.
pub const PUT_ENTRIES_BYTES_MAX: usize = 1 << 20;

/// Bytes of keys and values that one store's cache holds within a call; then it is written back and emptied.
pub const STORE_CACHE_BYTES_MAX: usize = 8 << 20;

/// Entries of one page of a scan.
pub const SCAN_PAGE_ENTRIES_MAX: u32 = 512;

/// Bytes of timer ids gathered before they are handed over.
pub const TIMER_CHANGES_BYTES_MAX: usize = 256 << 10;

/// Rounds of timers that set further timers in one step, in [`crate::testing`].
pub const TIMER_ROUNDS_MAX: usize = 1000;
