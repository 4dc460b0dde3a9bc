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
    let expected = [
        ("durability", "os"),
        ("max.message.bytes", "4096"),
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
    assert_eq!(defaults.describe().len(), 7);
}

#[test]
fn a_wrong_name_gets_the_right_one_and_a_wrong_value_its_range_and_reason() {
    let config = ErrorCode::InvalidConfig;
    refused(parse(&[("segment.byte", "1")]), config, &["did you mean \"segment.bytes\"", "durability, max.message"]);
    refused(parse(&[("compaction", "1")]), config, &["no setting \"compaction\"; the settings are"]);
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
