//! A run: a heap of events, one clock, everything drawn from one seed.

mod audit;
mod cleaning;
mod decay;
mod faults;
mod retention;
mod setup;
mod traffic;

use super::checker::Violation;
use super::checker::acknowledged::Acknowledged;
use super::checker::liveness::Unfinished;
use super::checker::metadata::Answered;
use super::checker::offsets::Offsets;
use super::guest::Trap;
use super::history::History;
use super::network::{ConnectionId, Network, StreamId};
use super::node::{Node, Request, RequestId, Response, StartSetting};
use super::rng::Rng;
use super::shape::Shape;
use super::trace::{Trace, Who};
use super::workload::Client;
use headwater_protocol::ids::{TopicId, TopicPartition};
use headwater_protocol::messages::processor::TaskState;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::Instant;

pub use faults::FaultKind;

/// How often it is looked at whether all is done.
const LOOK_US: u64 = 200_000;
/// How often a broker writes its recovery points down.
const CHECKPOINT_US: u64 = 1_000_000;
/// How long a sync may take while the disk stalls.
const STALL_US_MAX: u64 = 30_000_000;
/// Events of one run, after which it is given up.
const EVENTS_MAX: u64 = 20_000_000;

/// What can be chosen beside the seed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Write every event to standard error.
    pub prints: bool,
    /// How many of the last events are kept for the report.
    pub kept: usize,
    /// Give the history of sends and polls back with the outcome.
    pub keeps_history: bool,
    /// The rule that the product does without.
    #[cfg(feature = "mutants")]
    pub mutant: Option<headwater_mutants::Mutant>,
    /// Have much of what this rule is about in the run.
    #[cfg(feature = "mutants")]
    pub favours: Option<headwater_mutants::Mutant>,
}

/// What became of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// The hash over its events.
    pub hash: u64,
    /// How many events there were.
    pub events: u64,
    /// How much simulated time passed, in microseconds.
    pub simulated_us: u64,
    /// Injected faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Records that were acknowledged.
    pub acknowledged: u64,
    /// Steps that tasks committed.
    pub steps: u64,
    /// The first thing that does not hold.
    pub violation: Option<Violation>,
    /// What clients did and saw, if it was kept.
    pub history: Option<History>,
    /// The last events, if they were kept.
    pub last: Vec<String>,
}

/// What happens at a moment.
enum Event {
    Turn {
        node: usize,
        run: u64,
    },
    Job {
        node: usize,
        run: u64,
        job: u64,
    },
    Task {
        node: usize,
        run: u64,
        task: (u32, u32),
    },
    Checkpoint {
        node: usize,
        run: u64,
    },
    Trim {
        node: usize,
        run: u64,
    },
    /// A broker cleans a log.
    Clean {
        node: usize,
        run: u64,
    },
    ToNode {
        connection: ConnectionId,
        stream: StreamId,
        request: Box<Request>,
    },
    ToClient {
        connection: ConnectionId,
        stream: StreamId,
        response: Box<Response>,
    },
    TimeOut {
        node: usize,
        run: u64,
        request: RequestId,
    },
    Lost {
        connection: ConnectionId,
    },
    Client {
        client: usize,
    },
    Fault(FaultKind),
    Start {
        node: usize,
    },
    Resume {
        node: usize,
    },
    Look,
}

struct Scheduled {
    at_us: u64,
    number: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at_us, self.number) == (other.at_us, other.number)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_us, self.number).cmp(&(other.at_us, other.number))
    }
}

/// A record that a client sent.
#[derive(Clone, Copy, Debug)]
struct SentRecord {
    producer: usize,
    meaning: u64,
}

struct ClientSeat {
    client: Box<dyn Client>,
    connection: Option<ConnectionId>,
    scheduled_us: Option<u64>,
    /// Not before this moment does it connect again.
    reconnect_us: u64,
}

/// Whether the power went on a node, and which partitions were audited since.
#[derive(Default)]
struct Dark {
    was: bool,
    audited: BTreeSet<TopicPartition>,
}

impl Dark {
    fn may_have_lost(&self, id: TopicPartition) -> bool {
        self.was && !self.audited.contains(&id)
    }
}

/// Everything there is in a run.
pub struct World {
    shape: Shape,
    rng: Rng,
    begin: Instant,
    now_us: u64,
    heap: BinaryHeap<Reverse<Scheduled>>,
    retained: retention::Retained,
    cleaned: cleaning::Cleaned,
    scheduled: u64,
    nodes: Vec<Node>,
    turning: BTreeSet<usize>,
    /// What waits for a process that gets no time, by node.
    held: Vec<VecDeque<Event>>,
    clients: Vec<ClientSeat>,
    network: Network,
    trap: Trap,
    trace: Trace,
    counts: BTreeMap<&'static str, u64>,
    next_number: u64,
    sent: BTreeMap<u64, SentRecord>,
    acknowledged: Acknowledged,
    acknowledged_count: u64,
    offsets: Offsets,
    os_topics: BTreeSet<TopicId>,
    /// Topics that somebody asked to delete: they may be gone, whatever the answer was.
    doomed_topics: BTreeSet<TopicId>,
    /// What was answered about the cluster, by node.
    answered: Vec<Answered>,
    /// What is wrong with the disks, by node.
    decay: Vec<decay::Decay>,
    ending: bool,
    /// When the faults ended.
    ended_us: u64,
    finished: bool,
    steps: u64,
    history: History,
    /// What power cuts may have taken, by node.
    dark: Vec<Dark>,
    /// Whether the answer that a client hears now is of a run of a broker that has ended.
    hears_earlier_run: bool,
}

/// Runs a seed to its end.
#[must_use]
pub fn run(seed: u64, options: Options) -> Outcome {
    #[cfg(feature = "mutants")]
    return headwater_mutants::without(options.mutant, || draw_and_run(seed, options));
    #[cfg(not(feature = "mutants"))]
    draw_and_run(seed, options)
}

/// Whether the product's own invariants are looked at. A mutant must be caught by what users would see.
fn looks_inside() -> bool {
    #[cfg(feature = "mutants")]
    return headwater_mutants::chosen().is_none();
    #[cfg(not(feature = "mutants"))]
    true
}

fn draw_and_run(seed: u64, options: Options) -> Outcome {
    let mut rng = Rng::new(seed);
    let shape = Shape::draw(&mut rng);
    #[cfg(feature = "mutants")]
    let shape = options.favours.map_or(shape.clone(), |mutant| super::mutants::favour(mutant, shape));
    run_shape(seed, shape, rng, options)
}

/// Runs a given shape with the choices of a seed.
#[must_use]
pub fn run_shape(seed: u64, shape: Shape, rng: Rng, options: Options) -> Outcome {
    let mut world = World::new(shape, rng, Trace::new(options.prints, options.kept));
    let (result, panic) = setup::guarded(|| world.run_to_end());
    let violation = match (result, panic) {
        (Some(Ok(())), _) => None,
        (Some(Err(violation)), _) => Some(violation),
        (None, message) => Some(Violation::new("panic", message.unwrap_or_default())),
    };
    let outcome = Outcome {
        seed,
        hash: world.trace.hash(),
        events: world.trace.events(),
        simulated_us: world.now_us,
        faults: world.counts.clone(),
        acknowledged: world.acknowledged_count,
        steps: world.steps,
        violation,
        history: options.keeps_history.then(|| std::mem::take(&mut world.history)),
        last: world.trace.last().map(str::to_owned).collect(),
    };
    // After a panic what is left may panic again when it goes.
    drop(setup::guarded(move || drop(world)));
    outcome
}

impl World {
    fn run_to_end(&mut self) -> Result<(), Violation> {
        self.set_up()?;
        while !self.finished {
            let Some(Reverse(next)) = self.heap.pop() else {
                return Err(Violation::new("liveness", "nothing is going to happen any more"));
            };
            if self.trace.events() > EVENTS_MAX {
                return Err(Violation::new("liveness", format!("{EVENTS_MAX} events and no end")));
            }
            self.now_us = self.now_us.max(next.at_us);
            self.take(next.event)?;
        }
        Ok(())
    }

    fn schedule(&mut self, at_us: u64, event: Event) {
        self.scheduled += 1;
        self.heap.push(Reverse(Scheduled { at_us, number: self.scheduled, event }));
    }

    fn take(&mut self, event: Event) -> Result<(), Violation> {
        let place = match &event {
            Event::Turn { node, run }
            | Event::Job { node, run, .. }
            | Event::Task { node, run, .. }
            | Event::Checkpoint { node, run }
            | Event::Trim { node, run }
            | Event::Clean { node, run }
            | Event::TimeOut { node, run, .. } => Some((*node, *run)),
            _ => None,
        };
        if let Some((node, run)) = place {
            if self.nodes[node].run != run || self.nodes[node].broker.is_none() {
                return Ok(());
            }
            if self.is_paused(node) {
                self.held[node].push_back(event);
                return Ok(());
            }
        }
        match event {
            Event::Turn { node, .. } => self.turn(node)?,
            Event::Job { node, job, .. } => self.run_job(node, job),
            Event::Task { node, task, .. } => self.advance_task(node, task)?,
            Event::Checkpoint { node, .. } => self.checkpoint(node),
            Event::Trim { node, .. } => self.trim(node)?,
            Event::Clean { node, .. } => self.clean(node)?,
            Event::TimeOut { node, request, .. } => self.time_out(node, request),
            Event::ToNode { connection, stream, request } => self.arrive_at_node(connection, stream, *request)?,
            Event::ToClient { connection, stream, response } => self.arrive_at_client(connection, stream, *response)?,
            Event::Lost { connection } => self.lost(connection)?,
            Event::Client { client } => self.step_client(client)?,
            Event::Fault(kind) => self.fault(kind)?,
            Event::Start { node } => self.start(node)?,
            Event::Resume { node } => self.resume(node)?,
            Event::Look => self.look()?,
        }
        if let Some((node, _)) = place {
            self.settle(node);
        }
        self.notice_halts()
    }

    /// Whether a node's process gets no time.
    fn is_paused(&self, node: usize) -> bool {
        self.nodes[node].paused_until_us > self.now_us
    }

    /// A node's process gets time again: what has waited for it happens now, in order.
    fn resume(&mut self, node: usize) -> Result<(), Violation> {
        if self.is_paused(node) {
            return Ok(());
        }
        let held = std::mem::take(&mut self.held[node]);
        held.into_iter().try_for_each(|event| self.take(event))
    }

    fn turn(&mut self, number: usize) -> Result<(), Violation> {
        self.turning.remove(&number);
        let node = &mut self.nodes[number];
        let now = node.clock.now(self.now_us);
        let (stalled, run) = (node.stalled_until_us > self.now_us, node.run);
        let events_max = usize::try_from(self.rng.between(1, 64)).unwrap_or(1);
        let Some(broker) = &mut node.broker else { return Ok(()) };
        let jobs = broker.turn(now, events_max);
        if looks_inside() {
            broker.check_invariants()?;
        }
        self.trace.note(self.now_us, Who::Node(number), "turn", &[jobs.len().cast_signed() as i64]);
        for job in jobs {
            let takes_us = match stalled {
                true => self.rng.between(200_000, STALL_US_MAX),
                false => self.rng.delay(self.shape.sync_us),
            };
            let at_us = self.now_us + takes_us;
            self.schedule(at_us, Event::Job { node: number, run, job });
        }
        Ok(())
    }

    fn run_job(&mut self, number: usize, job: u64) {
        let Some(broker) = &mut self.nodes[number].broker else { return };
        let succeeded = broker.run_job(job);
        self.trace.note(self.now_us, Who::Node(number), "synced", &[job.cast_signed(), i64::from(succeeded)]);
    }

    fn checkpoint(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        let run = node.run;
        let Some(broker) = &mut node.broker else { return };
        let written = broker.directory.checkpoint().is_ok();
        self.trace.note(self.now_us, Who::Node(number), "checkpoint", &[i64::from(written)]);
        self.schedule(self.now_us + CHECKPOINT_US, Event::Checkpoint { node: number, run });
    }

    fn advance_task(&mut self, number: usize, key: (u32, u32)) -> Result<(), Violation> {
        let node = &mut self.nodes[number];
        let now = node.clock.now(self.now_us);
        let mails_max = usize::try_from(self.rng.between(0, 32)).unwrap_or(1);
        let Some(task) = node.broker.as_mut().and_then(|broker| broker.tasks.get_mut(&key)) else { return Ok(()) };
        if task.scheduled_us.is_none_or(|at_us| at_us > self.now_us) {
            return Ok(());
        }
        task.scheduled_us = None;
        let before = task.driver.protocol().map(|task| task.next_step());
        task.advance(now, mails_max.max(1));
        let (after, floor) = task.driver.protocol().map_or((0, 0), |task| (task.next_step(), task.floor()));
        if before.is_some_and(|before| after > before) {
            self.steps += after - before.unwrap_or(after);
        }
        let numbers = [task.state() as i64, after.cast_signed(), floor.cast_signed()];
        self.trace.note(self.now_us, Who::Task(key.0, key.1), "step", &numbers);
        audit::check_task_state(key, task)
    }

    /// Schedules what a node has to do after something happened to it, and sends what it answers.
    fn settle(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        let run = node.run;
        let (now_us, clock) = (self.now_us, node.clock.clone());
        let Some(broker) = &mut node.broker else { return };
        let mut events = Vec::new();
        if broker.has_events() && self.turning.insert(number) {
            events.push((now_us + self.rng.delay(50), Event::Turn { node: number, run }));
        }
        if let Some(ms) = broker.new_deadline_ms() {
            events.push((clock.reaches_us(ms).max(now_us), Event::Turn { node: number, run }));
        }
        for (key, task) in &mut broker.tasks {
            let due = match task.driver.deadline_ms() {
                _ if task.has_mail() => Some(0),
                deadline => deadline.map(|ms| if ms == 0 { 0 } else { clock.reaches_us(ms) }),
            };
            let Some(due) = due.map(|due_us| due_us.max(now_us)) else { continue };
            if task.scheduled_us.is_none_or(|at_us| at_us > due + 20_000) {
                let at_us = due + self.rng.delay(100);
                task.scheduled_us = Some(at_us);
                events.push((at_us, Event::Task { node: number, run, task: *key }));
            }
        }
        let answers = broker.answers();
        for (at_us, event) in events {
            self.schedule(at_us, event);
        }
        for ((connection, stream), response) in answers {
            self.answer(connection, stream, response);
        }
    }

    fn start(&mut self, number: usize) -> Result<(), Violation> {
        if self.nodes[number].broker.is_some() {
            return Ok(());
        }
        let setting = StartSetting {
            segment_bytes: self.shape.segment_bytes,
            trap: Trap::clone(&self.trap),
            incarnation: self.rng.draw(),
            now: self.nodes[number].clock.now(self.now_us),
        };
        self.retained.forget_jobs(number);
        self.cleaned.forget_jobs(number);
        let started = self.nodes[number].start(&setting);
        let run = self.nodes[number].run;
        self.trace.note(self.now_us, Who::Node(number), "start", &[run.cast_signed(), i64::from(started.is_ok())]);
        if let Err(reason) = started {
            return self.not_started(number, &reason);
        }
        self.schedule(self.now_us + CHECKPOINT_US, Event::Checkpoint { node: number, run });
        self.schedule_trim(number);
        self.schedule_clean(number);
        if let Some(broker) = &self.nodes[number].broker {
            self.answered[number].check(broker.metadata.image().index().0)?;
        }
        self.check_replaced(number)?;
        self.audit(number, false)?;
        self.settle(number);
        Ok(())
    }

    /// Whether all is done; at the end of the faults, and in the end.
    fn look(&mut self) -> Result<(), Violation> {
        self.network.forget(self.now_us.saturating_sub(60_000_000));
        self.tend()?;
        if !self.ending {
            if self.now_us >= self.shape.chaos_us {
                self.end_faults();
            }
            self.schedule(self.now_us + LOOK_US, Event::Look);
            return Ok(());
        }
        let unfinished = self.unfinished();
        if unfinished.is_empty() {
            self.finished = true;
            return self.last_checks();
        }
        if self.now_us > self.ended_us + self.shape.heal_us {
            return Err(unfinished.violation());
        }
        self.schedule(self.now_us + LOOK_US, Event::Look);
        Ok(())
    }

    fn unfinished(&self) -> Unfinished {
        let mut unfinished = Unfinished::default();
        let ends = self.ends();
        for (number, seat) in self.clients.iter().enumerate() {
            let left = seat.client.finished().err().or_else(|| seat.client.is_behind(&ends));
            if let Some(what) = left {
                unfinished.note(|| format!("client {number}: {what}"));
            }
        }
        for node in &self.nodes {
            let Some(broker) = &node.broker else {
                unfinished.note(|| format!("n{} is not running", node.number));
                continue;
            };
            for (id, reason) in &broker.failed {
                unfinished.note(|| format!("{id} is out of service: {reason}"));
            }
            for (id, handle) in broker.handles.lock().iter() {
                let (end, shown) = (handle.view().reader().end_offset(), handle.view().high_watermark());
                if shown < end {
                    unfinished.note(|| format!("{id} ends at {end}, its high watermark is {shown}"));
                }
            }
            for (key, task) in &broker.tasks {
                let done = task.driver.protocol().is_some_and(|task| task.floor() == task.next_step());
                if !done || task.state() != TaskState::Running || !self.is_at_end(broker, task) {
                    let (state, error) = (task.state(), task.last_error().unwrap_or_default());
                    unfinished.note(|| format!("task {key:?} is {state:?}, not at the end of its input: {error}"));
                }
            }
        }
        unfinished
    }

    /// Where partitions end for those who read them.
    fn ends(&self) -> BTreeMap<TopicPartition, i64> {
        let mut ends = BTreeMap::new();
        for broker in self.nodes.iter().filter_map(|node| node.broker.as_ref()) {
            ends.extend(broker.handles.lock().iter().map(|(id, handle)| (*id, handle.view().high_watermark())));
        }
        ends
    }

    fn is_at_end(&self, broker: &super::node::Broker, task: &super::node::SimTask) -> bool {
        let setting = task.driver.setting();
        let Some(protocol) = task.driver.protocol() else { return false };
        setting.processor.inputs.iter().all(|topic| {
            let id = TopicPartition { topic: *topic, partition: setting.task };
            let high_watermark = broker.handles.lock().get(&id).map(|handle| handle.view().high_watermark());
            let position = protocol.positions().get(&id).map_or(0, |position| position.next_offset);
            high_watermark.is_some_and(|end| position >= end)
        })
    }
}
