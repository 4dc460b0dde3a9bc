//! `headwater produce`.

mod input;

use crate::arguments::GlobalOptions;
use crate::context::connect;
use crate::error::CliError;
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::text;
use clap::{Args, ValueEnum, value_parser};
use headwater_client::{Producer, ProducerConfig};
use headwater_protocol::compression::Compression;
use headwater_protocol::messages::records::Acks;
use input::{Chunk, Source, open};
use serde_json::json;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Words of `headwater produce`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each line of standard input is a record; its line end (LF or CR LF) is not part
of it. Records of one key go to one partition, the one that every Kafka client
chooses too; records without a key are spread, batch by batch. The broker keeps
out the duplicates that retries could make.

Examples:
  echo 'to be or not to be' | headwater produce lines
  headwater produce lines --file book.txt --compression zstd
  headwater produce users --file users.txt --key-separator :")]
pub(crate) struct ProduceArguments {
    /// Name of the topic; it must be there.
    topic: String,
    /// Read lines of this file in place of standard input.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What of a line stands before the first such text is the key.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    key_separator: Option<String>,
    /// When a record counts as written.
    #[arg(long, value_enum, default_value_t = AcksArgument::All)]
    acks: AcksArgument,
    /// How batches are compressed.
    #[arg(long, value_enum, default_value_t = CompressionArgument::None)]
    compression: CompressionArgument,
    /// How long a record is tried before it is given up, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = value_parser!(u64).range(1..=86_400))]
    delivery_timeout_seconds: u64,
}

/// `--acks`
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum AcksArgument {
    /// In sync on every replica that is in sync.
    #[value(alias = "-1")]
    All,
    /// In the leader's log.
    #[value(name = "1", alias = "leader")]
    Leader,
    /// When it is sent: what the broker refuses is lost.
    #[value(name = "0", alias = "none")]
    None,
}

/// `--compression`
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum CompressionArgument {
    /// Not at all.
    None,
    /// Fast.
    Lz4,
    /// Small.
    Zstd,
}

impl ProduceArguments {
    fn config(&self) -> ProducerConfig {
        let acks = match self.acks {
            AcksArgument::All => Acks::All,
            AcksArgument::Leader => Acks::Leader,
            AcksArgument::None => Acks::None,
        };
        let compression = match self.compression {
            CompressionArgument::None => Compression::None,
            CompressionArgument::Lz4 => Compression::Lz4,
            CompressionArgument::Zstd => Compression::Zstd,
        };
        let delivery_timeout = Duration::from_secs(self.delivery_timeout_seconds);
        ProducerConfig { acks, compression, delivery_timeout, ..ProducerConfig::default() }
    }
}

/// What was sent so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Sent {
    records: u64,
    /// Of the input, line ends included.
    input_bytes: u64,
}

pub(crate) async fn run(arguments: ProduceArguments, global: &GlobalOptions) -> Result<(), CliError> {
    if arguments.key_separator.as_ref().is_some_and(String::is_empty) {
        return Err(CliError::Usage("--key-separator must not be empty".to_owned()));
    }
    let source = open(arguments.file.as_deref())?;
    let client = connect(global).await?;
    // An unknown topic is better told before a line was typed.
    client.admin().describe_topic(&arguments.topic).await?;
    let producer = client.producer(arguments.config())?;
    let began = Instant::now();
    let mut sent = Sent::default();
    let is_typed = source.is_typed;
    let sending = send_all(&producer, &arguments, source, &mut sent).await;
    // What was taken is delivered, whatever stopped us.
    let delivered = producer.close().await;
    client.close().await;
    let ended = sending?;
    delivered?;

    let seconds = began.elapsed();
    let document = json!({
        "topic": arguments.topic,
        "records": sent.records,
        "input_bytes": sent.input_bytes,
        "seconds": seconds.as_secs_f64(),
    });
    match global.format {
        crate::output::Format::Json => global.format.print_line(&document, String::new)?,
        crate::output::Format::Text if io::stderr().is_terminal() => {
            let (records, size) = (sent.records, text::bytes(sent.input_bytes));
            eprintln!("{records} records ({size}) written to {} in {}", arguments.topic, text::duration(seconds));
        }
        crate::output::Format::Text => {}
    }
    match ended {
        // Whoever types ends with Ctrl-D or Ctrl-C alike.
        Ended::Interrupted if !is_typed => {
            Err(CliError::Interrupted(format!("{} records were written, the rest of the input was not", sent.records)))
        }
        Ended::Interrupted | Ended::InputEnded => Ok(()),
    }
}

enum Ended {
    InputEnded,
    Interrupted,
}

async fn send_all(
    producer: &Producer,
    arguments: &ProduceArguments,
    source: Source,
    sent: &mut Sent,
) -> Result<Ended, CliError> {
    let mut interrupt = Interrupt::listen()?;
    let mut progress = Progress::new(source.total_bytes, !source.is_typed);
    let mut chunks = source.chunks;
    loop {
        let chunk = tokio::select! {
            biased;
            () = interrupt.wait() => return Ok(Ended::Interrupted),
            chunk = chunks.recv() => chunk,
        };
        let Some(chunk) = chunk else { return Ok(Ended::InputEnded) };
        let chunk = chunk?;
        tokio::select! {
            biased;
            () = interrupt.wait() => return Ok(Ended::Interrupted),
            outcome = send_chunk(producer, arguments, &chunk, sent) => outcome?,
        }
        progress.set(sent.input_bytes, || format!("{} records", sent.records));
    }
}

async fn send_chunk(
    producer: &Producer,
    arguments: &ProduceArguments,
    chunk: &Chunk,
    sent: &mut Sent,
) -> Result<(), CliError> {
    let separator = arguments.key_separator.as_deref().map(str::as_bytes);
    for line in chunk.lines() {
        let number = sent.records + 1;
        let (key, value) = split_key(line, separator).ok_or_else(|| no_key(number, arguments))?;
        producer.send_ref(&arguments.topic, key, Some(value)).await?;
        sent.records = number;
    }
    sent.input_bytes += chunk.len() as u64;
    Ok(())
}

fn no_key(line: u64, arguments: &ProduceArguments) -> CliError {
    let separator = arguments.key_separator.as_deref().unwrap_or_default();
    let before = line - 1;
    CliError::Input(format!(
        "line {line} has no {separator:?}, which --key-separator says stands after the key; {before} lines were written"
    ))
}

/// Key and value of a line; `None` when it has no separator.
fn split_key<'a>(line: &'a [u8], separator: Option<&[u8]>) -> Option<(Option<&'a [u8]>, &'a [u8])> {
    let Some(separator) = separator else { return Some((None, line)) };
    let at = line.windows(separator.len()).position(|window| window == separator)?;
    let (key, rest) = line.split_at(at);
    Some((Some(key), &rest[separator.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_stands_before_the_first_separator() {
        assert_eq!(split_key(b"a-b", None), Some((None, b"a-b".as_slice())));
        assert_eq!(split_key(b"a-b-c", Some(b"-")), Some((Some(b"a".as_slice()), b"b-c".as_slice())));
        assert_eq!(split_key(b"-b", Some(b"-")), Some((Some(b"".as_slice()), b"b".as_slice())));
        assert_eq!(split_key(b"a::", Some(b"::")), Some((Some(b"a".as_slice()), b"".as_slice())));
        assert_eq!(split_key(b"a:", Some(b"::")), None);
        assert_eq!(split_key(b"", Some(b"::")), None);
    }
}
