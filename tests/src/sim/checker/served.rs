//! What a consumer was given is whole, in order, where it asked, and below the high watermark. That it stays is the
//! business of [`super::offsets`].

use super::{LoggedRecord, Violation, records_of};
use bytes::Bytes;
use headwater_protocol::ids::TopicPartition;

/// Checks an answer to a fetch from `offset`; gives its records. Of a partition that `is_cleaned` some may be gone.
///
/// # Errors
/// What is wrong with it.
pub fn check(
    id: TopicPartition,
    offset: i64,
    batches: Bytes,
    high_watermark: i64,
    is_cleaned: bool,
) -> Result<Vec<LoggedRecord>, Violation> {
    let wrong = |found: String| Violation::new("served", format!("{id} from {offset}: {found}"));
    let is_empty = batches.is_empty();
    let records = records_of(batches, offset).map_err(wrong)?;
    if records.is_empty() && !is_empty && !is_cleaned {
        return Err(wrong("batches without anything that was asked for".to_owned()));
    }
    let mut expected = offset;
    for record in &records {
        if record.offset < expected || (record.offset > expected && !is_cleaned) {
            return Err(wrong(format!("offset {} where {expected} was due", record.offset)));
        }
        expected = record.offset + 1;
        if record.offset >= high_watermark {
            return Err(wrong(format!("offset {} at or above the high watermark {high_watermark}", record.offset)));
        }
    }
    Ok(records)
}
