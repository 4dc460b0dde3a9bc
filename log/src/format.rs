//! PURE: the shapes of the files, drawn byte by byte in `docs/log-format.md`. Bytes in, values out.

pub mod checkpoint;
pub mod epochs;
pub mod index;
pub mod names;
pub mod points;
pub(crate) mod step;
