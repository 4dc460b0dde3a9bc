use super::*;
use crate::conformance;
use crate::storage::file::FileStorage;
use crate::storage::memory::{Fault, FaultKind, MemoryStorage};

fn limited(open_max: usize) -> (MemoryStorage, LimitedStorage) {
    let memory = MemoryStorage::new();
    let storage = LimitedStorage::new(Arc::new(memory.clone()));
    storage.create_directory(Path::new("/d")).unwrap();
    storage.set_open_files_max(open_max);
    (memory, storage)
}

fn name(number: usize) -> PathBuf {
    PathBuf::from(format!("/d/{number}"))
}

/// A file that holds its number, synced.
fn file(storage: &LimitedStorage, number: usize) -> Arc<dyn StorageFile> {
    let file = storage.open(&name(number), Open::Create).unwrap();
    file.write_at(0, &[number.to_string().as_bytes()]).unwrap();
    file.sync().unwrap();
    file
}

fn contents(file: &dyn StorageFile) -> Bytes {
    file.read_at(0, 10).unwrap()
}

#[test]
fn it_does_what_a_storage_must_with_as_good_as_no_file_open() {
    for open_max in [0, 1, 1000] {
        let directory = tempfile::tempdir().unwrap();
        let storage = LimitedStorage::new(Arc::new(FileStorage));
        storage.set_open_files_max(open_max);
        let storage: Arc<dyn Storage> = Arc::new(storage);
        conformance::check_storage(&storage, directory.path());
    }
}

#[test]
fn more_files_are_in_use_than_are_open() {
    let (_memory, storage) = limited(5);
    let files: Vec<_> = (0..50).map(|number| file(&storage, number)).collect();
    for _ in 0..3 {
        for (number, file) in files.iter().enumerate() {
            assert_eq!(contents(file.as_ref()), number.to_string());
            assert!(storage.open_files() <= 5 + 1, "{}", storage.open_files());
        }
    }
    drop(files);
    assert_eq!(storage.open_files(), 0);
}

#[test]
fn what_is_let_go_of_leaves_nothing_behind() {
    let (_memory, storage) = limited(1000);
    for number in 0..2000 {
        file(&storage, number % 7);
    }
    assert!(storage.files.ring.lock().len() < 200);
    assert!(storage.files.names.lock().is_empty());
}

// covers LOG-7
#[test]
fn a_file_with_unsynced_writes_is_not_closed() {
    let (memory, storage) = limited(0);
    let one = file(&storage, 1);
    file(&storage, 2);
    assert_eq!(storage.open_files(), 0, "it is synced");
    one.write_at(0, &[b"x"]).unwrap();
    for number in 2..20 {
        file(&storage, number);
    }
    assert_eq!(storage.open_files(), 1, "it is not");
    memory.inject(Fault::new(Operation::Sync, "/d/1", FaultKind::InputOutput));
    one.sync().unwrap_err();
    memory.clear_faults();
    for number in 2..20 {
        file(&storage, number);
    }
    assert_eq!(storage.open_files(), 1, "nor ever will be");
    let two = file(&storage, 2);
    two.truncate(0).unwrap();
    for number in 3..20 {
        file(&storage, number);
    }
    assert_eq!(storage.open_files(), 2, "a cut is a change, too");
    two.sync().unwrap();
    file(&storage, 3);
    assert_eq!(storage.open_files(), 1);
}

#[test]
fn those_that_are_only_read_go_first() {
    let (memory, storage) = limited(4);
    let written: Vec<_> = (0..2).map(|number| file(&storage, number)).collect();
    let read: Vec<_> = (2..8).map(|number| file(&storage, number)).collect();
    drop(read);
    let read: Vec<_> = (2..8).map(|number| storage.open(&name(number), Open::Read).unwrap()).collect();
    for round in 0..20 {
        written.iter().for_each(|file| {
            file.write_at(0, &[b"w"]).unwrap();
            file.sync().unwrap();
        });
        contents(read[round % 6].as_ref());
    }
    memory.inject(Fault::new(Operation::Open, "/d", FaultKind::InputOutput));
    assert!(read.iter().any(|file| file.read_at(0, 1).is_err()), "some would have to be opened");
    written.iter().for_each(|file| assert_eq!(file.read_at(0, 1).unwrap(), "w"));
}

#[test]
fn whoever_has_a_file_keeps_it_when_its_name_goes_or_is_given_away() {
    let (_memory, storage) = limited(0);
    let (first, second, third) = (file(&storage, 1), file(&storage, 2), file(&storage, 3));
    file(&storage, 4);
    assert_eq!(storage.open_files(), 0);
    storage.rename(&name(2), &name(1)).unwrap();
    storage.remove_file(&name(3)).unwrap();
    file(&storage, 3).write_at(0, &[b"new"]).unwrap();
    for _ in 0..3 {
        let read = [contents(first.as_ref()), contents(second.as_ref()), contents(third.as_ref())];
        assert_eq!(read, ["1", "2", "3"]);
    }
    assert_eq!(contents(storage.open(&name(1), Open::Read).unwrap().as_ref()), "2");
    drop((first, second, third));
    assert_eq!(storage.open_files(), 0);
}

#[test]
fn files_of_a_directory_that_goes_are_never_taken_for_new_ones_of_their_names() {
    let (_memory, storage) = limited(0);
    let lost = file(&storage, 1);
    file(&storage, 2);
    storage.rename(Path::new("/d"), Path::new("/gone")).unwrap();
    storage.create_directory(Path::new("/d")).unwrap();
    file(&storage, 1).write_at(0, &[b"new"]).unwrap();
    assert!(lost.read_at(0, 10).is_err_and(|error| error.is_not_found()));
}

#[test]
fn threads_write_and_sync_while_files_are_closed_under_them() {
    let (_memory, storage) = limited(1);
    let files: Vec<_> = (0..6).map(|number| file(&storage, number)).collect();
    std::thread::scope(|scope| {
        for (number, file) in files.iter().enumerate() {
            scope.spawn(move || {
                for round in 0..500_u64 {
                    file.write_at(round, &[&[number as u8]]).unwrap();
                    assert_eq!(file.read_at(round, 1).unwrap()[0], number as u8);
                    file.sync().unwrap();
                }
            });
        }
    });
    for (number, file) in files.iter().enumerate() {
        assert_eq!(file.read_at(0, 500).unwrap(), vec![number as u8; 500]);
    }
    assert!(storage.open_files() <= 2);
}
