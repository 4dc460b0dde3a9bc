//! Bytes in, values out: everything that crosses a wire or lies on a disk, and nothing that knows a socket or a file.
//!
//! ```text
//!            one QUIC stream                                      one partition's log
//!  ┌──────────────────────────────────┐               ┌──────────────────────────────────┐
//!  │ frame │ frame │ frame │ …        │               │ batch │ batch │ batch │ …        │
//!  └──┬───────────────────────────────┘               └──┬───────────────────────────────┘
//!     │                                                  │   the same bytes, everywhere
//!     ▼                                                  ▼
//!  ┌────────┬──────────────┬────────────────┐         ┌─────────────┬────────────────────┐
//!  │ prefix │ header       │ body           │ ──────▶ │ header      │ records            │
//!  │ 16 B   │ postcard     │ raw batches    │         │ 61 B, CRC   │ varints; lz4, zstd │
//!  └────────┴──────────────┴────────────────┘         └─────────────┴────────────────────┘
//!   frame    messages::*    batch::*                   batch::header  batch::records
//!            one frozen     never inside                              batch::builder writes them
//!            struct per     the header                                batch::check   guards the door
//!            (api, version)
//! ```
//!
//! What else lives here: [`ids`], [`error`] codes, [`limits`], the [`partitioner`]. All of it is deterministic, and no
//! decoder allocates from a length that its input merely declares.

pub mod batch;
pub mod compression;
pub mod error;
pub mod frame;
pub mod ids;
pub mod limits;
pub mod messages;
pub mod partitioner;
pub mod varint;

#[cfg(test)]
mod tests;
