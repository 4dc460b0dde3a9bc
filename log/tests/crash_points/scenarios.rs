//! What is going on when the power goes: each operation by itself, and random histories.

use super::world::Operate;
use headwater_log::storage::memory::Survivors;

/// What happened before, and what is interrupted.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) before: Vec<Operate>,
    pub(crate) crashing: Vec<Operate>,
}

fn scenario(name: &str, before: &[Operate], crashing: &[Operate]) -> Scenario {
    Scenario { name: name.to_owned(), before: before.to_vec(), crashing: crashing.to_vec() }
}

/// One for each operation; what it leaves behind is interrupted with it.
pub(crate) fn named() -> Vec<Scenario> {
    use Operate::*;
    let full: &[Operate] = &[Append(12), Flush, Checkpoint];
    let torn = |seed| Survivors::Sectors { seed, sector_bytes: 64 };
    vec![
        scenario("first start", &[], &[Append(1), Flush]),
        scenario("append", &[Append(1), Flush], &[Append(2), AppendTogether(2), Flush]),
        scenario(
            "append while a flush runs",
            &[Append(1), Flush],
            &[FlushMeanwhileAppend, Append(1), FlushMeanwhileAppend],
        ),
        scenario("roll", &[Append(3), Flush], &[Append(9), Flush, Append(6), Flush]),
        scenario("index write at a roll", full, &[Append(6)]),
        scenario("index write at a stop", full, &[Append(2), CloseAndOpen]),
        scenario("leader epoch", full, &[BeginEpoch, Append(1), Flush, BeginEpoch, Flush]),
        scenario("recovery after a kill", &[Append(12), Flush, Append(7)], &[KillAndOpen, Append(1), Flush]),
        scenario(
            "recovery of a torn end",
            &[
                Append(12),
                Flush,
                Checkpoint,
                AppendTogether(4),
                Append(5),
                PowerCut(torn(3)),
                Open,
                Append(7),
                PowerCut(torn(5)),
            ],
            &[Open, Append(1), Flush],
        ),
        scenario("recovery, nothing synced", &[Append(14), PowerCut(torn(3))], &[Open, Append(3), Flush]),
        scenario("retention", full, &[Trim(7), Append(1), Flush, Trim(2)]),
        scenario("retention of everything", full, &[Trim(12), Append(2), Flush]),
        scenario("checkpoint", &[Append(3), Flush], &[Checkpoint, Append(8), Flush, Checkpoint]),
        scenario("snapshot", full, &[Append(2), Snapshot, Append(1), Flush, Snapshot, Checkpoint, KillAndOpen]),
        scenario(
            "snapshots, the oldest goes",
            full,
            &[Snapshot, Flush, Append(6), Snapshot, Flush, Append(6), Snapshot, Flush],
        ),
        scenario("orderly stop and start", full, &[Append(3), CloseAndOpen, Append(1), CloseAndOpen]),
        scenario("removal", full, &[Delete]),
        scenario("removal, then anew", full, &[Append(1), Delete, Checkpoint]),
        scenario("disk full", full, &[Append(1), FullWrite, Append(1), Flush, FullWrite]),
        scenario("failed sync", full, &[Append(1), FailedSync, Append(1), Flush]),
    ]
}

/// Something random, all of it interrupted but the beginning.
pub(crate) fn history(seed: u64) -> Scenario {
    let mut draws = seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x9e37_79b9_7f4a_7c15;
    let mut draw = |bound: u64| {
        // xorshift64*, which is enough to choose operations.
        draws ^= draws >> 12;
        draws ^= draws << 25;
        draws ^= draws >> 27;
        draws.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    };
    let mut operation = |is_interrupted: bool| {
        let few = draw(4) as u8 + 1;
        match draw(24) {
            0..=5 => Operate::Append(few),
            6 | 7 => Operate::AppendTogether(few),
            8 => Operate::BeginEpoch,
            9..=12 => Operate::Flush,
            13 => Operate::FlushMeanwhileAppend,
            14 | 15 => Operate::Trim(few),
            16 => Operate::Checkpoint,
            17 => Operate::Snapshot,
            18 => Operate::CloseAndOpen,
            19 => Operate::FullWrite,
            20 => Operate::FailedSync,
            21 | 22 if !is_interrupted => {
                let seed = draw(1 << 20);
                let sectors = Survivors::Sectors { seed, sector_bytes: 64 };
                Operate::PowerCut(if seed % 2 == 0 { sectors } else { Survivors::Seeded(seed) })
            }
            _ => Operate::KillAndOpen,
        }
    };
    let before = (0..10).map(|_| operation(false)).collect();
    let crashing = (0..6).map(|_| operation(true)).collect();
    Scenario { name: format!("history {seed}"), before, crashing }
}
