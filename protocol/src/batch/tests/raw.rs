//! Batches made field by field, so that each field can be wrong while the checksum is right.

use crate::batch::header::{BATCH_HEADER_BYTES, BatchHeader, write_crc};
use crate::batch::{BatchBuilder, Compression, ProducerStamp};
use crate::varint;
use bytes::{BufMut, BytesMut};

/// A batch of any header and any payload whose length and checksum are right.
#[derive(Clone)]
pub(super) struct RawBatch {
    pub(super) header: BatchHeader,
    pub(super) payload: Vec<u8>,
}

impl RawBatch {
    /// Two sound records, at 1000 and 1001 ms.
    pub(super) fn sound() -> Self {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.append(1000, Some(b"k0"), Some(b"v0"), &[]).unwrap();
        builder.append(1001, Some(b"k1"), Some(b"v1"), &[("h", Some(b"x"))]).unwrap();
        let batch = builder.build(ProducerStamp::NONE).unwrap();
        Self { header: BatchHeader::decode(&batch).unwrap(), payload: batch[BATCH_HEADER_BYTES..].to_vec() }
    }

    /// The payload replaced by `records`, the counts to match.
    pub(super) fn of_records(records: &[RawRecord]) -> Self {
        let mut raw = Self::sound();
        raw.payload = records.iter().flat_map(RawRecord::bytes).collect();
        raw.header.record_count = records.len() as i32;
        raw.header.last_offset_delta = records.len() as i32 - 1;
        raw
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut BatchHeader)) -> Self {
        change(&mut self.header);
        self
    }

    pub(super) fn with_payload(mut self, compression: Compression, payload: Vec<u8>) -> Self {
        self.header.attributes = i16::from(compression.bits());
        self.payload = payload;
        self
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut header = self.header;
        header.batch_length = (BATCH_HEADER_BYTES + self.payload.len() - 12) as i32;
        let mut place = [0; BATCH_HEADER_BYTES];
        header.write(&mut place);
        let mut bytes = [&place[..], &self.payload].concat();
        write_crc(&mut bytes);
        bytes
    }
}

/// A record whose fields may be anything; its length is right unless `length_error` is added to it.
#[derive(Clone)]
pub(super) struct RawRecord {
    pub(super) attributes: u8,
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i64,
    pub(super) key_length: i64,
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    pub(super) headers: Vec<u8>,
    pub(super) length_error: i64,
}

impl RawRecord {
    pub(super) fn sound(offset_delta: i64) -> Self {
        Self {
            attributes: 0,
            timestamp_delta: offset_delta,
            offset_delta,
            key_length: 1,
            key: b"k".to_vec(),
            value: b"v".to_vec(),
            headers: vec![0],
            length_error: 0,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut body = BytesMut::new();
        body.put_u8(self.attributes);
        varint::put(&mut body, self.timestamp_delta);
        varint::put(&mut body, self.offset_delta);
        varint::put(&mut body, self.key_length);
        body.put_slice(&self.key);
        varint::put(&mut body, self.value.len() as i64);
        body.put_slice(&self.value);
        body.put_slice(&self.headers);
        let mut record = BytesMut::new();
        varint::put(&mut record, body.len() as i64 + self.length_error);
        record.put_slice(&body);
        record.to_vec()
    }
}
