//! How a run begins, and how a panic in it is told.

use super::decay::Decay;
use super::{ClientSeat, Dark, Event, World};
use crate::sim::checker::Violation;
use crate::sim::checker::acknowledged::Acknowledged;
use crate::sim::checker::metadata::Answered;
use crate::sim::checker::offsets::Offsets;
use crate::sim::clock::NodeClock;
use crate::sim::guest::{GuestKind, Trap};
use crate::sim::history::History;
use crate::sim::network::Network;
use crate::sim::node::{Node, Request, Response};
use crate::sim::rng::Rng;
use crate::sim::shape::Shape;
use crate::sim::trace::Trace;
use crate::sim::workload::Client;
use crate::sim::workload::admin::{AdminClient, PASSING, deployment, module};
use crate::sim::workload::consumer::ConsumerClient;
use crate::sim::workload::producer::{Order, ProducerClient, config};
use headwater_protocol::messages::records::Acks;
use headwater_protocol::messages::topic::NewTopic;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::time::Instant;

/// Topic ids that the setup takes; those of the operator come after.
const SETUP_TOPICS: u64 = 100;

impl World {
    pub(super) fn new(shape: Shape, mut rng: Rng, trace: Trace) -> Self {
        let clock = |rng: &mut Rng| NodeClock::draw(rng, shape.wild_clocks);
        let held = (0..shape.nodes).map(|_| VecDeque::new()).collect();
        let nodes = (0..shape.nodes).map(|number| Node::new(number, clock(&mut rng))).collect();
        let answered = (0..shape.nodes).map(|_| Answered::default()).collect();
        let decay = (0..shape.nodes).map(|_| Decay::default()).collect();
        let dark = (0..shape.nodes).map(|_| Dark::default()).collect();
        Self {
            shape,
            rng,
            begin: Instant::now(),
            now_us: 0,
            heap: BinaryHeap::new(),
            retained: super::retention::Retained::default(),
            cleaned: super::cleaning::Cleaned::default(),
            scheduled: 0,
            nodes,
            turning: BTreeSet::new(),
            held,
            clients: Vec::new(),
            network: Network::default(),
            trap: Trap::default(),
            trace,
            counts: BTreeMap::new(),
            next_number: 0,
            sent: BTreeMap::new(),
            acknowledged: Acknowledged::default(),
            acknowledged_count: 0,
            offsets: Offsets::default(),
            os_topics: BTreeSet::new(),
            doomed_topics: BTreeSet::new(),
            answered,
            decay,
            ending: false,
            ended_us: 0,
            finished: false,
            steps: 0,
            history: History::default(),
            dark,
            hears_earlier_run: false,
        }
    }

    /// Starts the brokers, makes topics and processors, seats the clients.
    pub(super) fn set_up(&mut self) -> Result<(), Violation> {
        for number in 0..self.nodes.len() {
            self.start(number)?;
        }
        let deployments = self.deployments();
        self.make_topics()?;
        for kind in GuestKind::ALL {
            self.order(Request::AddModule(Box::new(module(kind))))?;
        }
        for (number, request) in (20..).zip(&deployments) {
            self.order(Request::Deploy { request: Box::new(request.clone()), changelog: number })?;
        }
        self.settle(0);
        self.seat_clients(deployments);
        self.schedule_faults();
        self.schedule(self.now_us, Event::Look);
        Ok(())
    }

    fn deployments(&mut self) -> Vec<headwater_protocol::messages::processor::DeployProcessorRequest> {
        let mut deployments = Vec::new();
        for number in 0..self.shape.processors {
            let kind = self.rng.pick(self.shape.guests()).copied().unwrap_or(GuestKind::Counter);
            // The second one reads what the first one wrote, or two topics.
            let inputs: &[&str] = match (number, self.rng.below(3)) {
                (0, 0 | 1) | (_, 0) => &["lines"],
                (0, _) => &["lines", "more"],
                (_, 1) => &["counts-0"],
                _ => &["lines", "counts-0"],
            };
            let output = format!("counts-{number}");
            let name = format!("count-{number}");
            deployments.push(deployment(&name, kind, inputs, &output, self.shape.step_records));
        }
        deployments
    }

    fn make_topics(&mut self) -> Result<(), Violation> {
        let durability = if self.shape.durability_os { "os" } else { "fsync" };
        let names = ["plain", "lines", "more", "counts-0", "counts-1"];
        for (number, name) in (0..).zip(names) {
            let settings = match name {
                "plain" => vec![("durability".to_owned(), durability.to_owned())],
                _ => Vec::new(),
            };
            let partitions = Some(self.shape.partitions);
            let topic = NewTopic { name: name.to_owned(), partitions, replication_factor: Some(1), settings };
            self.order(Request::CreateTopic { topic, number })?;
            if name == "plain" && self.shape.durability_os {
                self.os_topics.insert(crate::sim::node::topic_id(number));
            }
        }
        Ok(())
    }

    fn order(&mut self, request: Request) -> Result<(), Violation> {
        let broker = self.nodes[0].broker.as_mut().ok_or_else(|| Violation::new("setup", "no broker"))?;
        match broker.serve(0, request) {
            Response::Done(Err(error)) => Err(Violation::new("setup", error.to_string())),
            _ => Ok(()),
        }
    }

    fn seat_clients(&mut self, deployments: Vec<headwater_protocol::messages::processor::DeployProcessorRequest>) {
        let mut clients: Vec<Box<dyn Client>> = Vec::new();
        for _ in 0..self.shape.producers {
            let mut topics = vec!["plain".to_owned(), "lines".to_owned(), "more".to_owned()];
            if self.shape.topics_come_and_go {
                topics.push(PASSING.to_owned());
            }
            let acks = if self.rng.per_mille(200) { Acks::Leader } else { Acks::All };
            clients.push(Box::new(ProducerClient::new(Order {
                topics,
                records: self.shape.records,
                record_us: self.shape.record_us,
                config: config(self.shape.batch_bytes, self.shape.delivery_ms, acks),
                seed: self.rng.draw(),
            })));
        }
        for _ in 0..self.shape.consumers {
            clients.push(Box::new(ConsumerClient::default()));
        }
        let changes = self.shape.processors_change && !deployments.is_empty();
        let doings = (self.shape.topics_come_and_go, changes);
        clients.push(Box::new(AdminClient::new(deployments, self.shape.guests(), doings, SETUP_TOPICS)));
        for client in clients {
            let number = self.clients.len();
            self.clients.push(ClientSeat { client, connection: None, scheduled_us: Some(0), reconnect_us: 0 });
            self.schedule(0, Event::Client { client: number });
        }
    }
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static GUARDED: RefCell<bool> = const { RefCell::new(false) };
}

/// Runs something that may panic; says what it answered, or what the panic said.
pub(super) fn guarded<T>(act: impl FnOnce() -> T) -> (Option<T>, Option<String>) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if GUARDED.with_borrow(|guarded| *guarded) {
                PANIC.with_borrow_mut(|panic| {
                    panic.get_or_insert_with(|| info.to_string());
                });
            } else {
                before(info);
            }
        }));
    });
    PANIC.set(None);
    GUARDED.set(true);
    let answer = catch_unwind(AssertUnwindSafe(act)).ok();
    GUARDED.set(false);
    (answer, PANIC.take())
}
