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
    storage.create_directory(&path("d")).unwrap();
    storage.rename(&path("d"), &path("e")).unwrap();
    storage.power_cut(Survivors::Prefix(9));
    storage.create_directory(&path("x")).unwrap();
    storage.rename(&path("x"), &path("y")).unwrap();
    storage.power_cut(Survivors::Without(0));
    assert_eq!(storage.list(&path("y")).unwrap(), [], "an empty directory");
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

#[test]
fn unsynced_sectors_survive_vanish_or_tear_one_by_one() {
    let (before, after) = ([b'a'; 512 * 4], [b'b'; 512 * 6]);
    let (mut mixed, mut torn, mut short) = (0, 0, 0);
    for seed in 0..200 {
        let storage = MemoryStorage::new();
        let file = file_with(&storage, "f", &before);
        file.sync().unwrap();
        storage.sync_directory(&path("")).unwrap();
        file.write_at(0, &[&after]).unwrap();
        storage.power_cut(Survivors::Sectors { seed, sector_bytes: 512 });
        let found = storage.contents(&path("f")).unwrap();
        assert!(found.len() == before.len() || found.len() == after.len(), "a length that it had");
        let kinds: BTreeSet<Option<u8>> =
            found.chunks(512).map(|sector| sector.iter().all(|byte| *byte == sector[0]).then_some(sector[0])).collect();
        mixed += u32::from(kinds.contains(&Some(b'a')) && kinds.contains(&Some(b'b')));
        torn += u32::from(kinds.contains(&None));
        short += u32::from(found.len() == before.len());
        assert!(found[..2048].iter().all(|byte| b"ab".contains(byte)), "nothing that never was");
        assert!(found[2048..].iter().all(|byte| b"\0b".contains(byte)), "what was not written reads as zeros");
    }
    assert!(mixed > 50 && torn > 20 && short > 20, "mixed {mixed}, torn {torn}, short {short}");
}

#[test]
fn what_was_synced_survives_in_sectors_that_are_written_again() {
    for seed in 0..100 {
        let storage = MemoryStorage::new();
        let file = file_with(&storage, "f", b"durable");
        file.sync().unwrap();
        storage.sync_directory(&path("")).unwrap();
        for number in 0..20 {
            file.write_at(7 + 40 * number, &[&[b'x'; 40]]).unwrap();
        }
        storage.power_cut(Survivors::Sectors { seed, sector_bytes: 512 });
        assert!(storage.contents(&path("f")).unwrap().starts_with(b"durable"), "seed {seed}");
    }
}

#[test]
fn a_failed_sync_may_have_written_some_of_it() {
    let kept = |seed| {
        let storage = MemoryStorage::new();
        let file = file_with(&storage, "f", b"");
        storage.sync_directory(&path("")).unwrap();
        file.write_at(0, &[&[b'x'; 5000]]).unwrap();
        let fault = Fault::new(Operation::Sync, "f", FaultKind::InputOutput).times(1).with_sectors_kept(seed);
        storage.inject(fault);
        file.sync().unwrap_err();
        assert_eq!(storage.unsynced_changes(), 0, "what it dropped is gone");
        storage.power_cut(Survivors::All);
        storage.contents(&path("f")).unwrap().iter().filter(|byte| **byte == b'x').count()
    };
    let found: BTreeSet<usize> = (0..50).map(kept).collect();
    assert!(found.len() > 5 && found.contains(&0), "{found:?}");
}

#[test]
fn any_call_can_fail() {
    let storage = MemoryStorage::new();
    let file = file_with(&storage, "f", b"abc");
    storage.inject(Fault::of_any_call("", FaultKind::Full).after(1).times(3));
    file.read_at(0, 1).unwrap();
    assert!(file.bytes().unwrap_err().is_full());
    assert!(storage.rename(&path("f"), &path("g")).unwrap_err().is_full());
    assert!(file.write_at(0, &[b"x"]).unwrap_err().is_full());
    file.sync().unwrap();
}

#[test]
fn bits_rot_at_rest_and_back() {
    let storage = MemoryStorage::new();
    let file = file_with(&storage, "f", b"abc");
    assert!(!storage.damage(&path("f"), 1, 0), "it is not at rest yet");
    file.sync().unwrap();
    assert!(storage.damage(&path("f"), 1, 0));
    assert_eq!(file.read_at(0, 3).unwrap().as_ref(), b"acc");
    assert!(storage.damage(&path("f"), 1, 0));
    assert_eq!(storage.contents(&path("f")), Some(b"abc".to_vec()));
    assert!(!storage.damage(&path("f"), 3, 0) && !storage.damage(&path("g"), 0, 0));
}

#[test]
fn a_directory_comes_back_as_it_once_was() {
    let storage = MemoryStorage::new();
    let empty = storage.snapshot();
    storage.create_directory(&path("d/deeper")).unwrap();
    let file = file_with(&storage, "d/deeper/f", b"abc");
    file_with(&storage, "g", b"abc");
    storage.write_back();
    let old = storage.snapshot();
    file.write_at(0, &[b"ABCD"]).unwrap();
    storage.write_back();
    for (snapshot, expected) in [(&old, Some(b"abc".to_vec())), (&empty, None), (&old, Some(b"abc".to_vec()))] {
        storage.return_as(snapshot, &path("d"));
        assert_eq!(storage.contents(&path("d/deeper/f")), expected);
        assert_eq!(storage.contents(&path("g")), Some(b"abc".to_vec()), "nothing else changes");
        assert!(storage.list(&path("d")).is_ok());
        file.read_at(0, 1).unwrap_err();
    }
    assert_eq!(MemoryStorage::of(&old).contents(&path("d/deeper/f")), Some(b"abc".to_vec()));
    file_with(&storage, "d/new", b"x");
    assert_eq!(storage.contents(&path("d/deeper/f")), Some(b"abc".to_vec()), "ids are its own");
}
