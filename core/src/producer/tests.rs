//! One file a rule set; here is what they share.

mod client;
mod replay;
mod snapshot;
mod task;

use super::*;
use headwater_protocol::error::{ApiError, ErrorCode};

pub(crate) const EPOCH: LeaderEpoch = LeaderEpoch(5);

/// The header of a batch of `count` records.
pub(crate) fn batch(producer_id: i64, producer_epoch: i16, base_sequence: i32, count: i32) -> BatchHeader {
    BatchHeader {
        base_offset: 0,
        batch_length: 49,
        partition_leader_epoch: -1,
        magic: 2,
        crc: 0,
        attributes: 0,
        last_offset_delta: count - 1,
        base_timestamp: 0,
        max_timestamp: 0,
        producer_id,
        producer_epoch,
        base_sequence,
        record_count: count,
    }
}

/// The producer id of task 2 of processor 7.
pub(crate) fn task_id(generation: u32) -> i64 {
    TaskProducer { processor: ProcessorNumber(7), task: 2, generation }.producer_id().unwrap().0
}

/// A partition without a replica around it: what is accepted is in the log at once.
struct Partition {
    producers: Producers,
    log_end: i64,
}

impl Partition {
    fn new(kind: PartitionKind) -> Self {
        Self::with_limit(kind, 1000)
    }

    fn with_limit(kind: PartitionKind, clients_max: usize) -> Self {
        Self { producers: Producers::with_limit(kind, clients_max), log_end: 0 }
    }

    /// Offers a batch and appends it if it may be.
    fn offer(&mut self, admission: Admission, header: BatchHeader) -> Verdict {
        let verdict = self.producers.check(admission, &header, EPOCH);
        if verdict == Verdict::Append {
            self.producers.observe(&header, self.log_end);
            self.log_end += i64::from(header.last_offset_delta) + 1;
        }
        assert_eq!(self.producers.invariants(self.log_end), Ok(()));
        verdict
    }

    fn client(&mut self, producer_id: i64, epoch: i16, sequence: i32, count: i32) -> Verdict {
        self.offer(Admission::Client, batch(producer_id, epoch, sequence, count))
    }

    /// Task 2 of processor 7 sends outputs under its own generation and epoch, in a batch made under `made_in`.
    fn output(&mut self, generation: u32, epoch: i32, made_in: i16, first: u64, count: i32) -> Verdict {
        let header = batch(task_id(generation), made_in, sequence::low_bits(first), count);
        self.offer(
            Admission::TaskOutput {
                partition_epoch: headwater_protocol::ids::PartitionEpoch(0),
                generation,
                epoch: LeaderEpoch(epoch),
                first,
            },
            header,
        )
    }

    /// The same task commits a step; the replica leads in [`EPOCH`].
    fn commit(&mut self, generation: u32, epoch: i32, step: u64) -> Verdict {
        let epoch = LeaderEpoch(epoch);
        let header = batch(task_id(generation), sequence::low_epoch(epoch), sequence::low_bits(step), 9);
        self.offer(Admission::TaskCommit { epoch, step }, header)
    }
}

fn duplicate(base_offset: i64, count: i64) -> Verdict {
    Verdict::Duplicate { base_offset, next_offset: base_offset + count }
}

fn out_of_order(producer: i64, expected: i32, got: i32) -> Verdict {
    Verdict::Refuse(ProducerRefusal::OutOfOrder { producer, expected, got })
}

fn expect(number: u64) -> Verdict {
    Verdict::Refuse(ProducerRefusal::Expect { number })
}

fn fenced(generation: u32, epoch: i16) -> Verdict {
    Verdict::Refuse(ProducerRefusal::Fenced { generation, epoch })
}

fn is_malformed(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Refuse(ProducerRefusal::Malformed(_)))
}
