//! Reads one segment file batch by batch, offline: takes no lock, uses no index, changes nothing.

use crate::error::Damage;
use crate::format::names::FileName;
use crate::limits;
use crate::storage::{Open, Storage, StorageError};
use crate::walk::{Stop, Walk};
use headwater_protocol::batch::{BatchError, BatchHeader, RecordBatch};
use std::path::{Path, PathBuf};

/// One batch of a segment.
#[derive(Debug)]
pub struct DumpedBatch {
    /// Byte of the file at which it begins.
    pub position: u64,
    /// Its header.
    pub header: BatchHeader,
    /// The batch, or what its checksum says against it.
    pub batch: Result<RecordBatch, BatchError>,
}

/// What a segment holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SegmentSummary {
    /// Bytes of the file.
    pub bytes: u64,
    /// Batches whose checksum is right.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Batches whose checksum is wrong.
    pub damaged_batches: u64,
}

/// Why a segment can't be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// Who asks: the file is something else.
    #[error("{} is not the name of a segment, such as 00000000000000000000.log", .0.display())]
    NotASegment(PathBuf),
    /// Disk, or its permissions.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Disk: no batch stands where one is due, so nothing behind it can be found.
    #[error(transparent)]
    Damaged(#[from] Damage),
}

/// Hands every batch of the segment at `path` to `visit`, in order, those with a wrong checksum too. Holds one window
/// of the file in memory, and a batch if that is longer.
///
/// # Errors
/// What `visit` says, or a [`DumpError`]; the batches before it have been visited.
pub fn dump_segment<E: From<DumpError>>(
    storage: &dyn Storage,
    path: &Path,
    mut visit: impl FnMut(&DumpedBatch) -> Result<(), E>,
) -> Result<SegmentSummary, E> {
    let name = path.file_name().map(|name| name.to_string_lossy());
    let Some(FileName::Segment(base_offset)) = name.map(|name| FileName::classify(&name)) else {
        return Err(DumpError::NotASegment(path.to_path_buf()).into());
    };
    let file = storage.open(path, Open::Read).map_err(DumpError::from)?;
    let bytes = file.bytes().map_err(DumpError::from)?;
    let mut summary = SegmentSummary { bytes, ..SegmentSummary::default() };
    let mut walk = Walk::new(&*file, 0, bytes, base_offset, limits::SCAN_BYTES_MAX);
    loop {
        let walked = match walk.next() {
            Ok(Some(walked)) => walked,
            Ok(None) => return Ok(summary),
            Err(Stop::Storage(error)) => return Err(DumpError::from(error).into()),
            Err(Stop::Bad { position, expected, why }) => {
                let (file, reason) = (path.to_path_buf(), why.to_string());
                return Err(DumpError::from(Damage { file, position, offset: expected, reason }).into());
            }
        };
        let dumped = DumpedBatch {
            position: walked.position,
            header: walked.header,
            batch: RecordBatch::decode(walked.bytes()),
        };
        match &dumped.batch {
            Ok(_) => {
                summary.batches += 1;
                summary.records += u64::from(dumped.header.record_count.unsigned_abs());
            }
            Err(_) => summary.damaged_batches += 1,
        }
        visit(&dumped)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Log;
    use crate::storage::memory::MemoryStorage;
    use crate::testing::{CONFIG, directory, fill};

    type Places = Vec<(u64, i64, bool)>;

    fn dump(storage: &MemoryStorage, path: &Path) -> (Places, Result<SegmentSummary, DumpError>) {
        let mut places = Places::new();
        let summary = dump_segment(storage, path, |dumped| {
            places.push((dumped.position, dumped.header.base_offset, dumped.batch.is_ok()));
            Ok::<_, DumpError>(())
        });
        (places, summary)
    }

    /// A segment of three batches, its path and its length.
    fn three_batches() -> (MemoryStorage, PathBuf, u64) {
        let storage = MemoryStorage::new();
        let directory = directory(&storage);
        let (mut log, _) = Log::open(&directory, "topic-0", CONFIG, &mut |_| {}).unwrap();
        fill(&mut log, 3);
        let parent = directory.path().join("topic-0");
        let path = parent.join(crate::format::names::segment(0));
        let bytes = storage.open(&path, Open::Read).unwrap().bytes().unwrap();
        (storage, path, bytes)
    }

    #[test]
    fn every_batch_is_shown_and_nothing_changes() {
        let (storage, path, bytes) = three_batches();
        let (places, summary) = dump(&storage, &path);
        let summary = summary.unwrap();
        assert_eq!((summary.bytes, summary.batches, summary.damaged_batches), (bytes, 3, 0));
        assert!(places.iter().all(|(.., good)| *good));
        assert_eq!(places[0].0, 0);
        assert!(places.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1));
        assert_eq!(storage.open(&path, Open::Read).unwrap().bytes().unwrap(), bytes);
    }

    #[test]
    fn a_wrong_checksum_hides_no_later_batch_and_a_cut_is_named() {
        // covers LOG-3
        let (storage, path, bytes) = three_batches();
        let (places, _) = dump(&storage, &path);
        let file = storage.open(&path, Open::Write).unwrap();
        let last_of_second = places[2].0 - 1;
        let byte = file.read_at(last_of_second, 1).unwrap()[0];
        file.write_at(last_of_second, &[&[byte ^ 1]]).unwrap();
        let (damaged, summary) = dump(&storage, &path);
        let summary = summary.unwrap();
        assert_eq!(damaged.iter().map(|place| place.2).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!((summary.batches, summary.damaged_batches), (2, 1));

        file.truncate(bytes - 1).unwrap();
        let (cut, error) = dump(&storage, &path);
        assert_eq!(cut.len(), 2, "what stands before the cut is shown");
        let Err(DumpError::Damaged(damage)) = error else { panic!("{error:?}") };
        assert_eq!((damage.position, damage.offset), (places[2].0, places[2].1));
    }

    #[test]
    fn only_segments_are_read() {
        let (storage, path, _) = three_batches();
        let (_, index) = dump(&storage, &path.with_extension("index"));
        assert!(matches!(index, Err(DumpError::NotASegment(_))), "{index:?}");
        let (_, missing) = dump(&storage, &path.with_file_name("00000000000000000009.log"));
        assert!(matches!(missing, Err(DumpError::Storage(_))), "{missing:?}");
    }
}
