//! Compaction: a log in which one record in ten is the newest of its key, cleaned by record keys and by `json-key`,
//! beside a plain read and write of the same bytes; and what it does to produce beside it.

use crate::broker::{Broker, create_topic};
use crate::guest::{Guests, on_guest_thread};
use crate::options::Options;
use crate::report::{Figure, Goal};
use crate::rounds::interleave;
use crate::{Result, framing};
use bytes::{Bytes, BytesMut};
use headwater_client::{Producer, ProducerConfig, ProducerRecord};
use headwater_log::cleaner::{
    ByRecordKey, ClassifierError, ClassifierIdentity, CleaningOrder, CleaningPolicy, CleaningReport, Judgements,
    RecordClassifier,
};
use headwater_log::storage::file::FileStorage;
use headwater_log::{DataDirectory, Log, LogConfig};
use headwater_protocol::batch::{Records, stamp};
use headwater_protocol::ids::LeaderEpoch;
use headwater_protocol::messages::topic::AlterTopicRequest;
use headwater_wasm_host::{KeyExtractorInstance, KeyVerdict};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const NAME: &str = "topic-0";
/// Bytes of a record's value; of ten records of a key one is live.
const VALUE_BYTES: usize = 400;
const RECORDS_PER_KEY: u64 = 10;
const RECORDS_PER_BATCH: u64 = 500;
const SEGMENT_BYTES: u64 = 128 << 20;
/// The broker's default.
const DEDUPE_BYTES_MAX: usize = 128 << 20;
const COPY_BYTES: usize = 1 << 20;
/// Records that a broker has to clean while others are produced.
const PRODUCED_RECORDS: u64 = 1_500_000;
const QUIET_SECONDS: u64 = 4;
const CLEANER_BYTES: &str = "headwater_cleaner_bytes_total";
const CLEANER_CLEANINGS: &str = "headwater_cleaner_cleanings_total";

pub(crate) fn run(options: &Options) -> Result<Vec<Figure>> {
    let scratch = options.scratch()?;
    let template = scratch.path().join("template");
    let bytes = options.pick(1 << 30, 48 << 20);
    let written = write_log(&template, bytes)?;
    on_guest_thread(|| measure(options, scratch.path(), &template, written))
}

fn measure(options: &Options, scratch: &Path, template: &Path, bytes: u64) -> Result<Vec<Figure>> {
    let guests = Guests::open(options)?;
    let (work, mut report) = (scratch.join("work"), CleaningReport::default());
    let speed = |taken: Duration| bytes as f64 / 1e6 / taken.as_secs_f64();
    let mut plain = || plain_read_and_write(template, &work).map(speed);
    let mut by_key = || {
        let (taken, cleaned) = clean_copy(template, &work, &mut ByRecordKey)?;
        report = cleaned;
        Ok(speed(taken))
    };
    let mut by_json = || {
        let mut classifier = ByGuest(guests.extractor("json-key", &[("pointer", "/id")])?);
        clean_copy(template, &work, &mut classifier).map(|(taken, _)| speed(taken))
    };
    let samples = interleave(options.pick(3, 1), [&mut plain, &mut by_key, &mut by_json])?;
    let what = |name: &str, number| format!("{name} {:.0} MB/s", samples.median(number));
    let left = report.bytes_after as f64 / report.bytes_before.max(1) as f64;
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    let mut figures = vec![
        Figure {
            name: "compaction".to_owned(),
            what: format!("{}, {:.0} % left", what("record keys", 1), left * 100.0),
            baseline: what("plain read + write", 0),
            value: samples.median_of(|[plain, by_key, _]| by_key / plain),
            unit: "",
            goal: Goal::AtLeast(0.5),
        },
        Figure {
            name: "compaction-json-key".to_owned(),
            what: what("json-key", 2),
            baseline: what("record keys", 1),
            value: samples.median_of(|[_, by_key, by_json]| by_json / by_key),
            unit: "",
            goal: Goal::AtLeast(0.4),
        },
        Figure {
            name: "compaction-memory".to_owned(),
            what: "keys and marks".to_owned(),
            baseline: "log.cleaner_dedupe_bytes_max".to_owned(),
            value: mib(report.dedupe_bytes),
            unit: " MiB",
            goal: Goal::AtMost(mib(DEDUPE_BYTES_MAX)),
        },
    ];
    figures.push(produce_beside(options, scratch)?);
    Ok(figures)
}

/// The p99 of produce with acks=all, one record at a time, while the same broker cleans another topic at its default
/// pace, and before that.
fn produce_beside(options: &Options, scratch: &Path) -> Result<Figure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let broker = Broker::start(&scratch.join("broker"))?;
    let records = options.pick(PRODUCED_RECORDS, 100_000);
    let [quiet, busy] = runtime.block_on(async {
        let client = broker.connect().await?;
        create_topic(&client, "quiet", 1, &[]).await?;
        let keyed = [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "1"), ("segment.bytes", "16777216")];
        create_topic(&client, "keyed", 1, &keyed).await?;
        let filling = vec![b'x'; VALUE_BYTES];
        let producer = client.producer(ProducerConfig::default())?;
        for number in 0..records {
            let key = (number % (records / RECORDS_PER_KEY)).to_string();
            producer.send_ref("keyed", Some(key.as_bytes()), Some(&filling)).await?;
        }
        producer.flush().await?;
        let latencies = client.producer(ProducerConfig { linger: Duration::ZERO, ..ProducerConfig::default() })?;
        let seconds = options.pick(QUIET_SECONDS, 1);
        let mut until = Instant::now() + Duration::from_secs(seconds);
        time_records(&latencies, &mut || Instant::now() < until).await?;
        until = Instant::now() + Duration::from_secs(seconds);
        let quiet = time_records(&latencies, &mut || Instant::now() < until).await?;
        let set = vec![("min.cleanable.dirty.ratio".to_owned(), "0".to_owned())];
        let request = AlterTopicRequest { name: "keyed".to_owned(), set, delete: Vec::new(), validate_only: false };
        client.admin().alter_topic(&request).await?;
        while broker.counter(CLEANER_BYTES)? == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut looked = Instant::now();
        let mut is_cleaning = true;
        let busy = time_records(&latencies, &mut || {
            if looked.elapsed() > Duration::from_millis(200) {
                is_cleaning = broker.counter(CLEANER_CLEANINGS).is_ok_and(|count| count == 0);
                looked = Instant::now();
            }
            is_cleaning
        })
        .await?;
        Ok::<_, crate::Failure>([quiet, busy])
    })?;
    Ok(Figure {
        name: "compaction-produce-p99".to_owned(),
        what: format!("produce beside a cleaning, p99 {:.2} ms", busy * 1e3),
        baseline: format!("without, p99 {:.2} ms", quiet * 1e3),
        value: busy / quiet,
        unit: "",
        goal: Goal::None,
    })
}

async fn time_records(producer: &Producer, goes_on: &mut dyn FnMut() -> bool) -> Result<f64> {
    let value = [b'x'; 1024];
    let mut times = Vec::new();
    while goes_on() || times.len() < 20 {
        let begun = Instant::now();
        producer.send(ProducerRecord::new("quiet", None, Some(&value))).await?.await?;
        times.push(begun.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    times.get(times.len() * 99 / 100).copied().ok_or_else(|| "nothing was produced".into())
}

/// Asks a key extractor.
struct ByGuest(KeyExtractorInstance);

impl RecordClassifier for ByGuest {
    fn identity(&self) -> ClassifierIdentity {
        [1; 32]
    }

    fn classify(&mut self, records: &Records, judgements: &mut Judgements) -> std::result::Result<(), ClassifierError> {
        let extracted = self.0.extract(records, &mut |verdict| match verdict {
            KeyVerdict::Keep => judgements.keep(),
            KeyVerdict::Key(key) => judgements.key(key),
            KeyVerdict::Tombstone(key) => judgements.tombstone(key),
        });
        extracted.map_err(|error| ClassifierError(error.to_string()))
    }
}

fn config() -> LogConfig {
    LogConfig { segment_bytes: SEGMENT_BYTES, segment_ms: i64::MAX as u64, ..LogConfig::default() }
}

fn open(directory: &DataDirectory) -> Result<(Log, u64)> {
    let (mut log, report) = Log::open(directory, NAME, config(), &mut |_| {})?;
    log.flush()?;
    Ok((log, report.bytes))
}

/// A log of about so many bytes, closed. Its keys come in no order.
fn write_log(path: &Path, bytes: u64) -> Result<u64> {
    let directory = DataDirectory::open(Arc::new(FileStorage), path)?;
    let (mut log, _) = Log::open(&directory, NAME, config(), &mut |_| {})?;
    let records = bytes / (VALUE_BYTES as u64 + 30);
    let keys = (records / RECORDS_PER_KEY).max(1);
    let filling = "x".repeat(VALUE_BYTES);
    for first in (0..records).step_by(usize::try_from(RECORDS_PER_BATCH)?) {
        let rows = (first..first + RECORDS_PER_BATCH).map(|number| {
            // Of a multiplicative order: every key about as often, never one behind the other.
            let key = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % keys;
            let mut value = format!("{{\"id\":\"{key:012}\",\"at\":{number},\"note\":\"{filling}");
            value.truncate(VALUE_BYTES - 2);
            value.push_str("\"}");
            (format!("{key:012}"), value)
        });
        let rows: Vec<(String, String)> = rows.collect();
        let batch = framing::encode(rows.iter().map(|(key, value)| (Some(key.as_bytes()), value.as_bytes())))?;
        let mut batch = BytesMut::from(&batch[..]);
        stamp(&mut batch, log.log_end_offset(), LeaderEpoch(0));
        log.append(Bytes::from(batch))?;
    }
    // The segment that grows is not cleaned: an empty one stands behind what is to be.
    let end = log.log_end_offset();
    let small = framing::encode([(Some(&b"last"[..]), &b"last"[..])])?;
    let mut small = BytesMut::from(&small[..]);
    stamp(&mut small, end, LeaderEpoch(0));
    log.set_config(LogConfig { segment_bytes: 1024, ..config() })?;
    log.append(small.freeze())?;
    let written = log.size_bytes();
    log.close()?;
    directory.checkpoint()?;
    Ok(written)
}

/// The files of the log, in order.
fn segments(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(path.join(NAME))?.collect::<std::io::Result<Vec<_>>>()?;
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "log");
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).filter(is_segment).collect();
    files.sort();
    Ok(files)
}

/// A fresh copy of the template, written back.
fn copy_log(template: &Path, work: &Path) -> Result<()> {
    if work.exists() {
        fs::remove_dir_all(work)?;
    }
    fs::create_dir_all(work.join(NAME))?;
    for directory in ["", NAME] {
        for entry in fs::read_dir(template.join(directory))? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                let target = work.join(directory).join(entry.file_name());
                fs::copy(entry.path(), &target)?;
                File::open(&target)?.sync_all()?;
            }
        }
    }
    Ok(())
}

/// Reads every byte of the log and writes it to other files, each synced.
fn plain_read_and_write(template: &Path, work: &Path) -> Result<Duration> {
    copy_log(template, work)?;
    let files = segments(work)?;
    let mut buffer = vec![0; COPY_BYTES];
    let begun = Instant::now();
    for (number, file) in files.iter().enumerate() {
        let mut from = File::open(file)?;
        let mut to = File::create(work.join(format!("copy-{number}")))?;
        loop {
            let read = from.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            to.write_all(buffer.get(..read).unwrap_or_default())?;
        }
        to.sync_data()?;
    }
    Ok(begun.elapsed())
}

fn clean_copy(
    template: &Path,
    work: &Path,
    classifier: &mut dyn RecordClassifier,
) -> Result<(Duration, CleaningReport)> {
    copy_log(template, work)?;
    let directory = DataDirectory::open(Arc::new(FileStorage), work)?;
    let (log, _) = open(&directory)?;
    let begun = Instant::now();
    let report = clean(&log, classifier)?;
    Ok((begun.elapsed(), report))
}

fn clean(log: &Log, classifier: &mut dyn RecordClassifier) -> Result<CleaningReport> {
    let headers_kept = BTreeSet::new();
    let order = CleaningOrder {
        policy: CleaningPolicy { dirty_ratio_min: 0.5, lag_ms_min: 0, lag_ms_max: None, delete_retention_ms: 1000 },
        upto: log.durable().next_offset(),
        headers_kept: &headers_kept,
        segment_bytes: SEGMENT_BYTES,
        dedupe_bytes_max: DEDUPE_BYTES_MAX,
        seed: 7,
        now_ms: 1_800_000_000_000,
    };
    let report = log.cleaner().clean(&order, classifier, &mut |_| Ok(()))?;
    let is_cleaned = report.bytes_after < report.bytes_before / 5;
    if is_cleaned { Ok(report) } else { Err(format!("it was not cleaned as it should be: {report:?}").into()) }
}
