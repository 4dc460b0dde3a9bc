//! What a step must bring, what its commit holds, and how far a task may run ahead.

use super::rig::Rig;
use super::world::{INPUT, OUTPUTS, TASK, config};
use crate::task::commit::{Decision, DecisionKind, Revision, StateChange, TimerChange};
use crate::task::*;
use bytes::Bytes;
use headwater_protocol::ids::{LeaderEpoch, ModuleDigest};

#[test]
fn a_commit_holds_everything_the_step_did() {
    // covers STEP-1, STEP-6, STEP-8
    let mut rig = Rig::new();
    let mut run = rig.step_run(&[(0, 2), (1, 1), (0, 3)]);
    run.stream_time = Some(99);
    run.timers = vec![TimerChange { id: Bytes::from_static(b"t"), at: Some(120) }];
    run.decisions = vec![Decision::new(INPUT, 0, DecisionKind::DeadLettered, "poison")];
    let change = StateChange { store: 3, key: b"k", value: Some(b"v") };
    assert_eq!(rig.run_as(run.clone(), &[change]), Ok(0));
    rig.append();
    let commit = &rig.log[0];
    let step = commit.step();
    assert_eq!((step.step, step.floor, step.generation, step.epoch), (0, 0, 0, LeaderEpoch(1)));
    assert_eq!((step.revision, commit.task()), (config().revision, TASK));
    assert_eq!((&step.inputs, &step.decisions), (&run.inputs, &run.decisions));
    assert_eq!((commit.stream_time(), commit.timers(), commit.timestamp()), (Some(99), &run.timers[..], 5));
    assert_eq!(commit.changes().collect::<Vec<_>>(), [change]);
    assert_eq!(commit.numbers(), [(OUTPUTS[0], 5), (OUTPUTS[1], 1)]);
    let firsts: Vec<_> = commit.outbox().iter().map(|batch| (batch.output, batch.first, batch.count)).collect();
    assert_eq!(firsts, [(OUTPUTS[0], 0, 2), (OUTPUTS[1], 0, 1), (OUTPUTS[0], 2, 3)]);
    assert_eq!((rig.task.next_number(OUTPUTS[0]), rig.task.next_number(OUTPUTS[1])), (5, 1));
}

#[test]
fn steps_read_on_where_the_last_one_ended() {
    // covers OUT-3
    let mut rig = Rig::new();
    rig.run(&[]).unwrap();
    for wrong in [0, 2] {
        let mut run = rig.step_run(&[]);
        (run.inputs[0].from, run.inputs[0].to) = (wrong, wrong + 1);
        let error = rig.run_as(run, &[]).unwrap_err();
        assert_eq!(error, StepError::InputHole { input: INPUT, from: wrong, position: 1 });
    }
    let mut twice = rig.step_run(&[]);
    twice.inputs.push(twice.inputs[0]);
    assert!(matches!(rig.run_as(twice.clone(), &[]), Err(StepError::InputHole { position: 2, .. })));
    (twice.inputs[1].from, twice.inputs[1].to) = (2, 4);
    assert_eq!(rig.run_as(twice, &[]), Ok(1));
    assert_eq!(rig.task.positions()[&INPUT].next_offset, 4);
}

#[test]
fn numbers_and_stamps_must_be_those_given_out() {
    // covers STEP-8
    let mut rig = Rig::new();
    rig.run(&[(0, 2)]).unwrap();
    let stale = rig.batch(0, 1, 1);
    let mut renamed = rig.batch(0, 3, 1);
    renamed.first = 2;
    let mut misstamped = rig.batch(0, 2, 1);
    misstamped.bytes = Rig::with(TaskConfig { producer: TASK, ..config() }).batch(0, 3, 1).bytes;
    let mut misnamed = rig.batch(0, 2, 1);
    misnamed.first = 3;
    for batch in [stale, renamed, misstamped, misnamed, rig.batch(0, 3, 1)] {
        let mut run = rig.step_run(&[]);
        run.outputs = vec![batch];
        assert_eq!(rig.run_as(run, &[]), Err(StepError::WrongNumber { output: OUTPUTS[0], expected: 2 }));
    }
    let mut run = rig.step_run(&[(0, 1)]);
    run.outputs[0].bytes = Bytes::from_static(b"no batch");
    assert!(matches!(rig.run_as(run, &[]), Err(StepError::Output(_))));
    assert_eq!(rig.run(&[(0, 1)]), Ok(1), "nothing of the refused steps is left");
}

#[test]
fn a_step_that_does_not_fit_a_commit_leaves_nothing() {
    // covers STEP-1 (a step that does not fit takes a shorter range)
    let mut limits = TaskLimits { commit_bytes_max: 1_000, ..TaskLimits::default() };
    limits.timers_max = 1;
    let mut rig = Rig::with(TaskConfig { limits, ..config() });
    let value = [0; 1_000];
    let large = StateChange { store: 0, key: b"k", value: Some(&value) };
    let mut run = rig.step_run(&[(0, 1)]);
    run.stream_time = Some(7);
    run.timers = vec![TimerChange { id: Bytes::from_static(b"t"), at: Some(1) }];
    assert_eq!(rig.run_as(run.clone(), &[large]), Err(StepError::TooLarge { max: 1_000, records: 1 }));
    assert_eq!((rig.task.next_step(), rig.task.next_number(OUTPUTS[0]), rig.task.timer_count()), (0, 0, 0));
    assert_eq!((rig.task.stream_time(), rig.task.positions().len()), (None, 0));
    assert_eq!(rig.run_as(run, &[]), Ok(0));
    rig.commit();
    assert_eq!(rig.log.len(), 1);

    let mut timers = rig.step_run(&[]);
    timers.timers = vec![TimerChange { id: Bytes::from_static(b"second"), at: Some(1) }];
    assert!(matches!(rig.run_as(timers, &[]), Err(StepError::Timers { timers_max: 1, .. })));
    let mut timers = rig.step_run(&[]);
    timers.timers = vec![TimerChange { id: Bytes::from(vec![0; limits::TIMER_ID_BYTES_MAX + 1]), at: None }];
    assert!(matches!(rig.run_as(timers, &[]), Err(StepError::Timers { .. })));
}

#[test]
fn at_most_eight_steps_are_uncommitted() {
    // covers STEP-15
    let mut rig = Rig::new();
    for step in 0..8 {
        assert!(rig.task.may_run());
        assert_eq!(rig.run(&[]), Ok(step));
    }
    assert!(!rig.task.may_run());
    assert_eq!(rig.run(&[]), Err(StepError::WindowFull));
    rig.append();
    assert!(!rig.task.may_run(), "appended is not durable");
    let first = rig.log[0].next_offset();
    rig.handle(TaskEvent::ChangelogHighWatermark(first));
    assert!(rig.task.may_run());
    assert_eq!(rig.applied, [(0, first)]);
    assert_eq!(rig.run(&[]), Ok(8));
    assert!(!rig.task.may_run());
}

#[test]
fn at_most_32_steps_are_unacknowledged() {
    // covers STEP-15
    let mut rig = Rig::new();
    for _ in 0..32 {
        assert!(rig.task.may_run());
        rig.run(&[(0, 1)]).unwrap();
        rig.commit();
    }
    assert!(!rig.task.may_run());
    let first = rig.sent.remove(0);
    rig.reply(0, first.token, OutputAnswer::Ok(0));
    assert!(rig.task.may_run());
    assert_eq!((rig.task.floor(), rig.task.next_step()), (1, 32));
}

#[test]
fn at_most_32_mib_are_unacknowledged() {
    // covers STEP-15
    let limits = TaskLimits { unacknowledged_bytes_max: 400, ..TaskLimits::default() };
    let mut rig = Rig::with(TaskConfig { limits, ..config() });
    while rig.task.may_run() {
        rig.run(&[(1, 1)]).unwrap();
        rig.commit();
    }
    let bytes = rig.task.unacknowledged_bytes();
    assert!((400..500).contains(&bytes), "{bytes}");
    rig.acknowledge_all();
    assert_eq!(rig.task.unacknowledged_bytes(), 0);
    assert!(rig.task.may_run());
    assert_eq!(TaskLimits::default().unacknowledged_bytes_max, 32 << 20);
}

#[test]
fn the_floor_is_written_in_the_next_commit_or_in_an_empty_one_after_a_second() {
    // covers STEP-12
    let mut rig = Rig::new();
    rig.run(&[(0, 1)]).unwrap();
    rig.commit();
    assert_eq!(rig.task.poll_deadline(), None, "nothing is acknowledged, so there is nothing to record");
    rig.pass(5_000);
    rig.acknowledge_all();
    assert_eq!(rig.task.poll_deadline(), Some(6_000));
    rig.run(&[(0, 1)]).unwrap();
    rig.commit();
    assert_eq!(rig.floors(), [0, 1], "the next commit has it");
    assert_eq!(rig.task.poll_deadline(), None);

    rig.acknowledge_all();
    rig.pass(999);
    rig.commit();
    assert_eq!(rig.log.len(), 2);
    rig.pass(1);
    rig.commit();
    let empty = &rig.log[2];
    assert_eq!((empty.step().floor, empty.step().step), (3, 2), "all is acknowledged, itself included");
    assert!(empty.step().inputs.is_empty() && empty.outbox().is_empty());
    assert_eq!((rig.task.durable_floor(), rig.task.next_step()), (3, 3));
    rig.pass(1_000_000);
    rig.append();
    assert_eq!((rig.log.len(), rig.task.poll_deadline()), (3, None), "idle tasks write nothing");
    assert_eq!(rig.applied.len(), 3, "the empty commit moves the store's position too");
}

#[test]
fn steps_without_outputs_need_no_empty_commit() {
    // covers STEP-12
    let mut rig = Rig::new();
    rig.run(&[]).unwrap();
    rig.commit();
    assert_eq!((rig.floors(), rig.task.poll_deadline()), (vec![1], None));
    rig.run(&[(0, 1)]).unwrap();
    rig.run(&[]).unwrap();
    rig.commit();
    assert_eq!(rig.floors(), [1, 1, 1], "step 1 holds the floor");
    rig.acknowledge_all();
    assert_eq!(rig.task.floor(), 3);
}

#[test]
fn an_empty_commit_leaves_room_for_the_step_that_runs_meanwhile() {
    let mut rig = Rig::new();
    for _ in 0..8 {
        rig.run(&[(0, 1)]).unwrap();
    }
    rig.append();
    rig.handle(TaskEvent::ChangelogHighWatermark(rig.log[0].next_offset()));
    rig.acknowledge_all();
    assert_eq!((rig.task.floor(), rig.task.uncommitted_steps()), (1, 7), "there is a floor to record");
    rig.pass(10_000);
    assert_eq!((rig.task.uncommitted_steps(), rig.task.poll_deadline()), (7, None), "but not in the last place");
    assert!(rig.task.may_run());
    rig.handle(TaskEvent::ChangelogHighWatermark(rig.log[1].next_offset()));
    assert_eq!(rig.task.uncommitted_steps(), 7, "six, and the empty one");
}

#[test]
fn stream_time_never_goes_back() {
    // covers STR-7
    let mut rig = Rig::new();
    for (told, is) in [(50, 50), (20, 50), (60, 60), (59, 60)] {
        let mut run = rig.step_run(&[]);
        run.stream_time = Some(told);
        rig.run_as(run, &[]).unwrap();
        assert_eq!(rig.task.stream_time(), Some(is));
    }
    rig.append();
    let written: Vec<_> = rig.log.iter().map(|commit| commit.stream_time()).collect();
    assert_eq!(written, [Some(50), None, Some(60), None]);
    assert_eq!(rig.successor(2, 0).task.stream_time(), Some(60));
}

#[test]
fn timers_are_set_replaced_fired_and_inherited() {
    let mut rig = Rig::new();
    let timer = |id: &'static str, at: Option<i64>| TimerChange { id: Bytes::from_static(id.as_bytes()), at };
    let mut run = rig.step_run(&[]);
    run.timers = vec![timer("b", Some(10)), timer("a", Some(10)), timer("c", Some(5)), timer("d", Some(11))];
    rig.run_as(run, &[]).unwrap();
    let due = |task: &Task, at: i64| -> Vec<String> {
        task.due_timers(at).map(|(at, id)| format!("{}@{at}", std::str::from_utf8(id).unwrap())).collect()
    };
    assert_eq!(due(&rig.task, 4), Vec::<String>::new());
    assert_eq!(due(&rig.task, 10), ["c@5", "a@10", "b@10"], "by time, then id");
    let mut run = rig.step_run(&[]);
    run.timers = vec![timer("c", None), timer("a", None), timer("a", Some(30)), timer("b", Some(3)), timer("no", None)];
    rig.run_as(run, &[]).unwrap();
    assert_eq!(due(&rig.task, 100), ["b@3", "d@11", "a@30"]);
    rig.append();
    let successor = rig.successor(2, 0);
    assert_eq!(due(&successor.task, 100), ["b@3", "d@11", "a@30"], "durable or not, they are in the log");
    assert_eq!(successor.task.timer_count(), 3);
}

#[test]
fn a_new_revision_is_in_the_next_commit() {
    // covers STEP-6 (the revision of each step is recorded)
    let mut rig = Rig::new();
    rig.run(&[]).unwrap();
    let revision = Revision { number: 2, module: ModuleDigest([9; 32]) };
    rig.task.set_revision(revision);
    rig.run(&[]).unwrap();
    rig.append();
    let revisions: Vec<_> = rig.log.iter().map(|commit| commit.step().revision.number).collect();
    assert_eq!((revisions, rig.log[1].step().revision), (vec![1, 2], revision));
}

#[test]
fn a_commit_without_records_pins_where_the_task_begins() {
    let mut rig = Rig::new();
    let mut run = rig.step_run(&[]);
    (run.inputs[0].from, run.inputs[0].to, run.inputs[0].record_count) = (77, 77, 0);
    rig.run_as(run, &[]).unwrap();
    rig.append();
    let successor = rig.successor(2, 0);
    assert_eq!(successor.task.positions()[&INPUT].next_offset, 77);
    assert_eq!(successor.task.floor(), 1);
}
