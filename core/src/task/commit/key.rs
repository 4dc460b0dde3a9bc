//! Keys of a commit's records: a kind byte, then fixed-width fields, then what varies.

use super::CommitError;
use bytes::BufMut;
use headwater_protocol::ids::{TopicId, TopicPartition};

/// What a record of a commit is: the first byte of its key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub(super) enum Kind {
    Step = 1,
    Position = 2,
    Number = 3,
    StreamTime = 4,
    Timer = 5,
    State = 6,
    Outbox = 7,
}

/// A key, read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Key<'a> {
    Step,
    Position(TopicPartition),
    Number(TopicPartition),
    StreamTime,
    Timer(&'a [u8]),
    State { store: u32, key: &'a [u8] },
    Outbox { step: u64, ordinal: u32, output: TopicPartition, first: u64, count: u32 },
}

impl<'a> Key<'a> {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Step => Kind::Step,
            Self::Position(_) => Kind::Position,
            Self::Number(_) => Kind::Number,
            Self::StreamTime => Kind::StreamTime,
            Self::Timer(_) => Kind::Timer,
            Self::State { .. } => Kind::State,
            Self::Outbox { .. } => Kind::Outbox,
        }
    }

    /// Replaces what `place` holds by this key.
    pub(super) fn encode(&self, place: &mut Vec<u8>) {
        place.clear();
        place.put_u8(self.kind() as u8);
        match self {
            Self::Step | Self::StreamTime => {}
            Self::Position(partition) | Self::Number(partition) => put_partition(place, partition),
            Self::Timer(id) => place.put_slice(id),
            Self::State { store, key } => {
                place.put_u32(*store);
                place.put_slice(key);
            }
            Self::Outbox { step, ordinal, output, first, count } => {
                place.put_u64(*step);
                place.put_u32(*ordinal);
                put_partition(place, output);
                place.put_u64(*first);
                place.put_u32(*count);
            }
        }
    }

    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, CommitError> {
        let (kind, rest) = bytes.split_first().ok_or(CommitError::Malformed("a record's key is empty"))?;
        let mut fields = Fields(rest);
        let key = match kind {
            1 => Self::Step,
            2 => Self::Position(fields.partition()?),
            3 => Self::Number(fields.partition()?),
            4 => Self::StreamTime,
            5 => Self::Timer(fields.rest()),
            6 => Self::State { store: fields.u32()?, key: fields.rest() },
            7 => Self::Outbox {
                step: fields.u64()?,
                ordinal: fields.u32()?,
                output: fields.partition()?,
                first: fields.u64()?,
                count: fields.u32()?,
            },
            _ => return Err(CommitError::Malformed("a record is of an unknown kind")),
        };
        fields.end(key)
    }
}

fn put_partition(place: &mut Vec<u8>, partition: &TopicPartition) {
    place.put_slice(&partition.topic.0);
    place.put_u32(partition.partition);
}

/// Takes fixed-width fields off the front.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], CommitError> {
        let (field, rest) = self.0.split_first_chunk().ok_or(CommitError::Malformed("a key or value is too short"))?;
        self.0 = rest;
        Ok(*field)
    }

    pub(super) fn u32(&mut self) -> Result<u32, CommitError> {
        self.take().map(u32::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, CommitError> {
        self.take().map(i32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, CommitError> {
        self.take().map(u64::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, CommitError> {
        self.take().map(i64::from_be_bytes)
    }

    fn partition(&mut self) -> Result<TopicPartition, CommitError> {
        Ok(TopicPartition { topic: TopicId(self.take()?), partition: self.u32()? })
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// `value`, if no bytes are left.
    pub(super) fn end<T>(self, value: T) -> Result<T, CommitError> {
        if self.0.is_empty() { Ok(value) } else { Err(CommitError::Malformed("a key or value is too long")) }
    }
}
