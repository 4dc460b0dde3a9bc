//! What the tests share: a certificate set, a server and a client.

use crate::*;
use bytes::Bytes;
use headwater_protocol::frame::{FrameLimits, FramePrefix};
use std::path::Path;
use tempfile::TempDir;

pub(crate) const LIMITS: FrameLimits = FrameLimits { header_bytes_max: 1 << 10, body_bytes_max: 16 << 20 };

pub(crate) struct Pair {
    pub(crate) directory: TempDir,
    pub(crate) server: ServerEndpoint,
    pub(crate) client: ClientEndpoint,
    pub(crate) address: String,
}

impl Pair {
    pub(crate) fn new(limits: TransportLimits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let files = create_dev_identities(&directory.path().join("tls")).unwrap();
        let server = ServerTls::load(&files.broker).unwrap();
        let client = ClientTls::load(&files.client).unwrap();
        Self::with(directory, &server, &client, limits)
    }

    pub(crate) fn with(directory: TempDir, server: &ServerTls, client: &ClientTls, limits: TransportLimits) -> Self {
        let server = ServerEndpoint::bind("127.0.0.1:0".parse().unwrap(), server, limits).unwrap();
        let client = ClientEndpoint::new(client, limits).unwrap();
        let address = server.local_address().unwrap().to_string();
        Self { directory, server, client, address }
    }

    /// A connection, as the client and as the server see it.
    pub(crate) async fn connect(&self) -> (Connection, Connection) {
        let accepting = async { self.server.accept().await.unwrap().handshake().await.unwrap() };
        let (client, server) = tokio::join!(self.client.connect(&self.address), accepting);
        (client.unwrap(), server)
    }
}

pub(crate) fn other_identities(directory: &Path) -> DevIdentities {
    create_dev_identities(&directory.join("other")).unwrap()
}

pub(crate) fn tag(correlation: u32) -> FrameTag {
    FrameTag { api: 1, version: 0, correlation }
}

/// Bytes that repeat with no short period.
pub(crate) fn pattern(length: usize) -> Bytes {
    (0..length).map(|place| (place * 31 + place / 251) as u8).collect()
}

pub(crate) fn prefix(header_bytes: u32, body_bytes: u32) -> [u8; FramePrefix::BYTES] {
    FramePrefix { api: 1, version: 0, correlation: 9, header_bytes, body_bytes }.encode()
}
