//! Real endpoints on loopback.

mod frames;
mod handshake;
mod support;
