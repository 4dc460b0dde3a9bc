//! Walks through a segment's batches, holding a window of it in memory.

use crate::format::step::{BadStep, Step, step};
use crate::storage::{StorageError, StorageFile};
use bytes::Bytes;
use headwater_protocol::batch::BatchHeader;

/// A walk from one batch to the next.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    file: &'a dyn StorageFile,
    /// The first byte not yet walked over.
    position: u64,
    /// Where the good bytes of the segment end.
    end: u64,
    /// The offset at which the next batch must begin.
    expected: i64,
    /// How much is read at a time, but for a longer batch.
    window_bytes: usize,
    /// What stands at `position`.
    window: Bytes,
}

/// A whole batch with a sane header at the place where it belongs. Its CRC is still to be checked.
#[derive(Clone, Debug)]
pub(crate) struct Walked {
    pub(crate) header: BatchHeader,
    pub(crate) position: u64,
    /// The batch, and whatever of what follows it is in memory.
    pub(crate) window: Bytes,
}

impl Walked {
    pub(crate) fn bytes(&self) -> Bytes {
        self.window.slice(..self.header.total_bytes())
    }
}

/// Why a walk ends before its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The disk can't read.
    Storage(StorageError),
    /// No batch stands there.
    Bad { position: u64, expected: i64, why: BadStep },
}

impl<'a> Walk<'a> {
    /// A walk from `position`, where a batch begins at offset `expected`, up to byte `end`.
    pub(crate) fn new(file: &'a dyn StorageFile, position: u64, end: u64, expected: i64, window_bytes: usize) -> Self {
        Self { file, position, end, expected, window_bytes, window: Bytes::new() }
    }

    /// The next batch, or `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Walked>, Stop> {
        loop {
            match self.look()? {
                Look::End => return Ok(None),
                Look::Batch(walked) => return Ok(Some(walked)),
                Look::Need(bytes) => self.fill(bytes)?,
            }
        }
    }

    /// The next batch if it is in memory already.
    pub(crate) fn next_in_memory(&mut self) -> Result<Option<Walked>, Stop> {
        match self.look()? {
            Look::End | Look::Need(_) => Ok(None),
            Look::Batch(walked) => Ok(Some(walked)),
        }
    }

    fn look(&mut self) -> Result<Look, Stop> {
        if self.position >= self.end {
            return Ok(Look::End);
        }
        let header = match step(&self.window, self.end - self.position) {
            Step::Need(bytes) => return Ok(Look::Need(bytes)),
            Step::Bad(why) => return Err(self.bad(why)),
            Step::Batch(header) => header,
        };
        if header.base_offset != self.expected {
            return Err(self.bad(BadStep::Offset { expected: self.expected, found: header.base_offset }));
        }
        let walked = Walked { header, position: self.position, window: self.window.clone() };
        let total_bytes = header.total_bytes();
        self.window = self.window.slice(total_bytes..);
        self.position += total_bytes as u64;
        self.expected = header.next_offset();
        Ok(Look::Batch(walked))
    }

    fn fill(&mut self, needed: usize) -> Result<(), Stop> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let wanted = self.window_bytes.max(needed).min(left);
        self.window = self.file.read_at(self.position, wanted).map_err(Stop::Storage)?;
        if self.window.len() < wanted {
            return Err(self.bad(BadStep::Shrunk(self.end)));
        }
        Ok(())
    }

    fn bad(&self, why: BadStep) -> Stop {
        Stop::Bad { position: self.position, expected: self.expected, why }
    }
}

enum Look {
    End,
    Batch(Walked),
    Need(usize),
}
