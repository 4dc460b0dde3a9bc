//! What outputs answer, and what a task makes of it.

use super::Mutant;
use super::rig::Rig;
use super::world::OUTPUTS;
use crate::task::*;
use OutputAnswer::{Expect, Fenced, Ok as Acknowledged, Refused, Retry};

/// Three batches of two records are with output 0, in flight; tokens 0, 1, 2.
fn three_in_flight() -> Rig {
    let mut rig = Rig::new();
    for _ in 0..3 {
        rig.run(&[(0, 2)]).unwrap();
    }
    rig.commit();
    assert_eq!(rig.take_sent(), [(0, 0, 2), (0, 2, 2), (0, 4, 2)]);
    rig
}

#[test]
fn outputs_leave_only_below_the_high_watermark() {
    // covers STEP-4
    let mut rig = Rig::new();
    rig.run(&[(0, 1)]).unwrap();
    rig.run(&[(0, 1), (1, 1)]).unwrap();
    rig.append();
    assert_eq!((rig.take_sent(), rig.applied.len()), (vec![], 0), "appended is not durable");
    let first = rig.log[0].next_offset();
    rig.handle(TaskEvent::ChangelogHighWatermark(first - 1));
    assert_eq!(rig.take_sent(), []);
    rig.handle(TaskEvent::ChangelogHighWatermark(first));
    assert_eq!((rig.take_sent(), rig.applied.clone()), (vec![(0, 0, 1)], vec![(0, first)]));
    rig.handle(TaskEvent::ChangelogHighWatermark(0));
    rig.handle(TaskEvent::ChangelogHighWatermark(rig.log_end()));
    assert_eq!(rig.take_sent(), [(0, 1, 1), (1, 0, 1)]);
}

#[test]
fn a_high_watermark_may_be_told_before_the_append() {
    let mut rig = Rig::new();
    rig.run(&[(0, 1)]).unwrap();
    rig.handle(TaskEvent::ChangelogHighWatermark(1_000));
    assert_eq!(rig.take_sent(), []);
    rig.append();
    assert_eq!(rig.take_sent(), [(0, 0, 1)]);
}

#[test]
fn a_partition_has_at_most_five_batches_in_flight_and_others_do_not_wait_for_it() {
    let mut rig = Rig::new();
    for _ in 0..7 {
        rig.run(&[(0, 1), (1, 1)]).unwrap();
        rig.commit();
        let other = rig.sent.iter().position(|sent| sent.output == 1).unwrap();
        let other = rig.sent.remove(other);
        rig.reply(1, other.token, Acknowledged(other.first));
    }
    assert_eq!(rig.take_sent(), [(0, 0, 1), (0, 1, 1), (0, 2, 1), (0, 3, 1), (0, 4, 1)]);
    rig.reply(0, 0, Acknowledged(1));
    assert_eq!(rig.take_sent(), [(0, 5, 1), (0, 6, 1)]);
}

#[test]
fn acknowledgements_are_cumulative_and_move_the_floor() {
    // covers STEP-12
    let mut rig = three_in_flight();
    rig.reply(0, 1, Acknowledged(2));
    assert_eq!(rig.task.floor(), 1, "half a batch is not acknowledged");
    rig.reply(0, 1, Acknowledged(3));
    assert_eq!(rig.task.floor(), 2);
    rig.reply(0, 0, Acknowledged(1));
    assert_eq!(rig.task.floor(), 2, "a late one changes nothing");
    rig.reply(0, 2, Acknowledged(5));
    assert_eq!((rig.task.floor(), rig.task.unacknowledged_bytes()), (3, 0));
}

#[test]
fn the_floor_waits_for_every_output_of_a_step() {
    // covers STEP-12 (the floor counts acknowledgements, not sends)
    let mut rig = Rig::new();
    rig.run(&[(0, 1), (1, 1), (0, 1)]).unwrap();
    rig.run(&[(1, 1)]).unwrap();
    rig.commit();
    rig.reply(0, 0, Acknowledged(0));
    rig.reply(1, 2, Acknowledged(1));
    assert_eq!(rig.task.floor(), 0, "the second batch for output 0 is open");
    rig.reply(0, 1, Acknowledged(1));
    assert_eq!(rig.task.floor(), 2);
}

#[test]
fn an_expected_number_is_where_sending_goes_on() {
    // covers STEP-9, STEP-10
    let mut rig = three_in_flight();
    rig.reply(0, 2, Expect(2));
    assert_eq!(rig.take_sent(), [(0, 2, 2), (0, 4, 2)], "from there");
    assert_eq!(rig.task.floor(), 0, "what lies below is not acknowledged by that");
    rig.reply(0, 1, Expect(0));
    assert_eq!(rig.take_sent(), [], "an answer to a send before that one says nothing new");
    rig.reply(0, 4, Acknowledged(5));
    assert_eq!(rig.task.floor(), 3);
}

#[test]
fn where_nothing_is_left_to_send_the_unacknowledged_is_asked_about_again() {
    let mut rig = three_in_flight();
    rig.reply(0, 2, Expect(6));
    assert_eq!(rig.take_sent(), [(0, 0, 2), (0, 2, 2), (0, 4, 2)]);

    // More than was sent can't be expected; no deadline may be missed over it.
    let mut rig = Rig::new();
    for _ in 0..7 {
        rig.run(&[(0, 1)]).unwrap();
    }
    rig.commit();
    rig.sent.clear();
    rig.reply(0, 4, Expect(6));
    assert_eq!(rig.take_sent().len(), 5);
    rig.reply(0, 9, Expect(6));
    rig.pass(limits::RETRY_DELAY_MS.0);
    assert_eq!(rig.take_sent().len(), 5);
    assert_eq!(rig.task.poll_deadline(), None);
}

#[test]
fn a_pause_ends_with_what_it_was_for() {
    let mut rig = three_in_flight();
    rig.reply(0, 2, Retry);
    assert_eq!(rig.task.poll_deadline(), Some(limits::RETRY_DELAY_MS.0));
    rig.reply(0, 0, Acknowledged(5));
    assert_eq!(rig.task.poll_deadline(), Some(limits::FLOOR_DELAY_MS), "only the floor is left to record");
}

#[test]
fn the_same_number_expected_twice_is_sent_after_a_pause() {
    let mut rig = three_in_flight();
    rig.reply(0, 0, Expect(0));
    assert_eq!(rig.take_sent().len(), 3);
    rig.reply(0, 3, Expect(0));
    assert_eq!(rig.take_sent(), []);
    assert_eq!(rig.task.poll_deadline(), Some(limits::RETRY_DELAY_MS.0));
    rig.pass(limits::RETRY_DELAY_MS.0);
    assert_eq!(rig.take_sent().len(), 3);
}

#[test]
fn a_failed_send_is_repeated_with_growing_pauses_from_the_first_unacknowledged() {
    let mut rig = three_in_flight();
    rig.reply(0, 1, Retry);
    let mut token = 3;
    let mut delays = Vec::new();
    for _ in 0..8 {
        assert_eq!(rig.take_sent(), []);
        let due = rig.task.poll_deadline().unwrap();
        delays.push(due - rig.now_ms);
        rig.pass(due - rig.now_ms - 1);
        assert_eq!(rig.take_sent(), [], "not before its time");
        rig.pass(1);
        assert_eq!(rig.take_sent(), [(0, 0, 2), (0, 2, 2), (0, 4, 2)]);
        rig.reply(0, token, Retry);
        rig.reply(0, token + 1, Retry);
        token += 3;
    }
    assert_eq!(delays, [20, 40, 80, 160, 320, 640, 1_000, 1_000]);
    rig.reply(0, 0, Acknowledged(1));
    rig.pass(1_000);
    assert_eq!(rig.take_sent(), [(0, 2, 2), (0, 4, 2)]);
    rig.reply(0, token, Retry);
    assert_eq!(rig.task.poll_deadline(), Some(rig.now_ms + 20), "progress makes pauses short again");
}

#[test]
fn an_output_that_lost_acknowledged_records_stops_the_task() {
    // covers STEP-10 and the first STOP of step-protocol §1 (STEP-18: an unclean loss is loud)
    let mut rig = three_in_flight();
    rig.reply(0, 0, Acknowledged(3));
    rig.reply(0, 2, Expect(0));
    assert_eq!(rig.task.stopped(), None, "it may be late");
    assert_eq!(rig.take_sent(), [(0, 4, 2)], "a fresh question");
    rig.reply(0, 1, Expect(0));
    assert_eq!(rig.task.stopped(), None, "that one is late");
    rig.reply(0, 3, Expect(0));
    let (output, expected, acknowledged) = (OUTPUTS[0], 0, 4);
    assert_eq!(rig.task.stopped(), Some(&StopReason::OutputLostRecords { output, expected, acknowledged }));
    assert!(rig.task.stopped().unwrap().to_string().starts_with("output lost acknowledged records"));
}

#[test]
fn a_late_expectation_is_harmless() {
    let mut rig = three_in_flight();
    rig.reply(0, 0, Acknowledged(3));
    rig.reply(0, 2, Expect(0));
    assert_eq!(rig.take_sent(), [(0, 4, 2)], "a fresh question");
    rig.reply(0, 3, Acknowledged(5));
    assert_eq!(rig.task.floor(), 3);
    rig.reply(0, 3, Expect(0));
    rig.reply(0, 3, Expect(100));
    assert_eq!(rig.task.stopped(), None, "nothing is in flight that it could speak of");
    rig.run(&[(0, 1)]).unwrap();
    rig.commit();
    assert_eq!(rig.take_sent(), [(0, 6, 1)]);
    rig.reply(0, 4, Expect(0));
    assert_eq!(rig.task.stopped(), None, "the doubt was settled: this is the first again");
}

#[test]
fn an_output_beyond_the_changelog_stops_the_task() {
    // covers the second STOP of step-protocol §1
    for answer in [Expect(7), Acknowledged(6), Acknowledged(u64::MAX)] {
        let mut rig = three_in_flight();
        rig.reply(0, 2, answer.clone());
        assert_eq!(rig.take_sent().len(), 3, "asked again first");
        assert_eq!(rig.task.stopped(), None);
        rig.reply(0, 3, answer);
        assert!(matches!(rig.task.stopped(), Some(StopReason::ChangelogLostCommits { next: 6, .. })));
        assert!(rig.task.stopped().unwrap().to_string().starts_with("changelog lost durable commits"));
    }
}

#[test]
fn part_of_a_batch_stops_the_task() {
    // covers STEP-9 (partly duplicate: here batches are never cut anew)
    let mut rig = three_in_flight();
    rig.reply(0, 2, Expect(3));
    rig.reply(0, 3, Expect(3));
    assert_eq!(rig.task.stopped(), Some(&StopReason::OutputCutsBatch { output: OUTPUTS[0], expected: 3 }));
}

#[test]
fn without_the_stops_a_loss_stays_silent() {
    let mut rig = three_in_flight();
    rig.task.mutant = Some(Mutant::BelieveAnyAnswer);
    rig.reply(0, 0, Acknowledged(3));
    rig.reply(0, 2, Expect(0));
    rig.reply(0, 3, Expect(0));
    assert_eq!(rig.task.stopped(), None);
}

#[test]
fn a_stopped_task_does_nothing_more() {
    // covers STEP-9 (Fenced: this instance ends), STEP-2
    type Ending = (fn(&mut Rig), fn(&StopReason) -> bool);
    let endings: [Ending; 5] = [
        (
            |rig| {
                rig.append();
                rig.run(&[]).unwrap();
                let next_offset = rig.log_end();
                rig.handle(TaskEvent::CommitAppended { step: 4, next_offset });
            },
            |reason| matches!(reason, StopReason::Bug(_)),
        ),
        (|rig| rig.reply(0, 0, Fenced), |reason| matches!(reason, StopReason::Fenced(output) if *output == OUTPUTS[0])),
        (|rig| rig.reply(0, 0, Refused("no".into())), |reason| matches!(reason, StopReason::OutputRefused { .. })),
        (
            |rig| rig.handle(TaskEvent::CommitRefused { step: 3, reason: "old".into() }),
            |reason| matches!(reason, StopReason::CommitRefused { step: 3, .. }),
        ),
        (
            |rig| rig.handle(TaskEvent::CommitAppended { step: 9, next_offset: 100 }),
            |reason| matches!(reason, StopReason::Bug(_)),
        ),
    ];
    for (end, is_right) in endings {
        let mut rig = three_in_flight();
        rig.run(&[(0, 1)]).unwrap();
        end(&mut rig);
        assert!(is_right(rig.task.stopped().unwrap()), "{:?}", rig.task.stopped());
        assert!(!rig.task.may_run());
        assert_eq!(rig.run(&[]), Err(StepError::Stopped));
        rig.handle(TaskEvent::ChangelogHighWatermark(1_000));
        rig.reply(0, 0, Acknowledged(5));
        assert_eq!((rig.task.poll_deadline(), rig.take_sent()), (None, vec![]));
        assert_eq!((rig.task.floor(), rig.task.poll_command()), (0, None));
    }
}

#[test]
fn what_was_not_taken_before_the_stop_is_void() {
    // covers STEP-2 (async calls of an earlier epoch end here)
    let mut rig = three_in_flight();
    let run = rig.step_run(&[(0, 1)]);
    rig.task.run_step(0, run, []).unwrap();
    let reply = OutputReply { output: OUTPUTS[0], token: 0, answer: Fenced };
    rig.task.handle(0, TaskEvent::OutputReply(reply));
    assert_eq!(rig.task.poll_command(), Some(TaskCommand::Stop(StopReason::Fenced(OUTPUTS[0]))));
    assert_eq!(rig.task.poll_command(), None);
}
