use super::*;
use crate::conformance;

fn path(name: &str) -> PathBuf {
    Path::new("/").join(name)
}

fn file_with(storage: &MemoryStorage, name: &str, contents: &[u8]) -> Arc<dyn StorageFile> {
    let file = storage.open(&path(name), Open::Create).unwrap();
    file.write_at(0, &[contents]).unwrap();
    file
}

#[test]
fn it_does_what_a_storage_must() {
    let memory = MemoryStorage::new();
    memory.create_directory(&path("root")).unwrap();
    let storage: Arc<dyn Storage> = Arc::new(memory);
    conformance::check_storage(&storage, &path("root"));
}

#[test]
fn a_power_cut_keeps_what_was_synced_and_what_survives() {
    for (survivors, expected) in [
        (Survivors::None, Some("abc".to_owned())),
        (Survivors::All, Some("abcdefghi".to_owned())),
        (Survivors::Prefix(1), Some("abcdef".to_owned())),
        (Survivors::Without(0), Some("abc\0\0\0ghi".to_owned())),
        (Survivors::Torn { changes: 1, bytes: 2 }, Some("abcdefgh".to_owned())),
    ] {
        let storage = MemoryStorage::new();
        let file = file_with(&storage, "f", b"abc");
        file.sync().unwrap();
        storage.sync_directory(&path("")).unwrap();
        file.write_at(3, &[b"def"]).unwrap();
        file.write_at(6, &[b"ghi"]).unwrap();
        assert_eq!(storage.unsynced_changes(), 2);
        storage.power_cut(survivors);
        let found = storage.contents(&path("f")).map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(found, expected, "{survivors:?}");
    }
}

#[test]
fn a_name_is_lost_without_a_sync_of_its_directory() {
    let storage = MemoryStorage::new();
    file_with(&storage, "f", b"abc").sync().unwrap();
    storage.power_cut(Survivors::None);
    assert_eq!(storage.contents(&path("f")), None);

    file_with(&storage, "f", b"abc");
    storage.sync_directory(&path("")).unwrap();
    storage.power_cut(Survivors::None);
    assert_eq!(storage.contents(&path("f")), Some(vec![]), "the name alone");

    file_with(&storage, "g", b"abc").sync().unwrap();
    storage.rename(&path("g"), &path("h")).unwrap();
    storage.remove_file(&path("f")).unwrap();
    storage.sync_directory(&path("")).unwrap();
    storage.power_cut(Survivors::None);
    let names: Vec<String> = storage.list(&path("")).unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["h"]);
}

#[test]
fn a_file_whose_name_survived_by_a_rename_alone_is_no_other_file() {
    let storage = MemoryStorage::new();
    file_with(&storage, "f", b"abc").sync().unwrap();
    storage.rename(&path("f"), &path("g")).unwrap();
    storage.power_cut(Survivors::Without(0));
    file_with(&storage, "h", b"other");
    assert_eq!(storage.contents(&path("g")), Some(b"abc".to_vec()));
}

#[test]
fn removals_and_renames_that_were_not_synced_are_undone() {
    let storage = MemoryStorage::new();
    file_with(&storage, "f", b"abc").sync().unwrap();
    file_with(&storage, "g", b"def").sync().unwrap();
    storage.sync_directory(&path("")).unwrap();
    storage.remove_file(&path("f")).unwrap();
    storage.rename(&path("g"), &path("h")).unwrap();
    storage.power_cut(Survivors::None);
    assert_eq!(storage.contents(&path("f")), Some(b"abc".to_vec()));
    assert_eq!(storage.contents(&path("g")), Some(b"def".to_vec()));
    assert_eq!(storage.contents(&path("h")), None);
}

#[test]
fn a_failed_sync_loses_what_it_should_have_kept() {
    let storage = MemoryStorage::new();
    let file = file_with(&storage, "f", b"abc");
    file.sync().unwrap();
    storage.sync_directory(&path("")).unwrap();
    file.write_at(3, &[b"def"]).unwrap();
    storage.inject(Fault::new(Operation::Sync, "f", FaultKind::InputOutput).times(1));
    file.sync().unwrap_err();
    file.sync().unwrap();
    assert_eq!(storage.contents(&path("f")), Some(b"abcdef".to_vec()), "programs still see it");
    storage.power_cut(Survivors::All);
    assert_eq!(storage.contents(&path("f")), Some(b"abc".to_vec()), "a second sync was a lie");
}

#[test]
fn handles_and_locks_end_with_the_power() {
    let storage = MemoryStorage::new();
    let lock = storage.lock(&path("lock")).unwrap();
    let file = file_with(&storage, "f", b"abc");
    storage.power_cut(Survivors::All);
    file.write_at(0, &[b"x"]).unwrap_err();
    file.read_at(0, 1).unwrap_err();
    let _second = storage.lock(&path("lock")).unwrap();
    drop(lock);
    storage.lock(&path("lock")).unwrap_err();
}

#[test]
fn faults_strike_when_and_where_they_should() {
    let storage = MemoryStorage::new();
    let (f, g) = (file_with(&storage, "f", b""), file_with(&storage, "g", b""));
    storage.inject(Fault::new(Operation::Write, "f", FaultKind::InputOutput).after(1).times(2).with_bytes_written(1));
    f.write_at(0, &[b"one"]).unwrap();
    f.write_at(3, &[b"two"]).unwrap_err();
    g.write_at(0, &[b"one"]).unwrap();
    f.write_at(4, &[b"two"]).unwrap_err();
    f.write_at(5, &[b"two"]).unwrap();
    assert_eq!(storage.contents(&path("f")), Some(b"onetttwo".to_vec()));
    storage.inject(Fault::new(Operation::Open, "", FaultKind::Forbidden));
    assert_eq!(storage.open(&path("f"), Open::Read).unwrap_err().source.kind(), io::ErrorKind::PermissionDenied);
    storage.clear_faults();
    storage.open(&path("f"), Open::Read).unwrap();
}

#[test]
fn a_full_disk_takes_what_fits() {
    let storage = MemoryStorage::new();
    let file = file_with(&storage, "f", b"abc");
    storage.set_capacity(Some(5));
    assert!(file.write_at(3, &[b"def"]).unwrap_err().is_full());
    assert_eq!(storage.contents(&path("f")), Some(b"abcde".to_vec()));
    file.write_at(0, &[b"ABC"]).unwrap();
    file.truncate(2).unwrap();
    file.write_at(2, &[b"xyz"]).unwrap();
    storage.remove_file(&path("f")).unwrap();
    file_with(&storage, "g", b"12345");
}

#[test]
fn a_halt_stops_everything_until_the_power_is_back() {
    let storage = MemoryStorage::new();
    storage.halt_after(3);
    let file = file_with(&storage, "f", b"abc");
    file.sync().unwrap();
    storage.sync_directory(&path("")).unwrap();
    assert!(!storage.is_halted());
    file.write_at(3, &[b"def"]).unwrap_err();
    assert!(storage.is_halted());
    file.read_at(0, 1).unwrap_err();
    storage.list(&path("")).unwrap_err();
    assert_eq!(storage.unsynced_changes(), 1, "the last write was under way");
    storage.power_cut(Survivors::Torn { changes: 0, bytes: 1 });
    assert_eq!(storage.contents(&path("f")), Some(b"abcd".to_vec()));
}

#[test]
fn a_seed_draws_the_same_survivors_each_time_and_others_for_another() {
    let outcome = |seed| {
        let storage = MemoryStorage::new();
        for number in 0..10 {
            file_with(&storage, &format!("f{number}"), b"0123456789");
        }
        storage.power_cut(Survivors::Seeded(seed));
        let names = storage.list(&path("")).unwrap();
        names.into_iter().map(|entry| (entry.name, entry.bytes)).collect::<Vec<_>>()
    };
    assert_eq!(outcome(1), outcome(1));
    assert_ne!(outcome(1), outcome(2));
}

#[test]
fn what_is_written_back_is_durable() {
    let storage = MemoryStorage::new();
    file_with(&storage, "f", b"abc");
    storage.write_back();
    storage.power_cut(Survivors::None);
    assert_eq!(storage.contents(&path("f")), Some(b"abc".to_vec()));
}
