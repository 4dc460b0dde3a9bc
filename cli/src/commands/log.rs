//! `headwater log …`: describing what lies in logs, and checking it, by a broker or without one.

mod describe;

use crate::arguments::GlobalOptions;
use crate::context::connect;
use crate::error::CliError;
use crate::output::table;
use crate::progress::Progress;
use crate::text::bytes;
use clap::{Args, Subcommand};
use headwater_client::Admin;
use headwater_log::offline::{PartitionCheck, check_directory, directory_bytes};
use headwater_log::storage::file::FileStorage;
use headwater_protocol::ids::TopicId;
use headwater_protocol::messages::log::VerifiedPiece;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// About how many bytes one request has checked.
const PIECE_BYTES: u32 = 32 << 20;

/// Words of `headwater log`.
#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Read every batch and check it, here or by the brokers.
    Verify(VerifyArguments),
    /// Print what partitions' logs are made of: offsets, segments, damage, and how compaction stands.
    Describe(describe::DescribeArguments),
}

/// Words of `headwater log verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
A range that is damaged goes into quarantine: it is not served, everything else is. With --data-dir nothing is changed,
and no broker should run on the directory. The exit code is 1 when anything is damaged.

Examples:
  headwater log verify
  headwater log verify words
  headwater log verify words --partition 3 --format json
  headwater log verify --data-dir headwater-data")]
pub(crate) struct VerifyArguments {
    /// Only these topics [default: all, internal ones too].
    #[arg(value_name = "TOPIC")]
    topics: Vec<String>,
    /// Only this partition.
    #[arg(long, value_name = "NUMBER", conflicts_with = "data_dir")]
    partition: Option<u32>,
    /// A broker's data directory on this machine, while no broker runs on it.
    #[arg(long, value_name = "DIR", conflicts_with = "topics")]
    data_dir: Option<PathBuf>,
}

/// What was found in one partition.
struct Found {
    partition: String,
    batches: u64,
    size_bytes: u64,
    /// As JSON: file, position, endPosition, from, to, reason.
    damaged: Vec<Value>,
    /// Other things that are wrong, each in words.
    troubles: Vec<String>,
    /// What the next start mends by itself.
    notes: Vec<String>,
}

pub(crate) async fn run(command: LogCommand, global: &GlobalOptions) -> Result<(), CliError> {
    let arguments = match command {
        LogCommand::Verify(arguments) => arguments,
        LogCommand::Describe(arguments) => return describe::run(&arguments, global).await,
    };
    let found = match &arguments.data_dir {
        Some(directory) => verify_directory(directory)?,
        None => {
            let client = connect(global).await?;
            let found = verify(&client.admin(), &arguments).await;
            client.close().await;
            found?
        }
    };
    global.format.print(&document(&found), || text(&found))?;
    match found.iter().map(|found| found.damaged.len() + found.troubles.len()).sum::<usize>() {
        0 => Ok(()),
        1 => Err(CliError::Unsound("one range".to_owned())),
        count => Err(CliError::Unsound(format!("{count} ranges"))),
    }
}

/// The topics of these names, or all, and of each the partition of this number, or all.
async fn choose(
    admin: &Admin,
    topics: &[String],
    partition: Option<u32>,
) -> Result<(Vec<String>, Vec<(String, TopicId, u32)>), CliError> {
    let topics = match topics {
        [] => {
            let cluster = admin.metadata(None, true).await?;
            cluster.topics.into_iter().map(|topic| topic.name.to_string()).collect()
        }
        named => named.to_vec(),
    };
    let mut partitions: Vec<(String, TopicId, u32)> = Vec::new();
    for name in &topics {
        let topic = admin.describe_topic(name).await?;
        let count = topic.partitions.len() as u32;
        if let Some(asked) = partition.filter(|asked| *asked >= count) {
            let message = format!("topic {name} has partitions 0 to {}, not {asked}", count.saturating_sub(1));
            return Err(CliError::Usage(message));
        }
        let numbers = (0..count).filter(|number| partition.is_none_or(|asked| asked == *number));
        partitions.extend(numbers.map(|number| (name.to_owned(), topic.id, number)));
    }
    Ok((topics, partitions))
}

/// Has the brokers check, a piece at a time.
async fn verify(admin: &Admin, arguments: &VerifyArguments) -> Result<Vec<Found>, CliError> {
    let (topics, partitions) = choose(admin, &arguments.topics, arguments.partition).await?;
    let sizes = admin.log_dirs(Some(topics)).await?;
    let on_disks = sizes.iter().flat_map(|answer| &answer.directories).flat_map(|directory| &directory.partitions);
    let total: u64 = on_disks.map(|partition| partition.size_bytes).sum();
    let mut progress = Progress::new(Some(total), true);
    let (mut done, mut found) = (0, Vec::new());
    for (name, topic, number) in partitions {
        let mut of_it = Found::new(format!("{name}-{number}"));
        let mut from = 0;
        loop {
            let answer = admin.verify_log(vec![(topic, number, from)], PIECE_BYTES).await?.pop();
            let piece = match answer {
                Some(Ok(piece)) => piece,
                Some(Err(error)) => {
                    of_it.troubles.push(error.to_string());
                    break;
                }
                None => break,
            };
            done += piece.bytes;
            progress.set(done, || of_it.partition.clone());
            of_it.add(&piece);
            if piece.next_offset >= piece.end_offset || piece.next_offset <= from && piece.bytes == 0 {
                break;
            }
            from = piece.next_offset;
        }
        found.push(of_it);
    }
    Ok(found)
}

/// Checks a data directory of this machine.
fn verify_directory(directory: &Path) -> Result<Vec<Found>, CliError> {
    let logs = directory.join("logs");
    let logs = if logs.is_dir() { logs } else { directory.to_path_buf() };
    let mut progress = Progress::new(Some(directory_bytes(&FileStorage, &logs)?), true);
    let mut found = Vec::new();
    check_directory(
        &FileStorage,
        &logs,
        |done| progress.set(done, String::new),
        |check| found.push(Found::of_check(&check)),
    )?;
    if found.is_empty() {
        let message = format!("{}: no partitions lie there; name a broker's data_dir", directory.display());
        return Err(CliError::Usage(message));
    }
    Ok(found)
}

impl Found {
    fn new(partition: String) -> Self {
        let (damaged, troubles, notes) = (Vec::new(), Vec::new(), Vec::new());
        Self { partition, batches: 0, size_bytes: 0, damaged, troubles, notes }
    }

    fn add(&mut self, piece: &VerifiedPiece) {
        self.batches += piece.batches;
        self.size_bytes += piece.bytes;
        self.damaged.extend(piece.damaged.iter().map(|range| {
            json!({
                "file": range.file, "position": range.position, "endPosition": range.end_position,
                "from": range.from, "to": range.to, "reason": range.reason,
            })
        }));
    }

    fn of_check(check: &PartitionCheck) -> Self {
        let mut found = Self::new(check.name.clone());
        (found.batches, found.size_bytes) = (check.batches, check.bytes);
        found.damaged.extend(check.damaged.iter().map(|(file, range)| {
            json!({
                "file": file.display().to_string(), "position": range.position, "endPosition": range.end_position,
                "from": range.from, "to": range.to, "reason": range.reason,
            })
        }));
        found.troubles.extend(check.gaps.iter().map(|(file, expected, begins)| {
            format!("{} begins at offset {begins} where {expected} is due: a segment is missing", file.display())
        }));
        found.notes.extend(check.torn_end.iter().map(|(file, position, reason)| {
            format!("{}, from byte {position}: {reason}; never synced, the next start cuts it off", file.display())
        }));
        found
    }
}

fn document(found: &[Found]) -> Value {
    let partition = |found: &Found| {
        json!({
            "partition": found.partition,
            "batches": found.batches,
            "sizeBytes": found.size_bytes,
            "damaged": found.damaged,
            "troubles": found.troubles,
            "notes": found.notes,
        })
    };
    json!({"partitions": found.iter().map(partition).collect::<Vec<Value>>()})
}

fn text(found: &[Found]) -> String {
    let rows = found.iter().map(|found| {
        let damaged = found.damaged.len() + found.troubles.len();
        vec![found.partition.clone(), found.batches.to_string(), bytes(found.size_bytes), damaged.to_string()]
    });
    let mut text = table(&["partition", "batches", "size", "damaged"], &[1, 2, 3], rows);
    for found in found {
        for range in &found.damaged {
            let file = range["file"].as_str().unwrap_or_default();
            let reason = range["reason"].as_str().unwrap_or_default();
            text.push_str(&format!(
                "\n{}: offsets {} up to {} are damaged: {file}, byte {}: {reason}",
                found.partition, range["from"], range["to"], range["position"],
            ));
        }
        for line in found.troubles.iter().chain(&found.notes) {
            text.push_str(&format!("\n{}: {line}", found.partition));
        }
    }
    text
}
