//! Reading every log whole and holding the checkers against it.

use super::World;
use crate::sim::checker::acknowledged::Acknowledged;
use crate::sim::checker::{LoggedRecord, Violation, history, order, read_batches, records_of, steps, twice};
use crate::sim::node::{Broker, SimTask};
use crate::sim::trace::Who;
use headwater_core::cluster::ProcessorImage;
use headwater_protocol::batch::RecordBatch;
use headwater_protocol::ids::{TaskProducer, TopicPartition};
use headwater_state::{Scan, StateStore, StoreNumber};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

type Logs = BTreeMap<TopicPartition, Vec<LoggedRecord>>;

impl World {
    /// Checks everything that lies on a node; with `complete` everything must have arrived.
    pub(super) fn audit(&mut self, number: usize, complete: bool) -> Result<(), Violation> {
        let Some(broker) = &self.nodes[number].broker else { return Ok(()) };
        let image = broker.metadata.image();
        let changelogs: BTreeMap<_, _> = image.processors().map(|it| (it.changelog, Arc::clone(it))).collect();
        let (mut logs, mut commits) = (Logs::new(), BTreeMap::new());
        for (id, handle) in broker.handles.lock().iter() {
            let reader = handle.view().reader();
            if self.decay[number].concerns(&id.to_string()) {
                // It can't be read whole, but where it ends is known: what the power took is forgotten, as below.
                if self.os_topics.contains(&id.topic) && self.dark[number].may_have_lost(*id) {
                    self.acknowledged.may_lose(*id, reader.end_offset());
                    self.offsets.may_lose(*id, reader.end_offset());
                }
                continue;
            }
            let read = read_batches(reader, reader.end_offset());
            let batches = match read {
                Ok(batches) => batches,
                // An injected fault; the next audit reads again.
                Err(error) if !self.ending && error.code() != headwater_protocol::error::ErrorCode::CorruptMessage => {
                    return Ok(());
                }
                Err(error) => return Err(Violation::new("served", format!("{id} can't be read: {error}"))),
            };
            let batches = self.cleaned.complete(*id, (reader.start_offset(), reader.end_offset()), batches)?;
            if changelogs.contains_key(&id.topic) {
                commits.insert(*id, batches);
            } else {
                let log = self.retained.complete(*id, reader.start_offset(), decode(*id, &batches)?);
                logs.insert(*id, log);
            }
        }
        let missing = |id: &TopicPartition| {
            !logs.contains_key(id) && !broker.failed.contains_key(id) && !self.decay[number].concerns(&id.to_string())
        };
        for id in self.acknowledged.partitions().filter(missing).collect::<Vec<_>>() {
            if !self.doomed_topics.contains(&id.topic) {
                return Err(Acknowledged::gone(id));
            }
            self.acknowledged.forget(id);
            self.offsets.forget(id);
        }
        let audited = logs.values().map(Vec::len).sum::<usize>();
        self.trace.note(self.now_us, Who::Node(number), "audit", &[audited.cast_signed() as i64]);
        for (id, log) in &logs {
            if self.os_topics.contains(&id.topic) && self.dark[number].may_have_lost(*id) {
                let end = log.last().map_or(0, |record| record.offset + 1);
                self.acknowledged.may_lose(*id, end);
                self.offsets.may_lose(*id, end);
            }
            self.acknowledged.check(*id, log)?;
            self.offsets.check(*id, log)?;
            // With the records the partition's memory of sequences is lost: what was on its way may overtake (IDP-5).
            if !(self.os_topics.contains(&id.topic) && self.has_lost_power()) {
                order::check(*id, log, |number| self.sent.get(&number).map(|sent| sent.producer))?;
            }
            twice::check(*id, log)?;
        }
        // From here on what is there has been seen; the death of a process takes nothing of it (reliability §1.5).
        self.dark[number].audited.extend(logs.keys());
        for (id, changelog) in &commits {
            let processor = &changelogs[&id.topic];
            check_task(broker, processor, id.partition, (changelog, &logs), complete)?;
        }
        Ok(())
    }

    /// Whether the power may have gone in this run.
    fn has_lost_power(&self) -> bool {
        ["power-cut", "torn-call", "old-directory", "rot"].iter().any(|kind| self.counts.contains_key(kind))
    }

    /// What clients did and saw, once all is done.
    pub(super) fn check_history(&self) -> Result<(), Violation> {
        let was_dark = self.has_lost_power();
        let promise = |id: TopicPartition| match () {
            () if self.os_topics.contains(&id.topic) && was_dark => history::Promise::Nothing,
            () if self.doomed_topics.contains(&id.topic) => history::Promise::Gone,
            () => history::Promise::Kept,
        };
        history::check(&self.history, promise, self.shape.consumers > 0)
    }
}

fn decode(id: TopicPartition, batches: &[RecordBatch]) -> Result<Vec<LoggedRecord>, Violation> {
    let mut records = Vec::new();
    for batch in batches {
        let decoded = records_of(batch.bytes().clone(), 0);
        records.extend(decoded.map_err(|found| Violation::new("served", format!("{id}: {found}")))?);
    }
    let expected = records.first().map_or(0, |record| record.offset);
    for (expected, record) in (expected..).zip(&records) {
        if record.offset != expected {
            let found = format!("{id}: offset {} where {expected} was due", record.offset);
            return Err(Violation::new("offsets", found));
        }
    }
    Ok(records)
}

fn check_task(
    broker: &Broker,
    processor: &ProcessorImage,
    task: u32,
    (changelog, logs): (&[RecordBatch], &Logs),
    complete: bool,
) -> Result<(), Violation> {
    let image = broker.metadata.image();
    let place = |place: usize| {
        let starts = processor.from.get(place).and_then(|starts| starts.get(task as usize)).copied();
        starts.unwrap_or(0)
    };
    let input = |(number, topic): (usize, &headwater_protocol::ids::TopicId)| {
        (TopicPartition { topic: *topic, partition: task }, place(number))
    };
    let starts: BTreeMap<_, _> = processor.inputs.iter().enumerate().map(input).collect();
    let Some(output) = processor.outputs.first() else { return Ok(()) };
    let partitions = image.topic(*output).map_or(0, |topic| topic.partition_count());
    let missing = starts.keys().any(|id| !logs.contains_key(id))
        || (0..partitions).any(|partition| !logs.contains_key(&TopicPartition { topic: *output, partition }));
    if missing {
        // A partition that could not be opened: the next start tries again.
        return Ok(());
    }
    let task_logs = steps::TaskLogs {
        task: TaskProducer { processor: processor.number, task, generation: processor.generation },
        starts,
        output: (*output, partitions),
        changelog,
        logs,
    };
    let fold = task_logs.check(complete)?;
    match broker.tasks.get(&(processor.number.0, task)) {
        Some(running) if complete => check_store((processor.number.0, task), running, &fold.state),
        _ => Ok(()),
    }
}

/// OUT-4: the store is the fold of all commits once all are below the high watermark.
fn check_store(key: (u32, u32), task: &SimTask, state: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<(), Violation> {
    let Some(host) = task.driver.host() else { return Ok(()) };
    let host = host.lock();
    let mut there = BTreeMap::new();
    let scanned = host.overlay().store().scan(&Scan::all(StoreNumber(0)), &mut |key, value| {
        there.insert(key.to_vec(), value.to_vec());
        ControlFlow::Continue(())
    });
    if scanned.is_ok() && there == *state {
        return Ok(());
    }
    Err(Violation::new("steps", format!("task {key:?}: the store is not the fold of the commits (OUT-4)")))
}

/// STEP-4, STEP-13: the store is never ahead of the changelog's high watermark; the protocol's own invariants hold.
pub(super) fn check_task_state(key: (u32, u32), task: &SimTask) -> Result<(), Violation> {
    let Some(protocol) = task.driver.protocol() else { return Ok(()) };
    if super::looks_inside() {
        protocol.invariants().map_err(|violation| Violation::new("steps", format!("task {key:?}: {violation}")))?;
    }
    let Some(host) = task.driver.host() else { return Ok(()) };
    let position = host.lock().overlay().store().position();
    let high_watermark = task.changelog_high_watermark();
    match (position, high_watermark) {
        (Some(position), Some(high_watermark)) if position.next_offset > high_watermark => {
            let (ahead, behind) = (position.next_offset, high_watermark);
            let found = format!("task {key:?}: its store is at {ahead}, the changelog's high watermark at {behind}");
            Err(Violation::new("steps", found))
        }
        _ => Ok(()),
    }
}
