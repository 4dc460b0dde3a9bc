//! A processor over a host of the caller's own: the SDK's code as under the component's exports, without wasm. The
//! simulator runs processors so, over the broker's own host.

pub use crate::host::{Host, Page};

use crate::deployment::Deployment;
use crate::error::Failure;
use crate::instance::Instance;
use crate::processor::Processor;
use crate::record::BatchMeta;
use std::rc::Rc;

/// One running processor. After any error it must be dropped, as the contract says.
pub struct NativeInstance<P>(Instance<P>);

/// What a batch says of itself beside its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NativeBatch<'a> {
    /// Number of the input.
    pub input: u32,
    /// The input's partition.
    pub partition: u32,
    /// The offset that the index counts from.
    pub base_offset: i64,
    /// Stream time before the batch, -1 for none.
    pub stream_time: i64,
    /// 40 bytes a record, as the WIT says.
    pub index: &'a [u8],
    /// What the index points into.
    pub data: &'a [u8],
}

impl<P: Processor> NativeInstance<P> {
    /// Runs `init`.
    ///
    /// # Errors
    /// What `init` said.
    pub fn start(deployment: &Deployment, host: Rc<dyn Host>) -> Result<Self, String> {
        Instance::start(deployment, host).map(Self)
    }

    /// Hands it records.
    ///
    /// # Errors
    /// The processor's.
    pub fn process(&mut self, batch: NativeBatch<'_>) -> Result<(), Failure> {
        let NativeBatch { input, partition, base_offset, stream_time, index, data } = batch;
        self.0.process(BatchMeta { input, partition, base_offset, stream_time }, index, data)
    }

    /// Tells it which timers are due, packed.
    ///
    /// # Errors
    /// The processor's.
    pub fn on_timers(&mut self, stream_time: i64, timers: &[u8]) -> Result<(), Failure> {
        self.0.on_timers(stream_time, timers)
    }
}
