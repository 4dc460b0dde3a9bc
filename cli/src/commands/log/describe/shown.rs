//! A log's description as text and as JSON.

use super::Described;
use crate::output::{pairs, table};
use crate::text::{bytes, duration, timestamp};
use headwater_protocol::messages::log::{
    CleaningDescription, CompactionDescription, KeySource, LogDescription, SegmentDescription,
};
use serde_json::{Value, json};
use std::time::Duration;

pub(super) fn document(described: &[Described]) -> Value {
    let partition = |described: &Described| {
        let mut value = match &described.log {
            Ok(log) => log_value(log),
            Err(error) => json!({"error": error.to_string()}),
        };
        if let Value::Object(fields) = &mut value {
            fields.insert("topic".to_owned(), json!(described.topic));
            fields.insert("partition".to_owned(), json!(described.number));
        }
        value
    };
    json!({"partitions": described.iter().map(partition).collect::<Vec<Value>>()})
}

fn log_value(log: &LogDescription) -> Value {
    let segment = |segment: &SegmentDescription| {
        json!({
            "baseOffset": segment.base_offset,
            "endOffset": segment.next_offset,
            "sizeBytes": segment.size_bytes,
            "syncedBytes": segment.synced_bytes,
            "indexBytes": segment.index_bytes,
            "firstTimestamp": segment.first_timestamp,
            "maxTimestamp": segment.max_timestamp,
            "isSealed": segment.is_sealed,
        })
    };
    let quarantined = log.quarantined.iter().map(|range| {
        json!({
            "file": range.file, "position": range.position, "endPosition": range.end_position,
            "from": range.from, "to": range.to, "reason": range.reason,
        })
    });
    json!({
        "directory": log.directory,
        "leaderEpoch": log.leader_epoch,
        "logStartOffset": log.log_start_offset,
        "highWatermark": log.high_watermark,
        "recoveryPoint": log.recovery_point,
        "logEndOffset": log.log_end_offset,
        "sizeBytes": log.size_bytes,
        "segments": log.segments.iter().map(segment).collect::<Vec<Value>>(),
        "quarantined": quarantined.collect::<Vec<Value>>(),
        "quarantinedRanges": log.quarantined_count,
        "producerSnapshots": log.snapshots,
        "compaction": log.compaction.as_ref().map(compaction_value),
    })
}

fn compaction_value(compaction: &CompactionDescription) -> Value {
    let key = match &compaction.key {
        KeySource::Record => json!({"by": "record key"}),
        KeySource::Changelog => json!({"by": "changelog"}),
        KeySource::Extractor { module, digest, settings } => json!({
            "by": "key extractor",
            "module": module,
            "digest": digest.map(|digest| digest.to_string()),
            "settings": settings.iter().map(|(name, value)| json!([name, value])).collect::<Vec<Value>>(),
        }),
    };
    let last = |last: &CleaningDescription| {
        json!({
            "endedAt": last.ended_at,
            "tookMs": last.took_ms,
            "passes": last.passes,
            "sizeBytesBefore": last.bytes_before,
            "sizeBytesAfter": last.bytes_after,
        })
    };
    json!({
        "key": key,
        "cleanedBelow": compaction.cleaned_below,
        "checkpoint": compaction.checkpoint,
        "cleanableBelow": compaction.cleanable_below,
        "cleanBytes": compaction.clean_bytes,
        "dirtyBytes": compaction.dirty_bytes,
        "uncleanableBytes": compaction.uncleanable_bytes,
        "dirtyRatio": dirty_ratio(compaction),
        "isDue": compaction.is_due,
        "lastCleaning": compaction.last.as_ref().map(last),
        "stopped": compaction.stopped,
        "delayed": compaction.delayed,
    })
}

/// The part of what can be cleaned that was not, 0 to 1.
fn dirty_ratio(compaction: &CompactionDescription) -> f64 {
    let all = compaction.clean_bytes.saturating_add(compaction.dirty_bytes);
    if all == 0 { 0.0 } else { compaction.dirty_bytes as f64 / all as f64 }
}

pub(super) fn text(described: &[Described]) -> String {
    let block = |described: &Described| {
        let name = format!("{}-{}", described.topic, described.number);
        match &described.log {
            Ok(log) => format!("{name}\n{}", log_text(log)),
            Err(error) => format!("{name}: {error}"),
        }
    };
    described.iter().map(block).collect::<Vec<_>>().join("\n\n")
}

fn log_text(log: &LogDescription) -> String {
    let snapshots: Vec<String> = log.snapshots.iter().map(ToString::to_string).collect();
    let snapshots = if snapshots.is_empty() { "none yet".to_owned() } else { snapshots.join(", ") };
    let mut lines = vec![
        ("directory", log.directory.clone()),
        ("leader epoch", log.leader_epoch.to_string()),
        ("log start offset", log.log_start_offset.to_string()),
        ("high watermark", log.high_watermark.to_string()),
        ("recovery point", log.recovery_point.to_string()),
        ("log end offset", log.log_end_offset.to_string()),
        ("size", format!("{} in {} segments", bytes(log.size_bytes), log.segment_count)),
        ("producer snapshots", snapshots),
    ];
    if let Some(compaction) = &log.compaction {
        lines.extend(compaction_lines(compaction));
    }
    let mut text = pairs(&lines);
    for range in &log.quarantined {
        let (from, to, file, position) = (range.from, range.to, &range.file, range.position);
        let reason = &range.reason;
        text.push_str(&format!("\nIN QUARANTINE: offsets {from} up to {to}: {file}, byte {position}: {reason}"));
    }
    let more = usize::try_from(log.quarantined_count).unwrap_or(usize::MAX).saturating_sub(log.quarantined.len());
    if more > 0 {
        text.push_str(&format!("\nIN QUARANTINE: {more} more ranges; `headwater log verify` lists all"));
    }
    let rows = log.segments.iter().map(|segment| {
        let time = |ms: Option<i64>| ms.map_or_else(|| "-".to_owned(), timestamp);
        vec![
            format!("{:020}", segment.base_offset),
            segment.next_offset.to_string(),
            bytes(segment.size_bytes),
            bytes(segment.index_bytes),
            time(segment.first_timestamp),
            time(segment.max_timestamp),
            if segment.is_sealed { "sealed" } else { "growing" }.to_owned(),
        ]
    });
    let columns = ["segment", "end offset", "size", "index", "first timestamp", "max timestamp", "state"];
    format!("{text}\n{}", table(&columns, &[1, 2, 3], rows))
}

fn compaction_lines(compaction: &CompactionDescription) -> Vec<(&'static str, String)> {
    let key = match &compaction.key {
        KeySource::Record => "record key".to_owned(),
        KeySource::Changelog => "the changelog's own keys".to_owned(),
        KeySource::Extractor { module, digest, settings } => {
            let digest = digest.map_or_else(|| "no such module".to_owned(), |digest| digest.to_string());
            let settings: String = settings.iter().map(|(name, value)| format!(" {name}={value}")).collect();
            format!("key extractor {module} ({digest}){settings}")
        }
    };
    let again = match compaction.checkpoint > compaction.cleaned_below {
        true => format!(" (up to {} by another key extractor or other settings)", compaction.checkpoint),
        false => String::new(),
    };
    let due = if compaction.is_due { ", due" } else { "" };
    let dirty = format!(
        "{} of {}, ratio {:.2}{due}; {} can't be cleaned yet",
        bytes(compaction.dirty_bytes),
        bytes(compaction.clean_bytes.saturating_add(compaction.dirty_bytes)),
        dirty_ratio(compaction),
        bytes(compaction.uncleanable_bytes),
    );
    let last = compaction.last.as_ref().map_or_else(
        || "none since the broker started".to_owned(),
        |last| {
            let passes = if last.passes == 1 { "one pass".to_owned() } else { format!("{} passes", last.passes) };
            format!(
                "{}: {} became {} in {passes}, {}",
                timestamp(last.ended_at),
                bytes(last.bytes_before),
                bytes(last.bytes_after),
                duration(Duration::from_millis(last.took_ms)),
            )
        },
    );
    let mut lines = vec![
        ("compacted by", key),
        ("cleaned below", format!("{}{again}", compaction.cleaned_below)),
        ("cleanable below", compaction.cleanable_below.to_string()),
        ("dirty", dirty),
        ("last cleaning", last),
    ];
    lines.extend(compaction.stopped.iter().map(|reason| ("COMPACTION STOPPED", reason.clone())));
    lines.extend(compaction.delayed.iter().map(|reason| ("compaction delayed", reason.clone())));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_protocol::error::{ApiError, ErrorCode};
    use headwater_protocol::ids::ModuleDigest;
    use headwater_protocol::messages::log::DamagedRange;

    fn described() -> Vec<Described> {
        let segment = |base_offset, is_sealed| SegmentDescription {
            base_offset,
            next_offset: base_offset + 500,
            size_bytes: 1 << 20,
            synced_bytes: 1 << 20,
            index_bytes: 2048,
            first_timestamp: Some(1_763_884_800_123),
            max_timestamp: None,
            is_sealed,
        };
        let range = DamagedRange {
            file: "/d/0.log".to_owned(),
            position: 61,
            end_position: 200,
            from: 1010,
            to: 1020,
            reason: "its CRC".to_owned(),
        };
        let settings = vec![("pointer".to_owned(), "/id".to_owned())];
        let compaction = CompactionDescription {
            key: KeySource::Extractor {
                module: "json-key".to_owned(),
                digest: Some(ModuleDigest([0xa5; 32])),
                settings,
            },
            cleaned_below: 0,
            checkpoint: 700,
            cleanable_below: 1500,
            clean_bytes: 1 << 20,
            dirty_bytes: 3 << 20,
            uncleanable_bytes: 5 << 20,
            is_due: true,
            last: Some(CleaningDescription {
                ended_at: 1_763_884_800_123,
                took_ms: 350,
                passes: 2,
                bytes_before: 9 << 20,
                bytes_after: 4 << 20,
            }),
            stopped: Some("it traps".to_owned()),
            delayed: None,
        };
        let log = LogDescription {
            directory: "/d/t-2".to_owned(),
            leader_epoch: 4,
            log_start_offset: 1000,
            log_end_offset: 2000,
            high_watermark: 1999,
            recovery_point: 1998,
            size_bytes: 2 << 20,
            segment_count: 2,
            segments: vec![segment(1000, true), segment(1500, false)],
            next_offset: None,
            quarantined: vec![range],
            quarantined_count: 3,
            snapshots: vec![1500, 2000],
            compaction: Some(compaction),
        };
        let error = ApiError::new(ErrorCode::KafkaStorageError, "a disk failed");
        let broken = Described { topic: "words".to_owned(), number: 3, log: Err(error) };
        vec![Described { topic: "words".to_owned(), number: 2, log: Ok(log) }, broken]
    }

    #[test]
    fn the_text_says_what_there_is_and_shouts_what_is_wrong() {
        let text = text(&described());
        for part in [
            "words-2\n",
            "producer snapshots: 1500, 2000",
            "recovery point:     1998",
            "00000000000000001000        1500  1.0 MiB  2.0 KiB  2025-11-23T08:00:00.123Z  -              sealed",
            "growing",
            "key extractor json-key (a5a5",
            "pointer=/id",
            "cleaned below:      0 (up to 700 by another",
            "3.0 MiB of 4.0 MiB, ratio 0.75, due; 5.0 MiB can't be cleaned yet",
            "2025-11-23T08:00:00.123Z: 9.0 MiB became 4.0 MiB in 2 passes, 350 ms",
            "COMPACTION STOPPED: it traps",
            "IN QUARANTINE: offsets 1010 up to 1020: /d/0.log, byte 61: its CRC",
            "IN QUARANTINE: 2 more ranges",
            "words-3: ",
            "a disk failed",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn the_document_is_complete() {
        let document = document(&described());
        let first = &document["partitions"][0];
        assert_eq!(
            (&first["topic"], &first["partition"], &first["sizeBytes"]),
            (&json!("words"), &json!(2), &json!(2 << 20))
        );
        assert_eq!(first["segments"][1]["isSealed"], json!(false));
        assert_eq!(first["compaction"]["dirtyRatio"], json!(0.75));
        assert_eq!(first["compaction"]["key"]["settings"], json!([["pointer", "/id"]]));
        assert_eq!(first["compaction"]["lastCleaning"]["sizeBytesAfter"], json!(4 << 20));
        assert!(document["partitions"][1]["error"].as_str().unwrap().contains("a disk failed"));
    }
}
