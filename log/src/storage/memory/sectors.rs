//! What a power cut leaves of a file whose last changes were not synced: the disk wrote some of its sectors, each as it
//! was at some moment, one of them perhaps in half, and noted some length.
//!
//! ```text
//!   versions   0 durable      ├────────┼────────┤
//!              1 write        ├────────┼██──────┤
//!              2 write        ├────────┼██████──┼███─────┤
//!   survives                    of 0     of 1     of 2      length of 2: what was not written reads as zeros
//! ```

use super::image::{Change, Draws};

/// The file after the cut. `changes` are those of this file that were not synced, in order.
pub(super) fn outcome(durable: &[u8], changes: &[Change], sector_bytes: usize, draws: &mut Draws) -> Vec<u8> {
    let file = Versions { durable, changes };
    let bytes = file.length(draws.version(changes.len()));
    let mut contents = Vec::with_capacity(bytes);
    while contents.len() < bytes {
        let start = contents.len();
        let end = bytes.min(start + sector_bytes);
        let mut sector = file.part(start, end, draws.version(changes.len()));
        if draws.below(8) == 0 {
            let older = file.part(start, end, draws.version(changes.len()));
            let torn_at = draws.below(sector.len());
            sector[torn_at..].copy_from_slice(&older[torn_at..]);
        }
        contents.append(&mut sector);
    }
    contents
}

struct Versions<'a> {
    durable: &'a [u8],
    changes: &'a [Change],
}

impl Versions<'_> {
    /// How long the file was after so many changes.
    fn length(&self, version: usize) -> usize {
        self.changes.iter().take(version).fold(self.durable.len(), |bytes, change| match change {
            Change::Write { position, bytes: written, .. } => bytes.max(place(*position).saturating_add(written.len())),
            Change::Truncate { bytes, .. } => place(*bytes),
            _ => bytes,
        })
    }

    /// What stood between two positions after so many changes.
    fn part(&self, start: usize, end: usize, version: usize) -> Vec<u8> {
        let mut part = vec![0; end - start];
        copy(&mut part, start, self.durable, 0);
        for change in self.changes.iter().take(version) {
            match change {
                Change::Write { position, bytes, .. } => copy(&mut part, start, bytes, place(*position)),
                Change::Truncate { bytes, .. } if place(*bytes) < end => {
                    part[place(*bytes).saturating_sub(start)..].fill(0);
                }
                _ => {}
            }
        }
        part
    }
}

/// Copies what `from` (whose first byte is byte `from_start` of the file) has of `to`.
fn copy(to: &mut [u8], to_start: usize, from: &[u8], from_start: usize) {
    let start = to_start.max(from_start);
    let end = (to_start + to.len()).min(from_start.saturating_add(from.len()));
    if start < end {
        to[start - to_start..end - to_start].copy_from_slice(&from[start - from_start..end - from_start]);
    }
}

fn place(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}
