//! Record headers in the encoding of record batch v2: zigzag varint count, then for each: varint length, name, varint
//! length (-1 = null), value.

/// A header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Name; need not be unique.
    pub name: &'a str,
    /// Value, or null.
    pub value: Option<&'a [u8]>,
}

/// Iterates over the headers of a record. The broker has checked them when it took the record in; what could not be
/// read would end the iteration.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    rest: &'a [u8],
    left: i32,
}

impl<'a> Headers<'a> {
    /// Reads the count; no bytes at all are no headers.
    pub(crate) fn parse(mut raw: &'a [u8]) -> Self {
        let left = varint(&mut raw).unwrap_or(0);
        Self { rest: raw, left }
    }

    fn read(&mut self) -> Option<Header<'a>> {
        let name = bytes(&mut self.rest)??;
        let value = bytes(&mut self.rest)?;
        Some(Header { name: str::from_utf8(name).ok()?, value })
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        if self.left <= 0 {
            return None;
        }
        self.left -= 1;
        let header = self.read();
        if header.is_none() {
            self.left = 0;
        }
        header
    }
}

/// Appends headers to `data`.
pub(crate) fn encode(data: &mut Vec<u8>, headers: &[(&str, Option<&[u8]>)]) {
    put_varint(data, crate::packed::length(headers.len()));
    for (name, value) in headers {
        put_varint(data, crate::packed::length(name.len()));
        data.extend_from_slice(name.as_bytes());
        put_varint(data, value.map_or(-1, |value| crate::packed::length(value.len())));
        data.extend_from_slice(value.unwrap_or_default());
    }
}

/// `Some(None)` is null, `None` is malformed.
fn bytes<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = varint(rest)?;
    if length == -1 {
        return Some(None);
    }
    let (bytes, behind) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = behind;
    Some(Some(bytes))
}

fn varint(rest: &mut &[u8]) -> Option<i32> {
    let mut raw = 0u32;
    for shift in (0..35).step_by(7) {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        raw |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed());
        }
    }
    None
}

fn put_varint(data: &mut Vec<u8>, value: i32) {
    let mut raw = (value.cast_unsigned() << 1) ^ (value >> 31).cast_unsigned();
    while raw >= 0x80 {
        data.push((raw & 0x7f) as u8 | 0x80);
        raw >>= 7;
    }
    data.push(raw as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> impl Strategy<Value = (String, Option<Vec<u8>>)> {
        ("[a-zé]{0,200}", prop::option::of(prop::collection::vec(any::<u8>(), 0..200)))
    }

    proptest! {
        #[test]
        fn headers_are_read_back(pairs in prop::collection::vec(header(), 0..9)) {
            let headers: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
            let mut raw = Vec::new();
            encode(&mut raw, &headers);
            let read: Vec<_> = Headers::parse(&raw).map(|header| (header.name, header.value)).collect();
            prop_assert_eq!(read, headers);
        }

        #[test]
        fn varints_are_read_back(value: i32) {
            let mut raw = Vec::new();
            put_varint(&mut raw, value);
            prop_assert_eq!(varint(&mut &raw[..]), Some(value));
        }

        #[test]
        fn garbage_ends_the_iteration(raw in prop::collection::vec(any::<u8>(), 0..60)) {
            prop_assert!(Headers::parse(&raw).count() <= raw.len());
        }
    }

    // The bytes of Kafka's own encoding: count 1, name "k" (length 1 -> zigzag 2), null value (-1 -> zigzag 1).
    #[test]
    fn the_encoding_is_that_of_record_batch_v2() {
        let mut raw = Vec::new();
        encode(&mut raw, &[("k", None)]);
        assert_eq!(raw, [2, 2, b'k', 1]);
        assert_eq!(Headers::parse(b"").count(), 0);
    }
}
