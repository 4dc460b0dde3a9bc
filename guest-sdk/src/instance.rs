//! One running processor: the same code under the component's exports and under a unit test.

use crate::context::Context;
use crate::deployment::Deployment;
use crate::error::Failure;
use crate::host::Host;
use crate::log;
use crate::processor::Processor;
use crate::record::{Batch, BatchMeta};
use crate::timer::DueTimers;
use std::rc::Rc;

/// A processor and what it acts on. After any error it must be dropped, as the contract says: what it gathered is void.
pub(crate) struct Instance<P> {
    processor: P,
    context: Context,
    host: Rc<dyn Host>,
    log_level: log::Level,
}

impl<P: Processor> Instance<P> {
    pub(crate) fn start(deployment: &Deployment, host: Rc<dyn Host>) -> Result<Self, String> {
        let log_level = deployment.log_level;
        let _logging = log::enter(&host, log_level);
        let processor = P::init(deployment)?;
        let context = Context::new(&host, deployment.outputs.len(), deployment.stores.len());
        Ok(Self { processor, context, host, log_level })
    }

    pub(crate) fn process(&mut self, meta: BatchMeta, index: &[u8], data: &[u8]) -> Result<(), Failure> {
        let _logging = log::enter(&self.host, self.log_level);
        let batch = Batch::parse(meta, index, data)?;
        self.processor.process(&batch, &mut self.context)?;
        self.context.finish()
    }

    pub(crate) fn on_timers(&mut self, stream_time: i64, packed: &[u8]) -> Result<(), Failure> {
        let _logging = log::enter(&self.host, self.log_level);
        let timers = DueTimers::parse(stream_time, packed)?;
        self.processor.on_timers(&timers, &mut self.context)?;
        self.context.finish()
    }
}
