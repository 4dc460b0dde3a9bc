//! A machine with one data directory and one partition in use, and what was promised to those who use it.

use bytes::Bytes;
use headwater_log::snapshot::Derived;
use headwater_log::storage::memory::{Fault, FaultKind, MemoryStorage, Survivors};
use headwater_log::storage::{Operation, Storage};
use headwater_log::{DataDirectory, Log, LogConfig, LogError};
use headwater_protocol::batch::{BatchBuilder, ProducerStamp, RecordBatch, stamp};
use headwater_protocol::compression::Compression;
use headwater_protocol::ids::LeaderEpoch;
use std::path::Path;
use std::sync::Arc;

pub(crate) const DATA: &str = "/data";
pub(crate) const NAME: &str = "topic-0";

/// Small segments, an index entry for each batch.
pub(crate) const CONFIG: LogConfig =
    LogConfig { segment_bytes: 1024, segment_ms: i64::MAX as u64, index_interval_bytes: 1 };

/// Records of each batch.
pub(crate) const BATCH_RECORDS: i64 = 2;

/// What the broker derives from batches, in small: how many there were, and a checksum over all of them.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Seen {
    next_offset: i64,
    crc: u32,
}

impl Seen {
    fn state(&self) -> Vec<u8> {
        [self.next_offset.to_be_bytes().as_slice(), &self.crc.to_be_bytes()].concat()
    }

    fn take_in(&mut self, batch: &Bytes, next_offset: i64) {
        self.crc = crc32c::crc32c_append(self.crc, batch);
        self.next_offset = next_offset;
    }

    /// Of these batches, from offset 0 on.
    pub(crate) fn of(batches: &[Bytes]) -> Self {
        let mut seen = Self::default();
        for (number, batch) in (1..).zip(batches) {
            seen.take_in(batch, number * BATCH_RECORDS);
        }
        seen
    }
}

impl Derived for Seen {
    fn begin(&mut self) {
        *self = Self::default();
    }

    fn restore(&mut self, log_end: i64, state: &[u8]) -> Result<(), String> {
        let (offset, crc) = state.split_first_chunk().ok_or("it is short")?;
        let crc = crc.first_chunk().ok_or("it is short")?;
        // No check of the state itself: the frame around it must do.
        *self = Self { next_offset: i64::from_be_bytes(*offset), crc: u32::from_be_bytes(*crc) };
        if log_end == self.next_offset { Ok(()) } else { Err("it is of another moment".to_owned()) }
    }

    fn observe(&mut self, batch: &RecordBatch) {
        self.take_in(batch.bytes(), batch.header().next_offset());
    }
}

/// One thing done to the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operate {
    /// Appends so many batches, each by itself.
    Append(u8),
    /// Appends so many by one write.
    AppendTogether(u8),
    /// Another leader.
    BeginEpoch,
    /// A flush, from its beginning to its result.
    Flush,
    /// A flush during which another batch is appended.
    FlushMeanwhileAppend,
    /// Moves the start by so many batches and removes what lies below.
    Trim(u8),
    /// Writes the recovery points.
    Checkpoint,
    /// Keeps a snapshot; the next flush writes it.
    Snapshot,
    /// An orderly stop and a start.
    CloseAndOpen,
    /// The process dies and is started again.
    KillAndOpen,
    /// The power goes while the log is in use, and comes back with what survived. Ends an interruption that is due, so
    /// never a part of what is interrupted.
    PowerCut(Survivors),
    /// A start.
    Open,
    /// A write fails half way, for lack of room, while one batch is appended.
    FullWrite,
    /// A sync fails; the process, which can't go on, is started again.
    FailedSync,
    /// Removes the partition.
    Delete,
}

/// Where the partition's existence stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Existence {
    There,
    /// Its removal was asked for.
    Doomed,
    Gone,
}

/// What users of the log rely on, and what they asked for beyond that.
#[derive(Clone, Debug)]
pub(crate) struct Promises {
    /// Every batch that was ever appended and not lost by a crash, from offset 0 on.
    pub(crate) appended: Vec<Bytes>,
    /// What an append was asked for that has not answered: any beginning of it may be there.
    pub(crate) in_flight: Vec<Bytes>,
    /// All below was promised to be durable.
    pub(crate) durable: i64,
    /// The start that was promised to be durable, and the one that was asked for.
    pub(crate) start: i64,
    pub(crate) start_asked: i64,
    pub(crate) epoch: i32,
    pub(crate) existence: Existence,
}

impl Promises {
    /// LOG-8: a snapshot and the batches behind it give what the whole log gives. Without a snapshot what retention
    /// took is missing from the sum.
    pub(crate) fn compare_derived(&self, seen: &Seen, start_offset: i64) -> Result<(), String> {
        let known: Vec<Bytes> = [self.appended.as_slice(), &self.in_flight].concat();
        let end = usize::try_from(seen.next_offset / BATCH_RECORDS).unwrap_or(0).min(known.len());
        let start = usize::try_from(start_offset / BATCH_RECORDS).unwrap_or(0).min(end);
        let sums = [Seen::of(&known[..end]), {
            let mut rest = Seen::default();
            let batches = (1..).zip(&known[..end]).skip(start);
            batches.for_each(|(number, batch)| rest.take_in(batch, number * BATCH_RECORDS));
            rest
        }];
        if sums.contains(seen) { Ok(()) } else { Err(format!("LOG-8: {seen:?} was derived, not {:?}", sums[0])) }
    }
}

/// See the top of this file.
pub(crate) struct World {
    pub(crate) storage: MemoryStorage,
    pub(crate) promises: Promises,
    directory: Option<DataDirectory>,
    log: Option<Log>,
    /// Tells batches of different lives apart, so that what was cut off is known when it comes back.
    life: i64,
}

impl World {
    /// A machine whose broker has just made the partition.
    pub(crate) fn new() -> Self {
        let promises = Promises {
            appended: Vec::new(),
            in_flight: Vec::new(),
            durable: 0,
            start: 0,
            start_asked: 0,
            epoch: 0,
            existence: Existence::There,
        };
        Self { storage: MemoryStorage::new(), promises, directory: None, log: None, life: 0 }
    }

    /// Does one thing after the other.
    ///
    /// # Errors
    /// What failed first.
    pub(crate) fn run(&mut self, operations: &[Operate]) -> Result<(), String> {
        operations.iter().try_for_each(|operate| self.step(*operate).map_err(|error| format!("{operate:?}: {error}")))
    }

    fn step(&mut self, operate: Operate) -> Result<(), String> {
        match operate {
            Operate::Append(count) => (0..count).try_for_each(|_| self.append(1)),
            Operate::AppendTogether(count) => self.append(count.into()),
            Operate::BeginEpoch => self.begin_epoch(),
            Operate::Flush => self.flush(false),
            Operate::FlushMeanwhileAppend => self.flush(true),
            Operate::Trim(batches) => self.trim(batches),
            Operate::Snapshot => self.keep_snapshot(),
            Operate::Checkpoint => self.directory()?.checkpoint().map_err(text),
            Operate::CloseAndOpen => {
                self.log()?;
                self.close().and_then(|()| self.open_whole())
            }
            Operate::KillAndOpen => {
                self.log()?;
                (self.log, self.directory) = (None, None);
                self.open_whole()
            }
            Operate::PowerCut(survivors) => {
                (self.log, self.directory) = (None, None);
                self.storage.power_cut(survivors);
                Ok(())
            }
            Operate::Open => self.log().map(drop),
            Operate::FullWrite => self.full_write(),
            Operate::FailedSync => self.failed_sync(),
            Operate::Delete => self.delete(),
        }
    }

    fn directory(&mut self) -> Result<&DataDirectory, String> {
        if self.directory.is_none() {
            let opened = DataDirectory::open(Arc::new(self.storage.clone()), Path::new(DATA)).map_err(text)?;
            self.directory = Some(opened);
        }
        self.directory.as_ref().ok_or_else(|| "just opened".to_owned())
    }

    /// Opens the log, which may have lost what was not durable: then the promises are fewer.
    fn open(&mut self) -> Result<(), String> {
        let directory = self.directory()?.clone();
        let mut seen = Seen::default();
        let (log, _) = Log::open_derived(&directory, NAME, CONFIG, &mut seen).map_err(text)?;
        let end = log.log_end_offset();
        if end < self.promises.durable {
            return Err(format!("LOG-1: the log ends at {end}, but {} was promised", self.promises.durable));
        }
        self.promises.appended.truncate(usize::try_from(end / BATCH_RECORDS).unwrap_or(0));
        self.promises.compare_derived(&seen, log.log_start_offset())?;
        self.promises.start_asked = log.log_start_offset().max(self.promises.start);
        self.life += 1;
        self.log = Some(log);
        Ok(())
    }

    /// Opens the log after the end of the process alone, which loses nothing that was written (LOG-1).
    fn open_whole(&mut self) -> Result<(), String> {
        let written = self.promises.appended.len();
        self.open()?;
        let kept = self.promises.appended.len();
        if kept == written { Ok(()) } else { Err(format!("LOG-1: of {written} batches {kept} outlived the process")) }
    }

    fn log(&mut self) -> Result<&mut Log, String> {
        if self.log.is_none() {
            self.open()?;
        }
        self.log.as_mut().ok_or_else(|| "just opened".to_owned())
    }

    fn append(&mut self, count: usize) -> Result<(), String> {
        self.log()?;
        let (first, epoch, life) = (self.promises.appended.len(), self.promises.epoch, self.life);
        let batches: Vec<Bytes> = (first..first + count).map(|number| batch(number as i64, epoch, life)).collect();
        self.promises.in_flight.clone_from(&batches);
        self.log()?.append_many(&batches).map_err(text)?;
        self.promises.in_flight.clear();
        self.promises.appended.extend(batches);
        Ok(())
    }

    fn begin_epoch(&mut self) -> Result<(), String> {
        let epoch = self.promises.epoch + 1;
        self.log()?.begin_epoch(LeaderEpoch(epoch)).map_err(text)?;
        self.promises.epoch = epoch;
        Ok(())
    }

    fn keep_snapshot(&mut self) -> Result<(), String> {
        let state = Seen::of(&self.promises.appended).state();
        self.log()?.keep_snapshot(state);
        Ok(())
    }

    fn flush(&mut self, meanwhile_append: bool) -> Result<(), String> {
        let Some(job) = self.log()?.begin_flush() else { return Ok(()) };
        if meanwhile_append {
            self.append(1)?;
        }
        let result = job.run();
        let durable = self.log()?.complete_flush(result).map_err(text)?;
        self.promises.durable = self.promises.durable.max(durable.next_offset());
        Ok(())
    }

    fn trim(&mut self, batches: u8) -> Result<(), String> {
        let log = self.log()?;
        let to = log.log_start_offset() + i64::from(batches) * BATCH_RECORDS;
        let to = to.min(log.durable().next_offset());
        self.promises.start_asked = self.promises.start_asked.max(to);
        let job = self.log()?.trim(to).map_err(text)?;
        job.run().map_err(text)?;
        self.promises.start = self.promises.start_asked;
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        self.keep_snapshot()?;
        if let Some(log) = self.log.take() {
            let durable = log.close().map_err(text)?;
            self.promises.durable = self.promises.durable.max(durable.next_offset());
        }
        let closed = self.directory()?.close_in_order().map_err(text);
        self.directory = None;
        closed
    }

    fn full_write(&mut self) -> Result<(), String> {
        self.log()?;
        let (number, epoch, life) = (self.promises.appended.len() as i64, self.promises.epoch, self.life);
        let torn = Fault::new(Operation::Write, ".log", FaultKind::Full).times(1).with_bytes_written(100);
        self.storage.inject(torn);
        match self.log()?.append(batch(number, epoch, life)) {
            Err(LogError::DiskFull(_)) => Ok(()),
            outcome => Err(format!("{outcome:?}")),
        }
    }

    /// The kernel drops what a failed sync could not write and calls it clean: with the next sync of it nothing comes.
    fn failed_sync(&mut self) -> Result<(), String> {
        self.log()?;
        self.append(1)?;
        self.storage.inject(Fault::new(Operation::Sync, ".log", FaultKind::InputOutput).times(1));
        let Some(job) = self.log()?.begin_flush() else { return Ok(()) };
        let outcome = job.run();
        if let Ok(durable) = self.log()?.complete_flush(outcome) {
            self.promises.durable = self.promises.durable.max(durable.next_offset());
        }
        (self.log, self.directory) = (None, None);
        self.open()
    }

    fn delete(&mut self) -> Result<(), String> {
        self.log()?;
        let Some(log) = self.log.take() else { return Ok(()) };
        self.promises.existence = Existence::Doomed;
        log.delete().map_err(text)?;
        self.promises.existence = Existence::Gone;
        Ok(())
    }
}

/// Batch `number` of the log: its offsets and timestamps follow from that.
pub(crate) fn batch(number: i64, epoch: i32, life: i64) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for record in 0..BATCH_RECORDS {
        let value: Vec<u8> = (0..50).map(|place: i64| (place * 7 + record + life * 13) as u8).collect();
        builder.append(timestamp(number, record), Some(b"key"), Some(&value), &[]).unwrap_or_default();
    }
    let mut bytes = builder.build(ProducerStamp::NONE).unwrap_or_default();
    stamp(&mut bytes, number * BATCH_RECORDS, LeaderEpoch(epoch));
    bytes.freeze()
}

/// When a record was made; not always later than the one before.
pub(crate) fn timestamp(number: i64, record: i64) -> i64 {
    1_000 + (number * BATCH_RECORDS + record) / 3 * 10
}

/// Files in `lost+found`, in bytes.
pub(crate) fn lost_bytes(storage: &MemoryStorage) -> u64 {
    let listed = storage.list(&Path::new(DATA).join("lost+found")).unwrap_or_default();
    listed.iter().map(|entry| entry.bytes).sum()
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
