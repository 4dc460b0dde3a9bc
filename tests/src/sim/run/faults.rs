//! What goes wrong, when, and how it is mended.

use super::{Dark, Event, World};
use crate::sim::checker::Violation;
use crate::sim::node::LOGS;
use crate::sim::trace::Who;
use headwater_log::storage::Operation;
use headwater_log::storage::memory::{Fault, FaultKind as DiskFault, Survivors};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

/// After how long a silence a connection is taken for lost, as QUIC's idle time-out is set in the product.
const IDLE_US: u64 = 5_000_000;

/// Kinds of faults.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// The process dies.
    Kill,
    /// The machine loses power.
    PowerCut,
    /// It does so in the middle of some call to the disk.
    TornCall,
    /// A sync fails.
    FailedSync,
    /// The disk is full.
    FullDisk,
    /// It has room again.
    Room,
    /// A read fails.
    FailedRead,
    /// Syncs take long for a while.
    Stall,
    /// The process gets no time for a while.
    Pause,
    /// A connection is lost.
    LostConnection,
    /// The wall clock jumps.
    ClockStep,
    /// A guest traps.
    Trap,
    /// Dirty pages are written back.
    WriteBack,
    /// Some call to the disk fails.
    FailedCall,
    /// One write to some partition's log finds no room.
    FullWrite,
    /// A bit rots.
    Rot,
    /// A partition's directory comes back as it once was, or empty.
    OldDirectory,
    /// One way of a connection is silent.
    HalfOpen,
}

impl FaultKind {
    /// All that are drawn.
    const DRAWN: [Self; 17] = [
        Self::Kill,
        Self::PowerCut,
        Self::TornCall,
        Self::FailedSync,
        Self::FullDisk,
        Self::FailedRead,
        Self::Stall,
        Self::Pause,
        Self::LostConnection,
        Self::ClockStep,
        Self::Trap,
        Self::WriteBack,
        Self::FailedCall,
        Self::FullWrite,
        Self::Rot,
        Self::OldDirectory,
        Self::HalfOpen,
    ];

    /// Its name in traces and counts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::PowerCut => "power-cut",
            Self::TornCall => "torn-call",
            Self::FailedSync => "failed-sync",
            Self::FullDisk => "full-disk",
            Self::Room => "room",
            Self::FailedRead => "failed-read",
            Self::Stall => "stall",
            Self::Pause => "pause",
            Self::LostConnection => "lost-connection",
            Self::ClockStep => "clock-step",
            Self::Trap => "trap",
            Self::WriteBack => "write-back",
            Self::FailedCall => "failed-call",
            Self::FullWrite => "full-write",
            Self::Rot => "rot",
            Self::OldDirectory => "old-directory",
            Self::HalfOpen => "half-open",
        }
    }

    fn per_minute(self, faults: &crate::sim::shape::Faults) -> u64 {
        match self {
            Self::Kill => faults.kill,
            Self::PowerCut => faults.power_cut,
            Self::TornCall => faults.torn_call,
            Self::FailedSync => faults.failed_sync,
            Self::FullDisk => faults.full_disk,
            Self::Room => 0,
            Self::FailedRead => faults.failed_read,
            Self::Stall => faults.stall,
            Self::Pause => faults.pause,
            Self::LostConnection => faults.lost_connection,
            Self::ClockStep => faults.clock_step,
            Self::Trap => faults.trap,
            Self::WriteBack => faults.write_back,
            Self::FailedCall => faults.failed_call,
            Self::FullWrite => faults.full_write,
            Self::Rot => faults.rot,
            Self::OldDirectory => faults.old_directory,
            Self::HalfOpen => faults.half_open,
        }
    }
}

impl World {
    /// Schedules the first fault of each kind that is on.
    pub(super) fn schedule_faults(&mut self) {
        for kind in FaultKind::DRAWN {
            self.schedule_fault(kind);
        }
    }

    fn schedule_fault(&mut self, kind: FaultKind) {
        let per_minute = kind.per_minute(&self.shape.faults);
        if let Some(apart_us) = 60_000_000_u64.checked_div(per_minute) {
            let at_us = self.now_us + self.rng.between(1, 2 * apart_us);
            self.schedule(at_us, Event::Fault(kind));
        }
    }

    pub(super) fn fault(&mut self, kind: FaultKind) -> Result<(), Violation> {
        if self.ending {
            return Ok(());
        }
        self.schedule_fault(kind);
        let number = self.rng.place(self.nodes.len());
        *self.counts.entry(kind.name()).or_default() += 1;
        self.trace.note(self.now_us, Who::Node(number), kind.name(), &[]);
        let seconds = self.rng.between(1, 5) * 1_000_000;
        match kind {
            FaultKind::Kill => self.kill(number),
            FaultKind::PowerCut => {
                let survivors = self.draw_survivors(number);
                self.cut_power(number, survivors);
            }
            FaultKind::TornCall => {
                let changes = self.rng.below(20);
                self.nodes[number].disk.halt_after(changes);
            }
            FaultKind::FailedSync => {
                let operation = if self.rng.per_mille(700) { Operation::Sync } else { Operation::SyncDirectory };
                let kind = if self.rng.per_mille(800) { DiskFault::InputOutput } else { DiskFault::Full };
                let fault = Fault::new(operation, "", kind).times(1);
                let fault = if self.rng.per_mille(500) { fault.with_sectors_kept(self.rng.draw()) } else { fault };
                self.nodes[number].disk.inject(fault);
            }
            FaultKind::FullWrite => {
                let place = format!("{LOGS}/7070");
                let fault = Fault::new(Operation::Write, &place, DiskFault::Full).times(1);
                let writes = u32::try_from(self.rng.below(8)).unwrap_or(0);
                let fault = fault.after(writes).with_bytes_written(self.rng.place(600));
                self.nodes[number].disk.inject(fault);
            }
            FaultKind::FailedCall => {
                let kind = if self.rng.per_mille(500) { DiskFault::InputOutput } else { DiskFault::Full };
                let calls = u32::try_from(self.rng.below(50)).unwrap_or(0);
                let written = self.rng.place(600);
                let fault = Fault::of_any_call("", kind).after(calls).times(1).with_bytes_written(written);
                self.nodes[number].disk.inject(fault);
            }
            FaultKind::Rot => self.rot(number),
            FaultKind::OldDirectory => self.replace_partition(number),
            FaultKind::HalfOpen => self.half_open(),
            FaultKind::FullDisk => {
                let room = self.rng.below(4096);
                let used = self.nodes[number].disk.used_bytes();
                self.nodes[number].disk.set_capacity(Some(used + room));
                self.schedule(self.now_us + seconds, Event::Fault(FaultKind::Room));
            }
            FaultKind::Room => self.nodes[number].disk.set_capacity(None),
            FaultKind::FailedRead => {
                self.nodes[number].disk.inject(Fault::new(Operation::Read, "", DiskFault::InputOutput).times(1));
            }
            FaultKind::Stall => self.nodes[number].stalled_until_us = self.now_us + seconds,
            FaultKind::Pause => self.pause(number, seconds),
            FaultKind::LostConnection => {
                let alive: Vec<_> = self.network.alive().map(|(id, _)| id).collect();
                if let Some(id) = self.rng.pick(&alive).copied() {
                    return self.lost(id);
                }
            }
            FaultKind::ClockStep => drop(self.nodes[number].clock.step(&mut self.rng)),
            FaultKind::Trap => self.trap.store(true, Ordering::Relaxed),
            FaultKind::WriteBack => self.nodes[number].disk.write_back(),
        }
        Ok(())
    }

    fn pause(&mut self, number: usize, typical_us: u64) {
        let long = if self.rng.per_mille(100) { 30 } else { 1 };
        let until_us = self.now_us + typical_us * long;
        self.nodes[number].paused_until_us = self.nodes[number].paused_until_us.max(until_us);
        self.schedule(until_us, Event::Resume { node: number });
        if until_us > self.now_us + IDLE_US {
            self.lose_all(number, IDLE_US);
        }
    }

    /// One way of a connection, or both, carries nothing any more. The client notices when it has been silent too long.
    fn half_open(&mut self) {
        let alive: Vec<_> = self.network.alive().map(|(id, _)| id).collect();
        let Some(connection) = self.rng.pick(&alive).copied() else { return };
        let (mutes_in, mutes_out) =
            *self.rng.pick(&[(true, false), (false, true), (true, true)]).unwrap_or(&(true, true));
        self.network.mute(connection, mutes_in, mutes_out);
        let at_us = self.now_us + IDLE_US + self.rng.delay(500_000);
        self.schedule(at_us, Event::Lost { connection });
    }

    /// Clients lose their connections to a broker after about so long.
    fn lose_all(&mut self, number: usize, after_us: u64) {
        let run = self.nodes[number].run;
        let orphans: Vec<_> = self
            .network
            .alive()
            .filter(|(_, connection)| (connection.node, connection.run) == (number, run))
            .map(|(id, _)| id)
            .collect();
        for connection in orphans {
            let at_us = self.now_us + after_us + self.rng.delay(50_000);
            self.schedule(at_us, Event::Lost { connection });
        }
    }

    /// The process dies; clients notice after a while, and somebody starts it again.
    pub(super) fn kill(&mut self, number: usize) {
        if self.nodes[number].broker.is_none() {
            return;
        }
        self.nodes[number].kill();
        self.turning.remove(&number);
        self.held[number].clear();
        self.lose_all(number, 0);
        let at_us = self.now_us + self.rng.delay(300_000);
        self.schedule(at_us, Event::Start { node: number });
    }

    fn draw_survivors(&mut self, number: usize) -> Survivors {
        let changes = self.nodes[number].disk.unsynced_changes() + 1;
        match self.rng.below(8) {
            0 => Survivors::None,
            1 => Survivors::All,
            2 => Survivors::Prefix(self.rng.place(changes)),
            3 => Survivors::Without(self.rng.place(changes)),
            _ => Survivors::Sectors { seed: self.rng.draw(), sector_bytes: self.shape.sector_bytes },
        }
    }

    pub(super) fn cut_power(&mut self, number: usize, survivors: Survivors) {
        self.kill(number);
        self.dark[number] = Dark { was: true, audited: BTreeSet::new() };
        let unsynced = self.nodes[number].disk.unsynced_changes();
        self.nodes[number].disk.power_cut(survivors);
        self.trace.note(self.now_us, Who::Node(number), "dark", &[unsynced.cast_signed() as i64]);
        if self.nodes[number].broker.is_none() {
            let at_us = self.now_us + self.rng.delay(300_000);
            self.schedule(at_us, Event::Start { node: number });
        }
    }

    /// A machine that stopped in the middle of a call.
    pub(super) fn notice_halts(&mut self) -> Result<(), Violation> {
        for number in 0..self.nodes.len() {
            if self.nodes[number].disk.is_halted() {
                let survivors = self.draw_survivors(number);
                self.cut_power(number, survivors);
            }
        }
        Ok(())
    }

    /// The broker did not start: its disk was made to fail, or it must not be so.
    pub(super) fn not_started(&mut self, number: usize, reason: &str) -> Result<(), Violation> {
        self.trace.remark(|| reason.to_owned());
        if self.ending && self.now_us > self.ended_us + 30_000_000 {
            return Err(Violation::new("liveness", format!("n{number} does not start: {reason}")));
        }
        let at_us = self.now_us + self.rng.delay(500_000);
        self.schedule(at_us, Event::Start { node: number });
        Ok(())
    }

    /// What an operator does: a broker whose disk failed it, or that can't serve a partition, is started anew.
    pub(super) fn tend(&mut self) -> Result<(), Violation> {
        for number in 0..self.nodes.len() {
            let is_ill = |broker: &crate::sim::node::Broker| broker.ills().is_some();
            if self.nodes[number].broker.as_ref().is_some_and(is_ill) && self.rng.per_mille(300) {
                self.trace.note(self.now_us, Who::Node(number), "tend", &[]);
                if let Some(broker) = &self.nodes[number].broker {
                    self.trace.remark(|| broker.ills().unwrap_or_default());
                }
                self.kill(number);
            }
        }
        Ok(())
    }

    /// From here on nothing goes wrong any more.
    pub(super) fn end_faults(&mut self) {
        (self.ending, self.ended_us) = (true, self.now_us);
        self.trace.note(self.now_us, Who::Run, "calm", &[]);
        self.trap.store(false, Ordering::Relaxed);
        for node in &mut self.nodes {
            node.disk.clear_faults();
            node.disk.set_capacity(None);
            (node.paused_until_us, node.stalled_until_us) = (self.now_us, 0);
        }
        for node in 0..self.nodes.len() {
            self.schedule(self.now_us, Event::Resume { node });
            self.mend_disk(node);
        }
    }

    /// All is done: what is there must be all, and must outlive the harshest power cut.
    pub(super) fn last_checks(&mut self) -> Result<(), Violation> {
        for number in 0..self.nodes.len() {
            self.audit(number, true)?;
            self.check_history()?;
            self.nodes[number].kill();
            self.nodes[number].disk.power_cut(Survivors::None);
            self.dark[number] = Dark { was: true, audited: BTreeSet::new() };
            self.start(number)?;
            self.audit(number, true)?;
        }
        Ok(())
    }
}
