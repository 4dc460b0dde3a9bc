//! Where each leader epoch begins: the file `leader-epoch.checkpoint`, which is data (LOG-6, TRN-2).

use super::checkpoint::{self, CheckpointError, Fields, Kind};
use crate::limits;

/// What the file says that it is.
pub const KIND: Kind = Kind::new("epochs");
/// The payload's version.
pub const VERSION: u16 = 1;

/// The first offset of a leader's reign.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochStart {
    /// The leader epoch.
    pub epoch: i32,
    /// The log's end offset when that leader took over.
    pub start_offset: i64,
}

/// The leader epochs of one log, strictly increasing in both epoch and start offset (TRN-2).
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct LeaderEpochs {
    entries: Vec<EpochStart>,
}

impl LeaderEpochs {
    /// All epochs, oldest first.
    pub fn entries(&self) -> &[EpochStart] {
        &self.entries
    }

    /// The newest epoch.
    pub fn newest(&self) -> Option<i32> {
        self.entries.last().map(|entry| entry.epoch)
    }

    /// Notes that `epoch` begins at `start_offset`, the log's end. Whether anything changed, or `None` when `epoch` is
    /// older than the newest.
    ///
    /// Epochs without a record (which began at or after that offset) make room.
    pub fn assign(&mut self, epoch: i32, start_offset: i64) -> Option<bool> {
        match self.newest() {
            Some(newest) if newest > epoch => return None,
            Some(newest) if newest == epoch => return Some(false),
            _ => {}
        }
        while self.entries.last().is_some_and(|entry| entry.start_offset >= start_offset) {
            self.entries.pop();
        }
        self.entries.push(EpochStart { epoch, start_offset });
        if self.entries.len() > limits::LEADER_EPOCHS_MAX {
            self.entries.remove(0);
        }
        Some(true)
    }

    /// The epoch in which the record at `offset` was written, as far as is known.
    pub fn epoch_at(&self, offset: i64) -> Option<i32> {
        let after = self.entries.partition_point(|entry| entry.start_offset <= offset);
        self.entries[..after].last().map(|entry| entry.epoch)
    }

    /// The largest epoch not above `asked` and the offset at which it ends, given the log's end (TRN-3). Below the
    /// first epoch known: that one's start, under the epoch asked for (TRN-2).
    pub fn end_offset_of(&self, asked: i32, log_end_offset: i64) -> Option<(i32, i64)> {
        let after = self.entries.partition_point(|entry| entry.epoch <= asked);
        let end_offset = self.entries.get(after).map_or(log_end_offset, |entry| entry.start_offset);
        let epoch = self.entries[..after].last().map_or(asked, |entry| entry.epoch);
        if self.entries.is_empty() { None } else { Some((epoch, end_offset)) }
    }

    /// Forgets epochs that begin above the log's end.
    pub fn cut_to(&mut self, log_end_offset: i64) {
        self.entries.retain(|entry| entry.start_offset <= log_end_offset);
    }

    /// Puts together what the file said and what the log's batches say; `None` where they differ, or there is no file:
    /// the log is right then, all of it.
    ///
    /// `scanned` has the epochs as met in the log, or in its end; the log ends at `log_end_offset`. The file knows more
    /// only about what was not scanned, and about epochs without a record.
    pub fn reconcile(file: Option<Self>, scanned: &Self, log_end_offset: i64) -> Option<Self> {
        let mut file = file?;
        file.cut_to(log_end_offset);
        let newest = file.newest();
        let (known, unknown): (Vec<EpochStart>, Vec<EpochStart>) =
            scanned.entries.iter().partition(|entry| newest.is_some_and(|newest| entry.epoch <= newest));
        // An epoch may begin before its first record, but that record is of it.
        let agrees = known.iter().all(|entry| file.epoch_at(entry.start_offset) == Some(entry.epoch));
        let continues = unknown
            .first()
            .is_none_or(|first| file.entries.last().is_none_or(|last| last.start_offset < first.start_offset));
        if !agrees || !continues {
            return None;
        }
        file.entries.extend(unknown);
        Some(file)
    }

    /// The file's bytes: the number of epochs (u32), then of each epoch (i32) and start offset (i64). Big-endian, in a
    /// checkpoint frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(4 + self.entries.len() * 12);
        payload.extend_from_slice(&u32::try_from(self.entries.len()).unwrap_or(u32::MAX).to_be_bytes());
        for entry in &self.entries {
            payload.extend_from_slice(&entry.epoch.to_be_bytes());
            payload.extend_from_slice(&entry.start_offset.to_be_bytes());
        }
        checkpoint::encode(KIND, VERSION, &payload)
    }

    /// Reads the file's bytes.
    ///
    /// # Errors
    /// [`CheckpointError`]; torn also when the epochs don't increase.
    pub fn decode(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let mut fields = Fields(checkpoint::decode(KIND, VERSION, bytes)?.payload);
        let count = u32::from_be_bytes(fields.take()?);
        let mut epochs = Self::default();
        for _ in 0..count {
            let epoch = i32::from_be_bytes(fields.take()?);
            let start_offset = i64::from_be_bytes(fields.take()?);
            let increases =
                epochs.entries.last().is_none_or(|last| last.epoch < epoch && last.start_offset < start_offset);
            if !increases || start_offset < 0 || epochs.entries.len() >= limits::LEADER_EPOCHS_MAX {
                return Err(CheckpointError::Torn("its epochs make no sense"));
            }
            epochs.entries.push(EpochStart { epoch, start_offset });
        }
        fields.end()?;
        Ok(epochs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(i32, i64)]) -> LeaderEpochs {
        let mut epochs = LeaderEpochs::default();
        for (epoch, start_offset) in entries {
            assert_eq!(epochs.assign(*epoch, *start_offset), Some(true));
        }
        epochs
    }

    #[test]
    fn what_is_written_is_read() {
        for entries in [&[][..], &[(0, 0)], &[(0, 0), (3, 17), (4, 18)]] {
            let epochs = epochs(entries);
            assert_eq!(LeaderEpochs::decode(&epochs.encode()), Ok(epochs));
        }
    }

    // covers TRN-2
    #[test]
    fn epochs_increase_strictly_in_both() {
        let mut epochs = epochs(&[(1, 0), (2, 10), (3, 10)]);
        assert_eq!(epochs.entries(), [(1, 0), (3, 10)].map(|(epoch, start_offset)| EpochStart { epoch, start_offset }));
        assert_eq!(epochs.assign(3, 12), Some(false));
        assert_eq!(epochs.assign(2, 12), None);
        assert_eq!((epochs.epoch_at(9), epochs.epoch_at(10), epochs.newest()), (Some(1), Some(3), Some(3)));
    }

    // covers TRN-2, TRN-3
    #[test]
    fn the_end_of_an_epoch_is_the_start_of_the_next() {
        let epochs = epochs(&[(2, 5), (4, 10)]);
        assert_eq!(epochs.end_offset_of(1, 20), Some((1, 5)));
        assert_eq!(epochs.end_offset_of(2, 20), Some((2, 10)));
        assert_eq!(epochs.end_offset_of(3, 20), Some((2, 10)));
        assert_eq!(epochs.end_offset_of(9, 20), Some((4, 20)));
        assert_eq!(LeaderEpochs::default().end_offset_of(0, 20), None);
    }

    // covers LOG-2, LOG-6: the log has the last word, a missing file costs only epochs without records
    #[test]
    fn file_and_log_are_reconciled() {
        let scanned = || epochs(&[(1, 0), (3, 10)]);
        let with_empty_epochs = epochs(&[(1, 0), (3, 10), (4, 20)]);
        let reconcile = |file: Option<LeaderEpochs>| LeaderEpochs::reconcile(file, &scanned(), 20);
        assert_eq!(reconcile(None), None);
        assert_eq!(reconcile(Some(with_empty_epochs.clone())), Some(with_empty_epochs));
        assert_eq!(reconcile(Some(epochs(&[(1, 0)]))), Some(scanned()));
        assert_eq!(reconcile(Some(LeaderEpochs::default())), Some(scanned()));
        assert_eq!(reconcile(Some(epochs(&[(1, 0), (3, 10), (5, 21)]))), Some(scanned()), "beyond the log's end");
        assert_eq!(reconcile(Some(epochs(&[(2, 0), (3, 10)]))), None, "the log says otherwise");
        assert_eq!(reconcile(Some(epochs(&[(1, 0), (2, 15)]))), None, "the log says otherwise");
    }

    #[test]
    fn senseless_epochs_are_refused() {
        let payload = [1_u32.to_be_bytes().as_slice(), &0_i32.to_be_bytes(), &(-1_i64).to_be_bytes()].concat();
        assert!(LeaderEpochs::decode(&checkpoint::encode(KIND, VERSION, &payload)).is_err());
        let beyond = checkpoint::encode(KIND, VERSION, &u32::MAX.to_be_bytes());
        assert!(LeaderEpochs::decode(&beyond).is_err());
    }
}
