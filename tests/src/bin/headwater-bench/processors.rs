//! Processors beside each other: what a guest that never returns costs its neighbours, what a swap and a deployment
//! take, what an idle task weighs.
//!
//! ```text
//!   producer ──1 record──▶ plain ───────────────────▶ consumer     the time from send to receipt
//!            ──1 record──▶ lines ──▶ filter ──▶ passed ──▶ consumer
//!                          victims ──▶ spin (each record to its CPU limit)   beside both, or not there
//! ```

use crate::Result;
use crate::broker::{Broker, component, create_topic};
use crate::memory::rss_anon_kib;
use crate::options::Options;
use crate::report::{Figure, Goal};
use crate::rounds::interleave;
use crate::way::{Way, percentile};
use headwater_client::{Client, ProducerConfig};
use headwater_protocol::messages::processor::{
    DeployProcessorRequest, ErrorPolicy, OnError, ProcessorLimits, StartFrom, TaskState,
};
use std::cell::RefCell;
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
/// Records whose way is timed, a sample.
const RECORDS: usize = 600;
const SWAPS: usize = 60;
const VALUE: [u8; 100] = [b'x'; 100];
const IDLE_TASKS: u32 = 200;
/// How long anything may take before the benchmark gives up.
const STALL_MAX: Duration = Duration::from_secs(60);
const ASK_PAUSE: Duration = Duration::from_millis(2);

pub(crate) fn run(options: &Options) -> Result<Vec<Figure>> {
    let scratch = options.scratch()?;
    let broker = Broker::start(scratch.path())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let client = runtime.block_on(broker.connect())?;
    let first_output = runtime.block_on(prepare(options, &client))?;
    let mut figures = vec![Figure {
        name: "processors-deploy".to_owned(),
        what: "filter: from deploy to the first output".to_owned(),
        baseline: "–".to_owned(),
        value: first_output.as_secs_f64(),
        unit: " s",
        goal: Goal::AtMost(1.0),
    }];
    figures.extend(beside_a_spinning_guest(options, &runtime, &client)?);
    figures.push(runtime.block_on(swap_pause(options, &client))?);
    figures.push(runtime.block_on(idle_tasks(options, &broker, &client))?);
    Ok(figures)
}

fn deployment(name: &str, module: &str, input: &str, output: &str) -> DeployProcessorRequest {
    DeployProcessorRequest {
        name: name.to_owned(),
        module: module.to_owned(),
        inputs: vec![input.to_owned()],
        outputs: vec![output.to_owned()],
        stores: Vec::new(),
        settings: Vec::new(),
        from: StartFrom::Earliest,
        limits: ProcessorLimits::default(),
        errors: ErrorPolicy::default(),
        shadow: false,
    }
}

/// Topics and modules; how long the filter took from its deployment to its first output.
async fn prepare(options: &Options, client: &Client) -> Result<Duration> {
    for topic in ["plain", "lines", "passed", "victims", "survivors"] {
        create_topic(client, topic, 1, &[("durability", "os")]).await?;
    }
    for module in ["filter", "identity", "spin"] {
        client.admin().upload_module(module, None, component(options, module)?, |_, _| {}).await?;
    }
    let mut way = Way::new(client, "lines", "passed", &VALUE).await?;
    let begun = Instant::now();
    let settings = vec![("contains".to_owned(), "x".to_owned())];
    let request = DeployProcessorRequest { settings, ..deployment("filter", "filter", "lines", "passed") };
    client.admin().deploy_processor(request).await?;
    way.once().await?;
    Ok(begun.elapsed())
}

/// Both ways, without and beside a guest that spins all the time.
fn beside_a_spinning_guest(
    options: &Options,
    runtime: &tokio::runtime::Runtime,
    client: &Client,
) -> Result<Vec<Figure>> {
    let records = options.pick(RECORDS, 50);
    let plain = RefCell::new(runtime.block_on(Way::new(client, "plain", "plain", &VALUE))?);
    let filtered = RefCell::new(runtime.block_on(Way::new(client, "lines", "passed", &VALUE))?);
    let both = || -> Result<(f64, f64)> {
        let plain = runtime.block_on(plain.borrow_mut().p99(records))?;
        Ok((plain, runtime.block_on(filtered.borrow_mut().p99(records))?))
    };
    let processors = RefCell::new(Vec::new());
    let take = |(plain, filtered): (f64, f64)| {
        processors.borrow_mut().push(filtered);
        plain
    };
    let samples = interleave(
        options.pick(ROUNDS, 1),
        [&mut || Ok(take(both()?)), &mut || {
            runtime.block_on(begin_to_spin(client))?;
            let measured = both();
            runtime.block_on(client.admin().delete_processor("spin"))?;
            Ok(take(measured?))
        }],
    )?;
    let processors = processors.into_inner();
    let ratios: Vec<f64> = processors.chunks(2).map(|pair| pair[1] / pair[0]).collect();
    let beside: Vec<f64> = processors.chunks(2).map(|pair| pair[1]).collect();
    let alone: Vec<f64> = processors.chunks(2).map(|pair| pair[0]).collect();
    Ok(vec![
        Figure {
            name: "processors-spin-produce".to_owned(),
            what: format!("produce to receipt beside a spinning guest p99 {:.2} ms", samples.median(1) * 1e3),
            baseline: format!("without it p99 {:.2} ms", samples.median(0) * 1e3),
            value: samples.median_of(|[alone, beside]| beside / alone),
            unit: "",
            goal: Goal::AtMost(1.5),
        },
        Figure {
            name: "processors-spin-neighbour".to_owned(),
            what: format!("through filter beside a spinning guest p99 {:.2} ms", percentile(beside, 50)? * 1e3),
            baseline: format!("without it p99 {:.2} ms", percentile(alone, 50)? * 1e3),
            value: percentile(ratios, 50)?,
            unit: "",
            goal: Goal::AtMost(1.5),
        },
    ])
}

/// A guest that meets its CPU limit on each of many records, one after the other.
async fn begin_to_spin(client: &Client) -> Result<()> {
    let producer = client.producer(ProducerConfig::default())?;
    for _ in 0..1000 {
        producer.send_ref("victims", None, Some(b"spin")).await?;
    }
    producer.flush().await?;
    let request = DeployProcessorRequest {
        errors: ErrorPolicy { retries: 0, then: OnError::Skip },
        ..deployment("spin", "spin", "victims", "survivors")
    };
    client.admin().deploy_processor(request).await?;
    let begun = Instant::now();
    while client.admin().describe_processor("spin").await?.tasks.iter().any(|task| task.cpu_us == 0) {
        give_up_after(begun, "the spinning guest does not begin")?;
        tokio::time::sleep(ASK_PAUSE).await;
    }
    Ok(())
}

/// Two modules take turns while records pass.
async fn swap_pause(options: &Options, client: &Client) -> Result<Figure> {
    let mut pauses = Vec::new();
    let mut way = Way::new(client, "lines", "passed", &VALUE).await?;
    let admin = client.admin();
    for number in 0..options.pick(SWAPS, 4) {
        let module = if number % 2 == 0 { "identity" } else { "filter" };
        let settings = vec![("contains".to_owned(), "x".to_owned())];
        let request = DeployProcessorRequest { settings, ..deployment("filter", module, "lines", "passed") };
        let before = admin.describe_processor("filter").await?.tasks.first().and_then(|task| task.swap_us);
        admin.deploy_processor(request).await?;
        let begun = Instant::now();
        loop {
            // A record on the way asks for a step, as a stream would.
            way.once().await?;
            let now = admin.describe_processor("filter").await?.tasks.first().and_then(|task| task.swap_us);
            if let Some(pause) = now.filter(|_| now != before) {
                pauses.push(pause as f64 / 1e3);
                break;
            }
            give_up_after(begun, "the module is not swapped")?;
        }
    }
    Ok(Figure {
        name: "processors-swap".to_owned(),
        what: format!("{} swaps with a record on the way, p99 of the pause", pauses.len()),
        baseline: format!("median {:.1} ms", percentile(pauses.clone(), 50)?),
        value: percentile(pauses, 99)?,
        unit: " ms",
        goal: Goal::AtMost(50.0),
    })
}

/// What a task weighs that waits for records.
async fn idle_tasks(options: &Options, broker: &Broker, client: &Client) -> Result<Figure> {
    let tasks = options.pick(IDLE_TASKS, 20);
    create_topic(client, "idle", tasks, &[("durability", "os")]).await?;
    let before = rss_anon_kib(broker.process_id())?;
    client.admin().deploy_processor(deployment("idle", "identity", "idle", "passed")).await?;
    let begun = Instant::now();
    while client.admin().describe_processor("idle").await?.tasks.iter().any(|task| task.state != TaskState::Running) {
        give_up_after(begun, "the tasks do not start")?;
        tokio::time::sleep(ASK_PAUSE).await;
    }
    let took = begun.elapsed();
    let kib = (rss_anon_kib(broker.process_id())? as f64 - before as f64) / f64::from(tasks);
    Ok(Figure {
        name: "processors-idle-task".to_owned(),
        what: format!("RssAnon of an idle task, {tasks} of them; they began in {:.2} s", took.as_secs_f64()),
        baseline: format!("{:.1} MiB before", before as f64 / 1024.0),
        value: kib,
        unit: " KiB",
        goal: Goal::None,
    })
}

fn give_up_after(begun: Instant, what: &str) -> Result<()> {
    if begun.elapsed() > STALL_MAX { Err(what.to_owned().into()) } else { Ok(()) }
}
