//! The broker's loops without its threads: for the simulator, which owns time, queues and disks itself.
//!
//! ```text
//!              broker                                    simulator
//!   driver_thread, RunningTask, FlushPool         one thread, a heap of events
//!                 │                                          │
//!                 └────► PartitionDriver, TaskDriver ◄───────┘      the same code
//! ```

pub use crate::cleaner::{ByCommitKey, CleaningSetup, clean, first_uncleanable, policy_of};
pub use crate::clock::Now;
pub use crate::mailbox::{Receiver, SendError, Sender, mailbox};
pub use crate::metadata::{Metadata, OpenError as MetadataOpenError, Replayed, SyncedMetadataLog};
pub use crate::partition::{
    CleanReply, DriverEvent, LedPartition, OpenError, Opening, PartitionDriver, PartitionHandle, PartitionPlace,
    PartitionView, ProposedBatch, Reply, Slot, TrimReply, TrimRequest, WatermarkListener, clean_up, open, wanted,
};
pub use crate::processor::{
    Failure, Mail, ProcessorLog, Surroundings, TaskDriver, TaskGuest, TaskHost, TaskSetting, TaskStatus,
};
