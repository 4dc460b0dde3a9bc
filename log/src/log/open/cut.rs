//! Cutting off the end of a log that is no good.

use super::LostTail;
use crate::directory::DataDirectory;
use crate::error::LogError;
use crate::format::names;
use crate::limits;
use crate::recovery::{Cut, Piece};
use crate::segment::SegmentScan;
use crate::storage::{Open, Storage, StorageError, StorageFile};
use headwater_mutants::{Mutant, lacks};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Cuts the end off a log, after a copy of it is safe in `lost+found`.
pub(super) struct Cutting<'a> {
    pub(super) directory: &'a DataDirectory,
    pub(super) name: &'a str,
    pub(super) path: &'a Path,
}

impl Cutting<'_> {
    pub(super) fn act(
        &self,
        cut: Cut,
        end_offset: i64,
        segments: &[(i64, Arc<dyn StorageFile>, SegmentScan)],
    ) -> Result<LostTail, LogError> {
        let lost_found = self.directory.path().join(names::LOST_FOUND);
        let changed = |result: Result<(), StorageError>| result.map_err(|error| self.directory.failed(error));
        changed(self.storage().create_directory(&lost_found))?;
        self.directory.note_name();
        self.directory.sync_names()?;
        let mut lost = LostTail { end_offset, bytes: 0, reason: cut.reason, files: Vec::new() };
        // From the end, so that a crash in between leaves a log with a torn end.
        for piece in cut.pieces.iter().rev() {
            let target = self.free_name(&lost_found, piece)?;
            if piece.removes_file {
                let source = self.path.join(names::segment(piece.base_offset));
                changed(self.storage().rename(&source, &target))?;
                changed(self.storage().sync_directory(&lost_found))?;
                changed(self.storage().sync_directory(self.path))?;
            } else if let Some((_, file, _)) = segments.iter().find(|(base, ..)| *base == piece.base_offset) {
                if !lacks(Mutant::CutNotKept) {
                    self.copy(file.as_ref(), piece, &target)?;
                    changed(self.storage().sync_directory(&lost_found))?;
                }
                changed(file.truncate(piece.position))?;
                if !lacks(Mutant::CutNotSynced) {
                    changed(file.sync())?;
                }
            }
            lost.bytes += piece.bytes;
            lost.files.push(target);
        }
        lost.files.reverse();
        Ok(lost)
    }

    fn storage(&self) -> &dyn Storage {
        self.directory.storage().as_ref()
    }

    fn free_name(&self, lost_found: &Path, piece: &Piece) -> Result<PathBuf, LogError> {
        let taken = self.storage().list(lost_found)?;
        let stem = format!("{}-{:020}-{}", self.name, piece.base_offset, piece.position);
        let names = (0..limits::LOST_FOUND_NAMES_MAX).map(|count| format!("{stem}.{count}"));
        let free = names.into_iter().find(|name| !taken.iter().any(|entry| entry.name == *name));
        let max = limits::LOST_FOUND_NAMES_MAX as usize;
        let too_many = || LogError::TooMany { what: "files of one origin", max, directory: lost_found.to_path_buf() };
        free.map(|name| lost_found.join(name)).ok_or_else(too_many)
    }

    fn copy(&self, source: &dyn StorageFile, piece: &Piece, target: &Path) -> Result<(), LogError> {
        let failed = |error| self.directory.failed(error);
        let copy = self.storage().open(target, Open::Create).map_err(failed)?;
        let mut done = 0;
        while done < piece.bytes {
            let wanted = usize::try_from(piece.bytes - done).unwrap_or(usize::MAX).min(limits::COPY_BYTES_MAX);
            let bytes = source.read_at(piece.position + done, wanted).map_err(LogError::of_storage)?;
            if bytes.is_empty() {
                break;
            }
            copy.write_at(done, &[&bytes]).map_err(failed)?;
            done += bytes.len() as u64;
        }
        copy.sync().map_err(failed)
    }
}
