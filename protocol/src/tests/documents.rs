//! `docs/protocol.md` says what the code does.

use crate::error::ErrorCode;
use crate::frame::{FramePrefix, encode_header};
use crate::limits;
use crate::messages::cluster::MetadataRequest;
use crate::messages::{ApiKey, Request};

const PROTOCOL: &str = include_str!("../../../docs/protocol.md");

/// Cells of the rows of the first table under the heading.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, section) = PROTOCOL.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

#[test]
fn every_api_is_in_the_table_with_its_number_and_versions() {
    let documented: Vec<String> = table("Apis").iter().map(|row| row[..3].join(" ")).collect();
    let spoken: Vec<String> =
        ApiKey::SUPPORTED.iter().map(|(api, low, high)| format!("{} {api:?} {low}–{high}", *api as u16)).collect();
    assert_eq!(documented, spoken);
}

#[test]
fn every_error_is_in_the_table_with_its_number() {
    let documented: Vec<String> = table("Errors").iter().map(|row| [row[0], row[1], row[3]].join(" ")).collect();
    let retry = |code: &ErrorCode| if code.is_retriable() { "yes" } else { "no" };
    let known: Vec<String> =
        ErrorCode::ALL.iter().map(|code| format!("{} {code} {}", i16::from(*code), retry(code))).collect();
    assert_eq!(documented, known);
}

#[test]
fn every_limit_is_in_the_table_with_its_value() {
    macro_rules! known {
        ($($name:ident),+ $(,)?) => { vec![$(format!("{} {}", stringify!($name), limits::$name)),+] };
    }
    let known = known![
        FRAME_HEADER_BYTES_MAX,
        FRAME_BODY_BYTES_MAX,
        MODULE_BYTES_MAX,
        UNAUTHENTICATED_FRAME_BYTES_MAX,
        CLIENT_NAME_BYTES_MAX,
        BATCH_BYTES_MAX,
        INTERNAL_BATCH_BYTES_MAX,
        RECORDS_PER_BATCH_MAX,
        HEADERS_PER_RECORD_MAX,
        DECOMPRESSED_BYTES_MAX,
        DECOMPRESSION_RATIO_MAX,
        RATIO_FREE_BYTES_MAX,
        ZSTD_WINDOW_LOG_MAX,
    ];
    let declared = include_str!("../limits.rs").lines().filter(|line| line.starts_with("pub const ")).count();
    assert_eq!(known.len(), declared, "every limit of limits.rs is known here");
    let documented: Vec<String> = table("Limits").iter().map(|row| row[..2].join(" ")).collect();
    assert_eq!(documented, known);
}

#[test]
fn the_frame_that_is_drawn_is_the_frame_that_is_sent() {
    let header = encode_header(&MetadataRequest { topics: None, include_internal: false }).unwrap();
    let prefix = FramePrefix {
        api: MetadataRequest::API as u16,
        version: MetadataRequest::VERSION,
        correlation: 7,
        header_bytes: header.len() as u32,
        body_bytes: 0,
    };
    let sent: Vec<String> = prefix.encode().iter().chain(&header).map(|byte| format!("{byte:02x}")).collect();
    let (_, drawn) = PROTOCOL.split_once("as it travels:\n\n```text\n").unwrap();
    let drawn: Vec<&str> = drawn.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(drawn, sent);
}
