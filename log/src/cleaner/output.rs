//! The segment that is made of others. As long as it is what the first of them is, nothing is written.

use crate::directory::DataDirectory;
use crate::error::LogError;
use crate::format::index::SegmentIndex;
use crate::format::names;
use crate::limits;
use crate::segment::Segment;
use crate::shared::LogShared;
use crate::storage::{Open, StorageFile};
use headwater_protocol::batch::{BATCH_HEADER_BYTES, BatchHeader, filler};
use std::path::PathBuf;
use std::sync::Arc;

/// Batches of one leader epoch of which nothing stays.
#[derive(Clone, Copy, Debug)]
struct Gap {
    base_offset: i64,
    next_offset: i64,
    leader_epoch: i32,
    /// Whether it is one batch that is a filler already.
    is_filler: bool,
}

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Output<'a> {
    shared: &'a LogShared,
    /// The first segment that it is made of.
    source: &'a Segment,
    path: PathBuf,
    file: Option<Arc<dyn StorageFile>>,
    buffer: Vec<u8>,
    /// Bytes in the file; or, before there is one, bytes that are the source's.
    bytes: u64,
    index: SegmentIndex,
    next_offset: i64,
    gap: Option<Gap>,
}

/// A file that is written, and not synced.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn StorageFile>,
    pub(super) index: SegmentIndex,
    pub(super) next_offset: i64,
}

impl<'a> Output<'a> {
    pub(super) fn new(shared: &'a LogShared, source: &'a Segment) -> Self {
        Self {
            shared,
            source,
            path: shared.path.join(names::cleaned(source.base_offset)),
            file: None,
            buffer: Vec::new(),
            bytes: 0,
            index: SegmentIndex::new(source.base_offset, source.interval_bytes()),
            next_offset: source.base_offset,
            gap: None,
        }
    }

    fn directory(&self) -> &'a DataDirectory {
        &self.shared.directory
    }

    /// A batch that stays as it is.
    pub(super) fn whole(&mut self, header: &BatchHeader, batch: &[u8]) -> Result<(), LogError> {
        self.close_gap()?;
        if self.file.is_none() {
            self.bytes += batch.len() as u64;
            self.note(header);
            return Ok(());
        }
        self.put(header, batch)
    }

    /// What a batch became.
    pub(super) fn replaced(&mut self, batch: &[u8]) -> Result<(), LogError> {
        self.close_gap()?;
        self.start()?;
        self.put(&BatchHeader::decode(batch)?, batch)
    }

    /// A batch of which nothing stays.
    pub(super) fn gone(&mut self, header: &BatchHeader) -> Result<(), LogError> {
        let (base_offset, next_offset) = (header.base_offset, header.next_offset());
        let leader_epoch = header.partition_leader_epoch;
        let extended = self
            .gap
            .filter(|gap| gap.leader_epoch == leader_epoch && next_offset - gap.base_offset <= i64::from(i32::MAX));
        if let Some(gap) = extended {
            self.gap = Some(Gap { next_offset, is_filler: false, ..gap });
            return Ok(());
        }
        self.close_gap()?;
        self.gap = Some(Gap { base_offset, next_offset, leader_epoch, is_filler: header.is_filler() });
        Ok(())
    }

    fn close_gap(&mut self) -> Result<(), LogError> {
        let Some(gap) = self.gap.take() else { return Ok(()) };
        let bytes = filler(gap.base_offset, gap.next_offset, gap.leader_epoch);
        let header = BatchHeader::decode(&bytes)?;
        if self.file.is_none() && gap.is_filler {
            self.bytes += BATCH_HEADER_BYTES as u64;
            self.note(&header);
            return Ok(());
        }
        self.start()?;
        self.put(&header, &bytes)
    }

    fn note(&mut self, header: &BatchHeader) {
        debug_assert_eq!(header.base_offset, self.next_offset, "batches follow one another without a gap");
        self.index.push(header);
        self.next_offset = header.next_offset();
    }

    /// Makes the file, with what is the source's so far.
    pub(super) fn start(&mut self) -> Result<(), LogError> {
        if self.file.is_some() {
            return Ok(());
        }
        let directory = self.directory();
        let file = {
            // The directory may be on its way to be removed.
            let _names = self.shared.files.lock();
            self.shared.check_open()?;
            let opened = directory.storage().open(&self.path, Open::Create);
            opened.map_err(|error| directory.failed(error))?
        };
        let mut copied = 0;
        while copied < self.bytes {
            let left = usize::try_from(self.bytes - copied).unwrap_or(usize::MAX);
            let bytes = self.source.file().read_at(copied, left.min(limits::COPY_BYTES_MAX));
            let bytes = bytes.map_err(LogError::of_storage)?;
            if bytes.is_empty() {
                return Err(self.source.lacks(self.next_offset));
            }
            file.write_at(copied, &[&bytes]).map_err(|error| directory.failed(error))?;
            copied += bytes.len() as u64;
        }
        self.file = Some(file);
        Ok(())
    }

    fn put(&mut self, header: &BatchHeader, batch: &[u8]) -> Result<(), LogError> {
        self.buffer.extend_from_slice(batch);
        self.note(header);
        if self.buffer.len() >= limits::COPY_BYTES_MAX { self.write_out() } else { Ok(()) }
    }

    fn write_out(&mut self) -> Result<(), LogError> {
        if let Some(file) = self.file.as_ref().filter(|_| !self.buffer.is_empty()) {
            file.write_at(self.bytes, &[&self.buffer]).map_err(|error| self.directory().failed(error))?;
            self.bytes += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }

    /// The file; `None` when nothing has to change.
    pub(super) fn finish(&mut self) -> Result<Option<Written>, LogError> {
        self.close_gap()?;
        self.write_out()?;
        let Some(file) = self.file.take() else { return Ok(None) };
        let index = self.index.clone();
        debug_assert_eq!(self.bytes, index.covered_bytes(), "the index is of what was written");
        Ok(Some(Written { path: self.path.clone(), file, index, next_offset: self.next_offset }))
    }

    /// Removes what was written so far.
    pub(super) fn discard(self) {
        discard(self.shared, &self.path, self.file.is_some());
    }
}

/// Removes a file that is not needed. If that fails, the next open does it.
pub(super) fn discard(shared: &LogShared, path: &std::path::Path, is_there: bool) {
    let _names = shared.files.lock();
    if is_there && shared.check_open().is_ok() && shared.directory.health().check().is_ok() {
        drop(shared.directory.storage().remove_file(path));
    }
}
