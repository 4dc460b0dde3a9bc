//! An operator: topics come and go, processors are deployed again, paused, resumed, deleted.

use super::{Client, Scene};
use crate::sim::guest::GuestKind;
use crate::sim::network::StreamId;
use crate::sim::node::{Request, Response};
use headwater_core::cluster::AddModule;
use headwater_protocol::messages::processor::{DeployProcessorRequest, ErrorPolicy, ProcessorLimits, StartFrom};
use headwater_protocol::messages::topic::NewTopic;

const STREAM: StreamId = 0;

/// The topic that comes and goes.
pub const PASSING: &str = "passing";

/// An operating client.
pub struct AdminClient {
    /// Processors that it looks after: name and current guest.
    processors: Vec<(String, DeployProcessorRequest)>,
    /// What it deploys.
    guests: &'static [GuestKind],
    topics: bool,
    changes: bool,
    next_us: u64,
    asked: bool,
    next_topic: u64,
    paused: Vec<String>,
    ended: bool,
}

impl AdminClient {
    /// An operator of these processors, whose topics get ids from `next_topic` on: whether topics come and go, whether
    /// processors change.
    #[must_use]
    pub fn new(
        deployments: Vec<DeployProcessorRequest>,
        guests: &'static [GuestKind],
        (topics, changes): (bool, bool),
        next_topic: u64,
    ) -> Self {
        let processors = deployments.into_iter().map(|request| (request.name.clone(), request)).collect();
        Self {
            guests,
            processors,
            topics,
            changes,
            next_us: 0,
            asked: false,
            next_topic,
            paused: Vec::new(),
            ended: false,
        }
    }

    fn choose(&mut self, scene: &mut Scene<'_>) -> Option<Request> {
        if scene.ending {
            if let Some(name) = self.paused.pop() {
                return Some(Request::Pause { name, paused: false });
            }
            self.ended = true;
            return Some(Request::RestartFailed);
        }
        self.next_topic += 1;
        match scene.rng.below(7) {
            0 if self.topics => {
                let topic = passing_topic();
                Some(Request::CreateTopic { topic, number: self.next_topic })
            }
            1 if self.topics => Some(Request::DeleteTopic { name: PASSING.to_owned() }),
            2 | 3 if self.changes => {
                let (name, _) = scene.rng.pick(&self.processors)?.clone();
                let paused = scene.rng.per_mille(500);
                self.paused.push(name.clone());
                Some(Request::Pause { name, paused })
            }
            4 if self.changes => {
                let place = scene.rng.place(self.processors.len());
                let (_, request) = self.processors.get_mut(place)?;
                let kind = scene.rng.pick(self.guests)?;
                request.module = kind.name().to_owned();
                Some(Request::Deploy { request: Box::new(request.clone()), changelog: self.next_topic })
            }
            // The next deployment makes another processor of that name, which begins at the beginning.
            5 if self.changes && scene.rng.per_mille(300) => {
                let (name, _) = scene.rng.pick(&self.processors)?.clone();
                Some(Request::DeleteProcessor { name })
            }
            _ => Some(Request::RestartFailed),
        }
    }
}

impl Client for AdminClient {
    fn step(&mut self, scene: &mut Scene<'_>) {
        if self.asked || scene.now_us < self.next_us {
            return;
        }
        self.next_us = scene.now_us + scene.rng.delay(400_000);
        if let Some(request) = self.choose(scene) {
            self.asked = true;
            scene.requests.push((STREAM, request));
        }
    }

    fn on_response(&mut self, scene: &mut Scene<'_>, _: StreamId, _: Response) {
        self.asked = false;
        self.step(scene);
    }

    fn on_lost(&mut self, scene: &mut Scene<'_>) {
        // Nobody knows what became of the last order: at the end all are resumed.
        self.asked = false;
        if scene.ending {
            self.paused = self.processors.iter().map(|(name, _)| name.clone()).collect();
        }
        self.next_us = scene.now_us + 100_000;
    }

    fn finished(&self) -> Result<(), String> {
        if self.ended { Ok(()) } else { Err("the operator has not resumed everything".to_owned()) }
    }
}

/// The topic that comes and goes.
#[must_use]
pub fn passing_topic() -> NewTopic {
    NewTopic { name: PASSING.to_owned(), partitions: Some(2), replication_factor: Some(1), settings: Vec::new() }
}

/// What makes a guest known as a module.
#[must_use]
pub fn module(kind: GuestKind) -> AddModule {
    AddModule {
        name: kind.name().to_owned(),
        version: Some("1".to_owned()),
        digest: kind.digest(),
        size_bytes: 1000,
        world: "headwater:module/processor@0.1.0".to_owned(),
        imports: Vec::new(),
        uploaded_at: 0,
    }
}

/// A deployment of `kind` that reads `inputs` and writes `output`.
#[must_use]
pub fn deployment(
    name: &str,
    kind: GuestKind,
    inputs: &[&str],
    output: &str,
    step_records: u32,
) -> DeployProcessorRequest {
    DeployProcessorRequest {
        name: name.to_owned(),
        module: kind.name().to_owned(),
        inputs: inputs.iter().map(|input| (*input).to_owned()).collect(),
        outputs: vec![output.to_owned()],
        stores: vec!["counts".to_owned()],
        settings: Vec::new(),
        from: StartFrom::Earliest,
        limits: ProcessorLimits { records_per_step_max: step_records, ..ProcessorLimits::default() },
        errors: ErrorPolicy::default(),
        shadow: false,
    }
}
