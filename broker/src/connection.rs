//! Connections: QUIC in, typed calls on [`crate::api`], frames out.

mod dispatch;
mod server;
mod stream;

pub(crate) use server::Server;
