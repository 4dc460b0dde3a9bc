//! `headwater offsets`.

use crate::arguments::GlobalOptions;
use crate::context::connect;
use crate::error::CliError;
use crate::output::table;
use crate::text::{parse_timestamp, timestamp};
use clap::Args;
use headwater_client::Client;
use headwater_protocol::messages::records::{FoundOffset, OffsetSpec};
use serde_json::{Value, json};

/// Words of `headwater offsets`.
#[derive(Debug, Args)]
#[command(after_help = "\
The latest offset is one past the last committed record: where the next one will go.

Examples:
  headwater offsets lines
  headwater offsets lines --time earliest --partition 0
  headwater offsets lines --time 2026-11-23T08:00:00Z --format json")]
pub(crate) struct OffsetsArguments {
    /// Name of the topic.
    topic: String,
    /// Which offset: earliest, latest, max-timestamp, or the first at or after a time (ms since 1970, or RFC 3339).
    #[arg(long, value_name = "WHICH", default_value = "latest", value_parser = parse_spec)]
    #[arg(allow_negative_numbers = true)]
    time: OffsetSpec,
    /// Partition; may be repeated [default: all].
    #[arg(long, value_name = "NUMBER")]
    partition: Vec<u32>,
}

fn parse_spec(text: &str) -> Result<OffsetSpec, String> {
    match text {
        "earliest" | "-2" => Ok(OffsetSpec::Earliest),
        "latest" | "-1" => Ok(OffsetSpec::Latest),
        "max-timestamp" | "-3" => Ok(OffsetSpec::MaxTimestamp),
        time => parse_timestamp(time)
            .map(OffsetSpec::AtOrAfter)
            .map_err(|reason| format!("{reason}, earliest, latest or max-timestamp")),
    }
}

pub(crate) async fn run(arguments: OffsetsArguments, global: &GlobalOptions) -> Result<(), CliError> {
    let client = connect(global).await?;
    let found = look_up(&client, &arguments).await;
    client.close().await;
    let (found, failure) = found?;

    let topic = &arguments.topic;
    let documents: Vec<Value> = found
        .iter()
        .map(|(partition, found)| {
            json!({
                "topic": topic, "partition": partition, "offset": found.offset, "timestamp": found.timestamp,
            })
        })
        .collect();
    global.format.print(&Value::from(documents), || {
        let rows = found.iter().map(|(partition, found)| {
            let offset = found.offset.map_or_else(|| "none".to_owned(), |offset| offset.to_string());
            vec![topic.clone(), partition.to_string(), offset, found.timestamp.map(timestamp).unwrap_or_default()]
        });
        table(&["topic", "partition", "offset", "timestamp"], &[1, 2], rows)
    })?;
    failure.map_or(Ok(()), Err)
}

/// What was found, and the first partition that gave an error.
async fn look_up(
    client: &Client,
    arguments: &OffsetsArguments,
) -> Result<(Vec<(u32, FoundOffset)>, Option<CliError>), CliError> {
    let admin = client.admin();
    let topic = admin.describe_topic(&arguments.topic).await?;
    let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
    let partitions = chosen_partitions(&arguments.topic, &arguments.partition, count)?;
    let asked = partitions.iter().map(|partition| (topic.id, *partition, arguments.time)).collect();
    let answers = admin.list_offsets(asked).await?;
    let (mut found, mut failure) = (Vec::new(), None);
    for (partition, answer) in partitions.into_iter().zip(answers) {
        match answer {
            Ok(offset) => found.push((partition, offset)),
            Err(error) => {
                let what = format!("partition {partition} of {}", arguments.topic);
                failure = failure.or(Some(CliError::Refused { what, error }));
            }
        }
    }
    Ok((found, failure))
}

/// The partitions that were named, each once and in order, or all `count`.
pub(crate) fn chosen_partitions(topic: &str, named: &[u32], count: u32) -> Result<Vec<u32>, CliError> {
    if let Some(missing) = named.iter().find(|partition| **partition >= count) {
        let last = count.saturating_sub(1);
        return Err(CliError::Input(format!("topic {topic} has no partition {missing}: it has 0 to {last}")));
    }
    if named.is_empty() {
        return Ok((0..count).collect());
    }
    let mut chosen = named.to_vec();
    chosen.sort_unstable();
    chosen.dedup();
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafkas_words_and_numbers_and_times_are_understood() {
        let specs = ["earliest", "-2", "latest", "-1", "max-timestamp", "-3", "1763884800123", "2025-11-23T08:00:00Z"];
        assert_eq!(
            specs.map(|text| parse_spec(text).unwrap()),
            [
                OffsetSpec::Earliest,
                OffsetSpec::Earliest,
                OffsetSpec::Latest,
                OffsetSpec::Latest,
                OffsetSpec::MaxTimestamp,
                OffsetSpec::MaxTimestamp,
                OffsetSpec::AtOrAfter(1_763_884_800_123),
                OffsetSpec::AtOrAfter(1_763_884_800_000),
            ]
        );
        assert!(parse_spec("newest").unwrap_err().contains("max-timestamp"));
    }

    #[test]
    fn partitions_that_are_not_there_are_named() {
        assert_eq!(chosen_partitions("t", &[], 3).unwrap(), [0, 1, 2]);
        assert_eq!(chosen_partitions("t", &[2, 0, 2], 3).unwrap(), [0, 2]);
        let error = chosen_partitions("t", &[1, 3], 3).unwrap_err().to_string();
        assert!(error.contains("no partition 3") && error.contains("0 to 2"), "{error}");
    }
}
