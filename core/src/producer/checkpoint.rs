//! Producer checkpoints: what keeps a task's last number in the log when its last batch goes (STEP-11).
//!
//! A control batch with one record, whose header says what the task's own last batch said: producer id (with the
//! generation), epoch, and as base sequence the last number. So a replay that sees only this batch knows as much as one
//! that saw all of them, by the same rule. No consumer sees it: control batches are skipped.
//!
//! ```text
//!   header   attributes: control │ producer id: processor, task, generation │ epoch │ base sequence: last number
//!   record   key: version i16 = 0 │ type i16 = 100      value: none
//! ```

use super::task::TaskEntry;
use bytes::BytesMut;
use headwater_protocol::batch::{BatchBuilder, BatchError, BatchHeader, ProducerStamp};
use headwater_protocol::ids::TaskProducer;

/// Key of the record: version 0, type 100. Kafka's own types are below 10.
const RECORD_KEY: [u8; 4] = [0, 0, 0, 100];

/// What is remembered of a task, as a checkpoint batch says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskCheckpoint {
    stamp: ProducerStamp,
}

impl TaskCheckpoint {
    /// `None` for a task whose numbers outgrew its producer id, of which no batch can be in a log.
    pub(super) fn of(task: TaskProducer, entry: &TaskEntry) -> Option<Self> {
        let task = TaskProducer { generation: entry.generation(), ..task };
        let producer_id = task.producer_id()?.0;
        Some(Self { stamp: ProducerStamp { producer_id, producer_epoch: entry.epoch(), base_sequence: entry.last() } })
    }

    /// The batch, with its header as decoded. `timestamp`: ms since the Unix epoch, now.
    ///
    /// # Errors
    /// Those of [`BatchBuilder`], none of which a batch of this size meets.
    pub fn batch(&self, timestamp: i64) -> Result<(BatchHeader, BytesMut), BatchError> {
        let mut builder = BatchBuilder::control();
        builder.append(timestamp, Some(&RECORD_KEY), None, &[])?;
        let batch = builder.build(self.stamp)?;
        Ok((BatchHeader::decode(&batch)?, batch))
    }
}
