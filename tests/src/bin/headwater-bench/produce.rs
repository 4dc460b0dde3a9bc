//! Producing: records through the client SDK into a broker's log, beside the network and the disk alone.

use crate::broker::{Broker, create_topic};
use crate::cpu::{CpuMeter, CpuSeconds};
use crate::disk;
use crate::options::Options;
use crate::quinn_stream::PlainStreams;
use crate::report::{Figure, Goal};
use crate::rounds::interleave;
use crate::{Result, framing};
use bytes::Bytes;
use headwater_client::{Client, ProducerConfig};
use std::cell::{Cell, RefCell};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Partitions that the records are spread over.
const PARTITIONS: u32 = 4;
/// Of the goal, which is about the network.
const SHARE_OF_QUINN: f64 = 0.6;
const FLUSH_ROUNDS: &str = "headwater_flush_rounds_total";

/// Values of one size that are sent again and again, and the batches that they make. A clone shares them.
#[derive(Clone)]
struct Load {
    value_bytes: usize,
    values: Bytes,
    records: usize,
    batches: Vec<Bytes>,
}

impl Load {
    /// About so many bytes of batches, as the producer would make them.
    fn new(value_bytes: usize, bytes: usize) -> Result<Self> {
        let values: Vec<u8> = (0..1_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let values = Bytes::from(values);
        let mut load = Self { value_bytes, values, records: 0, batches: Vec::new() };
        let batch_bytes = ProducerConfig::default().batch_bytes_max;
        let per_batch = batch_bytes / (value_bytes + 12);
        while load.batches.len() * batch_bytes < bytes {
            let records = load.records..load.records + per_batch;
            load.batches.push(framing::encode(records.map(|number| (None, load.value(number))))?);
            load.records += per_batch;
        }
        Ok(load)
    }

    fn value(&self, number: usize) -> &[u8] {
        let places = self.values.len() - self.value_bytes;
        let place = (number * self.value_bytes) % places;
        &self.values[place..place + self.value_bytes]
    }

    fn bytes(&self) -> usize {
        self.batches.iter().map(Bytes::len).sum()
    }
}

/// Everything that takes part.
struct Arena {
    runtime: Runtime,
    broker: Broker,
    client: Client,
    quinn: Arc<PlainStreams>,
    topics: u32,
}

pub(crate) fn run(options: &Options) -> Result<Vec<Figure>> {
    let scratch = options.scratch()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let broker = Broker::start(&scratch.path().join("broker"))?;
    let client = runtime.block_on(broker.connect())?;
    let quinn = runtime.block_on(PlainStreams::start(&scratch.path().join("tls")))?;
    let mut arena = Arena { runtime, broker, client, quinn: Arc::new(quinn), topics: 0 };

    let bytes = options.pick(128 << 20, 4 << 20);
    let mut figures = Vec::new();
    for (value_bytes, size) in [(1024, "1KiB"), (100, "100B")] {
        let load = Load::new(value_bytes, bytes)?;
        figures.extend(against_quinn(options, &mut arena, &load, size)?);
    }
    let load = Load::new(1024, bytes / 2)?;
    let file = scratch.path().join("plain");
    figures.push(against_disk(options, &mut arena, &load, &file)?);
    Ok(figures)
}

fn against_quinn(options: &Options, arena: &mut Arena, load: &Load, size: &str) -> Result<Vec<Figure>> {
    let arena = RefCell::new(arena);
    let (ours, theirs) = (CpuMeter::default(), CpuMeter::default());
    let mut produce = || {
        let mut arena = arena.borrow_mut();
        let before = CpuSeconds::now(arena.broker.process_id())?;
        let taken = arena.produce(load, "os")?;
        ours.add(before, CpuSeconds::now(arena.broker.process_id())?, load.bytes());
        Ok(rate(load, taken))
    };
    let mut plain = || {
        let arena = arena.borrow();
        let before = CpuSeconds::now(arena.quinn.sink_id())?;
        let taken = arena.send_plainly(load)?;
        theirs.add(before, CpuSeconds::now(arena.quinn.sink_id())?, load.bytes());
        Ok(rate(load, taken))
    };
    let mut without_copy = || Ok(rate(load, arena.borrow().send_without_copy(load)?));
    let samples = interleave(options.pick(9, 2), [&mut produce, &mut plain, &mut without_copy])?;
    let rates = Figure {
        name: format!("produce-os-{size}"),
        what: format!("client SDK, durability=os: {:.0} MB/s", samples.median(0)),
        baseline: format!("quinn stream {:.0} MB/s (without a copy {:.0})", samples.median(1), samples.median(2)),
        value: samples.median_of(|[produced, plain, _]| produced / plain),
        unit: "",
        goal: Goal::AtLeast(SHARE_OF_QUINN),
    };
    let (ours, theirs) = (ours.per_gigabyte(), theirs.per_gigabyte());
    let cpu = Figure {
        name: format!("produce-os-{size}-cpu"),
        what: format!("CPU per GB: client {:.2} s, broker {:.2} s", ours.here, ours.there),
        baseline: format!("sender {:.2} s, receiver {:.2} s", theirs.here, theirs.there),
        value: theirs.total() / ours.total(),
        unit: "",
        goal: Goal::None,
    };
    Ok(vec![rates, cpu])
}

fn against_disk(options: &Options, arena: &mut Arena, load: &Load, file: &Path) -> Result<Figure> {
    let arena = RefCell::new(arena);
    let flush_rounds = Cell::new(1);
    let mut produce = || {
        let mut arena = arena.borrow_mut();
        let before = arena.broker.counter(FLUSH_ROUNDS)?;
        let taken = arena.produce(load, "fsync")?;
        flush_rounds.set((arena.broker.counter(FLUSH_ROUNDS)? - before).max(1));
        Ok(rate(load, taken))
    };
    let mut quinn = || Ok(rate(load, arena.borrow().send_plainly(load)?));
    let mut disk = || Ok(rate(load, disk::write_synced(file, load.bytes() as u64, flush_rounds.get())?));
    let samples = interleave(options.pick(7, 2), [&mut produce, &mut quinn, &mut disk])?;
    let (quinn, disk) = (samples.median(1), samples.median(2));
    let synced_kib = load.bytes() as u64 / flush_rounds.get() / 1024;
    Ok(Figure {
        name: "produce-fsync-1KiB".to_owned(),
        what: format!("client SDK, durability=fsync: {:.0} MB/s", samples.median(0)),
        baseline: format!("disk, fdatasync every {synced_kib} KiB: {disk:.0} MB/s; quinn stream {quinn:.0} MB/s"),
        value: samples.median_of(|[produced, quinn, disk]| produced / quinn.min(disk)),
        unit: "",
        goal: Goal::None,
    })
}

fn rate(load: &Load, taken: Duration) -> f64 {
    load.bytes() as f64 / 1e6 / taken.as_secs_f64()
}

impl Arena {
    /// Produces all records to a new topic, which goes again; how long it took until the last was acknowledged.
    fn produce(&mut self, load: &Load, durability: &str) -> Result<Duration> {
        self.topics += 1;
        let topic = format!("produce-{}", self.topics);
        let (client, load, durability) = (self.client.clone(), load.clone(), durability.to_owned());
        // On a worker, as its baselines are.
        let producing = self.runtime.spawn(async move {
            create_topic(&client, &topic, PARTITIONS, &[("durability", durability.as_str())]).await?;
            let producer = client.producer(ProducerConfig::default())?;
            let start = Instant::now();
            for number in 0..load.records {
                producer.send_ref(&topic, None, Some(load.value(number))).await?;
            }
            producer.flush().await?;
            let taken = start.elapsed();
            let acknowledged = producer.metrics().records_acknowledged;
            producer.close().await?;
            for deleted in client.admin().delete_topics(vec![topic]).await? {
                deleted?;
            }
            if acknowledged == load.records as u64 { Ok(taken) } else { Err("a record was not acknowledged".into()) }
        });
        self.runtime.block_on(producing)?
    }

    fn send_plainly(&self, load: &Load) -> Result<Duration> {
        let sending = Arc::clone(&self.quinn).send(load.values.clone(), load.bytes());
        self.runtime.block_on(self.runtime.spawn(sending))?
    }

    fn send_without_copy(&self, load: &Load) -> Result<Duration> {
        let sending = Arc::clone(&self.quinn).send_without_copy(load.batches.clone());
        self.runtime.block_on(self.runtime.spawn(sending))?
    }
}
