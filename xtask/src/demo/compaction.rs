//! `cargo xtask demo compaction`: change-data rows whose key is inside of their JSON, compacted by `json-key` to the
//! latest of each id. The size before and after, and the final table read from both.

use super::{Broker, progress_bar};
use crate::command::{Error, Result};
use crate::setup::{Permission, guest_compiler};
use crate::workspace::{build_headwater, root, target_directory};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Rows, and ids among them.
const ROWS: u64 = 200_000;
const IDS: u64 = 100;
const COMPACT_SECONDS_MAX: u64 = 60;
const STATES: [&str; 4] = ["new", "paid", "packed", "shipped"];

/// Final row of each id.
type Table = BTreeMap<u64, String>;

/// Runs it; says OK, or fails with what differed.
pub(crate) fn run(permission: Permission) -> Result<()> {
    let compiler = guest_compiler(permission)?;
    let headwater = build_headwater()?;
    let data = target_directory()?.join("demo-compaction");
    if data.exists() {
        fs::remove_dir_all(&data).map_err(|error| Error::new(format!("{}: {error}", data.display())))?;
    }
    let components = target_directory()?.join("components");
    let component = crate::modules::build(&headwater, &compiler, &root().join("modules/json-key"), &components)?;
    let broker = Broker::start(&headwater, &data)?;
    broker.show(&["module", "upload", "json-key", &component.to_string_lossy()])?;
    // Not compacted before the table was read.
    broker.show(&["topic", "create", "orders", "--config", "segment.bytes=1048576"])?;
    produce(&broker)?;
    let (before, rows_before) = read_table(&broker, "rows before")?;
    let bytes_before = size(&broker)?;

    let extractor = "compaction.key.extractor=json-key";
    let settings = "compaction.key.extractor.settings=pointer=/order/id";
    broker.show(&[
        "topic",
        "alter",
        "orders",
        "--set",
        "cleanup.policy=compact",
        "--set",
        extractor,
        "--set",
        settings,
    ])?;
    let started = Instant::now();
    let bytes_after = loop {
        let bytes = size(&broker)?;
        if bytes < bytes_before / 4 {
            break bytes;
        }
        if started.elapsed() > Duration::from_secs(COMPACT_SECONDS_MAX) {
            return Err(broker.said("the topic was not compacted in time"));
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    let (after, rows_after) = read_table(&broker, "rows after")?;
    print(&before, &after);
    println!("\n  before: {rows_before:>9} rows, {:>7.2} MB", bytes_before as f64 / 1e6);
    println!("  after:  {rows_after:>9} rows, {:>7.2} MB", bytes_after as f64 / 1e6);
    if before != after || before.len() as u64 != IDS {
        return Err(Error::new("the table read after compaction is another one"));
    }
    println!("\nOK: {IDS} ids, the same final table from both.");
    broker.stop()
}

/// Rows as an application that captures changes would write them.
fn produce(broker: &Broker) -> Result<()> {
    let bar = progress_bar(ROWS, "{prefix:11} {bar:40} {human_pos}/{human_len} {eta}", "produced");
    let failed = |error: std::io::Error| Error::new(format!("`headwater produce orders`: {error}"));
    eprintln!("+ headwater produce orders");
    let mut command = broker.command(&["produce", "orders"]);
    let mut producer = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().map_err(failed)?;
    let mut lines = producer.stdin.take().ok_or_else(|| Error::new("`headwater produce` has no standard input"))?;
    let mut text = String::new();
    for number in 0..ROWS {
        // Some ids change often, some seldom.
        let id = (number * number + number / 7) % IDS;
        let state = STATES[(number / IDS % 4) as usize];
        text.push_str(&format!(
            "{{\"order\":{{\"id\":{id},\"total\":{}}},\"state\":\"{state}\",\"at\":{number}}}\n",
            number % 977
        ));
        if text.len() > 64 << 10 || number + 1 == ROWS {
            lines.write_all(text.as_bytes()).map_err(failed)?;
            text.clear();
            bar.set_position(number + 1);
        }
    }
    // Every id once more, so that each is there.
    for id in 0..IDS {
        writeln!(lines, "{{\"order\":{{\"id\":{id},\"total\":{}}},\"state\":\"closed\",\"at\":{}}}", id * 3, ROWS + id)
            .map_err(failed)?;
    }
    drop(lines);
    let status = producer.wait().map_err(failed)?;
    bar.finish();
    if status.success() { Ok(()) } else { Err(Error::new(format!("`headwater produce orders` failed: {status}"))) }
}

/// What a reader from the beginning has at the end, and how many rows it was given.
fn read_table(broker: &Broker, prefix: &'static str) -> Result<(Table, u64)> {
    let failed = |error: std::io::Error| Error::new(format!("`headwater consume orders`: {error}"));
    let bar = progress_bar(ROWS + IDS, "{prefix:11} {bar:40} {human_pos}/{human_len}", prefix);
    let mut command = broker.command(&["consume", "orders", "--from-beginning", "--until-end"]);
    let mut consumer = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let records = consumer.stdout.take().ok_or_else(|| Error::new("`headwater consume` has no standard output"))?;
    let (mut table, mut rows) = (Table::new(), 0);
    for row in BufReader::new(records).lines() {
        let row = row.map_err(failed)?;
        let id = row.strip_prefix("{\"order\":{\"id\":").and_then(|rest| rest.split(',').next()?.parse().ok());
        table.insert(id.ok_or_else(|| Error::new(format!("a strange row: {row:?}")))?, row);
        rows += 1;
        bar.inc(1);
    }
    bar.finish();
    let status = consumer.wait().map_err(failed)?;
    if status.success() { Ok((table, rows)) } else { Err(Error::new(format!("`headwater consume` failed: {status}"))) }
}

/// Bytes of the topic on the disk.
fn size(broker: &Broker) -> Result<u64> {
    let text = broker.headwater(&["log-dirs", "--topic", "orders", "--format", "json"])?;
    let size = text.split_once("\"sizeBytes\":").map(|(_, rest)| rest.trim_start());
    let digits = size.and_then(|rest| rest.split(|other: char| !other.is_ascii_digit()).next());
    digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| Error::new(format!("no size in {text}")))
}

fn print(before: &Table, after: &Table) {
    println!("\nThe final rows of some ids, read before and after:");
    for id in (0..IDS).step_by(25) {
        let row = |table: &Table| table.get(&id).cloned().unwrap_or_default();
        println!("  before {}\n  after  {}", row(before), row(after));
    }
}
