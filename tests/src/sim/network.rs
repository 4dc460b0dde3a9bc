//! Messages between clients and brokers with QUIC's semantics: what is on one stream keeps its order, streams do not
//! wait for each other, and a connection that is lost takes with it what nobody knows the fate of.

use super::rng::Rng;
use std::collections::BTreeMap;

/// Names a connection; never used again.
pub type ConnectionId = u64;
/// A stream of a connection.
pub type StreamId = u32;

/// One way of a stream.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Way {
    /// From the client to the broker.
    In,
    /// Back.
    Out,
}

/// A connection from a client to one run of a broker.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The client.
    pub client: usize,
    /// The broker.
    pub node: usize,
    /// The run of the broker that it leads to.
    pub run: u64,
    /// The client knows that it is lost.
    lost: bool,
    /// Nothing arrives at the broker any more, or at the client, and nobody is told.
    mute: (bool, bool),
    /// What comes in later than this is not received by the broker any more.
    ends_us: u64,
    last: BTreeMap<(StreamId, Way), u64>,
}

/// All connections there ever were, the lost ones until their last message is gone.
#[derive(Debug, Default)]
pub struct Network {
    connections: BTreeMap<ConnectionId, Connection>,
    newest: ConnectionId,
}

impl Network {
    /// Opens a connection.
    pub fn connect(&mut self, client: usize, node: usize, run: u64) -> ConnectionId {
        self.newest += 1;
        let connection = Connection {
            client,
            node,
            run,
            lost: false,
            mute: (false, false),
            ends_us: u64::MAX,
            last: BTreeMap::new(),
        };
        self.connections.insert(self.newest, connection);
        self.newest
    }

    /// When a message that is sent now arrives.
    pub fn arrival_us(&mut self, rng: &mut Rng, id: ConnectionId, stream: StreamId, way: Way, from: (u64, u64)) -> u64 {
        let (now_us, typical_us) = from;
        let at = now_us + rng.delay(typical_us);
        let Some(connection) = self.connections.get_mut(&id) else { return at };
        let last = connection.last.entry((stream, way)).or_default();
        *last = at.max(*last);
        *last
    }

    /// The connection on which a message arrives at `now_us`, if it still does.
    #[must_use]
    pub fn arrives(&self, id: ConnectionId, way: Way, now_us: u64) -> Option<&Connection> {
        self.connections.get(&id).filter(|connection| match way {
            Way::In => now_us <= connection.ends_us && !connection.mute.0,
            Way::Out => !connection.lost && !connection.mute.1,
        })
    }

    /// The client loses the connection now. What it sent may still be received for a while: its outcome is unknown.
    pub fn lose(&mut self, rng: &mut Rng, id: ConnectionId, now_us: u64, lingers_us: u64) {
        if let Some(connection) = self.connections.get_mut(&id).filter(|connection| !connection.lost) {
            connection.lost = true;
            connection.ends_us = now_us + if rng.per_mille(500) { rng.below(lingers_us) } else { 0 };
        }
    }

    /// From now on nothing arrives on these ways of a connection.
    pub fn mute(&mut self, id: ConnectionId, mutes_in: bool, mutes_out: bool) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.mute = (connection.mute.0 || mutes_in, connection.mute.1 || mutes_out);
        }
    }

    /// Connections that their clients take for alive.
    pub fn alive(&self) -> impl Iterator<Item = (ConnectionId, &Connection)> {
        self.connections.iter().filter(|(_, connection)| !connection.lost).map(|(id, connection)| (*id, connection))
    }

    /// Forgets connections that have ended long ago.
    pub fn forget(&mut self, before_us: u64) {
        self.connections.retain(|_, connection| !connection.lost || connection.ends_us >= before_us);
    }
}
