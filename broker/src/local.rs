//! A processor's module at work without a broker: records in, outputs and state out, in memory, under the limits of a
//! deployment. What `headwater module test` runs.

use crate::clock::unix_time_ms;
use crate::module::COMPILE_SUBCOMMAND;
use crate::processor::{HostLimits, OutputTopic, ProcessorLog, TaskHost, instance_limits};
use headwater_protocol::batch::{BatchBuilder, BatchLimits, Compression, ProducerStamp, RecordBatch};
use headwater_protocol::ids::{ModuleDigest, TopicId};
use headwater_protocol::messages::processor::{LogLevel, ProcessorLimits};
use headwater_state::{ChangelogPosition, MemoryStore, Overlay, OverlayLimits, Scan, StoreNumber};
use headwater_wasm_host::{
    CallError, CompileLimits, CompilerCommand, Deployment, InputAssembly, InputBatch, InspectLimits, Loader,
    LoaderConfig, ProcessorInstance, Runtime, RuntimeConfig, World, encode_timers, inspect,
};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// Log lines that are kept between two calls.
const LOG_LINES_MAX: usize = 10_000;
/// Bytes of compiled modules that are kept.
const COMPILED_BYTES_MAX: u64 = 256 << 20;
/// Bytes of a record that an output takes: a topic's default.
const RECORD_BYTES_MAX: usize = 1 << 20;

/// A record that goes in.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LocalRecord {
    /// Which input, from 0.
    pub input: u32,
    /// Milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// Key, or null.
    pub key: Option<Vec<u8>>,
    /// Value, or null.
    pub value: Option<Vec<u8>>,
}

/// A record that came out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalOutput {
    /// Which output, from 0.
    pub output: u32,
    /// The partition that the module named, if it did.
    pub partition: Option<u32>,
    /// Milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// Key, or null.
    pub key: Option<Vec<u8>>,
    /// Value, or null.
    pub value: Option<Vec<u8>>,
}

/// Key and value of a store.
pub type LocalEntry = (Vec<u8>, Vec<u8>);

/// How a module is deployed here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LocalDeployment {
    /// Names of inputs, outputs and stores, in the module's order.
    pub inputs: Vec<String>,
    /// See `inputs`.
    pub outputs: Vec<String>,
    /// See `inputs`.
    pub stores: Vec<String>,
    /// (name, value) pairs.
    pub settings: Vec<(String, String)>,
}

/// Why it does not go on; the text says whose doing it is.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LocalError(pub String);

/// A task without partitions.
pub struct LocalTask {
    instance: ProcessorInstance,
    host: Arc<Mutex<TaskHost>>,
    log: Arc<ProcessorLog>,
    lines_read: u64,
    assembly: InputAssembly,
    offsets: BTreeMap<u32, i64>,
    timers: BTreeMap<Vec<u8>, i64>,
    by_time: BTreeSet<(i64, Vec<u8>)>,
    stream_time: i64,
    step: u64,
}

impl LocalTask {
    /// Compiles a component (by `cache`, a directory, unless it is there) and runs its `init`.
    ///
    /// # Errors
    /// The module is none that a broker would take, or refuses its deployment.
    pub fn start(component: &[u8], cache: &Path, deployment: LocalDeployment) -> Result<Self, LocalError> {
        let failed = |error: &dyn std::fmt::Display| LocalError(error.to_string());
        let config = LoaderConfig {
            cache_dir: cache.to_owned(),
            cache_bytes_max: COMPILED_BYTES_MAX,
            command: CompilerCommand::this_program([COMPILE_SUBCOMMAND]),
            compile: CompileLimits::default(),
            inspect: InspectLimits::default(),
        };
        let inspection = inspect(component, &config.inspect).map_err(|error| failed(&error))?;
        if inspection.world != World::Processor {
            let world = inspection.world;
            return Err(LocalError(format!("the module is of world {world}; only processors run here")));
        }
        let runtime = Runtime::new(RuntimeConfig::default()).map_err(|error| failed(&error))?;
        let loader = Loader::open(runtime, config).map_err(|error| failed(&error))?;
        let digest = ModuleDigest(Sha256::digest(component).into());
        let module = loader.load(digest, component).map_err(|error| failed(&error))?;

        let limits = ProcessorLimits::default();
        let host_limits = HostLimits {
            output_bytes_per_step_max: limits.output_bytes_per_step_max,
            log_lines_per_second_max: u32::MAX,
        };
        let overlay = OverlayLimits { state_bytes_max: limits.state_bytes_max, ..OverlayLimits::default() };
        let overlay = Overlay::new(MemoryStore::new(), overlay);
        let topic = OutputTopic { topic: TopicId::NONE, partitions: u32::MAX, batch_bytes_max: RECORD_BYTES_MAX };
        let outputs = deployment.outputs.iter().map(|_| topic).collect();
        let log = Arc::new(ProcessorLog::new(LOG_LINES_MAX));
        let stores = u32::try_from(deployment.stores.len()).unwrap_or(u32::MAX);
        let host = TaskHost::new(0, overlay, stores, outputs, host_limits, Arc::clone(&log));
        let host = Arc::new(Mutex::new(host));
        let deployment = Deployment {
            processor: "test".to_owned(),
            task: 0,
            inputs: deployment.inputs,
            outputs: deployment.outputs,
            stores: deployment.stores,
            settings: deployment.settings,
            log_level: LogLevel::Trace,
        };
        let instance = ProcessorInstance::new(&module, &deployment, instance_limits(&limits), host.clone());
        Ok(Self {
            instance: instance.map_err(|error| failed(&error))?,
            host,
            log,
            lines_read: 0,
            assembly: InputAssembly::new(),
            offsets: BTreeMap::new(),
            timers: BTreeMap::new(),
            by_time: BTreeSet::new(),
            stream_time: -1,
            step: 0,
        })
    }

    /// One step: records of one input, then the timers that stream time has reached. What it emitted.
    ///
    /// # Errors
    /// What the module, or its limits, say; nothing of the step stays, and the task is of no more use.
    pub fn run(&mut self, records: &[LocalRecord]) -> Result<Vec<LocalOutput>, LocalError> {
        let input = records.first().map_or(0, |record| record.input);
        self.assemble(input, records).map_err(|error| LocalError(format!("client: {error}")))?;
        self.host.lock().begin_trace();
        let called = self.instance.process(InputBatch {
            input,
            partition: 0,
            base_offset: self.assembly.base_offset(),
            stream_time: self.stream_time,
            index: self.assembly.index().bytes(),
            data: self.assembly.data(),
        });
        called.map_err(|error| self.failed(&error))?;
        self.stream_time = records.iter().map(|record| record.timestamp).fold(self.stream_time, i64::max);
        let due: Vec<(i64, Vec<u8>)> =
            self.by_time.iter().take_while(|(at, _)| *at <= self.stream_time).cloned().collect();
        for (at, id) in &due {
            self.timers.remove(id);
            self.by_time.remove(&(*at, id.clone()));
        }
        self.take_timers();
        if !due.is_empty() {
            let mut packed = Vec::new();
            encode_timers(due.iter().map(|(at, id)| (*at, id.as_slice())), &mut packed)
                .map_err(|error| LocalError(format!("broker: a timer can't be told: {error:?}")))?;
            self.instance.on_timers(self.stream_time, &packed).map_err(|error| self.failed(&error))?;
            self.take_timers();
        }
        self.settle()
    }

    fn assemble(&mut self, input: u32, records: &[LocalRecord]) -> Result<(), Box<dyn std::error::Error>> {
        let mut batch = BatchBuilder::new(Compression::None);
        for LocalRecord { timestamp, key, value, .. } in records {
            batch.append(*timestamp, key.as_deref(), value.as_deref(), &[])?;
        }
        let mut bytes = batch.build(ProducerStamp::NONE)?;
        let next = self.offsets.entry(input).or_default();
        headwater_protocol::batch::stamp(&mut bytes, *next, headwater_protocol::ids::LeaderEpoch(0));
        *next += i64::try_from(records.len())?;
        let batch = RecordBatch::decode(bytes.freeze())?;
        self.assembly.clear();
        self.assembly.push(&batch.records(&BatchLimits::INTERNAL)?, 0..i64::MAX)?;
        Ok(())
    }

    fn take_timers(&mut self) {
        for (id, at) in self.host.lock().take_timers() {
            if let Some(before) = self.timers.remove(id.as_ref()) {
                self.by_time.remove(&(before, id.to_vec()));
            }
            if let Some(at) = at {
                self.timers.insert(id.to_vec(), at);
                self.by_time.insert((at, id.to_vec()));
            }
        }
    }

    fn settle(&mut self) -> Result<Vec<LocalOutput>, LocalError> {
        let mut host = self.host.lock();
        let outputs = host.trace().outputs;
        self.step += 1;
        let position = ChangelogPosition { next_offset: self.step.cast_signed(), step: self.step };
        let settled = host.overlay_mut().push(self.step).map(|()| host.overlay_mut().settle(position));
        settled.map_err(|error| LocalError(error.to_string()))?.map_err(|error| LocalError(error.to_string()))?;
        drop(host.take_outputs());
        Ok(outputs
            .into_iter()
            .map(|record| LocalOutput {
                output: record.output,
                partition: record.partition,
                timestamp: record.timestamp,
                key: record.key,
                value: record.value,
            })
            .collect())
    }

    fn failed(&self, error: &CallError) -> LocalError {
        self.host.lock().discard();
        LocalError(error.to_string())
    }

    /// Lines that the module logged since this was last asked.
    pub fn take_log(&mut self) -> Vec<String> {
        let lines = self.log.read(self.lines_read, LOG_LINES_MAX);
        self.lines_read = lines.last().map_or(self.lines_read, |line| line.number);
        lines.into_iter().map(|line| line.message).collect()
    }

    /// Keys and values of a store, in order.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn state(&self, store: u32) -> Result<Vec<LocalEntry>, LocalError> {
        let mut entries = Vec::new();
        let host = self.host.lock();
        let scanned = host.overlay().scan(&Scan::all(StoreNumber(store)), &mut |key, value| {
            entries.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        });
        scanned.map_err(|error| LocalError(error.to_string()))?;
        Ok(entries)
    }

    /// The present time, for records without a timestamp.
    #[must_use]
    pub fn now_ms() -> i64 {
        unix_time_ms()
    }
}
