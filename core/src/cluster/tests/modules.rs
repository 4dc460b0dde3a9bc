//! Modules.

use super::*;

#[test]
fn versions_count_from_one_unless_named() {
    let mut cluster = Cluster::new();
    assert_eq!(cluster.add_module("m", None, 1).unwrap(), "1");
    assert_eq!(cluster.add_module("m", Some("1.5-rc+2"), 2).unwrap(), "1.5-rc+2");
    assert_eq!(cluster.add_module("m", Some("7"), 3).unwrap(), "7");
    assert_eq!(cluster.add_module("m", None, 4).unwrap(), "8");
    assert_eq!(cluster.add_module("other", None, 4).unwrap(), "1", "the same bytes under another name");
}

#[test]
fn the_same_upload_again_changes_nothing() {
    let mut cluster = Cluster::new();
    cluster.add_module("m", Some("a"), 1).unwrap();
    cluster.add_module("m", None, 2).unwrap();
    let batches = cluster.batches.len();
    assert_eq!(cluster.add_module("m", Some("a"), 1).unwrap(), "a");
    assert_eq!(cluster.add_module("m", None, 2).unwrap(), "1");
    assert_eq!(cluster.batches.len(), batches);
    refused(cluster.add_module("m", Some("a"), 2), ErrorCode::InvalidModule, &["m@a is taken", "0101"]);
    assert_eq!(cluster.add_module("m", None, 1).unwrap(), "2", "back to older bytes is a new version");
}

#[test]
fn a_reference_is_a_name_a_version_or_a_digest() {
    let mut cluster = Cluster::new();
    for (name, version, digest) in [("m", "b", 1), ("m", "a", 2), ("n", "1", 1)] {
        cluster.add_module(name, Some(version), digest).unwrap();
    }
    let resolve = |reference: &str| cluster.image.resolve_module(reference).map(|module| module.reference().label());
    assert_eq!(resolve("m").unwrap(), "m@a", "the newest is the last uploaded");
    assert_eq!(resolve("m@b").unwrap(), "m@b");
    assert_eq!(resolve(&"01".repeat(32)).unwrap(), "n@1");
    refused(resolve("m@c"), ErrorCode::UnknownModule, &["versions of \"m\" are b, a"]);
    refused(resolve("mm"), ErrorCode::UnknownModule, &["no module \"mm\"; did you mean \"m\""]);
    refused(resolve(&"09".repeat(32)), ErrorCode::UnknownModule, &["0909"]);
    refused(resolve(""), ErrorCode::UnknownModule, &[]);
    refused(resolve("@"), ErrorCode::UnknownModule, &[]);
}

#[test]
fn names_and_versions_are_checked() {
    let mut cluster = Cluster::new();
    let invalid = ErrorCode::InvalidModule;
    refused(cluster.add_module("a/b", None, 1), invalid, &["module name"]);
    refused(cluster.add_module(&"ab".repeat(32), None, 1), invalid, &["looks like a digest"]);
    refused(cluster.add_module("m", Some(""), 1), invalid, &["module version can't be empty"]);
    refused(cluster.add_module("m", Some("1@2"), 1), invalid, &["'@'"]);
    refused(cluster.add_module("m", Some(&"1".repeat(65)), 1), invalid, &["at most 64"]);
    cluster.add_module("m", Some(&u64::MAX.to_string()), 1).unwrap();
    refused(cluster.add_module("m", None, 2), invalid, &["name a version"]);
    let mut many = module("n", None, 1);
    many.imports = vec![String::new(); 257];
    refused(add_module(&cluster.image, many), invalid, &["257 interfaces"]);
    let mut long = module("n", None, 1);
    long.world = "w".repeat(513);
    refused(add_module(&cluster.image, long), invalid, &["longer than 512"]);
}

#[test]
fn a_module_in_use_stays_and_its_bytes_are_kept_while_anything_points_at_them() {
    let mut cluster = Cluster::new();
    cluster.create_topic("in", 1).unwrap();
    cluster.add_module("m", Some("1"), 1).unwrap();
    cluster.add_module("m", Some("2"), 2).unwrap();
    cluster.add_module("n", Some("1"), 1).unwrap();
    cluster.deploy(&deployment("p", "m@1", &["in"], &[])).unwrap();
    refused(cluster.delete_module("m@1"), ErrorCode::ModuleInUse, &["m@1", "processor \"p\""]);
    refused(cluster.delete_module("m"), ErrorCode::ModuleInUse, &["m@1"]);
    assert_eq!(cluster.image.modules().count(), 3, "all or nothing");
    refused(cluster.delete_module("x"), ErrorCode::UnknownModule, &[]);
    assert_eq!(cluster.delete_module("n"), Ok(1));
    assert_eq!(cluster.image.digests().len(), 2);
    cluster.deploy(&deployment("p", "m@2", &["in"], &[])).unwrap();
    assert_eq!(cluster.delete_module(&"01".repeat(32)), Ok(1));
    assert_eq!(cluster.image.digests().into_iter().collect::<Vec<_>>(), [ModuleDigest([2; 32])]);
}
