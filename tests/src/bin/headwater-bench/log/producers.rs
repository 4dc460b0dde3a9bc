//! Many producers of single records that each wait for their disk: how many records share a sync.

use crate::Result;
use crate::broker::{Broker, create_topic};
use crate::options::Options;
use crate::report::{Figure, Goal};
use headwater_client::{Client, ProducerConfig, ProducerRecord};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const PRODUCERS: usize = 100;
/// Counts syncs of segments: one for each log in each flush round.
const FLUSHED_LOGS: &str = "headwater_flushed_logs_total";

pub(super) fn run(options: &Options) -> Result<Vec<Figure>> {
    let scratch = options.scratch()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let broker = Broker::start(&scratch.path().join("broker"))?;
    let client = runtime.block_on(broker.connect())?;
    let seconds = Duration::from_secs(options.pick(5, 1));
    let cases = [("log-records-per-sync", 1, Goal::AtLeast(20.0)), ("log-records-per-sync-10", 10, Goal::None)];
    let measure =
        |(name, partitions, goal)| runtime.block_on(measure(&broker, &client, name, partitions, goal, seconds));
    cases.into_iter().map(measure).collect()
}

async fn measure(
    broker: &Broker,
    client: &Client,
    name: &str,
    partitions: u32,
    goal: Goal,
    time: Duration,
) -> Result<Figure> {
    create_topic(client, name, partitions, &[("durability", "fsync")]).await?;
    // The first records open connections and write snapshots' beginnings: they don't count.
    produce(client, name, time / 5).await?;
    let before = broker.counter(FLUSHED_LOGS)?;
    let start = Instant::now();
    let records = produce(client, name, time).await?;
    let taken = start.elapsed().as_secs_f64();
    let syncs = (broker.counter(FLUSHED_LOGS)? - before).max(1);
    Ok(Figure {
        name: name.to_owned(),
        what: format!("{PRODUCERS} producers, {partitions} partition(s): {:.0} records/s", records as f64 / taken),
        baseline: format!("{:.0} syncs/s", syncs as f64 / taken),
        value: records as f64 / syncs as f64,
        unit: " records",
        goal,
    })
}

/// Every producer sends one record, waits for its acknowledgement, and sends the next; how many were acknowledged.
async fn produce(client: &Client, topic: &str, time: Duration) -> Result<u64> {
    let until = Instant::now() + time;
    let mut producers = JoinSet::new();
    for number in 0..PRODUCERS {
        let producer = client.producer(ProducerConfig { linger: Duration::ZERO, ..ProducerConfig::default() })?;
        let topic = topic.to_owned();
        producers.spawn(async move {
            let (mut records, value) = (0_u64, [b'x'; 100]);
            let key = number.to_string();
            while Instant::now() < until {
                producer.send(ProducerRecord::new(&topic, Some(key.as_bytes()), Some(&value))).await?.await?;
                records += 1;
            }
            producer.close().await?;
            Ok::<_, crate::Failure>(records)
        });
    }
    let mut records = 0;
    while let Some(ended) = producers.join_next().await {
        records += ended??;
    }
    Ok(records)
}
