//! The output partitions: real admission rules over a log whose tail a failover may lose.

use super::{Checked, Message, OUTPUTS, World, values_of};
use crate::producer::{Admission, PartitionKind, ProducerRefusal, Producers, Verdict};
use crate::task::tests::Mutant;
use crate::task::{OutputAnswer, OutputReply, TaskEvent};
use headwater_protocol::batch::BatchHeader;
use headwater_protocol::ids::{LeaderEpoch, PartitionEpoch};

struct Written {
    header: BatchHeader,
    values: Vec<String>,
    next_offset: i64,
    /// Epoch of the instance that sent it.
    sender: LeaderEpoch,
}

/// An answer that waits for the high watermark (STEP-10).
struct Waiting {
    instance: usize,
    token: u64,
    upto: u64,
    next_offset: i64,
}

pub(in crate::task::tests) struct OutputLog {
    log: Vec<Written>,
    visible: usize,
    producers: Producers,
    waiting: Vec<Waiting>,
}

impl OutputLog {
    pub(super) fn new() -> Self {
        Self { log: Vec::new(), visible: 0, producers: Producers::new(PartitionKind::Records), waiting: Vec::new() }
    }

    fn log_end(&self) -> i64 {
        self.log.last().map_or(0, |written| written.next_offset)
    }

    fn high_watermark(&self) -> i64 {
        self.visible.checked_sub(1).map_or(0, |last| self.log[last].next_offset)
    }

    /// What consumers see.
    pub(in crate::task::tests) fn visible_values(&self) -> impl Iterator<Item = &String> {
        self.log[..self.visible].iter().flat_map(|written| &written.values)
    }

    fn write(&mut self, message: &Message, header: BatchHeader) {
        let values = values_of(&message.bytes);
        let base_offset = self.log_end();
        self.producers.observe(&header, base_offset);
        let next_offset = base_offset + i64::from(message.count);
        self.log.push(Written { header, values, next_offset, sender: message.epoch });
    }

    fn judge(&self, without: Option<Mutant>, message: &Message, header: &BatchHeader) -> Verdict {
        let Message { generation, epoch, first, .. } = *message;
        let admission = Admission::TaskOutput { partition_epoch: PartitionEpoch(0), generation, epoch, first };
        let verdict = self.producers.check(admission, header, LeaderEpoch(0));
        let unknown = self.producers.is_empty();
        let newest = self.log.iter().map(|written| written.sender).max();
        match (without, verdict) {
            (Some(Mutant::NumbersRestartPerEpoch), _) if newest.is_some_and(|newest| newest < epoch) => Verdict::Append,
            (Some(Mutant::ForgetAndAccept), _) if unknown => Verdict::Append,
            (Some(Mutant::GapAccepted), Verdict::Refuse(ProducerRefusal::Expect { number })) if number < first => {
                Verdict::Append
            }
            (_, verdict) => verdict,
        }
    }
}

impl World {
    /// A message reaches its output partition; it may do so again later.
    pub(in crate::task::tests) fn deliver(&mut self, message: usize) -> Checked {
        let Some(message) = self.network.get_mut(message) else { return Ok(()) };
        message.arrived = true;
        let message = message.clone();
        let log = &mut self.outputs[message.output];
        let header = BatchHeader::decode(&message.bytes).unwrap();
        let upto = message.first + u64::from(message.count) - 1;
        let Message { instance, token, .. } = message;
        let (log_end, high_watermark) = (log.log_end(), log.high_watermark());
        let answer = match log.judge(self.without, &message, &header) {
            Verdict::Append => {
                log.write(&message, header);
                let at_once = self.without == Some(Mutant::AcknowledgeOnAppend);
                Err(if at_once { 0 } else { log.log_end() })
            }
            Verdict::Duplicate { .. } if self.without == Some(Mutant::DuplicateAtOnce) => Err(0),
            Verdict::Duplicate { .. } if self.without == Some(Mutant::LastBatchesOnly) => {
                let known =
                    log.log.iter().rev().take(2).any(|written| written.header.base_sequence == header.base_sequence);
                if known { Err(log_end) } else { Ok(OutputAnswer::Retry) }
            }
            Verdict::Duplicate { next_offset, .. } => Err(next_offset),
            Verdict::Refuse(ProducerRefusal::Expect { number }) => Ok(OutputAnswer::Expect(number)),
            Verdict::Refuse(ProducerRefusal::Fenced { .. }) => Ok(OutputAnswer::Fenced),
            Verdict::Refuse(refusal) => Ok(OutputAnswer::Refused(refusal.to_string())),
        };
        match answer {
            Ok(answer) => self.reply(instance, message.output, token, answer),
            Err(next_offset) if next_offset <= high_watermark => {
                self.reply(instance, message.output, token, OutputAnswer::Ok(upto));
            }
            Err(next_offset) => log.waiting.push(Waiting { instance, token, upto, next_offset }),
        }
        self.check()
    }

    fn reply(&mut self, instance: usize, output: usize, token: u64, answer: OutputAnswer) {
        self.saw(match answer {
            OutputAnswer::Ok(_) => "duplicate acknowledged",
            OutputAnswer::Expect(_) => "another number expected",
            OutputAnswer::Fenced => "zombie fenced",
            OutputAnswer::Retry => "told to try again",
            OutputAnswer::Refused(_) => "refused",
        });
        self.replies.push_back((instance, OutputReply { output: OUTPUTS[output], token, answer }));
    }

    /// The output's high watermark reaches its log end.
    pub(in crate::task::tests) fn make_visible(&mut self, output: usize) -> Checked {
        let log = &mut self.outputs[output];
        log.visible = log.log.len();
        let high_watermark = log.high_watermark();
        for Waiting { instance, token, upto, .. } in log.waiting.extract_if(.., |it| it.next_offset <= high_watermark) {
            let reply = OutputReply { output: OUTPUTS[output], token, answer: OutputAnswer::Ok(upto) };
            self.replies.push_back((instance, reply));
        }
        self.check()
    }

    /// Another leader of the output: `kept` batches of the undurable tail survive; who waits for an answer gets none.
    pub(in crate::task::tests) fn fail_output(&mut self, output: usize, kept: usize) -> Checked {
        let log = &mut self.outputs[output];
        log.log.truncate(log.visible + kept);
        log.producers = Producers::new(PartitionKind::Records);
        let forgets = matches!(self.without, Some(Mutant::ForgetAndAccept | Mutant::ForgetAndRefuse));
        let mut base_offset = 0;
        for written in log.log.iter().filter(|_| !forgets) {
            log.producers.observe(&written.header, base_offset);
            base_offset = written.next_offset;
        }
        for Waiting { instance, token, .. } in std::mem::take(&mut log.waiting) {
            self.reply(instance, output, token, OutputAnswer::Retry);
        }
        self.check()
    }

    /// An answer arrives, in any order; a lost one arrives as a time-out.
    pub(in crate::task::tests) fn answer(&mut self, reply: usize, lost: bool) -> Checked {
        let Some((instance, mut reply)) = self.replies.remove(reply) else { return Ok(()) };
        if lost {
            reply.answer = OutputAnswer::Retry;
        }
        self.handle(instance, TaskEvent::OutputReply(reply))
    }
}
