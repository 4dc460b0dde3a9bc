//! Frames: prefixes, and the header of every message there is.

use headwater_protocol::frame::{FrameLimits, FramePrefix, decode_header, encode_header};
use headwater_protocol::messages::{ApiKey, Reply, Request, cluster, module, processor, records, topic};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A prefix: read, written again, compared with the limits.
///
/// # Panics
/// When it is not what it was, or a length above its limit is let through.
pub fn prefix(input: &[u8]) {
    let Some(bytes) = input.first_chunk::<{ FramePrefix::BYTES }>() else { return };
    let prefix = FramePrefix::decode(bytes);
    assert_eq!(&prefix.encode(), bytes);
    let limits = FrameLimits::AUTHENTICATED;
    let is_within = prefix.header_bytes <= limits.header_bytes_max && prefix.body_bytes <= limits.body_bytes_max;
    assert_eq!(prefix.check(&limits).is_ok(), is_within);
}

/// The first byte chooses the message, the others are its header.
///
/// # Panics
/// When a header that is taken does not survive being written and read again.
pub fn header(input: &[u8]) {
    let Some((choice, bytes)) = input.split_first() else { return };
    match choice % 21 {
        0 => both::<cluster::HelloRequest>(bytes),
        1 => both::<cluster::MetadataRequest>(bytes),
        2 => both::<records::ProduceRequest>(bytes),
        3 => both::<records::FetchRequest>(bytes),
        4 => both::<records::ListOffsetsRequest>(bytes),
        5 => both::<records::InitProducerIdRequest>(bytes),
        6 => both::<topic::CreateTopicsRequest>(bytes),
        7 => both::<topic::DeleteTopicsRequest>(bytes),
        8 => both::<topic::AlterTopicRequest>(bytes),
        9 => both::<topic::DeleteRecordsRequest>(bytes),
        10 => both::<topic::DescribeLogDirsRequest>(bytes),
        11 => both::<module::UploadModuleRequest>(bytes),
        12 => both::<module::ListModulesRequest>(bytes),
        13 => both::<module::DescribeModuleRequest>(bytes),
        14 => both::<module::DeleteModuleRequest>(bytes),
        15 => both::<processor::DeployProcessorRequest>(bytes),
        16 => both::<processor::ListProcessorsRequest>(bytes),
        17 => both::<processor::DescribeProcessorRequest>(bytes),
        18 => both::<processor::SetProcessorPausedRequest>(bytes),
        19 => both::<processor::DeleteProcessorRequest>(bytes),
        _ => both::<processor::ProcessorLogsRequest>(bytes),
    }
}

/// The request, and what answers it.
fn both<R: Request>(bytes: &[u8]) {
    assert_eq!(ApiKey::from_number(R::API as u16), Some(R::API));
    settles::<R>(bytes);
    settles::<Reply<R::Response>>(bytes);
}

/// What was read is written, read and written again: the bytes stay as they are from then on.
fn settles<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let Ok(message) = decode_header::<T>(bytes) else { return };
    let Ok(written) = encode_header(&message) else { return };
    let again = decode_header::<T>(&written).map(|message| encode_header(&message));
    assert!(matches!(&again, Ok(Ok(bytes)) if *bytes == written), "what we write we read");
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::fuzz!(prefixes, 20_000, prefix);
    crate::fuzz!(headers, 100_000, header);
}
