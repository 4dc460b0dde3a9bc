//! A producer: the client library's own decisions over a simulated connection.

use super::{Client, Fact, Scene};
use crate::sim::checker::meaning;
use crate::sim::network::StreamId;
use crate::sim::node::{Request, Response};
use headwater_client::driven::{DrivenNext, DrivenProducer, NotTaken};
use headwater_client::{ClientError, ProducerConfig, ProducerRecord};
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::{TopicId, TopicPartition};
use headwater_protocol::messages::records::Acks;
use std::collections::BTreeMap;

/// The stream for everything but batches.
const CONTROL: StreamId = 0;
/// How long an answer is waited for before the connection is given up.
const PATIENCE_US: u64 = 8_000_000;
const VOCABULARY: [&str; 12] =
    ["tide", "moor", "ferry", "lantern", "salt", "gull", "harbour", "rope", "mast", "fog", "bell", "drift"];

/// What a producer is to do.
#[derive(Clone, Debug)]
pub struct Order {
    /// Topics to choose from.
    pub topics: Vec<String>,
    /// How many records.
    pub records: u64,
    /// Typical time between two.
    pub record_us: u64,
    /// Settings of the library.
    pub config: ProducerConfig,
    /// What its choices are drawn from.
    pub seed: u64,
}

/// A producing client.
pub struct ProducerClient {
    driven: DrivenProducer,
    order: Order,
    sent: u64,
    next_us: u64,
    /// Topic of each record whose outcome is open.
    topics: BTreeMap<u64, String>,
    /// Which topic a name stands for.
    ids: BTreeMap<String, TopicId>,
    /// A record that could not be taken yet.
    held: Option<(u64, Draft)>,
    asked_topics: bool,
    asked_identity: bool,
    next_question_us: u64,
    /// When the oldest unanswered request was sent.
    waiting_since: BTreeMap<usize, Vec<u64>>,
    again_us: u64,
}

#[derive(Clone, Debug)]
struct Draft {
    topic: String,
    key: Option<String>,
    value: String,
}

impl ProducerClient {
    /// A producer that begins at once.
    #[must_use]
    pub fn new(order: Order) -> Self {
        Self {
            driven: DrivenProducer::new(&order.config, order.seed),
            order,
            sent: 0,
            next_us: 0,
            topics: BTreeMap::new(),
            ids: BTreeMap::new(),
            held: None,
            asked_topics: false,
            asked_identity: false,
            next_question_us: 0,
            waiting_since: BTreeMap::new(),
            again_us: 0,
        }
    }

    fn draft(&self, scene: &mut Scene<'_>) -> (u64, Draft) {
        let number = *scene.next_number;
        *scene.next_number += 1;
        let topic = scene.rng.pick(&self.order.topics).cloned().unwrap_or_default();
        let mut value = format!("#{number}");
        for _ in 0..scene.rng.below(6) {
            value.push(' ');
            value.push_str(scene.rng.pick(&VOCABULARY).copied().unwrap_or_default());
        }
        let key = scene.rng.per_mille(700).then(|| format!("k{}", scene.rng.below(8)));
        let meaning = meaning(key.as_deref().map(str::as_bytes), Some(value.as_bytes()));
        scene.facts.push(Fact::Sent { number, meaning });
        (number, Draft { topic, key, value })
    }

    fn append(&mut self, scene: &mut Scene<'_>) {
        let due = |producer: &Self, now_us: u64| producer.sent < producer.order.records && producer.next_us <= now_us;
        while self.held.is_some() || due(self, scene.now_us) {
            let (number, draft) = self.held.take().unwrap_or_else(|| self.draft(scene));
            let record = ProducerRecord::new(
                &draft.topic,
                draft.key.as_deref().map(str::as_bytes),
                Some(draft.value.as_bytes()),
            );
            let timestamp = 1_767_225_600_000 + (scene.now_us / 1000).cast_signed();
            match self.driven.append(&record, timestamp, scene.now(), number) {
                Ok(()) => {
                    self.topics.insert(number, draft.topic);
                }
                Err(NotTaken::UnknownTopic | NotTaken::BufferFull) => {
                    self.held = Some((number, draft));
                    return self.ask_topics(scene);
                }
                Err(NotTaken::Refused(_)) => scene.facts.push(Fact::Failed { number }),
            }
            self.sent += 1;
            self.next_us = scene.now_us + scene.rng.delay(self.order.record_us);
        }
        if self.sent < self.order.records {
            scene.wake_us = scene.wake_us.min(self.next_us);
        }
    }

    fn ask_topics(&mut self, scene: &mut Scene<'_>) {
        if !self.asked_topics && scene.now_us >= self.next_question_us {
            self.asked_topics = true;
            self.next_question_us = scene.now_us + 100_000;
            scene.requests.push((CONTROL, Request::Metadata));
        }
    }

    fn send(&mut self, scene: &mut Scene<'_>) {
        if scene.now_us < self.again_us {
            scene.wake_us = scene.wake_us.min(self.again_us);
            return;
        }
        for lane in 0..self.driven.lanes().len() {
            while self.driven.has_work(lane) {
                match self.driven.next(lane, scene.now()) {
                    DrivenNext::Send(request) => {
                        let (correlation, batches) = (request.correlation, request.batches);
                        let acks = self.order.config.acks;
                        self.waiting_since.entry(lane).or_default().push(scene.now_us);
                        let stream = StreamId::try_from(lane + 1).unwrap_or(StreamId::MAX);
                        scene.requests.push((stream, Request::Produce { correlation, acks, batches }));
                    }
                    DrivenNext::NeedIdentity => {
                        if !self.asked_identity {
                            self.asked_identity = true;
                            scene.requests.push((CONTROL, Request::InitProducerId));
                        }
                        break;
                    }
                    DrivenNext::Wait(until) => {
                        if let Some(until) = until {
                            scene.wake_at(until);
                        }
                        break;
                    }
                }
            }
        }
    }

    fn report(&mut self, scene: &mut Scene<'_>) {
        for outcome in self.driven.take_outcomes() {
            let number = outcome.number;
            let topic = self.topics.remove(&number).and_then(|name| self.ids.get(&name)).copied();
            scene.facts.push(match (outcome.offset, topic) {
                (Ok(Some(offset)), Some(topic)) => {
                    let id = TopicPartition { topic, partition: outcome.partition };
                    Fact::Acknowledged { number, id, offset }
                }
                (Err(ClientError::Api(error)), Some(topic)) if error.code == ErrorCode::OutOfOrderSequenceNumber => {
                    Fact::OutOfTurn { number, id: TopicPartition { topic, partition: outcome.partition } }
                }
                _ => Fact::Failed { number },
            });
        }
    }
}

impl Client for ProducerClient {
    fn step(&mut self, scene: &mut Scene<'_>) {
        self.driven.expire(scene.now());
        self.append(scene);
        if scene.ending && self.sent == self.order.records {
            self.driven.flush();
        }
        if !self.driven.stale_topics().is_empty() {
            self.ask_topics(scene);
        }
        self.send(scene);
        self.report(scene);
    }

    fn on_response(&mut self, scene: &mut Scene<'_>, stream: StreamId, response: Response) {
        match response {
            Response::Produced { correlation, outcomes } => {
                let lane = stream.saturating_sub(1) as usize;
                if let Some(waiting) = self.waiting_since.get_mut(&lane).filter(|waiting| !waiting.is_empty()) {
                    waiting.remove(0);
                }
                if let Err(found) = self.driven.on_response(lane, correlation, Ok(outcomes), scene.now()) {
                    scene.facts.push(Fact::BrokeProtocol(found));
                }
            }
            Response::Topics(topics) => {
                self.asked_topics = false;
                for name in &self.order.topics.clone() {
                    match topics.iter().find(|topic| topic.name == *name) {
                        Some(topic) => {
                            self.driven.learn(topic);
                            self.report(scene);
                            self.ids.insert(name.clone(), topic.id);
                        }
                        None => {
                            let error = ApiError::new(ErrorCode::UnknownTopicOrPartition, "no such topic");
                            self.driven.end_topic(name, &ClientError::Api(error));
                            self.give_up_held(scene, name);
                        }
                    }
                }
            }
            Response::ProducerId(identity) => {
                self.asked_identity = false;
                match identity {
                    Ok(producer_id) => self.driven.set_identity(producer_id, 0),
                    Err(_) => self.again_us = scene.now_us + 100_000,
                }
            }
            Response::Fetched { .. } | Response::Done(_) => {}
        }
        self.step(scene);
    }

    fn on_lost(&mut self, scene: &mut Scene<'_>) {
        (self.asked_topics, self.asked_identity) = (false, false);
        self.waiting_since.clear();
        let lost = ClientError::ConnectionLost { address: "n0".to_owned(), reason: "as the seed has it".to_owned() };
        for lane in 0..self.driven.lanes().len() {
            self.driven.on_lost(lane, &lost, scene.now());
        }
        self.again_us = scene.now_us + scene.rng.delay(20_000);
        scene.wake_us = scene.wake_us.min(self.again_us);
        self.report(scene);
    }

    fn finished(&self) -> Result<(), String> {
        let (sent, all, open) = (self.sent, self.order.records, self.driven.open_records());
        if sent == all && open == 0 { Ok(()) } else { Err(format!("{sent} of {all} records sent, {open} open")) }
    }

    fn is_out_of_patience(&self, now_us: u64) -> bool {
        self.waiting_since.values().filter_map(|sent| sent.first()).any(|sent| now_us > sent + PATIENCE_US)
    }
}

impl ProducerClient {
    /// A record for a topic that is not there is not sent.
    fn give_up_held(&mut self, scene: &mut Scene<'_>, name: &str) {
        if let Some((number, _)) = self.held.take_if(|(_, draft)| draft.topic == name) {
            scene.facts.push(Fact::Failed { number });
            self.sent += 1;
        }
    }
}

/// Settings of the library for a producer with batches of this size and this delivery time-out.
#[must_use]
pub fn config(batch_bytes_max: usize, delivery_ms: u64, acks: Acks) -> ProducerConfig {
    ProducerConfig {
        acks,
        batch_bytes_max,
        delivery_timeout: std::time::Duration::from_millis(delivery_ms),
        ..ProducerConfig::default()
    }
}
