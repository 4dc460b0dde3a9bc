//! The client against a peer that misbehaves in ways that a real broker, asked nicely, will not.

#[cfg(test)]
mod faults {
    pub(crate) mod peer;
}

use faults::peer::{Fault, Peer};
use headwater_client::protocol::compression::Compression;
use headwater_client::protocol::error::ErrorCode;
use headwater_client::protocol::messages::ApiKey;
use headwater_client::protocol::messages::records::{Acks, OffsetSpec};
use headwater_client::protocol::partitioner::partition_for_key;
use headwater_client::{
    Client, ClientError, ClientTls, ConsumerConfig, ConsumerRecord, OutOfRangePolicy, ProducerConfig, ProducerRecord,
    StartOffset, Written,
};
use std::time::Duration;

/// Small batches, so that there are many of them.
fn small() -> ProducerConfig {
    ProducerConfig { batch_bytes_max: 1024, linger: Duration::ZERO, ..ProducerConfig::default() }
}

fn on(partition: u32, value: &str) -> ProducerRecord<'_> {
    ProducerRecord { partition: Some(partition), ..ProducerRecord::new("t", None, Some(value.as_bytes())) }
}

fn values(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{n:06}")).collect()
}

fn text(record: &ConsumerRecord) -> String {
    String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_produced_is_consumed_in_order_by_key() {
    let peer = Peer::start(4).await;
    let client = peer.client().await;
    let config = ProducerConfig { compression: Compression::Zstd, batch_bytes_max: 4096, ..ProducerConfig::default() };
    let producer = client.producer(config).unwrap();
    let mut deliveries = Vec::new();
    for n in 0..5000_u32 {
        let (key, value) = (format!("key {}", n % 7), format!("{n:06}"));
        let headers = [("n", Some(value.as_bytes()))];
        let record = ProducerRecord {
            headers: &headers,
            timestamp: Some(i64::from(n)),
            ..ProducerRecord::new("t", Some(key.as_bytes()), Some(value.as_bytes()))
        };
        deliveries.push((partition_for_key(key.as_bytes(), 4), producer.send(record).await.unwrap()));
    }
    producer.flush().await.unwrap();
    for (n, (partition, delivery)) in deliveries.into_iter().enumerate() {
        let metadata = delivery.await.unwrap();
        assert_eq!((metadata.partition, metadata.timestamp), (partition, n as i64));
    }
    let metrics = producer.metrics();
    assert_eq!((metrics.records_acknowledged, metrics.records_failed, metrics.buffered_bytes), (5000, 0, 0));
    producer.close().await.unwrap();

    let mut consumer = client.consumer(ConsumerConfig::default()).unwrap();
    consumer.assign_all("t", StartOffset::Beginning).await.unwrap();
    let mut seen = std::collections::BTreeMap::<String, Vec<String>>::new();
    for _ in 0..5000 {
        let record = consumer.next().await.unwrap();
        assert!(consumer.position("t", record.partition).is_some_and(|next| next > record.offset));
        let key = String::from_utf8(record.key.clone().unwrap().to_vec()).unwrap();
        assert_eq!(record.headers.iter().next().unwrap().1, record.value.as_deref());
        seen.entry(key).or_default().push(text(&record));
    }
    assert_eq!(seen.len(), 7);
    assert!(seen.values().all(|values| values.is_sorted()));
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_connections_and_refusals_leave_each_record_once_and_in_order() {
    // covers IDP-2, IDP-3, IDP-6
    use ErrorCode::{NotEnoughReplicasAfterAppend, NotLeaderOrFollower, RequestTimedOut};
    let faults = [
        Fault::LoseAfterAppend,
        Fault::None,
        Fault::Refuse(NotLeaderOrFollower),
        Fault::LoseBeforeAppend,
        Fault::None,
        Fault::None,
        Fault::AppendAndRefuse(RequestTimedOut),
        Fault::None,
        Fault::AnswerAnother,
        Fault::None,
        Fault::AppendAndRefuse(NotEnoughReplicasAfterAppend),
        Fault::LoseAfterAppend,
        Fault::LoseAfterAppend,
    ];
    let peer = Peer::start(2).await;
    peer.state().faults.extend(faults.iter().cycle().take(faults.len() * 4));
    let client = peer.client().await;
    let producer = client.producer(small()).unwrap();
    let values = values(4000);
    let mut deliveries = Vec::new();
    for value in &values {
        deliveries.push(producer.send(on(0, value)).await.unwrap());
        producer.send_ref("t", Some(value.as_bytes()), Some(value.as_bytes())).await.unwrap();
    }
    producer.flush().await.unwrap();
    let mut offsets = Vec::new();
    for delivery in deliveries {
        offsets.push(delivery.await.unwrap().offset.unwrap());
    }
    assert!(offsets.is_sorted());
    assert!(peer.state().faults.is_empty(), "all faults happened");
    assert!(producer.metrics().retries > 0);

    let logs: Vec<_> = peer.state().partitions.iter().map(|partition| partition.values()).collect();
    let [zero, one] = &logs[..] else { panic!("two partitions") };
    assert_eq!(zero.len() + one.len(), 8000);
    let keyed = |partition| values.iter().filter(move |value| partition_for_key(value.as_bytes(), 2) == partition);
    assert!(one.iter().eq(keyed(1)));
    let in_order: Vec<_> = deliveries_of(&values, zero, &offsets);
    assert_eq!(in_order, values, "each record is where its delivery says");
    let mut zero = zero.clone();
    zero.sort();
    let mut expected: Vec<_> = values.iter().chain(keyed(0)).cloned().collect();
    expected.sort();
    assert_eq!(zero, expected);
}

/// What the log has at the offsets that were told.
fn deliveries_of(values: &[String], log: &[String], offsets: &[i64]) -> Vec<String> {
    assert_eq!(values.len(), offsets.len());
    offsets.iter().map(|offset| log[*offset as usize].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_restarts_is_found_again_by_producer_and_consumer() {
    let mut peer = Peer::start(1).await;
    let client = peer.client().await;
    let producer = client.producer(small()).unwrap();
    let mut consumer = client.consumer(ConsumerConfig::default()).unwrap();
    consumer.assign("t", &[(0, StartOffset::End)]).await.unwrap();
    let values = values(300);
    for (n, value) in values.iter().enumerate() {
        drop(producer.send(on(0, value)).await.unwrap());
        if n % 100 == 50 {
            producer.flush().await.unwrap();
            peer.stop().await;
            drop(producer.send(on(0, "while it is away")).await.unwrap());
            peer.listen();
        }
    }
    producer.close().await.unwrap();
    let mut read = Vec::new();
    for _ in 0..303 {
        read.push(text(&consumer.next().await.unwrap()));
    }
    assert_eq!(read, peer.state().partitions[0].values());
    assert_eq!(consumer.position("t", 0), Some(303));
    read.retain(|value| value != "while it is away");
    assert_eq!(read, values);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_times_out_is_told_as_unknown_and_leaves_no_hole() {
    let peer = Peer::start(1).await;
    let client = peer.client().await;
    let config = ProducerConfig { delivery_timeout: Duration::from_secs(2), ..small() };
    let producer = client.producer(config).unwrap();
    producer.send(on(0, "before")).await.unwrap().await.unwrap();
    peer.state().then = Fault::Ignore;
    let lost = producer.send(on(0, "lost")).await.unwrap();
    let error = lost.await.unwrap_err();
    assert!(matches!(error, ClientError::Delivery { written: Written::Unknown, partition: 0, .. }), "{error}");
    peer.state().then = Fault::None;
    let error = producer.flush().await.unwrap_err();
    assert!(matches!(error, ClientError::Delivery { .. }), "kept for who waits for all");
    // The old stream still owes an answer, so the peer's next one is to the wrong request: the stream is given up, and
    // what was on it is recognised on the new one.
    for value in ["after", "later"] {
        producer.send(on(0, value)).await.unwrap().await.unwrap();
    }
    producer.close().await.unwrap();
    let state = peer.state();
    assert_eq!(state.partitions[0].values(), ["before", "after", "later"]);
    let headers = state.partitions[0].batches.iter().map(|batch| batch.header());
    let places: Vec<_> = headers.map(|header| (header.producer_epoch, header.base_sequence)).collect();
    assert_eq!(places, [(0, 0), (1, 0), (1, 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_batch_that_was_given_up_is_written_under_a_new_epoch() {
    // covers IDP-1
    let peer = Peer::start(1).await;
    let client = peer.client().await;
    let producer = client.producer(small()).unwrap();
    producer.send(on(0, "before")).await.unwrap().await.unwrap();
    peer.state().faults.push_back(Fault::Refuse(ErrorCode::InvalidRecord));
    let refused = producer.send(on(0, "refused")).await.unwrap();
    assert_eq!(refused.await.unwrap_err().code(), Some(ErrorCode::InvalidRecord));
    for n in 0..20 {
        producer.send_ref("t", None, Some(format!("after {n}").as_bytes())).await.unwrap();
    }
    assert_eq!(producer.flush().await.unwrap_err().code(), Some(ErrorCode::InvalidRecord));
    producer.flush().await.unwrap();
    let state = peer.state();
    let epochs: Vec<_> = state.partitions[0].batches.iter().map(|batch| batch.header().producer_epoch).collect();
    assert!(epochs[0] == 0 && epochs[1..].iter().all(|epoch| *epoch == 1), "{epochs:?}");
    assert_eq!(state.partitions[0].values().len(), 21);
    assert_eq!(state.next_producer, 101, "no other producer id was needed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_error_without_a_cause_of_ours_is_told() {
    let peer = Peer::start(1).await;
    peer.state().faults.extend([Fault::None, Fault::Refuse(ErrorCode::OutOfOrderSequenceNumber)]);
    let client = peer.client().await;
    let producer = client.producer(small()).unwrap();
    producer.send(on(0, "a")).await.unwrap().await.unwrap();
    let error = producer.send(on(0, "b")).await.unwrap().await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::OutOfOrderSequenceNumber));
    producer.send(on(0, "c")).await.unwrap().await.unwrap();
    assert_eq!(peer.state().partitions[0].values(), ["a", "c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_acknowledgement_everything_has_left_when_close_returns() {
    let peer = Peer::start(3).await;
    let client = peer.client().await;
    let producer = client.producer(ProducerConfig { acks: Acks::None, ..ProducerConfig::default() }).unwrap();
    let mut last = None;
    // Far more than leaves in the moment that passes until `close` is called.
    let padding = "x".repeat(8000);
    for value in values(1000) {
        let value = format!("{value}{padding}");
        last = Some(producer.send(ProducerRecord::new("t", None, Some(value.as_bytes()))).await.unwrap());
    }
    producer.close().await.unwrap();
    assert_eq!(last.unwrap().await.unwrap().offset, None);
    client.close().await;
    // Transport has acknowledged it; the peer still has to read it.
    let written = || peer.state().partitions.iter().map(|partition| partition.values().len()).sum::<usize>();
    for _ in 0..5000 {
        if written() == 1000 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(written(), 1000);
    assert!(peer.state().partitions.iter().all(|partition| !partition.batches.is_empty()), "spread");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_buffer_makes_senders_wait_and_loses_nothing() {
    let peer = Peer::start(1).await;
    let client = peer.client().await;
    let config = ProducerConfig { buffer_bytes_max: 2048, linger: Duration::from_secs(60), ..small() };
    let producer = client.producer(config).unwrap();
    let tasks: Vec<_> = (0..4)
        .map(|task| {
            let producer = producer.clone();
            tokio::spawn(async move {
                for n in 0..500 {
                    let value = format!("{task}-{n:04}");
                    drop(producer.send(on(0, &value)).await.unwrap());
                    assert!(producer.metrics().buffered_bytes <= 2048 + 1024);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    producer.close().await.unwrap();
    let values = peer.state().partitions[0].values();
    assert_eq!(values.len(), 2000);
    for task in 0..4 {
        assert!(values.iter().filter(|value| value.starts_with(&format!("{task}-"))).is_sorted());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_there_or_not_ours_is_named_with_the_remedy() {
    let mut peer = Peer::start(1).await;
    let stranger = Peer::start(1).await;

    let mut config = peer.config();
    let files = stranger.identities.client.clone();
    config.tls = ClientTls::Files { ca: files.ca, certificate: files.certificate, key: files.key };
    let error = Client::connect(config.clone()).await.unwrap_err();
    assert!(matches!(error, ClientError::Tls { .. }), "{error}");
    let ours = peer.identities.client.clone();
    let read = |path| std::fs::read(path).unwrap();
    let pem = |files: &headwater_transport::IdentityFiles| {
        (read(files.ca.clone()), read(files.certificate.clone()), read(files.key.clone()))
    };
    let ((ca, ..), (_, certificate, key)) = (pem(&ours), pem(&stranger.identities.client));
    config.tls = ClientTls::Pem { ca: ca.clone(), certificate, key };
    let error = Client::connect(config.clone()).await.unwrap_err();
    assert!(matches!(error, ClientError::Tls { .. }), "{error}");
    let (_, certificate, key) = pem(&ours);
    config.tls = ClientTls::Pem { ca, certificate, key };
    Client::connect(config).await.unwrap();

    peer.state().versions.retain(|(api, ..)| *api != ApiKey::Fetch as u16);
    let error = Client::connect(peer.config()).await.unwrap_err();
    assert!(matches!(error, ClientError::Incompatible { .. }) && error.to_string().contains("Fetch"), "{error}");

    peer.stop().await;
    let error = Client::connect(peer.config()).await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("no broker at {}: run `headwater dev`", peer.address)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_or_partition_that_is_not_there_is_named() {
    let peer = Peer::start(2).await;
    let client = peer.client().await;
    let producer = client.producer(small()).unwrap();
    let error = producer.send(ProducerRecord::new("nope", None, None)).await.unwrap_err();
    assert!(error.to_string().contains("headwater topic create nope"), "{error}");
    let error = producer.send(on(2, "")).await.unwrap_err();
    assert!(error.to_string().contains("0 to 1, not 2"), "{error}");
    let mut consumer = client.consumer(ConsumerConfig::default()).unwrap();
    let error = consumer.assign("t", &[(2, StartOffset::End)]).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopicOrPartition));
    assert!(matches!(consumer.seek("t", 0, StartOffset::End).await, Err(ClientError::Config(_))));
    assert!(matches!(consumer.assign("t", &[(0, StartOffset::Offset(-1))]).await, Err(ClientError::Config(_))));
    assert_eq!(client.admin().describe_topic("t").await.unwrap().partitions.len(), 2);
    assert_eq!(client.admin().describe_topic("u").await.unwrap_err().code(), Some(ErrorCode::UnknownTopicOrPartition));
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_seek_and_read_on_from_inside_a_batch() {
    let peer = Peer::start(1).await;
    let client = peer.client().await;
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let values = values(100);
    for value in &values {
        producer.send_ref("t", None, Some(value.as_bytes())).await.unwrap();
    }
    producer.close().await.unwrap();
    let config = ConsumerConfig { on_out_of_range: OutOfRangePolicy::Earliest, ..ConsumerConfig::default() };
    let mut consumer = client.consumer(config).unwrap();
    consumer.assign_all("t", StartOffset::Offset(42)).await.unwrap();
    assert_eq!(text(&consumer.next().await.unwrap()), values[42]);
    assert_eq!((consumer.position("t", 0), consumer.high_watermark("t", 0)), (Some(43), Some(100)));
    let rest = consumer.next_batch().await.unwrap();
    assert_eq!(rest.records().next().unwrap().unwrap().offset, 43);
    assert_eq!(consumer.position("t", 0), Some(rest.next_offset()));
    consumer.seek("t", 0, StartOffset::Beginning).await.unwrap();
    assert_eq!(consumer.next().await.unwrap().offset, 0);
    consumer.seek("t", 0, StartOffset::Timestamp(i64::MAX)).await.unwrap();
    assert_eq!(consumer.position("t", 0), Some(100), "no record is that young");
    consumer.seek("t", 0, StartOffset::Offset(5000)).await.unwrap();
    assert_eq!(consumer.next().await.unwrap().offset, 0, "out of range: the earliest");
    consumer.unassign("t");
    assert_eq!(consumer.position("t", 0), None);

    let end = client.admin().list_offsets(vec![(faults::peer::TOPIC, 0, OffsetSpec::Latest)]).await.unwrap();
    assert_eq!(end[0].as_ref().unwrap().offset, Some(100));
    client.close().await;
    assert!(matches!(consumer.next().await, Err(ClientError::Closed)));
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_told_with_its_place_and_can_be_stepped_over() {
    let peer = Peer::start(1).await;
    let client = peer.client().await;
    let producer = client.producer(small()).unwrap();
    for value in ["a", "b", "c"] {
        producer.send(on(0, value)).await.unwrap().await.unwrap();
    }
    {
        // A batch whose checksum is right and whose records are not: nothing but the reader can find out.
        let mut state = peer.state();
        let batches = &mut state.partitions[0].batches;
        let mut builder = headwater_client::protocol::batch::BatchBuilder::new(Compression::Zstd);
        builder.append(0, None, Some(&[0; 500]), &[]).unwrap();
        let stamp = headwater_client::protocol::batch::ProducerStamp::NONE;
        let mut bytes = builder.build(stamp).unwrap().to_vec();
        bytes[22] = 3; // says lz4
        let crc = crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        headwater_client::protocol::batch::stamp(&mut bytes, 1, headwater_client::protocol::ids::LeaderEpoch(0));
        batches[1] = headwater_client::protocol::batch::RecordBatch::decode(bytes.into()).unwrap();
    }
    let mut consumer = client.consumer(ConsumerConfig::default()).unwrap();
    consumer.assign_all("t", StartOffset::Beginning).await.unwrap();
    assert_eq!(text(&consumer.next().await.unwrap()), "a");
    let error = consumer.next().await.unwrap_err();
    assert!(error.to_string().contains("t-0 at offset 1"), "{error}");
    assert_eq!(consumer.position("t", 0), Some(1));
    consumer.seek("t", 0, StartOffset::Offset(2)).await.unwrap();
    assert_eq!(text(&consumer.next().await.unwrap()), "c");
}

/// CRC-32C, bit by bit: only here is a wrong batch to be given a right checksum.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_stays_away_ends_the_wait_where_that_was_asked_for() {
    let mut peer = Peer::start(1).await;
    let client = peer.client().await;
    let patience = Some(Duration::from_millis(200));
    let mut consumer =
        client.consumer(ConsumerConfig { unreachable_timeout: patience, ..ConsumerConfig::default() }).unwrap();
    consumer.assign_all("t", StartOffset::Beginning).await.unwrap();
    peer.stop().await;
    let error = consumer.next().await.unwrap_err();
    assert!(error.is_retriable(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_report_their_progress_and_unscripted_requests_are_refused_in_words() {
    let peer = Peer::start(1).await;
    let client = peer.client().await;
    let module = bytes::Bytes::from(vec![1; 8 << 20]);
    let mut seen = Vec::new();
    let uploaded = client.admin().upload_module("m", None, module, |sent, of| seen.push((sent, of))).await.unwrap();
    assert_eq!(uploaded.size_bytes, 8 << 20);
    assert!(seen.is_sorted() && seen.last() == Some(&(8 << 20, 8 << 20)), "{seen:?}");
    let error = client.admin().upload_module("m", None, vec![0; (16 << 20) + 1].into(), |_, _| {}).await.unwrap_err();
    assert!(error.to_string().contains("16777217"), "{error}");
    let error = client.admin().list_modules().await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnsupportedVersion));
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_producer_gives_up_what_is_not_delivered() {
    let peer = Peer::start(1).await;
    peer.state().then = Fault::Ignore;
    let client = peer.client().await;
    let producer = client.producer(small()).unwrap();
    let delivery = producer.send(on(0, "a")).await.unwrap();
    drop(producer);
    assert!(matches!(delivery.await, Err(ClientError::Closed)));
}
