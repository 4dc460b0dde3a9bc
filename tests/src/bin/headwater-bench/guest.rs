//! Modules as the broker runs them: compiled in a child process, instantiated once, called a batch at a time.

use crate::framing::{Framing, decode};
use crate::options::Options;
use crate::{Result, broker};
use bytes::Bytes;
use headwater_protocol::ids::ModuleDigest;
use headwater_protocol::messages::processor::LogLevel;
use headwater_state::{ChangelogPosition, MemoryStore, Overlay, OverlayLimits, StoreNumber};
use headwater_wasm_host::limits::GUEST_THREAD_STACK_BYTES;
use headwater_wasm_host::{
    CompiledModule, CompilerCommand, Deployment, EmitError, EmittedRecords, HostFault, InputAssembly, InputBatch,
    InstanceLimits, KeyExtractorInstance, Loader, LoaderConfig, PackedEntries, PackedKeys, PackedTimers, PackedWriter,
    ProcessorHost, ProcessorInstance, Runtime, RuntimeConfig, ScanRange, StateError, TimerError,
};
use parking_lot::Mutex;
use std::sync::Arc;
use tempfile::TempDir;

/// Runs `work` where guests may run: on a thread of its own with stack enough for them.
pub(crate) fn on_guest_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(GUEST_THREAD_STACK_BYTES).spawn_scoped(scope, work)?;
        thread.join().map_err(|_| "the benchmark panicked")?
    })
}

/// Loads modules into a cache of its own.
pub(crate) struct Guests<'a> {
    loader: Loader,
    options: &'a Options,
    _cache: TempDir,
}

impl<'a> Guests<'a> {
    pub(crate) fn open(options: &'a Options) -> Result<Self> {
        let cache = options.scratch()?;
        let command = CompilerCommand::this_program([headwater_broker::COMPILE_SUBCOMMAND]);
        let loader = Loader::open(Runtime::new(RuntimeConfig::default())?, LoaderConfig::new(cache.path(), command))?;
        Ok(Self { loader, options, _cache: cache })
    }

    /// An instance of a key extractor.
    pub(crate) fn extractor(&self, name: &str, settings: &[(&str, &str)]) -> Result<KeyExtractorInstance> {
        let settings: Vec<_> = settings.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Ok(KeyExtractorInstance::new(&self.load(name)?, &settings, InstanceLimits::default())?)
    }

    fn load(&self, name: &str) -> Result<CompiledModule> {
        let component = broker::component(self.options, name)?;
        // Stands for the digest: names are short, and differ.
        let mut digest = [0; 32];
        digest.iter_mut().zip(name.bytes()).for_each(|(place, byte)| *place = byte);
        Ok(self.loader.load(ModuleDigest(digest), &component)?)
    }

    /// An instance of a module, whose output has so many partitions.
    pub(crate) fn start(&self, name: &str, settings: &[(&str, &str)], partitions: usize) -> Result<Guest> {
        let module = self.load(name)?;
        let host = Arc::new(Mutex::new(Host {
            framing: Framing::new(partitions),
            overlay: Overlay::new(MemoryStore::new(), OverlayLimits::default()),
        }));
        let deployment = Deployment {
            processor: name.to_owned(),
            task: 0,
            inputs: vec!["in".to_owned()],
            outputs: vec!["out".to_owned()],
            stores: vec!["store".to_owned()],
            settings: settings.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            log_level: LogLevel::Info,
        };
        let instance = ProcessorInstance::new(&module, &deployment, InstanceLimits::default(), host.clone())?;
        Ok(Guest { instance, host, assembly: InputAssembly::new(), step: 0 })
    }
}

/// A running guest and its host's side.
pub(crate) struct Guest {
    instance: ProcessorInstance,
    host: Arc<Mutex<Host>>,
    assembly: InputAssembly,
    step: u64,
}

impl Guest {
    /// One step: a batch in, what the guest makes of it out, its changes of state settled.
    pub(crate) fn process(&mut self, batch: &Bytes) -> Result<Vec<Bytes>> {
        let records = decode(batch)?;
        self.assembly.clear();
        self.assembly.push(&records, 0..i64::MAX)?;
        self.instance.process(InputBatch {
            input: 0,
            partition: 0,
            base_offset: self.assembly.base_offset(),
            stream_time: -1,
            index: self.assembly.index().bytes(),
            data: self.assembly.data(),
        })?;
        let mut host = self.host.lock();
        if !host.overlay.open_changes().is_empty() {
            self.step += 1;
            host.overlay.push(self.step)?;
            let next_offset = i64::try_from(self.step)?;
            host.overlay.settle(ChangelogPosition { next_offset, step: self.step })?;
        }
        host.framing.build()
    }
}

/// What a guest's calls do: frame its output, keep its state.
struct Host {
    framing: Framing,
    overlay: Overlay<MemoryStore>,
}

fn fault(error: impl std::fmt::Display) -> HostFault {
    HostFault(error.to_string())
}

impl ProcessorHost for Host {
    fn emit(&mut self, _output: u32, records: EmittedRecords<'_>) -> std::result::Result<(), EmitError> {
        for record in records.iter() {
            self.framing.append(record.timestamp, record.key, record.value, record.headers).map_err(fault)?;
        }
        Ok(())
    }

    fn get_many(
        &mut self,
        store: u32,
        keys: PackedKeys<'_>,
        values: &mut PackedWriter,
    ) -> std::result::Result<(), StateError> {
        let mut full = false;
        self.overlay
            .get_many(StoreNumber(store), &mut keys.iter(), &mut |value| full |= values.push(value).is_err())
            .map_err(fault)?;
        if full { Err(StateError::TooLarge) } else { Ok(()) }
    }

    fn put_many(&mut self, store: u32, entries: PackedEntries<'_>) -> std::result::Result<(), StateError> {
        // As in the broker: one copy out of the guest, which keys and values share.
        let packed = entries.bytes();
        let shared = Bytes::copy_from_slice(packed);
        let part = |bytes: &[u8]| {
            let start = bytes.as_ptr() as usize - packed.as_ptr() as usize;
            shared.slice(start..start + bytes.len())
        };
        let changes = entries.iter().map(|(key, value)| (part(key), value.map(part)));
        Ok(self.overlay.put_many(StoreNumber(store), changes).map_err(fault)?)
    }

    fn scan(&mut self, _: u32, _: ScanRange<'_>, _: &mut PackedWriter) -> std::result::Result<bool, StateError> {
        Err(fault("no benchmark scans").into())
    }

    fn set_timers(&mut self, _: PackedTimers<'_>) -> std::result::Result<(), TimerError> {
        Err(fault("no benchmark sets timers").into())
    }

    fn cancel_timers(&mut self, _: PackedKeys<'_>) -> std::result::Result<(), TimerError> {
        Err(fault("no benchmark sets timers").into())
    }

    fn log(&mut self, level: LogLevel, message: &str) {
        eprintln!("guest: {level:?}: {message}");
    }
}
