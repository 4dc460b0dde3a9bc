//! What happens to a task after its steps have run.

use super::{OutputAnswer, OutputReply, StopReason, Task, TaskCommand, TaskEvent, without};
use crate::task::image::Pending;
use crate::task::output::Outlook;
use headwater_protocol::ids::TopicPartition;

impl Task {
    /// Takes in what happened at `now_ms`; then run what [`Self::poll_command`] gives out.
    pub fn handle(&mut self, now_ms: u64, event: TaskEvent) {
        if self.stopped.is_some() {
            return;
        }
        match event {
            TaskEvent::CommitAppended { step, next_offset } => self.commit_appended(step, next_offset),
            TaskEvent::CommitRefused { step, reason } => self.stop(StopReason::CommitRefused { step, reason }),
            TaskEvent::ChangelogHighWatermark(offset) => self.high_watermark = self.high_watermark.max(offset),
            TaskEvent::OutputReply(reply) => self.output_reply(now_ms, reply),
            TaskEvent::Deadline => {}
        }
        self.pump(now_ms);
    }

    fn commit_appended(&mut self, step: u64, next_offset: i64) {
        let before = self.pending.iter().filter_map(|pending| pending.next_offset).next_back();
        let appended = self.pending.iter_mut().find(|pending| pending.next_offset.is_none());
        match appended {
            Some(pending) if pending.step == step && before.is_none_or(|before| before < next_offset) => {
                pending.next_offset = Some(next_offset);
            }
            _ => self.stop(StopReason::Bug("commits were reported appended out of order")),
        }
    }

    /// Everything that follows from what is known now.
    pub(in crate::task) fn pump(&mut self, now_ms: u64) {
        if self.stopped.is_some() {
            return;
        }
        self.settle_durable();
        self.send(now_ms);
        self.watch_floor(now_ms);
    }

    /// STEP-4: commits below the high watermark are durable, in order, whoever appended them.
    fn settle_durable(&mut self) {
        let offset = self.high_watermark;
        let early = without!(self, ApplyBeforeDurable);
        let durable = |pending: &mut Pending| {
            pending.next_offset.is_some_and(|next| next <= offset) || (early && pending.next_offset.is_some())
        };
        while let Some(pending) = self.pending.pop_front_if(durable) {
            self.durable_floor = pending.floor;
            let next_offset = pending.next_offset.unwrap_or(offset);
            self.commands.push_back(TaskCommand::ApplyState { step: pending.step, next_offset });
        }
    }

    fn send(&mut self, now_ms: u64) {
        let mut durable_steps_end = self.pending.front().map_or(self.next_step(), |pending| pending.step);
        if without!(self, SendBeforeDurable) {
            durable_steps_end = u64::MAX;
        }
        let inflight_max = self.config.limits.inflight_batches_max;
        for (output, queue) in &mut self.outputs {
            while let Some(batch) = queue.poll(now_ms, durable_steps_end, inflight_max) {
                self.commands.push_back(TaskCommand::Send {
                    output: *output,
                    token: self.next_token,
                    first: batch.first,
                    count: batch.count,
                    bytes: batch.bytes.clone(),
                    generation: self.config.producer.generation,
                    epoch: self.epoch,
                });
                self.next_token += 1;
            }
        }
    }

    /// The floor is written in the next commit; where none comes for a while, in an empty one (STEP-12).
    fn watch_floor(&mut self, now_ms: u64) {
        if self.window.floor() <= self.recorded_floor {
            self.floor_due_ms = None;
            return;
        }
        let due = *self.floor_due_ms.get_or_insert(now_ms.saturating_add(self.config.limits.floor_delay_ms));
        if now_ms >= due && self.may_record_floor() {
            self.floor_due_ms = None;
            if self.record_floor().is_err() {
                self.stop(StopReason::Bug("an empty commit could not be made"));
            }
        }
    }

    fn output_reply(&mut self, now_ms: u64, reply: OutputReply) {
        let OutputReply { output, token, answer } = reply;
        let next_token = self.next_token;
        let Some(queue) = self.outputs.get_mut(&output) else { return };
        match answer {
            OutputAnswer::Ok(upto) => {
                let window = &mut self.window;
                let outlook = queue
                    .acknowledge(token, upto, next_token, |batch| window.acknowledge(batch.step, batch.bytes.len()));
                self.judge(outlook, output, upto.saturating_add(1));
            }
            OutputAnswer::Expect(number) => {
                if without!(self, ExpectCountsAsAcknowledged) && number > 0 && number <= queue.next() {
                    let window = &mut self.window;
                    queue.acknowledge(token, number - 1, next_token, |batch| {
                        window.acknowledge(batch.step, batch.bytes.len());
                    });
                }
                let outlook = queue.expect(token, number, next_token, now_ms);
                self.judge(outlook, output, number);
            }
            OutputAnswer::Fenced => self.stop(StopReason::Fenced(output)),
            OutputAnswer::Retry => queue.retry(token, next_token, now_ms),
            OutputAnswer::Refused(reason) => self.stop(StopReason::OutputRefused { output, reason }),
        }
    }

    fn judge(&mut self, outlook: Outlook, output: TopicPartition, expected: u64) {
        if outlook == Outlook::Sound || without!(self, BelieveAnyAnswer) {
            return;
        }
        let Some(queue) = self.outputs.get(&output) else { return };
        let (acknowledged, next) = (queue.acknowledged(), queue.next());
        self.stop(if expected < acknowledged {
            StopReason::OutputLostRecords { output, expected, acknowledged }
        } else if expected > next {
            StopReason::ChangelogLostCommits { output, expected, next }
        } else {
            StopReason::OutputCutsBatch { output, expected }
        });
    }

    /// Ends the instance: what it wanted done and was not taken yet is void.
    fn stop(&mut self, reason: StopReason) {
        self.commands.clear();
        self.commands.push_back(TaskCommand::Stop(reason.clone()));
        self.stopped = Some(reason);
    }
}
