//! `headwater log-dirs`.

use crate::arguments::GlobalOptions;
use crate::context::connect;
use crate::error::CliError;
use crate::output::table;
use crate::text::bytes;
use clap::Args;
use headwater_protocol::messages::topic::{DescribeLogDirsResponse, LogDirectory};
use serde_json::{Value, json};

/// Words of `headwater log-dirs`.
#[derive(Debug, Args)]
#[command(after_help = "\
JSON has the fields of kafka-log-dirs (version 1) and more; its size is sizeBytes, as everywhere here.

Examples:
  headwater log-dirs
  headwater log-dirs --topic lines --topic counts
  headwater log-dirs --format json")]
pub(crate) struct LogDirsArguments {
    /// Only partitions of this topic; may be repeated [default: all, internal ones too].
    #[arg(long, value_name = "TOPIC")]
    topic: Vec<String>,
}

pub(crate) async fn run(arguments: LogDirsArguments, global: &GlobalOptions) -> Result<(), CliError> {
    let client = connect(global).await?;
    let answers = look(&client.admin(), &arguments.topic).await;
    client.close().await;
    let answers = answers?;
    global.format.print(&document(&answers), || text(&answers))
}

async fn look(admin: &headwater_client::Admin, topics: &[String]) -> Result<Vec<DescribeLogDirsResponse>, CliError> {
    for topic in topics {
        // Says what is missing; a disk has nothing of a topic that isn't there.
        admin.describe_topic(topic).await?;
    }
    Ok(admin.log_dirs((!topics.is_empty()).then(|| topics.to_vec())).await?)
}

fn document(answers: &[DescribeLogDirsResponse]) -> Value {
    let directory = |directory: &LogDirectory| {
        let partitions: Vec<Value> = directory
            .partitions
            .iter()
            .map(|partition| {
                json!({
                    "partition": format!("{}-{}", partition.topic, partition.partition),
                    "sizeBytes": partition.size_bytes,
                    "isFuture": false,
                    "logStartOffset": partition.log_start_offset,
                    "logEndOffset": partition.log_end_offset,
                    "segments": partition.segments,
                })
            })
            .collect();
        json!({
            "logDir": directory.path,
            "directoryId": directory.id.to_string(),
            "error": directory.error,
            "partitions": partitions,
        })
    };
    let brokers: Vec<Value> = answers
        .iter()
        .map(|answer| {
            let directories: Vec<Value> = answer.directories.iter().map(directory).collect();
            json!({"broker": answer.broker.0, "logDirs": directories})
        })
        .collect();
    json!({"version": 1, "brokers": brokers})
}

fn text(answers: &[DescribeLogDirsResponse]) -> String {
    let mut blocks = Vec::new();
    for answer in answers {
        for directory in &answer.directories {
            let total: u64 = directory.partitions.iter().map(|partition| partition.size_bytes).sum();
            let mut block = format!("broker {}, {}: {}\n", answer.broker.0, directory.path, bytes(total));
            if let Some(error) = &directory.error {
                block.push_str(&format!("FAILED, takes no more writes: {error}\n"));
            }
            let rows = directory.partitions.iter().map(|partition| {
                vec![
                    partition.topic.clone(),
                    partition.partition.to_string(),
                    bytes(partition.size_bytes),
                    format!("{}..{}", partition.log_start_offset, partition.log_end_offset),
                    partition.segments.to_string(),
                ]
            });
            block.push_str(&table(&["topic", "partition", "size", "offsets", "segments"], &[1, 2, 4], rows));
            blocks.push(block);
        }
    }
    blocks.join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_protocol::ids::{BrokerId, DirectoryId};
    use headwater_protocol::messages::topic::LogDirectoryPartition;

    #[test]
    fn both_forms_name_the_size_and_the_failure() {
        let answers = [DescribeLogDirsResponse {
            broker: BrokerId(1),
            directories: vec![LogDirectory {
                path: "/data".to_owned(),
                id: DirectoryId([1; 16]),
                error: Some("fsync failed".to_owned()),
                partitions: vec![LogDirectoryPartition {
                    topic: "lines".to_owned(),
                    partition: 3,
                    size_bytes: 2048,
                    log_start_offset: 5,
                    log_end_offset: 9,
                    segments: 1,
                }],
            }],
        }];
        let document = document(&answers);
        assert_eq!(document["version"], 1);
        let directory = &document["brokers"][0]["logDirs"][0];
        assert_eq!(
            (&directory["error"], &directory["partitions"][0]["sizeBytes"]),
            (&json!("fsync failed"), &json!(2048))
        );
        assert_eq!(directory["partitions"][0]["partition"], "lines-3");
        let text = text(&answers);
        assert!(
            text.contains("broker 1, /data: 2.0 KiB") && text.contains("FAILED") && text.contains("5..9"),
            "{text}"
        );
    }
}
