//! The disk alone: plain files, written and synced.

use crate::Result;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// Writes so many bytes to a new file in so many equal parts, each followed by fdatasync; how long that took.
pub(crate) fn write_synced(path: &Path, bytes: u64, parts: u64) -> Result<Duration> {
    let parts = parts.max(1);
    let part = vec![0x5a; usize::try_from(bytes.div_ceil(parts))?];
    let mut file = File::create(path)?;
    let start = Instant::now();
    for _ in 0..parts {
        file.write_all(&part)?;
        file.sync_data()?;
    }
    let taken = start.elapsed();
    drop(file);
    std::fs::remove_file(path)?;
    Ok(taken)
}

/// Files that are appended to and then synced one after another.
pub(crate) struct PlainFiles(Vec<File>);

impl PlainFiles {
    pub(crate) fn create(directory: &Path, count: usize) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        let create =
            |number| OpenOptions::new().create_new(true).append(true).open(directory.join(format!("{number}")));
        Ok(Self((0..count).map(create).collect::<std::io::Result<_>>()?))
    }

    /// Appends `bytes` to every file, then syncs each; how long the syncing took.
    pub(crate) fn append_and_sync(&mut self, bytes: &[u8]) -> Result<Duration> {
        for file in &mut self.0 {
            file.write_all(bytes)?;
        }
        let start = Instant::now();
        for file in &self.0 {
            file.sync_data()?;
        }
        Ok(start.elapsed())
    }
}
