//! The broker's own memory (RssAnon: heap, stacks and guests; not its code, not the page cache), idle with one module
//! deployed, and at its peak while text streams through word count.

use crate::broker::{Broker, component, create_topic};
use crate::options::Options;
use crate::report::{Figure, Goal};
use crate::{Result, texts};
use headwater_client::{Client, ProducerConfig};
use headwater_protocol::messages::processor::{
    DeployProcessorRequest, ErrorPolicy, ProcessorLimits, StartFrom, TaskState,
};
use headwater_protocol::messages::records::OffsetSpec;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PROCESSOR: &str = "word-count";
const INPUT_PARTITIONS: u32 = 2;
const OUTPUT_PARTITIONS: u32 = 4;
const IDLE_MIB_MAX: f64 = 64.0;
const STREAMING_MIB_MAX: f64 = 256.0;
/// How long an idle broker is watched.
const IDLE_WATCH: Duration = Duration::from_secs(2);
/// A pause between two looks at the broker's memory.
const LOOK_PAUSE: Duration = Duration::from_millis(5);
/// A pause between two questions how far the processor is.
const ASK_PAUSE: Duration = Duration::from_millis(100);
/// After so long without any progress something hangs.
const STALL_MAX: Duration = Duration::from_secs(60);

pub(crate) fn run(options: &Options) -> Result<Vec<Figure>> {
    let scratch = options.scratch()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let broker = Broker::start(&scratch.path().join("broker"))?;
    let client = runtime.block_on(broker.connect())?;
    runtime.block_on(deploy(options, &client))?;

    let watch = Watch::start(broker.process_id());
    std::thread::sleep(IDLE_WATCH);
    let idle = watch.end()?;

    let texts = texts::read()?;
    let words = texts::words(&texts).count() as u64;
    let times = (options.stream_bytes() / texts.len() as u64).max(1);
    let watch = Watch::start(broker.process_id());
    let start = Instant::now();
    runtime.block_on(produce(&client, &texts, times))?;
    runtime.block_on(wait_for_outputs(&client, words * times))?;
    let taken = start.elapsed().as_secs_f64();
    let streaming = watch.end()?;
    let megabytes = (texts.len() as u64 * times) as f64 / 1e6;
    let figure = |name: &str, what: String, value, most| Figure {
        name: name.to_owned(),
        what,
        baseline: "RssAnon of the broker, peak".to_owned(),
        value,
        unit: " MiB",
        goal: Goal::AtMost(most),
    };
    let rates = format!("{:.1} MB/s, {:.2} M words/s", megabytes / taken, (words * times) as f64 / 1e6 / taken);
    Ok(vec![
        figure("memory-idle", "one module deployed, idle".to_owned(), idle, IDLE_MIB_MAX),
        figure("memory-streaming", format!("{megabytes:.0} MB of text: {rates}"), streaming, STREAMING_MIB_MAX),
    ])
}

async fn deploy(options: &Options, client: &Client) -> Result<()> {
    create_topic(client, "lines", INPUT_PARTITIONS, &[]).await?;
    create_topic(client, "counts", OUTPUT_PARTITIONS, &[]).await?;
    let admin = client.admin();
    admin.upload_module(PROCESSOR, None, component(options, PROCESSOR)?, |_, _| {}).await?;
    let request = DeployProcessorRequest {
        name: PROCESSOR.to_owned(),
        module: PROCESSOR.to_owned(),
        inputs: vec!["lines".to_owned()],
        outputs: vec!["counts".to_owned()],
        stores: vec!["counts".to_owned()],
        settings: Vec::new(),
        from: StartFrom::Earliest,
        limits: ProcessorLimits::default(),
        errors: ErrorPolicy::default(),
        shadow: false,
    };
    admin.deploy_processor(request).await?;
    let start = Instant::now();
    while admin.describe_processor(PROCESSOR).await?.tasks.iter().any(|task| task.state != TaskState::Running) {
        if start.elapsed() > STALL_MAX {
            return Err("the processor does not start".into());
        }
        tokio::time::sleep(ASK_PAUSE).await;
    }
    Ok(())
}

/// Sends the lines of the text, so many times over.
async fn produce(client: &Client, texts: &str, times: u64) -> Result<()> {
    let producer = client.producer(ProducerConfig::default())?;
    for _ in 0..times {
        for line in texts.lines() {
            producer.send_ref("lines", None, Some(line.as_bytes())).await?;
        }
    }
    Ok(producer.close().await?)
}

/// Waits until the output topic has a record for each word.
async fn wait_for_outputs(client: &Client, words: u64) -> Result<()> {
    let admin = client.admin();
    let topic = admin.describe_topic("counts").await?.id;
    let (mut most, mut moved_at) = (0, Instant::now());
    loop {
        let asked = (0..OUTPUT_PARTITIONS).map(|partition| (topic, partition, OffsetSpec::Latest)).collect();
        let mut records = 0;
        for found in admin.list_offsets(asked).await? {
            records += u64::try_from(found?.offset.unwrap_or(0))?;
        }
        if records > most {
            (most, moved_at) = (records, Instant::now());
        }
        if records >= words {
            return if records == words { Ok(()) } else { Err(format!("{records} counts of {words} words").into()) };
        }
        if moved_at.elapsed() > STALL_MAX {
            let tasks = admin.describe_processor(PROCESSOR).await?.tasks;
            return Err(format!("the counts stand still at {records} of {words}: {tasks:?}").into());
        }
        tokio::time::sleep(ASK_PAUSE).await;
    }
}

/// A thread that looks at a process's memory again and again.
struct Watch {
    ended: Arc<AtomicBool>,
    peak_kib: Arc<AtomicU64>,
    thread: JoinHandle<std::result::Result<(), String>>,
}

impl Watch {
    fn start(process: u32) -> Self {
        let (ended, peak_kib) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (is_over, peak) = (Arc::clone(&ended), Arc::clone(&peak_kib));
        let thread = std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                peak.fetch_max(rss_anon_kib(process)?, Ordering::Relaxed);
                std::thread::sleep(LOOK_PAUSE);
            }
            Ok(())
        });
        Self { ended, peak_kib, thread }
    }

    /// The most that was seen, in MiB.
    fn end(self) -> Result<f64> {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the watch panicked")??;
        Ok(self.peak_kib.load(Ordering::Relaxed) as f64 / 1024.0)
    }
}

/// Anonymous memory of a process.
pub(crate) fn rss_anon_kib(process: u32) -> std::result::Result<u64, String> {
    let path = format!("/proc/{process}/status");
    let status = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}: the broker ended"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB"));
    line.and_then(|kib| kib.parse().ok()).ok_or_else(|| format!("{path} says nothing about RssAnon"))
}
