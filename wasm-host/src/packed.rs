//! Packed lists: how keys, values and timers cross the boundary. All integers are little-endian.
//!
//! ```text
//! keys      s32 length │ bytes                         … a length is never negative
//! entries   s32 length │ key │ s32 length │ value      … value length -1 = absent
//! timers    s64 at │ s32 length │ id                   …
//! ```
//!
//! The `Packed*` views are checked once, to the last byte, when they are made; what they yield needs no check.

/// A packed list that does not hold together; says what and where. The guest's fault.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

/// The answer has no room for more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the answer is full")]
pub struct Full;

/// Takes fields off the front of a packed list.
struct Cursor<'a> {
    rest: &'a [u8],
    total: usize,
}

impl<'a> Cursor<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, total: bytes.len() }
    }

    fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn fault(&self, what: &str) -> Malformed {
        Malformed(format!("{what} at byte {} of {}", self.total - self.rest.len(), self.total))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        match self.rest.split_first_chunk::<N>() {
            Some((array, rest)) => {
                self.rest = rest;
                Ok(*array)
            }
            None => Err(self.fault("the list ends inside a number")),
        }
    }

    /// A length and that many bytes; `None` for length -1.
    fn nullable(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        let length = i32::from_le_bytes(self.array()?);
        if length == -1 {
            return Ok(None);
        }
        let split = usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length));
        match split {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(Some(bytes))
            }
            None => Err(self.fault(&format!("length {length} with {} bytes left", self.rest.len()))),
        }
    }

    fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        self.nullable()?.ok_or_else(|| self.fault("an absent key"))
    }

    fn entry(&mut self) -> Result<(&'a [u8], Option<&'a [u8]>), Malformed> {
        Ok((self.bytes()?, self.nullable()?))
    }

    fn timer(&mut self) -> Result<(i64, &'a [u8]), Malformed> {
        Ok((i64::from_le_bytes(self.array()?), self.bytes()?))
    }
}

macro_rules! packed {
    ($(#[$doc:meta])* $name:ident, $item:ty, $read:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $name<'a> {
            bytes: &'a [u8],
            count: usize,
        }

        impl<'a> $name<'a> {
            /// Checks `bytes` to the last one. Allocates nothing.
            ///
            /// # Errors
            /// [`Malformed`] with the place of the fault.
            pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
                let mut cursor = Cursor::new(bytes);
                let mut count = 0;
                while !cursor.is_empty() {
                    cursor.$read()?;
                    count += 1;
                }
                Ok(Self { bytes, count })
            }

            /// How many there are.
            pub fn len(&self) -> usize {
                self.count
            }

            /// Whether there are none.
            pub fn is_empty(&self) -> bool {
                self.count == 0
            }

            /// As they came, packed.
            pub fn bytes(&self) -> &'a [u8] {
                self.bytes
            }

            /// One by one, in order.
            pub fn iter(&self) -> impl Iterator<Item = $item> + use<'a> {
                let mut cursor = Cursor::new(self.bytes);
                // Was read through once without an error, so it ends where the bytes end.
                std::iter::from_fn(move || cursor.$read().ok())
            }
        }
    };
}

packed!(
    /// Keys, or ids of timers.
    PackedKeys, &'a [u8], bytes
);
packed!(
    /// Keys with values; an absent value deletes its key.
    PackedEntries, (&'a [u8], Option<&'a [u8]>), entry
);
packed!(
    /// Timers: when, in stream time (ms since the Unix epoch), and which.
    PackedTimers, (i64, &'a [u8]), timer
);

/// Packs an answer of values, or of keys with values, up to a limit of bytes.
#[derive(Debug)]
pub struct PackedWriter {
    bytes: Vec<u8>,
    bytes_max: usize,
    count: usize,
}

impl PackedWriter {
    /// An empty answer that may become `bytes_max` bytes long.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), bytes_max, count: 0 }
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Fields so far: one a value, two an entry.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Appends a value, `None` for absent.
    ///
    /// # Errors
    /// [`Full`] when it does not fit; the answer is as it was.
    pub fn push(&mut self, value: Option<&[u8]>) -> Result<(), Full> {
        self.make_room(4 + value.map_or(0, <[u8]>::len))?;
        self.put(value)
    }

    /// Appends a key and its value.
    ///
    /// # Errors
    /// [`Full`] when they do not fit; the answer is as it was.
    pub fn push_entry(&mut self, key: &[u8], value: &[u8]) -> Result<(), Full> {
        self.make_room(8_usize.saturating_add(key.len()).saturating_add(value.len()))?;
        self.put(Some(key))?;
        self.put(Some(value))
    }

    /// The packed answer.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn make_room(&self, bytes: usize) -> Result<(), Full> {
        let total = self.bytes.len().saturating_add(bytes);
        if total > self.bytes_max { Err(Full) } else { Ok(()) }
    }

    fn put(&mut self, value: Option<&[u8]>) -> Result<(), Full> {
        let length = value.map_or(Ok(-1), |value| i32::try_from(value.len())).map_err(|_| Full)?;
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.count += 1;
        Ok(())
    }
}

/// Packs timers for [`on_timers`](crate::ProcessorInstance::on_timers) behind what `packed` holds.
///
/// # Errors
/// [`Full`] when an id is longer than 2 GiB; what precedes it was written.
pub fn encode_timers<'a>(timers: impl IntoIterator<Item = (i64, &'a [u8])>, packed: &mut Vec<u8>) -> Result<(), Full> {
    for (at, id) in timers {
        let length = i32::try_from(id.len()).map_err(|_| Full)?;
        packed.extend_from_slice(&at.to_le_bytes());
        packed.extend_from_slice(&length.to_le_bytes());
        packed.extend_from_slice(id);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(length: i32, bytes: &[u8]) -> Vec<u8> {
        [&length.to_le_bytes(), bytes].concat()
    }

    #[test]
    fn keys_entries_and_timers_come_out_as_packed() {
        let keys = [field(1, b"a"), field(0, b""), field(2, b"bc")].concat();
        let keys = PackedKeys::decode(&keys).unwrap();
        assert_eq!(keys.len(), 3);
        assert_eq!(keys.iter().collect::<Vec<_>>(), [b"a".as_slice(), b"", b"bc"]);

        let entries = [field(1, b"a"), field(-1, b""), field(1, b"b"), field(0, b"")].concat();
        let entries = PackedEntries::decode(&entries).unwrap();
        assert_eq!(entries.iter().collect::<Vec<_>>(), [(b"a".as_slice(), None), (b"b", Some(b"".as_slice()))]);

        let mut timers = Vec::new();
        encode_timers([(7, b"x".as_slice()), (-1, b"")], &mut timers).unwrap();
        let timers = PackedTimers::decode(&timers).unwrap();
        assert_eq!(timers.iter().collect::<Vec<_>>(), [(7, b"x".as_slice()), (-1, b"")]);
        assert!(PackedKeys::decode(b"").unwrap().is_empty());
    }

    // covers W6: never trust a guest's lengths
    #[test]
    fn lists_that_do_not_hold_together_are_refused_with_the_place() {
        let cases: [(&[u8], &str); 6] = [
            (&[1, 0, 0], "the list ends inside a number at byte 0 of 3"),
            (&[2, 0, 0, 0, b'a'], "length 2 with 1 bytes left at byte 4 of 5"),
            (&[0xff, 0xff, 0xff, 0xff], "an absent key at byte 4 of 4"),
            (&[0xfe, 0xff, 0xff, 0xff], "length -2 with 0 bytes left at byte 4 of 4"),
            (&[0xff, 0xff, 0xff, 0x7f], "length 2147483647 with 0 bytes left at byte 4 of 4"),
            (&[0, 0, 0, 0, 9], "the list ends inside a number at byte 4 of 5"),
        ];
        for (bytes, message) in cases {
            assert_eq!(PackedKeys::decode(bytes), Err(Malformed(message.to_owned())));
        }
        let no_value = field(1, b"a");
        assert_eq!(
            PackedEntries::decode(&no_value),
            Err(Malformed("the list ends inside a number at byte 5 of 5".to_owned()))
        );
        assert!(PackedTimers::decode(&[0; 11]).is_err());
        assert!(PackedTimers::decode(&[0; 12]).is_ok());
    }

    #[test]
    fn writer_stops_at_its_limit_and_stays_whole() {
        let mut writer = PackedWriter::new(20);
        writer.push(Some(b"ab")).unwrap();
        writer.push(None).unwrap();
        writer.push_entry(b"", b"zzz").unwrap_err();
        writer.push(Some(b"1234567")).unwrap_err();
        writer.push(Some(b"123456")).unwrap();
        let bytes = writer.into_bytes();
        assert_eq!(bytes, [field(2, b"ab"), field(-1, b""), field(6, b"123456")].concat());
        let mut writer = PackedWriter::new(9);
        writer.push_entry(b"", b"z").unwrap();
        assert_eq!(writer.into_bytes(), [field(0, b""), field(1, b"z")].concat());
    }
}
