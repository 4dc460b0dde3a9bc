//! Files of a newer version than this program's: refused by name, before anything on the disk is changed.

use crate::format::checkpoint::{self, FRAME_BYTES, Kind};
use crate::format::{epochs, index, names, points};
use crate::storage::memory::MemoryStorage;
use crate::storage::{EntryKind, Storage};
use crate::testing::{CONFIG, DATA, NAME, directory, fill, open, path_of, reopen};
use crate::{DataDirectory, Log, LogError};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a batch's `magic` stands, see docs/log-format.md.
const MAGIC_POSITION: usize = 16;
/// Its first batch was synced, as all of the log was.
const FIRST: i64 = 0;

/// A closed log of several segments, with whatever makes an opening change the disk: a torn end to cut off, a temporary
/// file, a removal to finish.
fn disk_with_work_to_do() -> (MemoryStorage, Vec<Bytes>) {
    let storage = MemoryStorage::new();
    let directory = directory(&storage);
    let (mut log, _) = open(&directory);
    let batches = fill(&mut log, 20);
    log.close().unwrap();
    directory.checkpoint().unwrap();
    drop(directory);
    let last = storage.list(&path_of("")).unwrap().into_iter().rfind(|entry| entry.name.ends_with(".log")).unwrap();
    let torn = [storage.contents(&path_of(&last.name)).unwrap().as_slice(), b"torn"].concat();
    storage.plant(&path_of(&last.name), &torn).unwrap();
    storage.plant(&path_of("something.tmp"), b"begun").unwrap();
    let removed = Path::new(DATA).join(format!("other-0{}", names::DELETED_SUFFIX));
    storage.create_directory(&removed).unwrap();
    storage.plant(&removed.join(names::segment(0)), b"").unwrap();
    storage.write_back();
    (storage, batches)
}

/// All names below a directory, and what the files hold.
type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

fn tree(storage: &MemoryStorage, path: &Path) -> Tree {
    let mut found = BTreeMap::new();
    for entry in storage.list(path).unwrap() {
        let path = path.join(&entry.name);
        if entry.kind == EntryKind::Directory {
            found.append(&mut tree(storage, &path));
        }
        let contents = storage.contents(&path);
        found.insert(path, contents);
    }
    found
}

const NOTHING: Vec<PathBuf> = Vec::new();

/// The names that are in one of them only, or hold something else.
fn changed(before: &Tree, after: &Tree) -> Vec<PathBuf> {
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    names.into_iter().filter(|name| before.get(*name) != after.get(*name)).cloned().collect()
}

/// Opens directory and log as a broker does.
fn try_open(storage: &MemoryStorage) -> Result<(), LogError> {
    let directory = DataDirectory::open(Arc::new(storage.clone()), Path::new(DATA))?;
    Log::open(&directory, NAME, CONFIG, &mut |_| {}).map(drop)
}

/// The same file as a newer program would write it: a payload version more.
fn with_newer_payload(kind: Kind, version: u16, bytes: &[u8]) -> Vec<u8> {
    checkpoint::encode(kind, version + 1, &bytes[FRAME_BYTES..])
}

/// The same file in a newer frame, of which nothing but magic and version is known.
fn with_newer_frame(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[4..6].copy_from_slice(&2_u16.to_be_bytes());
    bytes
}

/// Opening with `newer` at `path` names the file and its version, and leaves each byte as it was; with what was there
/// before, the log opens with all its batches.
fn assert_refused(path: &Path, newer: impl Fn(&[u8]) -> Vec<u8>, named: &str) {
    let (storage, batches) = disk_with_work_to_do();
    let known = storage.contents(path).unwrap_or_else(|| panic!("no {}", path.display()));
    storage.plant(path, &newer(&known)).unwrap();
    if path.starts_with(path_of("")) {
        // Only the partition is refused; its directory opens, and finishes the removal.
        drop(directory(&storage));
        storage.write_back();
    }
    let before = tree(&storage, Path::new(DATA));
    let error = try_open(&storage).expect_err("a newer file must be refused");
    let LogError::Checkpoint { file, .. } = &error else { panic!("{}: {error:?}", path.display()) };
    assert_eq!(file, path);
    assert!(error.to_string().contains(named), "{error}");
    assert_eq!(changed(&before, &tree(&storage, Path::new(DATA))), NOTHING, "{} was refused", path.display());
    assert_eq!(storage.unsynced_changes(), 0, "{}: written, though to the same bytes", path.display());

    storage.plant(path, &known).unwrap();
    let (_directory, _log, report, found) = reopen(&storage);
    assert_eq!(found, batches);
    assert_eq!(report.lost_tail.map(|lost| lost.bytes), Some(4), "the disk had work to do");
}

fn assert_both_refused(path: &Path, kind: Kind, version: u16) {
    let named = format!("{kind} file of version {}, but this program reads up to {version}", version + 1);
    assert_refused(path, |bytes| with_newer_payload(kind, version, bytes), &named);
    assert_refused(path, with_newer_frame, "frame file of version 2, but this program reads up to 1");
}

// covers LOG-6
#[test]
fn newer_recovery_points_are_refused() {
    assert_both_refused(&Path::new(DATA).join(names::RECOVERY_POINTS), points::KIND, points::VERSION);
}

// covers LOG-6
#[test]
fn newer_leader_epochs_are_refused() {
    assert_both_refused(&path_of(names::LEADER_EPOCHS), epochs::KIND, epochs::VERSION);
}

// covers LOG-4: a cache may be deleted, but not by who can't read it
#[test]
fn a_newer_offset_index_is_refused() {
    assert_both_refused(&path_of(&names::offset_index(FIRST)), index::OFFSETS_KIND, index::VERSION);
}

// covers LOG-4
#[test]
fn a_newer_time_index_is_refused() {
    assert_both_refused(&path_of(&names::time_index(FIRST)), index::TIMES_KIND, index::VERSION);
}

// covers LOG-3
#[test]
fn a_synced_batch_of_a_newer_format_is_refused() {
    let (storage, _) = disk_with_work_to_do();
    let path = path_of(&names::segment(FIRST));
    let mut newer = storage.contents(&path).unwrap();
    newer[MAGIC_POSITION] = 3;
    storage.plant(&path, &newer).unwrap();
    storage.remove_file(&path_of(&names::offset_index(FIRST))).unwrap();
    // Only the partition is refused; its directory opens, and finishes the removal.
    drop(directory(&storage));
    let before = tree(&storage, Path::new(DATA));
    let error = try_open(&storage).expect_err("a newer batch must be refused");
    let LogError::NewerBatch { file, position, magic } = &error else { panic!("{error:?}") };
    assert_eq!((file.as_path(), *position, *magic), (path.as_path(), 0, 3));
    assert!(error.to_string().contains("use the version that wrote it"), "{error}");
    assert_eq!(changed(&before, &tree(&storage, Path::new(DATA))), NOTHING);
}

/// The end of the segment's file with one more batch, of `batch` made of format 3 by a later version.
fn with_later_batch(batch: &[u8]) -> Vec<u8> {
    let mut later = batch.to_vec();
    later[16] = 3;
    later[40] ^= 7;
    let crc = crc32c::crc32c(&later[21..]);
    later[17..21].copy_from_slice(&crc.to_be_bytes());
    later
}

// covers LOG-2, LOG-3: what a later version wrote is neither a torn end to be cut off nor damage
#[test]
fn batches_of_a_later_format_are_refused_by_name_and_nothing_is_cut() {
    for is_synced in [false, true] {
        let storage = MemoryStorage::new();
        let directory = directory(&storage);
        let (mut log, _) = crate::testing::open(&directory);
        let batches = crate::testing::fill(&mut log, 3);
        log.flush().unwrap();
        if is_synced {
            directory.checkpoint().unwrap();
        }
        drop((log, directory));
        let path = path_of("00000000000000000000.log");
        let known = storage.contents(&path).unwrap();
        let place = batches[0].len() + batches[1].len();
        for index in ["00000000000000000000.index", "00000000000000000000.timeindex"] {
            drop(storage.remove_file(&path_of(index)));
        }
        let later = with_later_batch(&batches[2]);
        storage.plant(&path, &[&known[..place], &later].concat()).unwrap();
        let before = tree(&storage, Path::new(DATA));
        let error = try_open(&storage).expect_err("a later format must be refused");
        let expected = format!("from byte {place} on it has record batches of a later format (magic 3)");
        assert!(error.to_string().contains(&expected), "{error}");
        assert_eq!(changed(&before, &tree(&storage, Path::new(DATA))), NOTHING);

        // Unless its checksum is wrong, too: then it is what it seems.
        let mut torn = later.clone();
        *torn.last_mut().unwrap() ^= 1;
        storage.plant(&path, &[&known[..place], &torn].concat()).unwrap();
        match try_open(&storage) {
            Err(LogError::Damaged(_)) => assert!(is_synced),
            opened => opened.unwrap(),
        }
        let is_whole = storage.contents(&path).unwrap().len() == place + torn.len();
        assert_eq!(is_whole, is_synced, "only what was never synced is cut off");
    }
}
