//! A takeover: what a new instance makes of the log.

use super::rig::Rig;
use super::world::{INPUT, OUTPUTS, TASK, config};
use crate::task::commit::Commit;
use crate::task::*;
use headwater_protocol::ids::{LeaderEpoch, ProcessorNumber, TaskProducer};

/// Three steps in the log, none acknowledged: to output 0, to none, to both.
fn three_steps() -> Rig {
    let mut rig = Rig::new();
    rig.run(&[(0, 2)]).unwrap();
    rig.run(&[]).unwrap();
    rig.run(&[(1, 1), (0, 1)]).unwrap();
    rig.append();
    rig
}

#[test]
fn all_from_floor_to_tip_is_queued_verbatim_and_numbers_go_on() {
    // covers STEP-3, STEP-8 (numbers go on across epochs), STEP-12, STEP-14
    let old = three_steps();
    let mut new = old.successor(4, old.log_end());
    assert_eq!((new.task.floor(), new.task.next_step()), (0, 3));
    assert_eq!(new.task.next_number(OUTPUTS[0]), 3);
    let outbox: Vec<_> = old.log.iter().flat_map(Commit::outbox).collect();
    for sent in &new.sent {
        assert!(outbox.iter().any(|batch| batch.bytes == sent.bytes && batch.first == sent.first), "verbatim");
        assert_eq!(sent.epoch, LeaderEpoch(4), "under the new instance's epoch");
    }
    assert_eq!(new.take_sent(), [(0, 0, 2), (0, 2, 1), (1, 0, 1)]);
    assert_eq!(new.applied, [], "what was below the high watermark when it began is in the store already");
    new.run(&[(0, 1)]).unwrap();
    new.commit();
    let step = new.log[3].step();
    assert_eq!((step.step, step.epoch, step.floor, step.inputs[0].from), (3, LeaderEpoch(4), 0, 3));
    assert_eq!(new.take_sent(), [(0, 3, 1)]);
}

#[test]
fn an_inherited_tail_waits_for_the_high_watermark() {
    // covers STEP-4
    let old = three_steps();
    let durable = old.log[0].next_offset();
    let mut new = old.successor(2, durable);
    assert_eq!(new.take_sent(), [(0, 0, 2)]);
    assert_eq!(new.task.uncommitted_steps(), 2);
    new.handle(TaskEvent::ChangelogHighWatermark(old.log[1].next_offset()));
    assert_eq!((new.take_sent(), new.applied.len()), (vec![], 1));
    new.handle(TaskEvent::ChangelogHighWatermark(old.log_end()));
    assert_eq!(new.take_sent(), [(0, 2, 1), (1, 0, 1)]);
    let ends: Vec<_> = old.log[1..].iter().map(|commit| (commit.step().step, commit.next_offset())).collect();
    assert_eq!(new.applied, ends);
}

#[test]
fn an_inherited_tail_counts_as_uncommitted() {
    // covers STEP-15
    let mut old = Rig::new();
    for _ in 0..8 {
        old.run(&[]).unwrap();
    }
    old.append();
    let mut new = old.successor(2, 0);
    assert!(!new.task.may_run());
    new.handle(TaskEvent::ChangelogHighWatermark(old.log_end()));
    assert!(new.task.may_run());
}

#[test]
fn a_recorded_floor_holds_even_if_its_commit_is_not_durable() {
    // covers STEP-12 ("acknowledged" is a fact, whatever becomes of the commit that says so)
    let mut old = three_steps();
    old.handle(TaskEvent::ChangelogHighWatermark(old.log[0].next_offset()));
    old.acknowledge_all();
    old.run(&[]).unwrap();
    old.append();
    assert_eq!(old.floors(), [0, 0, 0, 2], "step 1 has no outputs");
    let new = old.successor(2, old.log[0].next_offset());
    assert_eq!((new.task.floor(), new.task.durable_floor()), (2, 0));
    assert_eq!(new.sent.len(), 0, "step 0 is acknowledged, step 2 not durable");
    assert_eq!(old.image(old.log_end()).durable_floor(), 2);
    assert_eq!(old.successor(2, old.log_end()).task.durable_floor(), 2);
    // If that commit is lost, what it said is lost with it: step 0 is sent again and found a duplicate.
    old.log.pop();
    assert_eq!(old.successor(3, old.log[0].next_offset()).take_sent(), [(0, 0, 2)]);
}

#[test]
fn an_inherited_floor_that_moves_is_recorded() {
    // covers STEP-12
    let old = three_steps();
    let mut new = old.successor(2, old.log_end());
    new.acknowledge_all();
    assert_eq!(new.task.floor(), 3);
    new.pass(limits::FLOOR_DELAY_MS);
    new.commit();
    assert_eq!(new.log[3].step().floor, 4);
    let last = new.successor(3, new.log_end());
    assert_eq!((last.sent.len(), last.task.poll_deadline()), (0, None), "nothing is left to do");
}

#[test]
fn a_restart_in_the_same_epoch_is_a_takeover() {
    // covers STEP-3
    let old = three_steps();
    let mut new = old.successor(1, old.log_end());
    assert_eq!(new.run(&[(0, 1)]), Ok(3));
}

#[test]
fn outputs_keep_no_large_commit_alive() {
    let mut rig = Rig::new();
    let value = vec![0; 10_000];
    let change = commit::StateChange { store: 0, key: b"k", value: Some(&value) };
    let run = rig.step_run(&[(0, 1)]);
    rig.run_as(run, &[change]).unwrap();
    let run = rig.step_run(&[(0, 200)]);
    rig.run_as(run, &[]).unwrap();
    rig.append();
    let image = rig.image(0);
    let shares = |step: usize| {
        let (kept, commit) = (&image.outbox[step].1[0].bytes, &rig.log[step].outbox()[0].bytes);
        assert_eq!(kept, commit);
        kept.as_ptr() == commit.as_ptr()
    };
    assert_eq!((shares(0), shares(1)), (false, true));
}

#[test]
fn a_reset_begins_anew() {
    // covers STEP-16
    let old = three_steps();
    let producer = TaskProducer { generation: 1, ..TASK };
    let reset = TaskConfig { producer, ..config() };
    let task = Task::take_over(reset, old.image(0), LeaderEpoch(2), old.log_end()).unwrap();
    assert_eq!((task.next_step(), task.floor(), task.next_number(OUTPUTS[0])), (0, 0, 0));
    assert_eq!((task.positions().len(), task.uncommitted_steps(), task.stream_time()), (0, 0, None));
    let stamp = task.stamp(0);
    assert_ne!(stamp.producer_id, old.task.stamp(0).producer_id);

    let mut new = old.successor(2, old.log_end());
    new.task = task;
    new.run(&[(0, 1)]).unwrap();
    new.commit();
    let mut image = new.image(0);
    assert_eq!((image.tip(), image.task().generation, image.floor()), (Some(0), 1, 0));
    assert_eq!(image.positions()[&INPUT].next_offset, 1);
    assert_eq!(image.replay(&old.log[0]).unwrap_err(), ReplayError::OutOfOrder { step: 0, tip: Some(0) });
    let behind = Task::take_over(config(), image, LeaderEpoch(2), new.log_end()).unwrap_err();
    assert_eq!(behind, TakeoverError::Behind { generation: 1, epoch: Some(LeaderEpoch(2)) });
    let resets: Vec<_> = {
        let mut image = TaskImage::new(TASK.processor, TASK.task);
        new.log.iter().map(|commit| image.replay(commit).unwrap().reset).collect()
    };
    assert_eq!(resets, [false, false, false, true], "the store is cleared before the first commit of a generation");
}

#[test]
fn a_takeover_that_can_not_be_right_is_refused() {
    let old = three_steps();
    let over = |image: TaskImage, epoch: i32, log_end: i64| {
        Task::take_over(config(), image, LeaderEpoch(epoch), log_end).map(|_| ()).unwrap_err()
    };
    let end = old.log_end();
    assert_eq!(over(old.image(0), 0, end), TakeoverError::Behind { generation: 0, epoch: Some(LeaderEpoch(1)) });
    assert_eq!(over(old.image(0), 1, end - 1), TakeoverError::LogEnd { replayed: end, log_end: end - 1 });
    let other = TaskImage::new(ProcessorNumber(99), 0);
    assert_eq!(over(other, 1, 0), TakeoverError::NoProducerId(TASK));

    // covers STEP-13, STEP-14: nothing from the floor on may be missing
    let mut holed = TaskImage::new(TASK.processor, TASK.task);
    holed.replay(&old.log[0]).unwrap();
    holed.replay(&old.log[2]).unwrap();
    assert_eq!(over(holed, 1, end), TakeoverError::MissingSteps { floor: 0, seen_from: 2 });
}

#[test]
fn a_log_cleaned_below_its_floor_is_enough() {
    let mut old = three_steps();
    old.commit();
    old.acknowledge_all();
    old.run(&[(0, 1)]).unwrap();
    old.commit();
    assert_eq!(old.floors(), [0, 0, 0, 3]);
    old.log.drain(..3);
    let new = old.successor(2, old.log_end());
    assert_eq!((new.task.floor(), new.task.next_number(OUTPUTS[0])), (3, 4));
    assert_eq!(new.sent.iter().map(|sent| sent.first).collect::<Vec<_>>(), [3]);
}

#[test]
fn commits_that_do_not_follow_are_refused() {
    // covers STEP-2, STEP-8, STEP-12, OUT-3
    let old = three_steps();
    let mut image = old.image(0);
    let again = image.replay(&old.log[2]).unwrap_err();
    assert_eq!(again, ReplayError::OutOfOrder { step: 2, tip: Some(2) });
    assert_eq!(image.tip(), Some(2), "the image is as it was");
    let mut longer = old.image(0);
    longer.tip = Some(1);
    assert!(matches!(longer.replay(&old.log[2]), Err(ReplayError::OutOfOrder { .. })), "it lies before the log's end");
    let mut other = TaskImage::new(ProcessorNumber(99), 0);
    assert_eq!(other.replay(&old.log[0]).unwrap_err(), ReplayError::OtherTask);

    // Another history's step 3: it comes from a task whose positions, numbers and floor differ.
    let mut shifted = Rig::new();
    for _ in 0..3 {
        let mut run = shifted.step_run(&[(0, 2)]);
        run.inputs[0].to += 1;
        shifted.run_as(run, &[]).unwrap();
        shifted.commit();
    }
    let fork = |rig: &mut Rig, at: i64| {
        // The same step number at an offset that lies beyond the log.
        rig.append();
        let mut image = old.image(0);
        image.next_offset = at;
        image.replay(rig.log.last().unwrap()).unwrap_err()
    };
    shifted.run(&[(0, 1)]).unwrap();
    let error = fork(&mut shifted, 0);
    assert!(matches!(error, ReplayError::InputHole { step: 3, from: 6, position: 3, .. }), "{error}");
    let mut run = shifted.step_run(&[(0, 1)]);
    run.inputs.clear();
    let mut renumbered = Rig::new();
    for _ in 0..3 {
        renumbered.run(&[(0, 2)]).unwrap();
        renumbered.commit();
    }
    renumbered.run(&[(0, 1)]).unwrap();
    let error = fork(&mut renumbered, 0);
    assert!(matches!(error, ReplayError::NumberHole { step: 3, first: 6, next: 3, .. }), "{error}");

    let mut acknowledged = three_steps();
    acknowledged.commit();
    acknowledged.acknowledge_all();
    acknowledged.run(&[]).unwrap();
    acknowledged.commit();
    let mut low = three_steps();
    low.run(&[]).unwrap();
    low.run(&[]).unwrap();
    low.append();
    let mut image = acknowledged.image(0);
    let error = image.replay(&low.log[4]).unwrap_err();
    assert_eq!(error, ReplayError::FloorFell { step: 4, floor: 0, before: 4 });
}
