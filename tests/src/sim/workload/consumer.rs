//! A consumer: reads every partition from the beginning, and seeks now and then.

use super::{Client, Fact, Scene};
use crate::sim::network::StreamId;
use crate::sim::node::{Request, Response};
use headwater_protocol::batch::BatchHeader;
use headwater_protocol::error::ErrorCode;
use headwater_protocol::ids::TopicPartition;
use std::collections::BTreeMap;

const CONTROL: StreamId = 0;
const POLL_US: u64 = 20_000;

#[derive(Debug, Default)]
struct Reading {
    position: i64,
    high_watermark: i64,
    asked: bool,
    next_us: u64,
    /// Read to the high watermark since the faults ended.
    at_end: bool,
    /// Whether it reads everything once more, at the end.
    is_last_time: bool,
}

/// A consuming client.
#[derive(Debug, Default)]
pub struct ConsumerClient {
    partitions: BTreeMap<TopicPartition, Reading>,
    asked_topics: bool,
    next_topics_us: u64,
}

impl ConsumerClient {
    fn seek(scene: &mut Scene<'_>, id: TopicPartition, reading: &mut Reading) {
        if scene.ending && !reading.is_last_time {
            // Once more from the beginning: what was acknowledged must have been seen in the end.
            (reading.is_last_time, reading.position) = (true, 0);
            scene.facts.push(Fact::Sought { id });
        } else if !scene.ending && scene.rng.per_mille(10) {
            scene.facts.push(Fact::Sought { id });
            reading.position = scene.rng.below(reading.high_watermark.max(0).cast_unsigned() + 1).cast_signed();
        }
    }
}

impl Client for ConsumerClient {
    fn step(&mut self, scene: &mut Scene<'_>) {
        if !self.asked_topics && scene.now_us >= self.next_topics_us {
            self.asked_topics = true;
            self.next_topics_us = scene.now_us + 1_000_000;
            scene.requests.push((CONTROL, Request::Metadata));
        }
        for (stream, (id, reading)) in (1..).zip(&mut self.partitions) {
            if reading.asked || scene.now_us < reading.next_us {
                continue;
            }
            Self::seek(scene, *id, reading);
            reading.asked = true;
            let bytes_max = usize::try_from(scene.rng.between(1, 8192)).unwrap_or(1);
            scene.requests.push((stream, Request::Fetch { partition: *id, offset: reading.position, bytes_max }));
        }
        scene.wake_us = scene.wake_us.min(scene.now_us + POLL_US);
    }

    fn on_response(&mut self, scene: &mut Scene<'_>, _: StreamId, response: Response) {
        match response {
            Response::Topics(topics) => {
                self.asked_topics = false;
                let there = |id: &TopicPartition| topics.iter().any(|topic| topic.id == id.topic);
                self.partitions.retain(|id, _| there(id));
                for topic in &topics {
                    for partition in (0..).take(topic.partitions.len()) {
                        self.partitions.entry(TopicPartition { topic: topic.id, partition }).or_default();
                    }
                }
            }
            Response::Fetched { partition, offset, log_start, batches } => {
                let Some(reading) = self.partitions.get_mut(&partition) else { return };
                reading.asked = false;
                match batches {
                    Ok((batches, _, high_watermark)) => {
                        let is_empty = batches.is_empty();
                        let next = last_offset(&batches).map_or(offset, |last| last + 1);
                        scene.facts.push(Fact::Received { id: partition, offset, batches, high_watermark });
                        (reading.position, reading.high_watermark) = (next.max(offset), high_watermark);
                        reading.at_end = reading.is_last_time && next >= high_watermark;
                        reading.next_us = if is_empty { scene.now_us + POLL_US } else { 0 };
                    }
                    Err(error) => {
                        if error.code == ErrorCode::OffsetOutOfRange {
                            reading.position = log_start;
                            scene.facts.push(Fact::Sought { id: partition });
                        }
                        reading.next_us = scene.now_us + 5 * POLL_US;
                    }
                }
            }
            _ => {}
        }
        self.step(scene);
    }

    fn on_lost(&mut self, scene: &mut Scene<'_>) {
        self.asked_topics = false;
        for reading in self.partitions.values_mut() {
            (reading.asked, reading.next_us) = (false, scene.now_us + 50_000);
        }
    }

    fn is_behind(&self, ends: &BTreeMap<TopicPartition, i64>) -> Option<String> {
        let position = |id| self.partitions.get(id).map_or(0, |reading| reading.position);
        let (id, end) = ends.iter().find(|(id, end)| position(id) < **end)?;
        Some(format!("a consumer is at {} of {id}, which ends at {end}", position(id)))
    }

    fn finished(&self) -> Result<(), String> {
        match self.partitions.iter().find(|(_, reading)| !reading.at_end) {
            None => Ok(()),
            Some((id, reading)) => Err(format!("a consumer is at {} of {id}", reading.position)),
        }
    }
}

/// Offset of the last record of these batches.
fn last_offset(batches: &[u8]) -> Option<i64> {
    let (mut rest, mut last) = (batches, None);
    while let Ok(header) = BatchHeader::decode(rest) {
        last = Some(header.last_offset());
        rest = rest.get(header.total_bytes()..)?;
    }
    last
}
