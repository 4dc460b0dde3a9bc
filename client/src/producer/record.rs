//! What is sent.

/// A record to send. Everything is borrowed: the bytes are copied once, into their batch.
#[derive(Clone, Copy, Debug)]
pub struct ProducerRecord<'a> {
    /// Name of the topic.
    pub topic: &'a str,
    /// The partition; `None` chooses by the key (murmur2, as every Kafka client does), or without a key spreads evenly,
    /// batch by batch.
    pub partition: Option<u32>,
    /// The key, `None` for null.
    pub key: Option<&'a [u8]>,
    /// The value, `None` for null: a tombstone, on compacted topics.
    pub value: Option<&'a [u8]>,
    /// Names and values, in order; names may repeat.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
    /// Ms since the Unix epoch; `None` for now.
    pub timestamp: Option<i64>,
}

impl<'a> ProducerRecord<'a> {
    /// A record for a topic, without headers, as of now.
    pub fn new(topic: &'a str, key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Self {
        Self { topic, partition: None, key, value, headers: &[], timestamp: None }
    }
}
