//! The tree of files as data, the changes made to it, and which of them a power cut lets through.

use super::sectors;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

/// A file or directory, whatever its name.
pub(super) type NodeId = u64;

const ROOT: NodeId = 0;

/// One state of the disk.
#[derive(Clone, Debug)]
pub(super) struct Image {
    files: BTreeMap<NodeId, Vec<u8>>,
    directories: BTreeMap<NodeId, BTreeMap<String, NodeId>>,
    newest_id: NodeId,
}

impl Default for Image {
    fn default() -> Self {
        Self { files: BTreeMap::new(), directories: BTreeMap::from([(ROOT, BTreeMap::new())]), newest_id: ROOT }
    }
}

impl Image {
    pub(super) fn find(&self, path: &Path) -> Option<NodeId> {
        let mut node = ROOT;
        for part in path.components() {
            if let Component::Normal(name) = part {
                node = *self.directory(node)?.get(name.to_string_lossy().as_ref())?;
            }
        }
        Some(node)
    }

    pub(super) fn file(&self, node: NodeId) -> Option<&[u8]> {
        self.files.get(&node).map(Vec::as_slice)
    }

    /// Puts what lies at `path` in another image in the place of what lies there in this one; an empty directory when
    /// there is nothing.
    pub(super) fn graft(&mut self, path: &Path, other: &Self) {
        let Some((parent, name)) = path.parent().and_then(|parent| self.find(parent)).zip(path.file_name()) else {
            return;
        };
        let node = match other.find(path) {
            Some(root) => self.adopt(other, root),
            None => {
                let node = self.free_id();
                self.directories.insert(node, BTreeMap::new());
                node
            }
        };
        if let Some(names) = self.directories.get_mut(&parent) {
            names.insert(name.to_string_lossy().into_owned(), node);
        }
        self.drop_unreachable();
    }

    fn adopt(&mut self, other: &Self, theirs: NodeId) -> NodeId {
        let node = self.free_id();
        match other.directory(theirs) {
            Some(names) => {
                let names = names.iter().map(|(name, theirs)| (name.clone(), self.adopt(other, *theirs))).collect();
                self.directories.insert(node, names);
            }
            None => drop(self.files.insert(node, other.file(theirs).unwrap_or_default().to_vec())),
        }
        node
    }

    /// Flips a bit; whether there is such a byte.
    pub(super) fn flip(&mut self, node: NodeId, place: usize, bit: u8) -> bool {
        let byte = self.files.get_mut(&node).and_then(|contents| contents.get_mut(place));
        byte.map(|byte| *byte ^= 1 << (bit % 8)).is_some()
    }

    pub(super) fn directory(&self, node: NodeId) -> Option<&BTreeMap<String, NodeId>> {
        self.directories.get(&node)
    }

    /// An id that no node ever had.
    pub(super) fn free_id(&mut self) -> NodeId {
        self.newest_id += 1;
        self.newest_id
    }

    pub(super) fn file_bytes(&self) -> u64 {
        let reachable = self.reachable();
        let files = self.files.iter().filter(|(id, _)| reachable.contains(id));
        files.map(|(_, contents)| contents.len() as u64).sum()
    }

    pub(super) fn drop_unreachable(&mut self) {
        let reachable = self.reachable();
        self.files.retain(|id, _| reachable.contains(id));
        self.directories.retain(|id, _| reachable.contains(id));
    }

    fn reachable(&self) -> BTreeSet<NodeId> {
        let mut found = BTreeSet::from([ROOT]);
        let mut open = vec![ROOT];
        while let Some(node) = open.pop() {
            let names = self.directory(node).into_iter().flatten();
            open.extend(names.map(|(_, node)| *node).filter(|node| found.insert(*node)));
        }
        found
    }

    /// Makes one change. A node that the change names but a power cut has lost comes into being empty.
    pub(super) fn apply(&mut self, change: &Change) {
        // Not only of links: the name of a node may survive by its rename alone.
        self.newest_id = self.newest_id.max(change.node());
        match change {
            Change::Write { file, position, bytes } => {
                let contents = self.files.entry(*file).or_default();
                let start = usize::try_from(*position).unwrap_or(usize::MAX);
                let end = start.saturating_add(bytes.len());
                contents.resize(contents.len().max(end), 0);
                contents[start..end].copy_from_slice(bytes);
            }
            Change::Truncate { file, bytes } => {
                let bytes = usize::try_from(*bytes).unwrap_or(usize::MAX);
                self.files.entry(*file).or_default().resize(bytes, 0);
            }
            Change::Link { directory, name, node, is_directory } => {
                if *is_directory {
                    self.directories.entry(*node).or_default();
                } else {
                    self.files.entry(*node).or_default();
                }
                self.directories.entry(*directory).or_default().insert(name.clone(), *node);
            }
            Change::Unlink { directory, name } => {
                self.directories.entry(*directory).or_default().remove(name);
            }
            Change::Rename { from_directory, from, to_directory, to, node, is_directory } => {
                if *is_directory {
                    self.directories.entry(*node).or_default();
                } else {
                    self.files.entry(*node).or_default();
                }
                let names = self.directories.entry(*from_directory).or_default();
                if names.get(from) == Some(node) {
                    names.remove(from);
                }
                self.directories.entry(*to_directory).or_default().insert(to.clone(), *node);
            }
        }
    }
}

/// One change to the disk, which survives a power cut as a whole, in part (a write) or not at all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Change {
    Write { file: NodeId, position: u64, bytes: Vec<u8> },
    Truncate { file: NodeId, bytes: u64 },
    Link { directory: NodeId, name: String, node: NodeId, is_directory: bool },
    Unlink { directory: NodeId, name: String },
    Rename { from_directory: NodeId, from: String, to_directory: NodeId, to: String, node: NodeId, is_directory: bool },
}

impl Change {
    pub(super) fn is_of_file(&self, node: NodeId) -> bool {
        match self {
            Self::Write { file, .. } | Self::Truncate { file, .. } => *file == node,
            Self::Link { .. } | Self::Unlink { .. } | Self::Rename { .. } => false,
        }
    }

    pub(super) fn is_of_byte(&self, node: NodeId, byte: u64) -> bool {
        match self {
            Self::Write { file, position, bytes } => {
                *file == node && (*position..position.saturating_add(bytes.len() as u64)).contains(&byte)
            }
            Self::Truncate { file, bytes } => *file == node && *bytes <= byte,
            Self::Link { .. } | Self::Unlink { .. } | Self::Rename { .. } => false,
        }
    }

    pub(super) fn is_of_directory(&self, node: NodeId) -> bool {
        match self {
            Self::Write { .. } | Self::Truncate { .. } => false,
            Self::Link { directory, .. } | Self::Unlink { directory, .. } => *directory == node,
            Self::Rename { from_directory, to_directory, .. } => *from_directory == node || *to_directory == node,
        }
    }

    /// The newest node that it names.
    fn node(&self) -> NodeId {
        match self {
            Self::Write { file, .. } | Self::Truncate { file, .. } => *file,
            Self::Link { directory, node, .. } => *directory.max(node),
            Self::Unlink { directory, .. } => *directory,
            Self::Rename { from_directory, to_directory, node, .. } => *from_directory.max(to_directory).max(node),
        }
    }

    /// The change with only its first `bytes_max` bytes, if it is a write.
    fn torn(self, bytes_max: usize) -> Self {
        match self {
            Self::Write { file, position, mut bytes } => {
                bytes.truncate(bytes_max);
                Self::Write { file, position, bytes }
            }
            other => other,
        }
    }
}

/// Which unsynced changes survive a power cut. Changes are counted from 0, in the order they were made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Survivors {
    /// None: the harshest disk.
    None,
    /// All: as if only the process had died.
    All,
    /// The first so many.
    Prefix(usize),
    /// All but this one.
    Without(usize),
    /// The first `changes`, and of the next one, if it is a write, the first `bytes` bytes.
    Torn {
        /// How many survive whole.
        changes: usize,
        /// How much of the next one survives.
        bytes: usize,
    },
    /// Each is kept, lost or (a write) torn as this seed has it.
    Seeded(u64),
    /// As disks do it: of every file some sectors are written, each as it was at some moment, and names are kept or
    /// lost one by one, as this seed has it.
    Sectors {
        /// What the choices are drawn from.
        seed: u64,
        /// Bytes of a sector: what the disk writes whole, unless the power goes in the middle of one.
        sector_bytes: usize,
    },
}

/// Choices drawn from a seed.
pub(super) struct Draws(pub(super) u64);

impl Draws {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(split_mix(&mut self.0) % (bound.max(1) as u64)).unwrap_or(0)
    }

    /// A version of something with so many unsynced changes: often the first, often the last.
    pub(super) fn version(&mut self, changes: usize) -> usize {
        match self.below(3) {
            0 => 0,
            1 => changes,
            _ => self.below(changes + 1),
        }
    }
}

impl Image {
    /// What a disk of such sectors makes of unsynced changes when the power goes.
    pub(super) fn lose_power(&mut self, unsynced: Vec<Change>, seed: u64, sector_bytes: usize) {
        let mut draws = Draws(seed);
        let mut of_files: BTreeMap<NodeId, Vec<Change>> = BTreeMap::new();
        for change in unsynced {
            match change {
                Change::Write { file, .. } | Change::Truncate { file, .. } => {
                    of_files.entry(file).or_default().push(change);
                }
                _ if draws.below(3) > 0 => self.apply(&change),
                _ => {}
            }
        }
        for (file, changes) in of_files {
            self.keep_sectors(file, &changes, &mut draws, sector_bytes);
        }
    }

    /// Some sectors of one file are written, as `draws` has it.
    pub(super) fn keep_sectors(&mut self, file: NodeId, changes: &[Change], draws: &mut Draws, sector_bytes: usize) {
        self.newest_id = self.newest_id.max(file);
        let contents = self.files.entry(file).or_default();
        *contents = sectors::outcome(contents, changes, sector_bytes, draws);
    }
}

impl Survivors {
    pub(super) fn select(self, changes: Vec<Change>, mut keep: impl FnMut(Change)) {
        let mut seed = match self {
            Self::Seeded(seed) | Self::Sectors { seed, .. } => seed,
            _ => 0,
        };
        for (number, change) in changes.into_iter().enumerate() {
            match self {
                Self::None => {}
                Self::All => keep(change),
                Self::Prefix(count) if number < count => keep(change),
                Self::Without(lost) if number != lost => keep(change),
                Self::Torn { changes, .. } if number < changes => keep(change),
                Self::Torn { changes, bytes } if number == changes => {
                    if matches!(change, Change::Write { .. }) {
                        keep(change.torn(bytes));
                    }
                }
                Self::Prefix(_) | Self::Without(_) | Self::Torn { .. } => {}
                // Sectors are not changes: see `Image::lose_power`.
                Self::Seeded(_) | Self::Sectors { .. } => {
                    let draw = split_mix(&mut seed);
                    match draw % 3 {
                        0 => {}
                        1 => keep(change),
                        _ => keep(change.torn(usize::try_from((draw >> 8) % 4096).unwrap_or(0))),
                    }
                }
            }
        }
    }
}

/// The next number of Vigna's SplitMix64 sequence.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
