//! `headwater dump-log`.

use super::record_format::RecordFormat;
use crate::arguments::GlobalOptions;
use crate::error::CliError;
use crate::output::Format;
use clap::Args;
use headwater_log::storage::file::FileStorage;
use headwater_log::{DumpedBatch, SegmentSummary, dump_segment};
use headwater_protocol::batch::{BatchError, BatchHeader, BatchLimits};
use headwater_protocol::compression::Compression;
use serde_json::json;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;

/// Words of `headwater dump-log`.
#[derive(Debug, Args)]
#[command(after_help = "\
Needs no broker and changes nothing. A segment that a broker is writing to may end in the middle of a batch.
JSON is one object a line: batches, records where they are asked for, and a summary at the end.

Examples:
  headwater dump-log headwater-data/logs/TOPIC_ID-0/00000000000000000000.log
  headwater dump-log --batches-only headwater-data/logs/TOPIC_ID-0/00000000000000000000.log
  headwater dump-log --format json headwater-data/logs/TOPIC_ID-0/00000000000000000000.log")]
pub(crate) struct DumpLogArguments {
    /// A segment, named by its first offset as the broker named it.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only the batches' headers, not their records.
    #[arg(long)]
    batches_only: bool,
}

pub(crate) fn run(arguments: &DumpLogArguments, global: &GlobalOptions) -> Result<(), CliError> {
    let mut out = BufWriter::new(io::stdout().lock());
    let records = RecordFormat {
        format: global.format,
        timestamp: true,
        partition: false,
        offset: true,
        headers: true,
        key: true,
        separator: b"\t".to_vec(),
        escape: io::stdout().is_terminal(),
    };
    let dumped = dump_segment(&FileStorage, &arguments.file, |dumped| {
        write_batch(&mut out, global.format, dumped).map_err(CliError::output)?;
        if !arguments.batches_only {
            write_records(&mut out, &records, dumped)?;
        }
        Ok::<_, CliError>(())
    });
    // What was found before the trouble is shown in any case.
    out.flush().map_err(CliError::output)?;
    let summary = dumped?;
    write_summary(&mut out, global.format, &summary).and_then(|()| out.flush()).map_err(CliError::output)?;
    match summary.damaged_batches {
        0 => Ok(()),
        count => Err(CliError::Damaged { file: arguments.file.clone(), count }),
    }
}

fn compression(header: &BatchHeader) -> &'static str {
    match header.compression() {
        Ok(Compression::None) => "none",
        Ok(Compression::Lz4) => "lz4",
        Ok(Compression::Zstd) => "zstd",
        // No batch of such a one passes the broker's door.
        Ok(Compression::Gzip | Compression::Snappy) | Err(_) => "unsupported",
    }
}

fn write_batch(out: &mut impl Write, format: Format, dumped: &DumpedBatch) -> io::Result<()> {
    let DumpedBatch { position, header, batch } = dumped;
    match format {
        Format::Text => {
            let kind = if header.is_control() { ", control" } else { "" };
            writeln!(
                out,
                "offsets {}..{}, byte {position}, {} bytes, {} records, {}{kind}, leader epoch {}, \
                 producer {} epoch {} sequence {}, newest {}, crc {:#010x}{}",
                header.base_offset,
                header.next_offset(),
                header.total_bytes(),
                header.record_count,
                compression(header),
                header.partition_leader_epoch,
                header.producer_id,
                header.producer_epoch,
                header.base_sequence,
                header.max_timestamp,
                header.crc,
                batch.as_ref().err().map(|error| format!(": DAMAGED, {error}")).unwrap_or_default(),
            )
        }
        Format::Json => {
            let line = json!({
                "baseOffset": header.base_offset,
                "lastOffset": header.last_offset(),
                "position": position,
                "sizeBytes": header.total_bytes(),
                "count": header.record_count,
                "compression": compression(header),
                "isControl": header.is_control(),
                "isTransactional": header.is_transactional(),
                "partitionLeaderEpoch": header.partition_leader_epoch,
                "producerId": header.producer_id,
                "producerEpoch": header.producer_epoch,
                "baseSequence": header.base_sequence,
                "maxTimestamp": header.max_timestamp,
                "crc": header.crc,
                "isValid": batch.is_ok(),
                "error": batch.as_ref().err().map(ToString::to_string),
            });
            writeln!(out, "{}", json!({"batch": line}))
        }
    }
}

/// The records of a batch that can be read; why not, if they can't.
fn write_records(out: &mut impl Write, format: &RecordFormat, dumped: &DumpedBatch) -> Result<(), CliError> {
    let Ok(batch) = &dumped.batch else { return Ok(()) };
    let records = match batch.records(&BatchLimits::INTERNAL) {
        Ok(records) => records,
        Err(error) => return write_trouble(out, format.format, &error).map_err(CliError::output),
    };
    for record in records.iter() {
        match record {
            Ok(record) => format.write_apart(out, &record).map_err(CliError::output)?,
            Err(error) => write_trouble(out, format.format, &error).map_err(CliError::output)?,
        }
    }
    Ok(())
}

/// Says, where a record would stand, why none can be read.
fn write_trouble(out: &mut impl Write, format: Format, error: &BatchError) -> io::Result<()> {
    match format {
        Format::Text => writeln!(out, "  can't be read: {error}"),
        Format::Json => writeln!(out, "{}", json!({"record": {"error": error.to_string()}})),
    }
}

fn write_summary(out: &mut impl Write, format: Format, summary: &SegmentSummary) -> io::Result<()> {
    let SegmentSummary { bytes, batches, records, damaged_batches } = *summary;
    match format {
        Format::Text => writeln!(out, "{batches} batches, {records} records, {bytes} bytes"),
        Format::Json => {
            let line = json!({
                "sizeBytes": bytes, "batches": batches, "records": records, "damagedBatches": damaged_batches,
            });
            writeln!(out, "{}", json!({"summary": line}))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_a_line_of_the_form_that_was_asked_for() {
        let error = BatchHeader::decode(b"short").unwrap_err();
        let written = |format| {
            let mut out = Vec::new();
            write_trouble(&mut out, format, &error).unwrap();
            String::from_utf8(out).unwrap()
        };
        let line: serde_json::Value = serde_json::from_str(&written(Format::Json)).unwrap();
        assert_eq!(line["record"]["error"], error.to_string());
        assert_eq!(written(Format::Text), format!("  can't be read: {error}\n"));
    }
}
