//! Random histories: any part of an undurable tail may survive a failover, any send may come late and again.

use super::Mutant;
use super::world::{Checked, World};
use std::collections::BTreeMap;

/// A small generator of our own (SplitMix64): the same history for the same seed for ever.
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// One event, drawn by weight.
fn happen(world: &mut World, seeded: &mut Seeded) -> Checked {
    // Mostly the owner; now and then a zombie.
    let owner = world.owner();
    let instance = if seeded.below(6) == 0 { seeded.below(owner + 1) } else { owner };
    match seeded.below(100) {
        0..8 => {
            world.input.push(seeded.next() % 100);
            Ok(())
        }
        8..16 => {
            world.input_durable = (world.input_durable + 1 + seeded.below(3)).min(world.input.len());
            Ok(())
        }
        16..18 => lose_input_tail(world, seeded),
        18..32 => world.run(instance, 1 + seeded.below(3)),
        32..44 => world.append(instance),
        44..52 => world.commit_durable(),
        52..62 => world.tell(instance),
        62..72 => {
            let fresh = world.network.iter().position(|message| !message.arrived);
            fresh.map_or(Ok(()), |message| world.deliver(message))
        }
        72..76 => {
            let any = seeded.below(world.network.len());
            world.deliver(any)
        }
        76..82 => world.make_visible(seeded.below(2)),
        82..90 => world.answer(0, false),
        90..93 => {
            let any = seeded.below(world.replies.len());
            world.answer(any, seeded.below(3) == 0)
        }
        93..95 => world.fail_output(seeded.below(2), seeded.below(3)),
        95..98 => world.tick(seeded.next() % 700),
        _ => {
            let kept = seeded.below(4);
            world.failover(kept, seeded.below(3), seeded.below(2) == 0, seeded.below(3) > 0)
        }
    }
}

/// The input's leader fails: what was not below its high watermark is lost, other records take the places.
fn lose_input_tail(world: &mut World, seeded: &mut Seeded) -> Checked {
    let lost = world.input.len() - world.input_durable;
    world.input.truncate(world.input_durable);
    world.input.extend((0..lost).map(|_| seeded.next() % 100));
    world.check()
}

/// A history of 250 events from `seed`, then healing.
fn history(seed: u64, without: Option<Mutant>) -> Result<World, String> {
    let mut seeded = Seeded(seed);
    let mut world = World::new(without);
    for _ in 0..250 {
        happen(&mut world, &mut seeded)?;
    }
    world.heal()?;
    Ok(world)
}

// covers OUT-1, OUT-2, OUT-3, OUT-4, OUT-5, OUT-6 and with them STEP-1…6, 8…12, 14, 15
#[test]
fn outputs_arrive_exactly_once_in_order_whatever_fails() {
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    for seed in 0..300 {
        let world = history(seed, None).unwrap_or_else(|complaint| panic!("seed {seed}: {complaint}"));
        for (what, times) in world.seen {
            *seen.entry(what).or_default() += times;
        }
    }
    // Else the histories would prove little.
    for what in [
        "failover",
        "restart in the same epoch",
        "inherited outputs",
        "inherited tail",
        "commit of an old owner refused",
        "empty commit for the floor",
        "duplicate acknowledged",
        "another number expected",
        "zombie fenced",
        "told to try again",
    ] {
        assert!(seen.get(what).is_some_and(|times| *times > 100), "{what} is rare: {seen:?}");
    }
    assert_eq!(seen.get("refused"), None);
}

#[test]
fn random_histories_notice_each_rule_that_is_gone() {
    use Mutant::*;
    let mutants = [
        (SendBeforeDurable, "OUT-1"),
        (ApplyBeforeDurable, "OUT-4"),
        (FloorCountsSends, "OUT-6"),
        (ExpectCountsAsAcknowledged, "OUT-5"),
        (TrustInheritedTail, "OUT-"),
        (ReplayNothing, "OUT-"),
        (ReplayLastStep, "OUT-"),
        (StaleAppend, "OUT-3"),
        (ReadAboveHighWatermark, "OUT-4"),
        (NumbersRestartPerEpoch, "OUT-1"),
        (GapAccepted, "OUT-1"),
        (LastBatchesOnly, "OUT-2"),
        (AcknowledgeOnAppend, "OUT-5"),
        (DuplicateAtOnce, "OUT-5"),
        (ForgetAndAccept, "OUT-1"),
        (ForgetAndRefuse, "OUT-2"),
    ];
    for (mutant, checker) in mutants {
        let mut complaints = (0..300).filter_map(|seed| history(seed, Some(mutant)).err());
        let noticed = complaints.any(|complaint| complaint.contains(checker));
        assert!(noticed, "{mutant:?} is not noticed by {checker}");
    }
}
