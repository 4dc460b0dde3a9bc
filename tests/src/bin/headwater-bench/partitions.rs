//! A broker with ten thousand partitions beside one with ten.
//!
//! ```text
//!   create ─▶ idle memory ─▶ a record each ─▶ open files ─▶ produce ─▶ SIGTERM ─▶ start again: until it serves
//! ```

use crate::Result;
use crate::broker::{Broker, create_topic};
use crate::memory::rss_anon_kib;
use crate::options::Options;
use crate::report::{Figure, Goal};
use headwater_client::{Client, ProducerConfig, ProducerRecord};
use std::time::{Duration, Instant};

const MANY: u32 = 10_000;
const FEW: u32 = 10;
/// Partitions that records are produced to, of the few and of the many.
const LOADED: u32 = 10;
const VALUE: [u8; 1024] = [b'x'; 1024];
const PRODUCED_BYTES: u64 = 400_000_000;
const ROUNDS: usize = 3;
/// A broker at rest: what it had to do after a start is done by then.
const SETTLED: Duration = Duration::from_secs(3);

/// What was measured of one broker.
#[derive(Default)]
struct Measured {
    create_seconds: f64,
    idle_kib: f64,
    /// After a restart, each partition with a record.
    filled_kib: f64,
    open_files: usize,
    /// After records to all partitions, and without any.
    stop_seconds: f64,
    idle_stop_seconds: f64,
    restart_seconds: f64,
    /// MB/s, to ten partitions.
    produce: f64,
    /// MB/s, to all partitions in turn.
    produce_spread: f64,
}

pub(crate) fn run(options: &Options) -> Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let many = options.pick(MANY, 500);
    let few = measure(options, &runtime, FEW)?;
    let most = measure(options, &runtime, many)?;
    Ok(figures(many, &few, &most))
}

fn figures(many: u32, few: &Measured, most: &Measured) -> Vec<Figure> {
    let more = f64::from(many - FEW);
    let idle = (most.idle_kib - few.idle_kib) / more;
    let filled = (most.filled_kib - few.filled_kib) / more;
    let ten = format!("with {FEW} partitions");
    vec![
        figure(
            "create",
            format!("{many} partitions in {:.2} s", most.create_seconds),
            format!("{ten} {:.3} s", few.create_seconds),
            most.create_seconds,
            " s",
            Goal::None,
        ),
        figure(
            "memory",
            format!("{many} empty partitions: RssAnon {:.1} MiB", most.idle_kib / 1024.0),
            format!("{ten} {:.1} MiB", few.idle_kib / 1024.0),
            idle,
            " KiB a partition",
            Goal::AtMost(20.0),
        ),
        figure(
            "memory-filled",
            format!("each with a record, after a restart: {:.1} MiB", most.filled_kib / 1024.0),
            format!("{ten} {:.1} MiB", few.filled_kib / 1024.0),
            filled,
            " KiB a partition",
            Goal::AtMost(20.0),
        ),
        figure(
            "open-files",
            format!("{} files open, {many} partitions with a record each", most.open_files),
            format!("{ten} {}", few.open_files),
            most.open_files as f64,
            " files",
            Goal::None,
        ),
        figure(
            "restart",
            format!(
                "start after an orderly stop ({:.2} s; {:.1} s after records to all)",
                most.idle_stop_seconds, most.stop_seconds
            ),
            format!("{ten} {:.2} s", few.restart_seconds),
            most.restart_seconds,
            " s",
            Goal::AtMost(2.0),
        ),
        figure(
            "produce",
            format!("{:.0} MB/s to {LOADED} partitions of {many}", most.produce),
            format!("{ten} {:.0} MB/s", few.produce),
            most.produce / few.produce,
            "",
            Goal::AtLeast(0.8),
        ),
        figure(
            "produce-spread",
            format!("{:.0} MB/s spread over all {many}", most.produce_spread),
            format!("{ten} {:.0} MB/s", few.produce_spread),
            most.produce_spread / few.produce_spread,
            "",
            Goal::None,
        ),
    ]
}

fn figure(name: &str, what: String, baseline: String, value: f64, unit: &'static str, goal: Goal) -> Figure {
    Figure { name: format!("partitions-{name}"), what, baseline, value, unit, goal }
}

fn measure(options: &Options, runtime: &tokio::runtime::Runtime, partitions: u32) -> Result<Measured> {
    let scratch = options.scratch()?;
    let mut measured = Measured::default();
    let broker = Broker::start(scratch.path())?;
    let client = runtime.block_on(broker.connect())?;
    let begun = Instant::now();
    runtime.block_on(create_topic(&client, "t", partitions, &[("durability", "os")]))?;
    measured.create_seconds = begun.elapsed().as_secs_f64();
    std::thread::sleep(SETTLED);
    measured.idle_kib = rss_anon_kib(broker.process_id())? as f64;
    let bytes = options.pick(PRODUCED_BYTES, 20_000_000);
    runtime.block_on(async {
        produce(&client, partitions, 1, u64::from(partitions)).await?;
        let mut samples = Vec::new();
        for _ in 0..options.pick(ROUNDS, 1) {
            samples.push((
                produce(&client, LOADED, 16, bytes / VALUE.len() as u64).await?,
                produce(&client, partitions, 16, bytes / VALUE.len() as u64).await?,
            ));
        }
        measured.produce = crate::rounds::median(samples.iter().map(|(ten, _)| *ten));
        measured.produce_spread = crate::rounds::median(samples.iter().map(|(_, all)| *all));
        Ok::<_, crate::Failure>(())
    })?;
    drop(client);
    let begun = Instant::now();
    // Every partition has records that no snapshot covers yet; that may take longer than it has.
    broker.stop()?;
    measured.stop_seconds = begun.elapsed().as_secs_f64();
    let broker = Broker::start(scratch.path())?;
    std::thread::sleep(SETTLED);
    let begun = Instant::now();
    if !broker.stop()? {
        return Err("a broker at rest did not stop in order".into());
    }
    measured.idle_stop_seconds = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let broker = Broker::start(scratch.path())?;
    measured.restart_seconds = begun.elapsed().as_secs_f64();
    std::thread::sleep(SETTLED);
    measured.filled_kib = rss_anon_kib(broker.process_id())? as f64;
    measured.open_files = std::fs::read_dir(format!("/proc/{}/fd", broker.process_id()))?.count();
    Ok(measured)
}

/// MB/s of `records` records that go to the first `partitions` partitions in turn, so many in a row, until all are
/// acknowledged.
async fn produce(client: &Client, partitions: u32, in_a_row: u64, records: u64) -> Result<f64> {
    let producer = client.producer(ProducerConfig::default())?;
    let begun = Instant::now();
    for number in 0..records {
        let partition = (number / in_a_row % u64::from(partitions)) as u32;
        let record = ProducerRecord { partition: Some(partition), ..ProducerRecord::new("t", None, Some(&VALUE)) };
        drop(producer.send(record).await?);
    }
    producer.close().await?;
    Ok((records * VALUE.len() as u64) as f64 / 1e6 / begun.elapsed().as_secs_f64())
}
