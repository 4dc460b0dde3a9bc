//! A reader at the end of a partition, alone and beside one that reads a whole topic as fast as it can.
//!
//! ```text
//!   producer ──1 record──▶ live ──▶ consumer at the end        the time from send to receipt
//!                          history ──▶ consumer from the beginning, again and again
//! ```

use crate::broker::{Broker, create_topic};
use crate::options::Options;
use crate::report::{Figure, Goal};
use crate::rounds::interleave;
use crate::way::{Way, percentile};
use crate::{Result, framing};
use bytes::BytesMut;
use headwater_client::{Client, ConsumerConfig, ProducerConfig, StartOffset};
use headwater_log::storage::file::FileStorage;
use headwater_log::{DataDirectory, Log, LogConfig, Source};
use headwater_protocol::batch::stamp;
use headwater_protocol::ids::LeaderEpoch;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Bytes of the topic that is read whole: more than are kept in memory for readers at the end.
const HISTORY_BYTES: u64 = 400_000_000;
const ROUNDS: usize = 5;
/// Records whose way is timed, a sample.
const RECORDS: usize = 1500;
const VALUE: [u8; 1024] = [b'x'; 1024];
const FILE_READS: &str = "headwater_log_reads_total{source=\"file\"}";
const MEMORY_READS: &str = "headwater_log_reads_total{source=\"memory\"}";

pub(crate) fn run(options: &Options) -> Result<Vec<Figure>> {
    let scratch = options.scratch()?;
    let broker = Broker::start(scratch.path())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let client = runtime.block_on(broker.connect())?;
    let mut live = runtime.block_on(prepare(&client, options.pick(HISTORY_BYTES, 100_000_000)))?;
    let records = options.pick(RECORDS, 50);

    let history = History::default();
    let before = (broker.counter(MEMORY_READS)?, broker.counter(FILE_READS)?);
    runtime.block_on(live.p99(records))?;
    let after = (broker.counter(MEMORY_READS)?, broker.counter(FILE_READS)?);
    let (memory, file) = (after.0 - before.0, after.1 - before.1);

    let live = std::cell::RefCell::new(live);
    let samples = interleave(
        options.pick(ROUNDS, 1),
        [&mut || runtime.block_on(live.borrow_mut().p99(records)), &mut || {
            let reading = runtime.block_on(broker.connect())?;
            let (running, history) = (runtime.handle().clone(), history.clone());
            history.stop.store(false, Ordering::Release);
            let reader = running.spawn(history.clone().read_again_and_again(reading));
            let p99 = runtime.block_on(live.borrow_mut().p99(records));
            history.stop.store(true, Ordering::Release);
            runtime.block_on(reader)??;
            p99
        }],
    )?;
    let read = history.bytes.load(Ordering::Acquire) as f64 / 1e6;
    Ok(vec![
        of_the_log(options)?,
        Figure {
            name: "tail-p99".to_owned(),
            what: format!("beside a reader of everything ({read:.0} MB) p99 {:.2} ms", samples.median(1) * 1e3),
            baseline: format!("alone, p99 {:.2} ms", samples.median(0) * 1e3),
            value: samples.median_of(|[alone, beside]| beside / alone),
            unit: "",
            goal: Goal::AtMost(3.0),
        },
        Figure {
            name: "tail-file-reads".to_owned(),
            what: format!("{file} reads of a file for {records} records at the end"),
            baseline: format!("{memory} reads from memory"),
            value: file as f64,
            unit: " reads",
            goal: Goal::AtMost(0.0),
        },
    ])
}

/// The same without clients, network and broker: what a reader of everything costs in the log itself.
fn of_the_log(options: &Options) -> Result<Figure> {
    let scratch = options.scratch()?;
    let directory = DataDirectory::open(Arc::new(FileStorage), scratch.path())?;
    directory.tails().set_bytes_max(64 << 20);
    let (mut log, _) = Log::open(&directory, "live-0", LogConfig::default(), &mut |_| {})?;
    while log.size_bytes() < options.pick(HISTORY_BYTES, 100_000_000) {
        append(&mut log, 256)?;
    }
    let (reader, history_end) = (log.reader(), log.log_end_offset());
    let log = std::cell::RefCell::new(log);
    let reads = options.pick(20_000, 500);
    let samples = interleave(
        options.pick(ROUNDS, 1),
        [&mut || read_at_end(&mut log.borrow_mut(), reads), &mut || {
            let stop = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let mut offset = 0;
                    while !stop.load(Ordering::Acquire) {
                        let Ok(bytes) = reader.serve(offset, history_end, 1 << 20) else { return };
                        offset += (bytes.bytes.len() / VALUE.len()) as i64;
                        offset = if offset >= history_end - 2048 { 0 } else { offset };
                    }
                });
                let p99 = read_at_end(&mut log.borrow_mut(), reads);
                stop.store(true, Ordering::Release);
                p99
            })
        }],
    )?;
    Ok(Figure {
        name: "tail-log-p99".to_owned(),
        what: format!("a read at the log's end beside one of everything, p99 {:.1} µs", samples.median(1) * 1e6),
        baseline: format!("alone, p99 {:.1} µs", samples.median(0) * 1e6),
        value: samples.median_of(|[alone, beside]| beside / alone),
        unit: "",
        goal: Goal::AtMost(3.0),
    })
}

fn append(log: &mut Log, records: usize) -> Result<()> {
    let batch = framing::encode((0..records).map(|_| (None, &VALUE[..])))?;
    let mut batch = BytesMut::from(&batch[..]);
    stamp(&mut batch, log.log_end_offset(), LeaderEpoch(0));
    log.append(batch.freeze())?;
    Ok(())
}

/// The 99th percentile of seconds to read what was just appended.
fn read_at_end(log: &mut Log, reads: usize) -> Result<f64> {
    let mut times = Vec::with_capacity(reads);
    for _ in 0..reads {
        let offset = log.log_end_offset();
        append(log, 1)?;
        let begun = Instant::now();
        let served = log.reader().serve(offset, i64::MAX, 1 << 20)?;
        times.push(begun.elapsed().as_secs_f64());
        if served.source != Source::Memory {
            return Err("a reader at the end was sent to the file".into());
        }
    }
    percentile(times, 99)
}

async fn prepare(client: &Client, history_bytes: u64) -> Result<Way> {
    // Not the disk is measured, but who waits for whom.
    let settings = [("durability", "os")];
    create_topic(client, "history", 1, &settings).await?;
    create_topic(client, "live", 1, &settings).await?;
    let producer = client.producer(ProducerConfig::default())?;
    for _ in 0..history_bytes / VALUE.len() as u64 {
        producer.send_ref("history", None, Some(&VALUE)).await?;
    }
    producer.flush().await?;
    Way::new(client, "live", "live", &VALUE).await
}

/// Who reads everything.
#[derive(Clone, Default)]
struct History {
    stop: Arc<AtomicBool>,
    bytes: Arc<AtomicU64>,
}

impl History {
    async fn read_again_and_again(self, client: Client) -> Result<()> {
        let mut consumer = client.consumer(ConsumerConfig::default())?;
        while !self.stop.load(Ordering::Acquire) {
            consumer.assign("history", &[(0, StartOffset::Beginning)]).await?;
            loop {
                let batch = consumer.next_batch().await?;
                self.bytes.fetch_add((batch.record_count() * VALUE.len()) as u64, Ordering::AcqRel);
                if self.stop.load(Ordering::Acquire) || batch.next_offset() >= batch.high_watermark() {
                    break;
                }
            }
        }
        Ok(())
    }
}
