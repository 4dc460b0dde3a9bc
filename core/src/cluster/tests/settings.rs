//! Topic settings.

use super::*;

fn parse(pairs: &[(&str, &str)]) -> Result<TopicSettings, ApiError> {
    parse_for(pairs, false, 3)
}

fn parse_for(pairs: &[(&str, &str)], internal: bool, replication_factor: u16) -> Result<TopicSettings, ApiError> {
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    TopicSettings::parse(&pairs, internal, replication_factor)
}

#[test]
fn defaults_are_safe() {
    let settings = parse(&[]).unwrap();
    assert_eq!(settings.durability, Durability::Fsync);
    assert_eq!((settings.segment_bytes, settings.max_message_bytes), (1 << 30, 1 << 20));
    assert_eq!(settings.min_insync_replicas, 2);
    assert_eq!((settings.retention_ms, settings.retention_bytes), (Some(7 * 24 * 3600 * 1000), None));
    assert_eq!(parse_for(&[], true, 1).unwrap().retention_ms, None, "state does not age");
    assert_eq!(parse_for(&[], false, 2).unwrap().min_insync_replicas, 1);
    assert_eq!(parse_for(&[], true, 1).unwrap().max_message_bytes, 16 << 20);
}

#[test]
fn every_setting_is_parsed_described_and_recorded() {
    let pairs = [
        ("cleanup.policy", "delete,compact"),
        ("compaction.key.extractor", "json-key@2"),
        ("compaction.key.extractor.settings", "pointer=/a=b;else=keep"),
        ("delete.retention.ms", "11"),
        ("max.compaction.lag.ms", "9"),
        ("min.cleanable.dirty.ratio", "0.25"),
        ("min.compaction.lag.ms", "8"),
        ("segment.bytes", "2000000"),
        ("segment.ms", "60000"),
        ("retention.ms", "-1"),
        ("retention.bytes", "5"),
        ("durability", "os"),
        ("max.message.bytes", "4096"),
        ("min.insync.replicas", "3"),
    ];
    let settings = parse(&pairs).unwrap();
    assert_eq!(settings.durability, Durability::Os);
    assert_eq!((settings.segment_bytes, settings.max_message_bytes), (2_000_000, 4096));
    assert_eq!(settings.min_insync_replicas, 3);
    let described: Vec<_> = settings.describe().into_iter().map(|s| (s.name, s.value, s.set_on_topic)).collect();
    let compaction = &settings.compaction;
    assert_eq!((compaction.delete_retention_ms, compaction.lag_ms_min, compaction.lag_ms_max), (11, 8, Some(9)));
    assert_eq!(compaction.dirty_ratio_min.as_f64(), 0.25);
    let extractor = compaction.key_extractor.clone().unwrap();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(extractor.settings, [pair("pointer", "/a=b"), pair("else", "keep")]);
    let expected = [
        ("cleanup.policy", "compact,delete"),
        ("compaction.key.extractor", "json-key@2"),
        ("compaction.key.extractor.settings", "pointer=/a=b;else=keep"),
        ("delete.retention.ms", "11"),
        ("durability", "os"),
        ("max.compaction.lag.ms", "9"),
        ("max.message.bytes", "4096"),
        ("min.cleanable.dirty.ratio", "0.25"),
        ("min.compaction.lag.ms", "8"),
        ("min.insync.replicas", "3"),
        ("retention.bytes", "5"),
        ("retention.ms", "-1"),
        ("segment.bytes", "2000000"),
        ("segment.ms", "60000"),
    ];
    assert_eq!(described, expected.map(|(name, value)| (name.to_owned(), value.to_owned(), true)));
    assert_eq!(TopicSettings::parse(&settings.overrides(), false, 3).unwrap(), settings);
    let defaults = parse(&[]).unwrap();
    assert!(defaults.overrides().is_empty());
    assert!(defaults.describe().iter().all(|setting| !setting.set_on_topic));
    assert_eq!(defaults.describe().len(), 14);
    assert_eq!(defaults.compaction, CompactionSettings::default());
    let values: Vec<_> = defaults.describe().into_iter().map(|setting| setting.value).collect();
    assert_eq!(values[..4], ["delete", "", "", "86400000"]);
    assert_eq!((values[5].as_str(), values[7].as_str(), values[8].as_str()), ("-1", "0.5", "0"));
}

#[test]
fn a_wrong_name_gets_the_right_one_and_a_wrong_value_its_range_and_reason() {
    let config = ErrorCode::InvalidConfig;
    refused(parse(&[("segment.byte", "1")]), config, &["did you mean \"segment.bytes\"", "durability, max.compaction"]);
    refused(parse(&[("durability", "fsink")]), config, &["did you mean \"fsync\"", "power cut"]);
    refused(parse(&[("durability", "os"), ("durability", "os")]), config, &["twice"]);
    refused(parse(&[("segment.bytes", "1000")]), config, &["1048576 to 2147483647", "largest batch"]);
    refused(parse(&[("segment.bytes", "2147483648")]), config, &["1048576 to 2147483647"]);
    refused(parse(&[("max.message.bytes", "16777217")]), config, &["1024 to 16777216", "frame"]);
    refused(parse(&[("max.message.bytes", "-1")]), config, &["max.message.bytes=\"-1\""]);
    refused(parse(&[("min.insync.replicas", "4")]), config, &["1 to 3", "replication factor"]);
    refused(parse(&[("min.insync.replicas", "0")]), config, &["1 to 3"]);
    refused(parse(&[("retention.ms", "-2")]), config, &["retention.ms=\"-2\"", "-1 for no limit"]);
    refused(parse(&[("retention.bytes", "1 GB")]), config, &["bytes of a partition", "-1 for no limit"]);
    refused(parse(&[("segment.ms", "0")]), config, &["1 to 9223372036854775807"]);
    refused(parse(&[("bananas", "1")]), config, &["no setting \"bananas\"; the settings are"]);
    let long = "é".repeat(10_000);
    let error = parse(&[(&long, &long)]).unwrap_err();
    assert!(error.message.len() < 1000, "a message repeats only so much of what it was given");
    let many = vec![("durability".to_owned(), "os".to_owned()); 300];
    refused(TopicSettings::parse(&many, false, 1), config, &["300 settings"]);
}

fn altered(settings: &TopicSettings, set: &[(&str, &str)], delete: &[&str]) -> Result<TopicSettings, ApiError> {
    let set: Vec<_> = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let delete: Vec<_> = delete.iter().map(|name| (*name).to_owned()).collect();
    settings.altered(&set, &delete, false, 3)
}

#[test]
fn settings_are_set_and_get_their_defaults_back_one_by_one() {
    let before = parse(&[("durability", "os"), ("segment.ms", "5")]).unwrap();
    let after = altered(&before, &[("segment.ms", "7"), ("max.message.bytes", "2048")], &["durability"]).unwrap();
    assert_eq!(after, parse(&[("segment.ms", "7"), ("max.message.bytes", "2048")]).unwrap());
    assert_eq!(altered(&after, &[], &["durability"]).unwrap(), after, "it has its default already");
    let config = ErrorCode::InvalidConfig;
    refused(altered(&before, &[], &["segment.mss"]), config, &["did you mean \"segment.ms\""]);
    refused(altered(&before, &[("segment.ms", "7")], &["segment.ms"]), config, &["both set and deleted"]);
    refused(altered(&before, &[("segment.ms", "x")], &[]), config, &["whole number"]);
}

#[test]
fn compaction_is_asked_for_in_words_that_do_not_contradict_each_other() {
    let config = ErrorCode::InvalidConfig;
    let compact = ("cleanup.policy", "compact");
    let policy = parse(&[compact]).unwrap().cleanup_policy;
    assert_eq!(policy, CleanupPolicy { compact: true, delete: false });
    assert_eq!(parse(&[]).unwrap().cleanup_policy, CleanupPolicy { compact: false, delete: true });
    let internal = parse_for(&[], true, 1).unwrap();
    assert_eq!(internal.cleanup_policy, policy, "a changelog is compacted");
    assert_eq!(internal.segment_bytes, 16 << 20, "what is not cleaned yet stays small");
    refused(parse_for(&[("cleanup.policy", "compact,delete")], true, 1), config, &["state, however old"]);
    refused(parse(&[("cleanup.policy", "compakt")]), config, &["did you mean \"compact\"", "delete, compact or both"]);
    refused(parse(&[("cleanup.policy", "")]), config, &["delete, compact or both"]);
    refused(parse(&[("cleanup.policy", "delete,delete")]), config, &["twice"]);
    for bad in ["1.01", "-0.1", "NaN", "half", "inf"] {
        refused(parse(&[("min.cleanable.dirty.ratio", bad)]), config, &["from 0 to 1"]);
    }
    refused(parse(&[("max.compaction.lag.ms", "0")]), config, &["can't be clean at every moment"]);
    let lags = [("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "9")];
    refused(parse(&lags), config, &["min.compaction.lag.ms=10 is above max.compaction.lag.ms=9"]);
    let extractor = ("compaction.key.extractor", "json-key");
    refused(parse(&[extractor]), config, &["cleanup.policy=delete does not compact", "set cleanup.policy=compact"]);
    let settings = ("compaction.key.extractor.settings", "a=b");
    refused(parse(&[compact, settings]), config, &["without compaction.key.extractor"]);
    let settings = ("compaction.key.extractor.settings", "a=b;c");
    refused(parse(&[compact, extractor, settings]), config, &["\"c\" is not NAME=VALUE"]);
    refused(parse(&[compact, ("compaction.key.extractor", "a/b")]), config, &["compaction.key.extractor", "'/'"]);
    refused(parse(&[compact, ("compaction.key.extractor", "a@")]), config, &["module version can't be empty"]);
    let long = format!("a={}", "x".repeat(5000));
    let settings = ("compaction.key.extractor.settings", long.as_str());
    refused(parse(&[compact, extractor, settings]), config, &["5002 bytes, more than 4096"]);
    let before = parse(&[compact, extractor, ("compaction.key.extractor.settings", "a=b")]).unwrap();
    assert_eq!(altered(&before, &[("segment.ms", "5")], &[]).unwrap().compaction, before.compaction);
    refused(altered(&before, &[], &["cleanup.policy"]), config, &["does not compact"]);
}
