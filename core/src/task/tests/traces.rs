//! The counter-examples of step-protocol §4, each with its rule and without it. Left out are those of the replay form
//! (STEP-6, STEP-7 and parts of STEP-13), of cleaning (STEP-11's retention, STEP-13), of partly duplicate batches (here
//! batches are never cut anew) and of STEP-17 and 18, which end in a stop or above this module.

use super::Mutant;
use super::world::{Checked, World};

/// A record that emits once, to output 0; the other to output 1.
const TO_FIRST: u64 = 4;
const TO_SECOND: u64 = 5;

impl World {
    fn with_input(&mut self, records: &[u64]) {
        self.input.extend(records);
        self.input_durable = self.input.len();
    }

    /// `R`: a step over so many records; its commit is appended.
    fn step(&mut self, records: usize) -> Checked {
        self.run(self.owner(), records)?;
        self.append(self.owner())
    }

    /// `D`: the oldest undurable commit becomes durable, and the owner knows it.
    fn durable(&mut self) -> Checked {
        self.commit_durable()?;
        self.tell(self.owner())
    }

    /// `S`: the next send arrives.
    fn send(&mut self) -> Checked {
        let fresh = self.network.iter().position(|message| !message.arrived);
        fresh.map_or(Ok(()), |message| self.deliver(message))
    }

    /// `V`.
    fn visible(&mut self) -> Checked {
        self.make_visible(0)?;
        self.make_visible(1)
    }

    /// `A`: all answers arrive.
    fn answers(&mut self) -> Checked {
        while !self.replies.is_empty() {
            self.answer(0, false)?;
        }
        Ok(())
    }

    /// `F(kept)`: another broker leads the changelog.
    fn fail(&mut self, kept: usize) -> Checked {
        self.failover(kept, 0, false, true)
    }
}

/// The trace breaks nothing with the rule, and `checker` sees it without.
#[track_caller]
fn row(without: Mutant, checker: &str, trace: fn(&mut World) -> Checked) {
    let mut sound = World::new(None);
    if let Err(complaint) = trace(&mut sound).and_then(|()| sound.heal()) {
        panic!("with all rules: {complaint}");
    }
    let mut broken = World::new(Some(without));
    let complaint = trace(&mut broken).and_then(|()| broken.heal()).expect_err("nothing is seen without the rule");
    assert!(complaint.starts_with(checker), "{complaint}");
}

#[test]
fn step_1_changes_apart_from_the_position() {
    // R0 F(0), its changes kept, R0 D: counted twice
    row(Mutant::ApplyBeforeDurable, "OUT-4", |world| {
        world.with_input(&[TO_FIRST]);
        world.step(1)?;
        world.failover(0, 0, true, true)?;
        world.step(1)?;
        world.durable()
    });
}

#[test]
fn step_2_a_stale_append() {
    // R0[0,1) F(0); the old owner's R1[1,2) lands in the live log, D: a hole in the input
    row(Mutant::StaleAppend, "OUT-3", |world| {
        world.with_input(&[TO_FIRST, TO_FIRST]);
        world.step(1)?;
        world.run(0, 1)?;
        world.fail(0)?;
        world.append(0)?;
        world.durable()
    });
}

#[test]
fn step_4_a_send_before_durable() {
    // R0[0,1) S#0 V F(0) R0[0,2) D: an output of a step that never was
    row(Mutant::SendBeforeDurable, "OUT-1", |world| {
        world.with_input(&[TO_FIRST, TO_FIRST]);
        world.step(1)?;
        world.send()?;
        world.visible()?;
        world.fail(0)?;
        world.step(2)?;
        world.durable()
    });
}

#[test]
fn step_4_an_inherited_tail_is_trusted() {
    // R0[0,1) F(1) P0 S#0 V F(0) R0[0,2) D
    row(Mutant::TrustInheritedTail, "OUT-1", |world| {
        world.with_input(&[TO_FIRST, TO_FIRST]);
        world.step(1)?;
        world.fail(1)?;
        world.send()?;
        world.visible()?;
        world.fail(0)?;
        world.step(2)?;
        world.durable()
    });
}

#[test]
fn step_5_input_above_its_high_watermark() {
    // in0 R0 D F(1), in0 truncated and written anew, durable: state is not the fold
    row(Mutant::ReadAboveHighWatermark, "OUT-4", |world| {
        world.input.push(TO_FIRST);
        world.step(1)?;
        world.durable()?;
        world.fail(1)?;
        world.input[0] = TO_FIRST + 4;
        world.input_durable = 1;
        world.check()
    });
}

#[test]
fn step_8_numbers_restart_with_the_epoch() {
    // R0[0,2) D S#0 V F(1) P0 S#0 V: duplicate
    row(Mutant::NumbersRestartPerEpoch, "OUT-1", |world| {
        world.with_input(&[TO_FIRST, TO_FIRST]);
        world.step(2)?;
        world.durable()?;
        world.send()?;
        world.visible()?;
        world.fail(0)?;
        world.send()?;
        world.visible()
    });
}

#[test]
fn step_9_only_the_last_batches_are_known() {
    // More sends again at once than are remembered: "too old", never acknowledged, stuck
    row(Mutant::LastBatchesOnly, "OUT-2", |world| {
        world.with_input(&[TO_FIRST; 8]);
        for _ in 0..8 {
            world.step(1)?;
        }
        for _ in 0..8 {
            world.durable()?;
        }
        for _ in 0..8 {
            world.send()?;
            world.visible()?;
            world.answers()?;
        }
        // All is acknowledged, but no commit says so yet.
        world.fail(0)
    });
}

#[test]
fn step_9_a_gap_is_accepted() {
    // R0 R1 D D S#1 V: #0 is later dropped as a duplicate
    row(Mutant::GapAccepted, "OUT-1", |world| {
        world.with_input(&[TO_FIRST, TO_FIRST]);
        world.step(1)?;
        world.step(1)?;
        world.durable()?;
        world.durable()?;
        world.deliver(1)?;
        world.visible()
    });
}

#[test]
fn step_10_acknowledged_on_append() {
    // R0 D S#0 A G
    row(Mutant::AcknowledgeOnAppend, "OUT-5", |world| {
        world.with_input(&[TO_FIRST]);
        world.step(1)?;
        world.durable()?;
        world.send()?;
        world.answers()?;
        world.fail_output(0, 0)
    });
}

#[test]
fn step_10_a_duplicate_acknowledged_at_once() {
    // R0 D S#0 [#0 again] A G
    row(Mutant::DuplicateAtOnce, "OUT-5", |world| {
        world.with_input(&[TO_FIRST]);
        world.step(1)?;
        world.durable()?;
        world.send()?;
        world.deliver(0)?;
        world.answers()?;
        world.fail_output(0, 0)
    });
}

#[test]
fn step_10_an_expected_number_is_no_acknowledgement() {
    // R0 R1 R2 D D D S#0 [#2: "have 1"] G: #0 is taken for acknowledged and gone
    row(Mutant::ExpectCountsAsAcknowledged, "OUT-5", |world| {
        world.with_input(&[TO_FIRST; 3]);
        for _ in 0..3 {
            world.step(1)?;
            world.durable()?;
        }
        world.send()?;
        world.deliver(2)?;
        world.answers()?;
        world.fail_output(0, 0)
    });
}

#[test]
fn step_11_forgotten_and_accepted() {
    // R0 D S#0 V, forgotten, #0 again V: duplicate
    row(Mutant::ForgetAndAccept, "OUT-1", |world| {
        world.with_input(&[TO_FIRST, TO_SECOND]);
        world.step(2)?;
        world.durable()?;
        world.deliver(0)?;
        world.visible()?;
        world.fail_output(0, 0)?;
        world.deliver(0)?;
        world.visible()
    });
}

#[test]
fn step_11_forgotten_and_refused() {
    // R0 R1 D D S#0 V A …, forgotten: #1 is never accepted
    row(Mutant::ForgetAndRefuse, "OUT-2", |world| {
        world.with_input(&[TO_FIRST, TO_FIRST]);
        world.step(1)?;
        world.durable()?;
        world.send()?;
        world.visible()?;
        world.answers()?;
        world.fail_output(0, 0)?;
        world.step(1)
    });
}

#[test]
fn step_12_the_floor_counts_sends() {
    // D R1(floor 1) F(2): #0 never sent
    row(Mutant::FloorCountsSends, "OUT-6", |world| {
        world.with_input(&[TO_FIRST, TO_FIRST]);
        world.step(1)?;
        world.durable()?;
        world.step(1)?;
        world.fail(2)
    });
}

#[test]
fn step_12_only_the_last_step_is_queued_at_a_takeover() {
    // R0 R1 F(2)
    row(Mutant::ReplayLastStep, "OUT-", |world| {
        world.with_input(&[TO_FIRST, TO_SECOND]);
        world.step(1)?;
        world.step(1)?;
        world.fail(2)
    });
}

#[test]
fn step_13_inline_outputs_are_gone_at_a_takeover() {
    // R0 inline D C F(1): never sent
    row(Mutant::ReplayNothing, "OUT-", |world| {
        world.with_input(&[TO_FIRST]);
        world.step(1)?;
        world.durable()?;
        world.fail(0)
    });
}
