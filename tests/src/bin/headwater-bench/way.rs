//! The time from sending a record to having what comes of it.

use crate::Result;
use headwater_client::{Client, Consumer, ConsumerConfig, Producer, ProducerConfig, ProducerRecord, StartOffset};
use std::time::{Duration, Instant};

/// Partition 0 of one topic, in which records are put, and of one, perhaps the same, in which something follows.
pub(crate) struct Way {
    producer: Producer,
    consumer: Consumer,
    topic: &'static str,
    value: &'static [u8],
}

impl Way {
    /// From `from` to `to`, with what comes from now on.
    pub(crate) async fn new(client: &Client, from: &'static str, to: &str, value: &'static [u8]) -> Result<Self> {
        let mut consumer = client.consumer(ConsumerConfig::default())?;
        consumer.assign(to, &[(0, StartOffset::End)]).await?;
        let producer = client.producer(ProducerConfig { linger: Duration::ZERO, ..ProducerConfig::default() })?;
        Ok(Self { producer, consumer, topic: from, value })
    }

    /// One record, all the way.
    pub(crate) async fn once(&mut self) -> Result<()> {
        let delivery = self.producer.send(ProducerRecord::new(self.topic, None, Some(self.value))).await?;
        self.consumer.next().await?;
        delivery.await?;
        Ok(())
    }

    /// The 99th percentile of seconds, one record at a time.
    pub(crate) async fn p99(&mut self, records: usize) -> Result<f64> {
        let mut times = Vec::with_capacity(records);
        for _ in 0..records {
            let begun = Instant::now();
            self.once().await?;
            times.push(begun.elapsed().as_secs_f64());
        }
        percentile(times, 99)
    }
}

/// The value that so many percent are below.
pub(crate) fn percentile(mut values: Vec<f64>, percent: usize) -> Result<f64> {
    values.sort_by(f64::total_cmp);
    let place = values.len().saturating_sub(1).min(values.len() * percent / 100);
    values.get(place).copied().ok_or_else(|| "nothing was timed".into())
}
