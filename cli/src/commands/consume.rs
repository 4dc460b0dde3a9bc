//! `headwater consume`.

use crate::arguments::GlobalOptions;
use crate::commands::offsets::chosen_partitions;
use crate::commands::record_format::RecordFormat;
use crate::context::connect;
use crate::error::CliError;
use crate::interrupt::Interrupt;
use crate::limits::OUTPUT_BUFFER_BYTES;
use crate::text::parse_timestamp;
use clap::Args;
use headwater_client::{Client, ConsumedBatch, Consumer, ConsumerConfig, OutOfRangePolicy, StartOffset};
use headwater_protocol::error::ApiError;
use headwater_protocol::messages::records::{FoundOffset, OffsetSpec};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::time::Duration;

/// How often a reader that ends at the end looks where it is, when no batch comes.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Words of `headwater consume`.
#[derive(Debug, Args)]
#[command(after_help = "\
Begins with records that come from now on; follows the topic until Ctrl-C, which
is no failure. Order holds within a partition, not between partitions.

Examples:
  headwater consume lines
  headwater consume lines --from-beginning --max-messages 10
  headwater consume users --from-beginning --until-end --print-key
  headwater consume counts --from-beginning --print-key --key-separator - --print-timestamp
  headwater consume lines --partition 0 --offset 1000 --format json")]
pub(crate) struct ConsumeArguments {
    /// Name of the topic.
    topic: String,
    /// Begin with the first record that is still there.
    #[arg(long, conflicts_with_all = ["offset", "from_time"])]
    from_beginning: bool,
    /// Where to begin: earliest, latest or an offset; an offset needs --partition.
    #[arg(long, value_name = "WHERE", value_parser = parse_start, conflicts_with = "from_time")]
    offset: Option<Start>,
    /// Begin with the first record at or after a time (ms since 1970, or RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = parse_timestamp, allow_negative_numbers = true)]
    from_time: Option<i64>,
    /// Only this partition; may be repeated [default: all].
    #[arg(long, value_name = "NUMBER")]
    partition: Vec<u32>,
    /// End after so many records.
    #[arg(long, value_name = "COUNT")]
    max_messages: Option<u64>,
    /// End where the topic ended when this began.
    #[arg(long)]
    until_end: bool,
    /// Also print keys.
    #[arg(long)]
    print_key: bool,
    /// Also print timestamps.
    #[arg(long)]
    print_timestamp: bool,
    /// Also print offsets.
    #[arg(long)]
    print_offset: bool,
    /// Also print partitions.
    #[arg(long)]
    print_partition: bool,
    /// Also print headers.
    #[arg(long)]
    print_headers: bool,
    /// What stands between the parts of a line.
    #[arg(long, value_name = "TEXT", default_value = "\t", hide_default_value = true, allow_hyphen_values = true)]
    key_separator: String,
}

/// Where to begin, as `--offset` says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Start {
    Earliest,
    Latest,
    At(i64),
}

fn parse_start(text: &str) -> Result<Start, String> {
    match text {
        "earliest" => Ok(Start::Earliest),
        "latest" => Ok(Start::Latest),
        number => match number.parse() {
            Ok(offset) if offset >= 0 => Ok(Start::At(offset)),
            _ => Err("expected earliest, latest or an offset from 0".to_owned()),
        },
    }
}

impl ConsumeArguments {
    fn start(&self) -> Result<StartOffset, CliError> {
        match (self.from_beginning, self.from_time, self.offset) {
            (true, _, _) | (_, _, Some(Start::Earliest)) => Ok(StartOffset::Beginning),
            (_, Some(ms), _) => Ok(StartOffset::Timestamp(ms)),
            (_, _, Some(Start::At(_))) if self.partition.is_empty() => {
                Err(CliError::Usage("--offset with a number needs --partition: offsets count per partition".to_owned()))
            }
            (_, _, Some(Start::At(offset))) => Ok(StartOffset::Offset(offset)),
            (_, _, Some(Start::Latest) | None) => Ok(StartOffset::End),
        }
    }

    fn record_format(&self, global: &GlobalOptions) -> RecordFormat {
        RecordFormat {
            format: global.format,
            timestamp: self.print_timestamp,
            partition: self.print_partition,
            offset: self.print_offset,
            headers: self.print_headers,
            key: self.print_key,
            separator: self.key_separator.clone().into_bytes(),
            escape: io::stdout().is_terminal(),
        }
    }
}

pub(crate) async fn run(arguments: ConsumeArguments, global: &GlobalOptions) -> Result<(), CliError> {
    let start = arguments.start()?;
    let mut interrupt = Interrupt::listen()?;
    let client = connect(global).await?;
    let printing = print_records(&client, &arguments, start, arguments.record_format(global));
    let outcome = tokio::select! {
        outcome = printing => outcome,
        () = interrupt.wait() => Ok(()),
    };
    client.close().await;
    outcome
}

async fn print_records(
    client: &Client,
    arguments: &ConsumeArguments,
    start: StartOffset,
    format: RecordFormat,
) -> Result<(), CliError> {
    let mut consumer = assign(client, arguments, start).await?;
    let mut out = BufWriter::with_capacity(OUTPUT_BUFFER_BYTES, io::stdout());
    let mut left = arguments.max_messages.unwrap_or(u64::MAX);
    let ends = if arguments.until_end { ends(client, arguments).await? } else { vec![(0, i64::MAX)] };
    let is_behind = |consumer: &Consumer| {
        let position = |partition| consumer.position(&arguments.topic, partition).unwrap_or(0);
        ends.iter().any(|(partition, end)| position(*partition) < *end)
    };
    while left > 0 && is_behind(&consumer) {
        // A position moves over what was cleaned away, too, of which there is no batch.
        let Ok(batch) = tokio::time::timeout(LOOK_AGAIN, consumer.next_batch()).await else { continue };
        let batch = batch?;
        left -= print_batch(&mut out, &batch, &format, left)?;
        // Whoever reads wants each batch at once: waiting for a full buffer could be for ever.
        out.flush().map_err(CliError::output)?;
    }
    Ok(())
}

/// Where the partitions end now.
async fn ends(client: &Client, arguments: &ConsumeArguments) -> Result<Vec<(u32, i64)>, CliError> {
    let admin = client.admin();
    let topic = admin.describe_topic(&arguments.topic).await?;
    let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
    let partitions = chosen_partitions(&arguments.topic, &arguments.partition, count)?;
    let asked = partitions.iter().map(|partition| (topic.id, *partition, OffsetSpec::Latest)).collect();
    let answers = partitions.iter().zip(admin.list_offsets(asked).await?);
    let end = |(partition, answer): (&u32, Result<FoundOffset, ApiError>)| match answer {
        Ok(found) => Ok((*partition, found.offset.unwrap_or(0))),
        Err(error) => Err(CliError::Refused { what: format!("partition {partition} of {}", arguments.topic), error }),
    };
    answers.map(end).collect()
}

async fn assign(client: &Client, arguments: &ConsumeArguments, start: StartOffset) -> Result<Consumer, CliError> {
    let topic = client.admin().describe_topic(&arguments.topic).await?;
    let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
    let partitions = chosen_partitions(&arguments.topic, &arguments.partition, count)?;
    let partitions: Vec<(u32, StartOffset)> = partitions.into_iter().map(|partition| (partition, start)).collect();
    // Retention may pass a reader that follows; one that asked for an offset that isn't there is told so.
    let on_out_of_range = match start {
        StartOffset::Offset(_) => OutOfRangePolicy::Error,
        _ => OutOfRangePolicy::Earliest,
    };
    let mut consumer = client.consumer(ConsumerConfig { on_out_of_range, ..ConsumerConfig::default() })?;
    consumer.assign(&arguments.topic, &partitions).await?;
    Ok(consumer)
}

/// Prints at most `most` records; says how many.
fn print_batch(out: &mut impl Write, batch: &ConsumedBatch, format: &RecordFormat, most: u64) -> Result<u64, CliError> {
    let mut printed = 0;
    for record in batch.records() {
        if printed == most {
            break;
        }
        format.write(out, batch.topic(), batch.partition(), &record?).map_err(CliError::output)?;
        printed += 1;
    }
    Ok(printed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{Arguments, Command};
    use clap::Parser;

    fn start(words: &[&str]) -> Result<StartOffset, CliError> {
        let line = [&["headwater", "consume", "t"], words].concat();
        match Arguments::try_parse_from(line).unwrap().command {
            Command::Consume(arguments) => arguments.start(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_start_follows_from_the_options() {
        assert!(matches!(start(&[]), Ok(StartOffset::End)));
        assert!(matches!(start(&["--offset", "latest"]), Ok(StartOffset::End)));
        assert!(matches!(start(&["--from-beginning"]), Ok(StartOffset::Beginning)));
        assert!(matches!(start(&["--offset", "earliest"]), Ok(StartOffset::Beginning)));
        assert!(matches!(start(&["--offset", "7", "--partition", "0"]), Ok(StartOffset::Offset(7))));
        assert!(matches!(start(&["--from-time", "-5"]), Ok(StartOffset::Timestamp(-5))));
        assert!(matches!(start(&["--offset", "7"]), Err(CliError::Usage(_))));
        for bad in [&["--offset", "7x"][..], &["--offset", "earliest", "--from-beginning"]] {
            assert!(Arguments::try_parse_from([&["headwater", "consume", "t"], bad].concat()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_separator_may_look_like_an_option() {
        assert!(start(&["--key-separator", "-", "--print-key"]).is_ok());
    }
}
