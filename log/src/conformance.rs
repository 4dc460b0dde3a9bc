//! What every [`Storage`] must do, as a suite that each implementation's tests run. It speaks of what running programs
//! see; what survives a power cut only a simulated disk can show.
#![expect(clippy::panic, reason = "a suite of tests: it fails by panicking")]

use crate::storage::{Entry, EntryKind, Open, Storage, StorageError, StorageFile};
use std::fmt;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

/// Runs the suite in `root`, an empty directory.
///
/// # Panics
/// When the storage does something else than it must.
pub fn check_storage(storage: &Arc<dyn Storage>, root: &Path) {
    let storage = storage.as_ref();
    files_hold_what_was_written(storage, root);
    vectored_writes_are_one_behind_the_other(storage, root);
    reads_end_where_the_file_does(storage, root);
    truncating_cuts_and_grows(storage, root);
    opening_says_what_is_missing(storage, root);
    names_are_listed_in_order(storage, root);
    renaming_replaces(storage, root);
    removed_files_stay_readable(storage, root);
    directories_must_be_empty_to_go(storage, root);
    locks_exclude(storage, root);
    threads_share_a_file(storage, root);
}

fn files_hold_what_was_written(storage: &dyn Storage, root: &Path) {
    let path = root.join("written");
    let file = done(storage.open(&path, Open::Create));
    done(file.write_at(0, &[b"hello"]));
    done(file.write_at(5, &[b" world"]));
    done(file.write_at(0, &[b"J"]));
    done(file.sync());
    done(storage.sync_directory(root));
    assert_eq!(contents(file.as_ref()), b"Jello world");
    assert_eq!(done(file.bytes()), 11);
    assert_eq!(file.path(), path);
    let again = done(storage.open(&path, Open::Write));
    done(again.write_at(11, &[b"!"]));
    assert_eq!(contents(file.as_ref()), b"Jello world!", "handles share the file");
    let emptied = done(storage.open(&path, Open::Create));
    assert_eq!(done(emptied.bytes()), 0, "create empties");
    done(storage.remove_file(&path));
}

fn vectored_writes_are_one_behind_the_other(storage: &dyn Storage, root: &Path) {
    let path = root.join("vectored");
    let file = done(storage.open(&path, Open::Create));
    done(file.write_at(0, &[b"one", b"", b"two", b"three"]));
    assert_eq!(contents(file.as_ref()), b"onetwothree");
    done(file.write_at(3, &[]));
    done(file.write_at(3, &[b""]));
    assert_eq!(done(file.bytes()), 11, "nothing to write");
    // More than one call to the kernel takes.
    let numbers: Vec<[u8; 4]> = (0..5000_u32).map(u32::to_be_bytes).collect();
    let parts: Vec<&[u8]> = numbers.iter().map(<[u8; 4]>::as_slice).collect();
    done(file.write_at(11, &parts));
    assert_eq!(contents(file.as_ref())[11..], numbers.concat());
    done(storage.remove_file(&path));
}

fn reads_end_where_the_file_does(storage: &dyn Storage, root: &Path) {
    let path = root.join("read");
    let file = done(storage.open(&path, Open::Create));
    done(file.write_at(0, &[b"0123456789"]));
    assert_eq!(done(file.read_at(2, 3)).as_ref(), b"234");
    assert_eq!(done(file.read_at(8, 5)).as_ref(), b"89");
    assert_eq!(done(file.read_at(10, 5)).as_ref(), b"");
    assert_eq!(done(file.read_at(99, 5)).as_ref(), b"");
    assert_eq!(done(file.read_at(0, 0)).as_ref(), b"");
    done(file.write_at(12, &[b"x"]));
    assert_eq!(contents(file.as_ref()), b"0123456789\0\0x", "a hole reads as zeros");
    done(storage.remove_file(&path));
}

fn truncating_cuts_and_grows(storage: &dyn Storage, root: &Path) {
    let path = root.join("truncated");
    let file = done(storage.open(&path, Open::Create));
    done(file.write_at(0, &[b"0123456789"]));
    done(file.truncate(4));
    assert_eq!(contents(file.as_ref()), b"0123");
    done(file.truncate(6));
    assert_eq!(contents(file.as_ref()), b"0123\0\0");
    done(file.sync());
    done(storage.remove_file(&path));
}

fn opening_says_what_is_missing(storage: &dyn Storage, root: &Path) {
    let path = root.join("missing");
    for how in [Open::Read, Open::Write] {
        let error = refused(storage.open(&path, how));
        assert!(error.is_not_found(), "{error}");
        assert_eq!(error.path, path);
    }
    assert!(refused(storage.open(&path.join("below"), Open::Create)).is_not_found());
    assert!(refused(storage.list(&path)).is_not_found());
    assert!(refused(storage.remove_file(&path)).is_not_found());
    assert!(refused(storage.remove_directory(&path)).is_not_found());
    assert!(refused(storage.rename(&path, &root.join("other"))).is_not_found());
    assert!(refused(storage.sync_directory(&path)).is_not_found());
    let file = done(storage.open(&path, Open::Create));
    let read_only = done(storage.open(&path, Open::Read));
    done(file.write_at(0, &[b"x"]));
    assert_eq!(contents(read_only.as_ref()), b"x");
    refused(read_only.write_at(0, &[b"y"]));
    done(storage.remove_file(&path));
}

fn names_are_listed_in_order(storage: &dyn Storage, root: &Path) {
    let directory = root.join("listed");
    done(storage.create_directory(&directory.join("deeper").join("still")));
    done(storage.create_directory(&directory));
    assert_eq!(done(storage.list(&directory.join("deeper/still"))), []);
    for name in ["b", "a", "c"] {
        let file = done(storage.open(&directory.join(name), Open::Create));
        done(file.write_at(0, &[name.repeat(3).as_bytes()]));
    }
    let file = |name: &str| Entry { name: name.to_owned(), kind: EntryKind::File, bytes: 3 };
    let deeper = Entry { name: "deeper".to_owned(), kind: EntryKind::Directory, bytes: 0 };
    assert_eq!(done(storage.list(&directory)), [file("a"), file("b"), file("c"), deeper]);
    refused(storage.open(&directory, Open::Write));
}

fn renaming_replaces(storage: &dyn Storage, root: &Path) {
    let (from, to) = (root.join("from"), root.join("to"));
    for (path, text) in [(&from, b"new"), (&to, b"old")] {
        let file = done(storage.open(path, Open::Create));
        done(file.write_at(0, &[text]));
    }
    done(storage.rename(&from, &to));
    assert_eq!(contents(done(storage.open(&to, Open::Read)).as_ref()), b"new");
    assert!(refused(storage.open(&from, Open::Read)).is_not_found());
    done(storage.remove_file(&to));
    done(storage.create_directory(&from.join("full")));
    done(storage.rename(&from, &to));
    assert_eq!(done(storage.list(&to)).len(), 1, "a directory takes its contents along");
    done(storage.create_directory(&from));
    refused(storage.rename(&from, &to));
    done(storage.remove_directory(&from));
    done(storage.remove_directory(&to.join("full")));
    done(storage.remove_directory(&to));
}

fn removed_files_stay_readable(storage: &dyn Storage, root: &Path) {
    let path = root.join("removed");
    let file = done(storage.open(&path, Open::Create));
    done(file.write_at(0, &[b"still here"]));
    done(storage.remove_file(&path));
    assert_eq!(contents(file.as_ref()), b"still here");
    done(file.sync());
    let other = done(storage.open(&path, Open::Create));
    assert_eq!(done(other.bytes()), 0, "another file of that name");
    done(storage.remove_file(&path));
}

fn directories_must_be_empty_to_go(storage: &dyn Storage, root: &Path) {
    let directory = root.join("directory");
    done(storage.create_directory(&directory));
    let path = directory.join("file");
    drop(done(storage.open(&path, Open::Create)));
    refused(storage.remove_directory(&directory));
    refused(storage.remove_directory(&path));
    done(storage.remove_file(&path));
    done(storage.remove_directory(&directory));
    assert!(refused(storage.list(&directory)).is_not_found());
}

fn locks_exclude(storage: &dyn Storage, root: &Path) {
    let path = root.join("lock");
    let lock = done(storage.lock(&path));
    let error = refused(storage.lock(&path));
    assert_eq!(error.source.kind(), ErrorKind::WouldBlock, "{error}");
    drop(lock);
    drop(done(storage.lock(&path)));
}

fn threads_share_a_file(storage: &dyn Storage, root: &Path) {
    const THREADS: u8 = 4;
    const BLOCK_BYTES: usize = 1000;
    let path = root.join("shared");
    let file = done(storage.open(&path, Open::Create));
    std::thread::scope(|scope| {
        for number in 0..THREADS {
            let file = file.as_ref();
            scope.spawn(move || {
                let block = [number; BLOCK_BYTES];
                let position = u64::from(number) * BLOCK_BYTES as u64;
                done(file.write_at(position, &[&block]));
                assert_eq!(done(file.read_at(position, BLOCK_BYTES)).as_ref(), block);
            });
        }
    });
    let expected: Vec<u8> = (0..THREADS).flat_map(|number| [number; BLOCK_BYTES]).collect();
    assert_eq!(contents(file.as_ref()), expected);
    done(storage.remove_file(&path));
}

fn contents(file: &dyn StorageFile) -> Vec<u8> {
    let bytes = usize::try_from(done(file.bytes())).unwrap_or(usize::MAX);
    done(file.read_at(0, bytes)).to_vec()
}

#[track_caller]
fn done<T>(result: Result<T, StorageError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

#[track_caller]
fn refused<T: fmt::Debug>(result: Result<T, StorageError>) -> StorageError {
    match result {
        Err(error) => error,
        Ok(value) => panic!("this should be refused but gave {value:?}"),
    }
}
