//! What clients do. Each is stepped by the run: it looks at the time, says what to send, and is told what comes back.

pub mod admin;
pub mod consumer;
pub mod producer;

use super::network::StreamId;
use super::node::{Request, Response};
use super::rng::Rng;
use headwater_protocol::ids::TopicPartition;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Something that a client learned and the checkers shall know.
#[expect(missing_docs, reason = "fields are named for what they hold")]
#[derive(Clone, Debug)]
pub enum Fact {
    /// A record is about to be sent: its number and what it says.
    Sent { number: u64, meaning: u64 },
    /// It was acknowledged.
    Acknowledged { number: u64, id: TopicPartition, offset: i64 },
    /// It failed; it may be there all the same.
    Failed { number: u64 },
    /// The broker took its batch for one out of turn, for good.
    OutOfTurn { number: u64, id: TopicPartition },
    /// Batches were received in answer to a fetch.
    Received { id: TopicPartition, offset: i64, batches: bytes::Bytes, high_watermark: i64 },
    /// The next fetch of this partition begins somewhere else.
    Sought { id: TopicPartition },
    /// The broker broke the protocol.
    BrokeProtocol(String),
}

/// What a client sees and says while it is stepped.
pub struct Scene<'a> {
    /// Now, in microseconds of the run.
    pub now_us: u64,
    /// Its choices.
    pub rng: &'a mut Rng,
    /// What it sends.
    pub requests: Vec<(StreamId, Request)>,
    /// What it has learned.
    pub facts: Vec<Fact>,
    /// When it wants to be stepped again, at the latest.
    pub wake_us: u64,
    /// Whether the faults are over, and all that is left is to get done.
    pub ending: bool,
    /// Numbers that no record has had.
    pub next_number: &'a mut u64,
    begin: Instant,
}

impl<'a> Scene<'a> {
    /// A moment of the run that began at `begin`.
    pub fn new(now_us: u64, begin: Instant, rng: &'a mut Rng, next_number: &'a mut u64, ending: bool) -> Self {
        let (requests, facts) = (Vec::new(), Vec::new());
        Self { now_us, rng, requests, facts, wake_us: now_us + 50_000, ending, next_number, begin }
    }

    /// Now, as the client library counts it.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.begin + Duration::from_micros(self.now_us)
    }

    /// Wants to be stepped at this moment.
    pub fn wake_at(&mut self, at: Instant) {
        let us = u64::try_from(at.saturating_duration_since(self.begin).as_micros()).unwrap_or(u64::MAX);
        self.wake_us = self.wake_us.min(us.max(self.now_us + 1));
    }
}

/// A client.
pub trait Client {
    /// Does what there is to do.
    fn step(&mut self, scene: &mut Scene<'_>);

    /// An answer has come.
    fn on_response(&mut self, scene: &mut Scene<'_>, stream: StreamId, response: Response);

    /// The connection is lost, with every answer that was due.
    fn on_lost(&mut self, scene: &mut Scene<'_>);

    /// Whether it has done what it came for; else what is missing.
    ///
    /// # Errors
    /// What is missing.
    fn finished(&self) -> Result<(), String>;

    /// What it has not read, of partitions that end so.
    fn is_behind(&self, _ends: &BTreeMap<TopicPartition, i64>) -> Option<String> {
        None
    }

    /// Whether it has waited so long for an answer that it gives its connection up.
    fn is_out_of_patience(&self, now_us: u64) -> bool {
        now_us == u64::MAX
    }
}
