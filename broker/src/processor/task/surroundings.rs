//! What a task needs of whoever runs it: partitions to read and write, and a guest. A broker gives it wasm; the
//! simulator gives it processors that run natively.

use super::TaskSetting;
use super::driver::Failure;
use super::guest::Guest;
use crate::module::Modules;
use crate::partition::{PartitionHandle, Partitions};
use crate::processor::host::TaskHost;
use headwater_core::cluster::ClusterImage;
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::{PartitionEpoch, TopicPartition};
use headwater_wasm_host::{CallError, InputBatch, Stopper};
use parking_lot::Mutex;
use std::sync::Arc;

/// What is around a task.
pub trait Surroundings {
    /// What runs the deployed code.
    type Guest: TaskGuest;

    /// A partition that is led here.
    ///
    /// # Errors
    /// There is none, or it is led elsewhere.
    fn led(&self, id: TopicPartition) -> Result<Arc<PartitionHandle>, ApiError>;

    /// The partition epoch under which the task knows the partition; it goes with every batch that is sent there.
    ///
    /// # Errors
    /// There is no such partition.
    fn partition_epoch(&self, id: TopicPartition) -> Result<PartitionEpoch, ApiError>;

    /// Newer metadata, with which another deployment comes.
    fn adopt(&self, image: &ClusterImage);

    /// The deployed code, to run over `host`.
    ///
    /// # Errors
    /// It can't be loaded, or its `init` refuses.
    fn load_guest(&self, setting: &TaskSetting, host: Arc<Mutex<TaskHost>>) -> Result<Self::Guest, Failure>;
}

/// The code of a task. After a call that failed nothing of that call may be left in it.
pub trait TaskGuest {
    /// Hands records to the guest.
    ///
    /// # Errors
    /// The guest's failure, or ours.
    fn process(&mut self, batch: InputBatch<'_>, stopper: &Mutex<Option<Stopper>>) -> Result<(), CallError>;

    /// Tells the guest which timers are due.
    ///
    /// # Errors
    /// The guest's failure, or ours.
    fn on_timers(&mut self, stream_time: i64, timers: &[u8], stopper: &Mutex<Option<Stopper>>)
    -> Result<(), CallError>;

    /// Drops what it remembers of earlier calls.
    fn drop_instance(&mut self);

    /// Memory that it takes now.
    fn memory_bytes(&self) -> u64;

    /// CPU time it has taken, in microseconds.
    fn cpu_us(&self) -> u64;

    /// Instances after the first one.
    fn restarts(&self) -> u64;
}

/// The broker around a task.
pub(in crate::processor) struct BrokerSurroundings {
    /// Metadata of the moment; topics that a deployment names stay as long as it does.
    pub(in crate::processor) image: Mutex<ClusterImage>,
    /// Inputs, outputs and changelog.
    pub(in crate::processor) partitions: Arc<Partitions>,
    /// The code.
    pub(in crate::processor) modules: Arc<Modules>,
}

impl Surroundings for BrokerSurroundings {
    type Guest = Guest;

    fn led(&self, id: TopicPartition) -> Result<Arc<PartitionHandle>, ApiError> {
        self.partitions.led(&self.image.lock(), id)
    }

    fn partition_epoch(&self, id: TopicPartition) -> Result<PartitionEpoch, ApiError> {
        let partition = self.image.lock().partition(id).map(|partition| partition.partition_epoch);
        partition
            .ok_or_else(|| ApiError::new(ErrorCode::UnknownTopicOrPartition, format!("there is no partition {id}")))
    }

    fn adopt(&self, image: &ClusterImage) {
        *self.image.lock() = image.clone();
    }

    fn load_guest(&self, setting: &TaskSetting, host: Arc<Mutex<TaskHost>>) -> Result<Guest, Failure> {
        Guest::load(setting, &self.modules, host)
    }
}

impl TaskGuest for Guest {
    fn process(&mut self, batch: InputBatch<'_>, stopper: &Mutex<Option<Stopper>>) -> Result<(), CallError> {
        Guest::process(self, batch, stopper)
    }

    fn on_timers(
        &mut self,
        stream_time: i64,
        timers: &[u8],
        stopper: &Mutex<Option<Stopper>>,
    ) -> Result<(), CallError> {
        Guest::on_timers(self, stream_time, timers, stopper)
    }

    fn drop_instance(&mut self) {
        Guest::drop_instance(self);
    }

    fn memory_bytes(&self) -> u64 {
        Guest::memory_bytes(self)
    }

    fn cpu_us(&self) -> u64 {
        Guest::cpu_us(self)
    }

    fn restarts(&self) -> u64 {
        Guest::restarts(self)
    }
}
