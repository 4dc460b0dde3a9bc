//! A peer that follows a script: it keeps a small log by the rules that a broker has to keep, and misbehaves when told.

use bytes::Bytes;
use headwater_client::protocol::batch::{BatchHeader, RecordBatch, stamp};
use headwater_client::protocol::error::{ApiError, ErrorCode};
use headwater_client::protocol::frame::{FrameLimits, decode_header, encode_header};
use headwater_client::protocol::ids::{
    BrokerEpoch, BrokerId, ClusterId, LeaderEpoch, ModuleDigest, PartitionEpoch, ProducerId, TopicId,
};
use headwater_client::protocol::messages::cluster::{
    BrokerMetadata, HelloResponse, MetadataRequest, MetadataResponse, PartitionMetadata, TopicMetadata,
};
use headwater_client::protocol::messages::module::{ModuleDescription, UploadModuleRequest};
use headwater_client::protocol::messages::records::{
    Acks, FetchRequest, FetchResponse, FetchedPartition, FoundOffset, InitProducerIdResponse, ListOffsetsRequest,
    ListOffsetsResponse, OffsetSpec, ProduceRequest, ProduceResponse, ProducedBatch,
};
use headwater_client::protocol::messages::{ApiKey, Reply};
use headwater_client::{Client, ClientConfig, ClientTls};
use headwater_transport::{
    ByteBudget, CloseCode, Connection, DevIdentities, Frame, FrameTag, FramedRecv, FramedSend, ServerEndpoint,
    ServerTls, TransportLimits, create_dev_identities,
};
use serde::Serialize;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;

pub(crate) const TOPIC: TopicId = TopicId([7; 16]);
const BROKER: BrokerId = BrokerId(1);

/// What to do with one produce request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing: append and answer.
    None,
    /// Append, then drop the connection instead of answering.
    LoseAfterAppend,
    /// Drop the connection, append nothing.
    LoseBeforeAppend,
    /// Append nothing, answer so.
    Refuse(ErrorCode),
    /// Append, but answer so.
    AppendAndRefuse(ErrorCode),
    /// Append, answer under another correlation id.
    AnswerAnother,
    /// Append nothing, never answer.
    Ignore,
}

/// One partition's log and what it knows of its producers.
#[derive(Default)]
pub(crate) struct Partition {
    pub(crate) batches: Vec<RecordBatch>,
    producers: Vec<Producer>,
}

struct Producer {
    id: i64,
    epoch: i16,
    next_sequence: i32,
    /// (first sequence, base offset) of the last five.
    kept: VecDeque<(i32, i64)>,
}

impl Partition {
    pub(crate) fn end(&self) -> i64 {
        self.batches.last().map_or(0, |batch| batch.header().next_offset())
    }

    /// Values of all records.
    pub(crate) fn values(&self) -> Vec<String> {
        let mut values = Vec::new();
        for batch in &self.batches {
            for record in &batch.records(&Default::default()).unwrap() {
                values.push(String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
            }
        }
        values
    }

    /// IDP-1 to IDP-3, and IDP-5 for whom it doesn't know.
    fn append(&mut self, bytes: Bytes) -> Result<ProducedBatch, ErrorCode> {
        let header = BatchHeader::decode(&bytes).map_err(|error| error.code())?;
        if header.producer_id >= 0
            && let Some(base_offset) = self.check_producer(&header)?
        {
            return Ok(ProducedBatch { base_offset, duplicate: true });
        }
        let base_offset = self.end();
        let mut bytes = bytes.to_vec();
        stamp(&mut bytes, base_offset, LeaderEpoch(0));
        self.batches.push(RecordBatch::decode(bytes.into()).map_err(|error| error.code())?);
        Ok(ProducedBatch { base_offset, duplicate: false })
    }

    fn check_producer(&mut self, header: &BatchHeader) -> Result<Option<i64>, ErrorCode> {
        let (epoch, first) = (header.producer_epoch, header.base_sequence);
        let (next, base_offset) = (first + header.record_count, self.end());
        let Some(known) = self.producers.iter_mut().find(|known| known.id == header.producer_id) else {
            let kept = VecDeque::from([(first, base_offset)]);
            self.producers.push(Producer { id: header.producer_id, epoch, next_sequence: next, kept });
            return Ok(None);
        };
        if epoch < known.epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        if epoch > known.epoch {
            (known.epoch, known.next_sequence) = (epoch, 0);
            known.kept.clear();
        }
        if let Some((_, base_offset)) = known.kept.iter().find(|(sequence, _)| *sequence == first) {
            return Ok(Some(*base_offset));
        }
        if first != known.next_sequence {
            return Err(ErrorCode::OutOfOrderSequenceNumber);
        }
        known.next_sequence = next;
        known.kept.push_back((first, base_offset));
        while known.kept.len() > 5 {
            known.kept.pop_front();
        }
        Ok(None)
    }
}

/// What survives a restart.
pub(crate) struct State {
    pub(crate) partitions: Vec<Partition>,
    pub(crate) faults: VecDeque<Fault>,
    /// Answer for produce requests once `faults` are used up.
    pub(crate) then: Fault,
    pub(crate) versions: Vec<(u16, u16, u16)>,
    pub(crate) topic_exists: bool,
    pub(crate) next_producer: i64,
}

/// The peer.
pub(crate) struct Peer {
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) identities: DevIdentities,
    pub(crate) address: SocketAddr,
    endpoint: Option<ServerEndpoint>,
    changed: Arc<Notify>,
    _directory: tempfile::TempDir,
}

impl Peer {
    pub(crate) async fn start(partitions: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let identities = create_dev_identities(&directory.path().join("certificates")).unwrap();
        let state = State {
            partitions: (0..partitions).map(|_| Partition::default()).collect(),
            faults: VecDeque::new(),
            then: Fault::None,
            versions: ApiKey::SUPPORTED.iter().map(|(api, low, high)| (*api as u16, *low, *high)).collect(),
            topic_exists: true,
            next_producer: 100,
        };
        let mut peer = Self {
            state: Arc::new(Mutex::new(state)),
            identities,
            address: "127.0.0.1:0".parse().unwrap(),
            endpoint: None,
            changed: Arc::new(Notify::new()),
            _directory: directory,
        };
        peer.listen();
        peer
    }

    /// Listens, where it listened before if it did.
    pub(crate) fn listen(&mut self) {
        let tls = ServerTls::load(&self.identities.broker).unwrap();
        let endpoint = ServerEndpoint::bind(self.address, &tls, TransportLimits::default()).unwrap();
        self.address = endpoint.local_address().unwrap();
        let session =
            Session { state: Arc::clone(&self.state), changed: Arc::clone(&self.changed), address: self.address };
        self.endpoint = Some(endpoint.clone());
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let session = session.clone();
                tokio::spawn(async move {
                    if let Ok(connection) = incoming.handshake().await {
                        session.serve(connection).await;
                    }
                });
            }
        });
    }

    /// Is gone at once, with all connections.
    pub(crate) async fn stop(&mut self) {
        if let Some(endpoint) = self.endpoint.take() {
            endpoint.close(CloseCode::ShuttingDown, "stop");
            endpoint.wait_closed().await;
        }
        // The socket goes with the last task that knows the endpoint.
        while std::net::UdpSocket::bind(self.address).is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn config(&self) -> ClientConfig {
        let files = self.identities.client.clone();
        let tls = ClientTls::Files { ca: files.ca, certificate: files.certificate, key: files.key };
        ClientConfig::new(vec![self.address.to_string()], tls)
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.config()).await.unwrap()
    }
}

#[derive(Clone)]
struct Session {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    address: SocketAddr,
}

/// What becomes of a request.
enum Outcome {
    Answer(Vec<u8>, Vec<Bytes>),
    AnswerAs(u32, Vec<u8>),
    Silence,
    LoseConnection,
}

fn answer<T: Serialize>(reply: Reply<T>) -> Outcome {
    Outcome::Answer(encode_header(&reply).unwrap(), Vec::new())
}

impl Session {
    async fn serve(self, connection: Connection) {
        while let Ok(Some((send, recv))) = connection.accept().await {
            tokio::spawn(self.clone().stream(connection.clone(), send, recv));
        }
    }

    async fn stream(self, connection: Connection, mut send: FramedSend, mut recv: FramedRecv) {
        let budget = ByteBudget::new(64 << 20);
        while let Ok(Some(frame)) = recv.next(&FrameLimits::AUTHENTICATED, &budget).await {
            let mut tag = FrameTag::from(&frame.prefix);
            match self.handle(&frame).await {
                Outcome::Answer(header, body) => {
                    if send.send(tag, &header, &body).await.is_err() {
                        return;
                    }
                }
                Outcome::AnswerAs(correlation, header) => {
                    tag.correlation = correlation;
                    send.send(tag, &header, &[]).await.unwrap_or_default();
                }
                Outcome::Silence => {}
                Outcome::LoseConnection => return connection.close(CloseCode::InternalError, "scripted"),
            }
        }
    }

    async fn handle(&self, frame: &Frame) -> Outcome {
        match ApiKey::from_number(frame.prefix.api).unwrap() {
            ApiKey::Hello => answer(Ok(HelloResponse {
                broker: "scripted peer".into(),
                cluster: ClusterId([3; 16]),
                id: BROKER,
                epoch: BrokerEpoch(1),
                versions: self.state.lock().unwrap().versions.clone(),
            })),
            ApiKey::Metadata => answer(Ok(self.metadata(&decode_header(&frame.header).unwrap()))),
            ApiKey::InitProducerId => {
                let mut state = self.state.lock().unwrap();
                state.next_producer += 1;
                let producer_id = ProducerId(state.next_producer);
                answer(Ok(InitProducerIdResponse { producer_id, producer_epoch: 0 }))
            }
            ApiKey::Produce => self.produce(frame),
            ApiKey::Fetch => self.fetch(&decode_header(&frame.header).unwrap()).await,
            ApiKey::ListOffsets => answer(Ok(self.list_offsets(&decode_header(&frame.header).unwrap()))),
            ApiKey::UploadModule => {
                let request: UploadModuleRequest = decode_header(&frame.header).unwrap();
                assert_eq!(request.module_bytes as usize, frame.body.len());
                answer(Ok(ModuleDescription {
                    name: request.name,
                    version: "1".into(),
                    digest: ModuleDigest([0; 32]),
                    size_bytes: frame.body.len() as u64,
                    world: "w".into(),
                    imports: vec![],
                    uploaded_at: 0,
                }))
            }
            _ => answer(Err::<(), _>(ApiError::new(ErrorCode::UnsupportedVersion, "not in the script"))),
        }
    }

    fn metadata(&self, request: &MetadataRequest) -> MetadataResponse {
        let state = self.state.lock().unwrap();
        let wanted = request.topics.as_ref().is_none_or(|topics| topics.iter().any(|topic| topic == "t"));
        let partition = || PartitionMetadata {
            leader: Some(BROKER),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
            replicas: vec![BROKER],
            isr: vec![BROKER],
        };
        let topic = TopicMetadata {
            name: "t".into(),
            id: TOPIC,
            internal: false,
            partitions: state.partitions.iter().map(|_| partition()).collect(),
            settings: vec![],
        };
        MetadataResponse {
            cluster: ClusterId([3; 16]),
            brokers: vec![BrokerMetadata { id: BROKER, address: self.address.to_string() }],
            topics: if wanted && state.topic_exists { vec![topic] } else { vec![] },
        }
    }

    fn produce(&self, frame: &Frame) -> Outcome {
        let request: ProduceRequest = decode_header(&frame.header).unwrap();
        let mut state = self.state.lock().unwrap();
        let then = state.then;
        let fault = state.faults.pop_front().unwrap_or(then);
        match fault {
            Fault::LoseBeforeAppend => return Outcome::LoseConnection,
            Fault::Ignore => return Outcome::Silence,
            _ => {}
        }
        let mut body = frame.body.clone();
        let mut outcomes = Vec::new();
        for part in &request.partitions {
            let bytes = body.split_to(part.batch_bytes as usize);
            let outcome = match fault {
                Fault::Refuse(code) => Err(code),
                _ => state.partitions[part.partition as usize].append(bytes),
            };
            let outcome = match fault {
                Fault::AppendAndRefuse(code) => Err(code),
                _ => outcome,
            };
            outcomes.push(outcome.map_err(|code| ApiError::new(code, "scripted")));
        }
        assert!(body.is_empty());
        self.changed.notify_waiters();
        let reply =
            Outcome::Answer(encode_header(&Reply::Ok(ProduceResponse { partitions: outcomes })).unwrap(), vec![]);
        match (fault, reply) {
            (Fault::LoseAfterAppend, _) => Outcome::LoseConnection,
            (Fault::AnswerAnother, Outcome::Answer(header, _)) => {
                Outcome::AnswerAs(frame.prefix.correlation.wrapping_add(1), header)
            }
            (_, reply) if request.acks != Acks::None => reply,
            _ => Outcome::Silence,
        }
    }

    async fn fetch(&self, request: &FetchRequest) -> Outcome {
        let deadline = tokio::time::Instant::now() + Duration::from_millis(u64::from(request.wait_ms));
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let (response, body) = self.read(request);
            let refused = response.partitions.iter().any(Result::is_err);
            if !body.is_empty() || refused || tokio::time::timeout_at(deadline, changed).await.is_err() {
                return Outcome::Answer(encode_header(&Reply::Ok(response)).unwrap(), body);
            }
        }
    }

    fn read(&self, request: &FetchRequest) -> (FetchResponse, Vec<Bytes>) {
        let state = self.state.lock().unwrap();
        let (mut partitions, mut body) = (Vec::new(), Vec::new());
        let mut room = request.max_bytes as usize;
        for part in &request.partitions {
            let log = &state.partitions[part.partition as usize];
            if part.offset > log.end() {
                partitions.push(Err(ApiError::new(ErrorCode::OffsetOutOfRange, "scripted")));
                continue;
            }
            let mut bytes = 0;
            for batch in log.batches.iter().filter(|batch| batch.header().next_offset() > part.offset) {
                let size = batch.bytes().len();
                if !body.is_empty() && (size > room || bytes + size > part.max_bytes as usize) {
                    break;
                }
                bytes += size;
                room = room.saturating_sub(size);
                body.push(batch.bytes().clone());
            }
            let (log_start_offset, high_watermark) = (0, log.end());
            partitions.push(Ok(FetchedPartition { log_start_offset, high_watermark, batches_bytes: bytes as u32 }));
        }
        (FetchResponse { partitions }, body)
    }

    fn list_offsets(&self, request: &ListOffsetsRequest) -> ListOffsetsResponse {
        let state = self.state.lock().unwrap();
        let found = request.partitions.iter().map(|(_, partition, spec)| {
            let end = state.partitions[*partition as usize].end();
            let offset = match spec {
                OffsetSpec::Earliest => Some(0),
                OffsetSpec::Latest => Some(end),
                OffsetSpec::AtOrAfter(_) | OffsetSpec::MaxTimestamp => None,
            };
            Ok(FoundOffset { offset, timestamp: None })
        });
        ListOffsetsResponse { partitions: found.collect() }
    }
}
