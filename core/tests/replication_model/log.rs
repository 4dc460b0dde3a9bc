//! One replica's log: its records, and where each leader epoch begins in it (TRN-2).

use std::fmt;

/// Records a log of the model can hold.
pub(crate) const RECORDS_MAX: usize = 3;

/// Leader epochs a run of the model can see: 0 and at most four failovers.
pub(crate) const EPOCHS_MAX: usize = 5;

/// A record: the epoch of the leader that appended it, and which produce it was (1, 2, …).
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub(crate) struct Record {
    pub(crate) epoch: u8,
    pub(crate) value: u8,
}

impl fmt::Debug for Record {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "r{}@e{}", self.value, self.epoch)
    }
}

/// What a leader or a follower answers when asked where an epoch ends: the largest epoch it knows that is not above the
/// one asked for, and the offset after that epoch's last record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct EpochEnd {
    pub(crate) epoch: u8,
    pub(crate) end: u8,
}

/// Records by offset, from 0.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub(crate) struct Log {
    records: [Record; RECORDS_MAX],
    len: u8,
    /// Start offset + 1 of each leader epoch; 0 where the epoch has no entry.
    starts: [u8; EPOCHS_MAX],
}

impl Log {
    /// The log end offset (LEO).
    pub(crate) fn end(&self) -> u8 {
        self.len
    }

    pub(crate) fn records(&self) -> &[Record] {
        &self.records[..usize::from(self.len)]
    }

    pub(crate) fn last_epoch(&self) -> Option<u8> {
        self.records().last().map(|record| record.epoch)
    }

    /// Whether both hold the same records below `offset`.
    pub(crate) fn agrees_below(&self, other: &Self, offset: u8) -> bool {
        let below = |log: &Self| usize::from(log.len.min(offset));
        self.records()[..below(self)] == other.records()[..below(other)]
    }

    /// Whether this log begins with all of `other`.
    pub(crate) fn holds(&self, other: &Self) -> bool {
        self.len >= other.len && self.agrees_below(other, other.len)
    }

    /// Later epochs without a record, left from a time as leader, give way.
    pub(crate) fn append(&mut self, record: Record) {
        self.starts[usize::from(record.epoch) + 1..].fill(0);
        self.assign(record.epoch, self.len);
        self.records[usize::from(self.len)] = record;
        self.len += 1;
    }

    /// Adds an entry to the epoch cache unless the epoch has one; entries at or behind its start give way.
    pub(crate) fn assign(&mut self, epoch: u8, start: u8) {
        if self.start_of(epoch).is_some() {
            return;
        }
        self.forget_epochs_from(start);
        self.starts[usize::from(epoch)] = start + 1;
    }

    pub(crate) fn start_of(&self, epoch: u8) -> Option<u8> {
        self.starts[usize::from(epoch)].checked_sub(1)
    }

    /// The epoch cache in order of epochs: (epoch, start offset).
    pub(crate) fn epochs(&self) -> impl Iterator<Item = (u8, u8)> {
        (0..EPOCHS_MAX as u8).filter_map(|epoch| Some((epoch, self.start_of(epoch)?)))
    }

    /// Where `asked` or the nearest epoch below it ends. Below the first entry: the epoch asked for ends where the log
    /// begins (TRN-2).
    pub(crate) fn end_of_epoch(&self, asked: u8) -> EpochEnd {
        let end = self.epochs().find(|(epoch, _)| *epoch > asked).map_or(self.len, |(_, start)| start);
        match self.epochs().take_while(|(epoch, _)| *epoch <= asked).last() {
            Some((epoch, _)) => EpochEnd { epoch, end },
            None => EpochEnd { epoch: asked, end: 0 },
        }
    }

    /// Cuts everything from `end` on; the epoch cache follows.
    pub(crate) fn truncate(&mut self, end: u8) {
        if end >= self.len {
            return;
        }
        self.len = end;
        self.records[usize::from(end)..].fill(Record::default());
        self.forget_epochs_from(end);
    }

    /// After an unclean stop the epoch cache is what the records say (LOG-2).
    pub(crate) fn rebuild_epochs(&mut self) {
        let mut rebuilt = Self::default();
        self.records().iter().for_each(|record| rebuilt.append(*record));
        *self = rebuilt;
    }

    fn forget_epochs_from(&mut self, start: u8) {
        for entry in self.starts.iter_mut().filter(|entry| **entry > start) {
            *entry = 0;
        }
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?} epochs {:?}", self.records(), self.epochs().collect::<Vec<_>>())
    }
}
