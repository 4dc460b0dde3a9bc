//! Everything that reads bytes from a peer or a disk, fed with bytes that nobody meant.
//!
//! ```text
//!              ┌── random, bounded: `cargo xtask test` ──┐
//!   bytes ◄────┤                                         ├──── bolero
//!     │        └── coverage-guided: `cargo xtask fuzz` ──┘
//!     │   as they are, or as edits of something valid whose checksum is made right again
//!     ▼
//!   target: decode, then hold the outcome against what its reader may rely on
//! ```
//!
//! A target is a function of bytes that panics when something does not hold. The bytes of a crash that was found become
//! a test beside the target. Nothing here links wasmtime.

pub mod batch;
pub mod commit;
pub mod edits;
pub mod files;
pub mod frame;
pub mod metadata;
pub mod segment;

/// A test that feeds a target: so many random inputs, or as many as a coverage-guided engine likes.
#[cfg(test)]
macro_rules! fuzz {
    ($name:ident, $iterations:literal, $target:expr) => {
        #[test]
        fn $name() {
            bolero::check!().with_iterations($iterations).with_max_len(4096).for_each($target);
        }
    };
}
#[cfg(test)]
pub(crate) use fuzz;
