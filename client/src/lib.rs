//! The client of a Headwater cluster: administration, producer, consumer, over QUIC with mutual TLS.
//!
//! ```text
//!            your program
//!      ┌─────────┼──────────┐
//!    Admin    Producer   Consumer          what they decide is pure (`core` modules, explicit time);
//!      │         │          │              what they do are tasks around it
//!      │      lanes ≤ 32  lanes ≤ 32       a stream each, partitions hashed to them
//!      └────┬────┴──────────┘
//!         pool ── metadata                 which broker leads what; retries, back-off
//!           │
//!      one connection per broker           hello: identities, versions
//! ```
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use headwater_client::{Client, ConsumerConfig, Context, ProducerConfig, ProducerRecord, StartOffset};
//!
//! let context = Context::load("headwater-data/context.toml".as_ref())?;
//! let client = Client::connect(context.client_config()).await?;
//!
//! let producer = client.producer(ProducerConfig::default())?;
//! let delivery = producer.send(ProducerRecord::new("greetings", Some(b"key"), Some(b"hello"))).await?;
//! println!("at offset {:?}", delivery.await?.offset);
//! producer.close().await?;
//!
//! let mut consumer = client.consumer(ConsumerConfig::default())?;
//! consumer.assign_all("greetings", StartOffset::Beginning).await?;
//! let record = consumer.next().await?;
//! println!("{} {:?}", record.offset, record.value);
//! # Ok(())
//! # }
//! ```
//!
//! Every error is a line that names the culprit and the remedy ([`ClientError`]); every bound is in [`limits`].

mod admin;
mod backoff;
mod client;
mod config;
mod connection;
mod consumer;
mod context;
mod error;
mod lanes;
pub mod limits;
mod metadata;
mod pool;
mod producer;
mod retry;
mod versions;

pub use admin::Admin;
pub use client::{Client, ClusterInfo};
pub use config::{ClientConfig, ClientTls};
pub use consumer::{ConsumedBatch, Consumer, ConsumerConfig, ConsumerRecord, Headers, OutOfRangePolicy, StartOffset};
pub use context::{Context, ContextError};
pub use error::{ClientError, Written};
pub use producer::driven;
pub use producer::{Delivery, Producer, ProducerConfig, ProducerMetrics, ProducerRecord, RecordMetadata};

pub use headwater_protocol as protocol;
