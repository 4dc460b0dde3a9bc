//! Records as lines, in the order and with the words of Kafka's console consumer, or as JSON objects.

use crate::output::Format;
use crate::text::hex;
use headwater_protocol::batch::Record;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::io::{self, Write};

/// What of a record is printed, and how.
#[derive(Clone, Debug)]
pub(crate) struct RecordFormat {
    /// Lines, or JSON objects with everything.
    pub(crate) format: Format,
    /// `CreateTime:<ms since 1970>`
    pub(crate) timestamp: bool,
    /// `Partition:<number>`
    pub(crate) partition: bool,
    /// `Offset:<number>`
    pub(crate) offset: bool,
    /// `name:value,name:value`, or `NO_HEADERS`
    pub(crate) headers: bool,
    /// The key, or `null`.
    pub(crate) key: bool,
    /// Between the parts of a line.
    pub(crate) separator: Vec<u8>,
    /// Whether control characters are escaped: what is printed goes to a terminal, and records are anybody's.
    pub(crate) escape: bool,
}

impl RecordFormat {
    /// Writes one record and a line feed.
    pub(crate) fn write(
        &self,
        out: &mut impl Write,
        topic: &str,
        partition: u32,
        record: &Record<'_>,
    ) -> io::Result<()> {
        match self.format {
            Format::Text => self.write_line(out, partition, record)?,
            Format::Json => serde_json::to_writer(&mut *out, &object(topic, partition, record))?,
        }
        out.write_all(b"\n")
    }

    /// Writes one record below the line of its batch.
    pub(crate) fn write_apart(&self, out: &mut impl Write, record: &Record<'_>) -> io::Result<()> {
        match self.format {
            Format::Text => {
                out.write_all(b"  ")?;
                self.write_line(out, 0, record)?;
            }
            Format::Json => {
                let mut object = Map::new();
                insert_record(&mut object, record);
                serde_json::to_writer(&mut *out, &json!({"record": object}))?;
            }
        }
        out.write_all(b"\n")
    }

    fn write_line(&self, out: &mut impl Write, partition: u32, record: &Record<'_>) -> io::Result<()> {
        let separate = |out: &mut dyn Write| out.write_all(&self.separator);
        if self.timestamp {
            write!(out, "CreateTime:{}", record.timestamp)?;
            separate(out)?;
        }
        if self.partition {
            write!(out, "Partition:{partition}")?;
            separate(out)?;
        }
        if self.offset {
            write!(out, "Offset:{}", record.offset)?;
            separate(out)?;
        }
        if self.headers {
            self.write_headers(out, record)?;
            separate(out)?;
        }
        if self.key {
            self.write_bytes(out, record.key)?;
            separate(out)?;
        }
        self.write_bytes(out, record.value)
    }

    fn write_headers(&self, out: &mut impl Write, record: &Record<'_>) -> io::Result<()> {
        let mut before: &[u8] = b"";
        for header in record.headers().flatten() {
            out.write_all(before)?;
            self.write_bytes(out, Some(header.0.as_bytes()))?;
            out.write_all(b":")?;
            self.write_bytes(out, header.1)?;
            before = b",";
        }
        if before.is_empty() { out.write_all(b"NO_HEADERS") } else { Ok(()) }
    }

    fn write_bytes(&self, out: &mut impl Write, bytes: Option<&[u8]>) -> io::Result<()> {
        let bytes = bytes.unwrap_or(b"null");
        if !self.escape {
            return out.write_all(bytes);
        }
        let text = String::from_utf8_lossy(bytes);
        let is_harmless = |c: char| !c.is_control() || c == '\t';
        let safe: Cow<'_, str> = if text.chars().all(is_harmless) {
            text
        } else {
            let escaped =
                text.chars().map(|c| if is_harmless(c) { c.to_string() } else { c.escape_default().to_string() });
            Cow::Owned(escaped.collect())
        };
        out.write_all(safe.as_bytes())
    }
}

/// Everything of a record. Bytes that are no UTF-8 are hexadecimal, under a name that says so.
fn object(topic: &str, partition: u32, record: &Record<'_>) -> Value {
    let mut object = Map::new();
    object.insert("topic".to_owned(), topic.into());
    object.insert("partition".to_owned(), partition.into());
    insert_record(&mut object, record);
    Value::from(object)
}

fn insert_record(object: &mut Map<String, Value>, record: &Record<'_>) {
    let headers: Vec<Value> = record
        .headers()
        .flatten()
        .map(|(name, value)| {
            let mut header = Map::new();
            header.insert("name".to_owned(), name.into());
            insert_bytes(&mut header, "value", value);
            Value::from(header)
        })
        .collect();
    object.insert("offset".to_owned(), record.offset.into());
    object.insert("timestamp".to_owned(), record.timestamp.into());
    object.insert("headers".to_owned(), json!(headers));
    insert_bytes(object, "key", record.key);
    insert_bytes(object, "value", record.value);
}

fn insert_bytes(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => object.insert(name.to_owned(), Value::Null),
        Some((_, Ok(text))) => object.insert(name.to_owned(), text.into()),
        Some((bytes, Err(_))) => object.insert(format!("{name}_hex"), hex(bytes).into()),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use headwater_protocol::batch::{BatchBuilder, BatchLimits, ProducerStamp, RecordBatch};
    use headwater_protocol::compression::Compression;

    fn plain() -> RecordFormat {
        RecordFormat {
            format: Format::Text,
            timestamp: false,
            partition: false,
            offset: false,
            headers: false,
            key: false,
            separator: b"\t".to_vec(),
            escape: false,
        }
    }

    type Headers<'a> = &'a [(&'a str, Option<&'a [u8]>)];

    fn printed(format: &RecordFormat, key: Option<&[u8]>, value: Option<&[u8]>, headers: Headers<'_>) -> String {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.append(42, key, value, headers).unwrap();
        let batch = RecordBatch::decode(Bytes::from(builder.build(ProducerStamp::NONE).unwrap())).unwrap();
        let records = batch.records(&BatchLimits::default()).unwrap();
        let record = records.iter().next().unwrap().unwrap();
        let mut out = Vec::new();
        format.write(&mut out, "t", 3, &record).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn parts_come_in_kafkas_order_with_kafkas_words() {
        assert_eq!(printed(&plain(), Some(b"k"), Some(b"v"), &[]), "v\n");
        let all = RecordFormat { timestamp: true, partition: true, offset: true, headers: true, key: true, ..plain() };
        assert_eq!(
            printed(&all, Some(b"k"), Some(b"v"), &[("a", Some(b"1")), ("b", None)]),
            "CreateTime:42\tPartition:3\tOffset:0\ta:1,b:null\tk\tv\n"
        );
        let dashed = RecordFormat { key: true, headers: true, separator: b" - ".to_vec(), ..plain() };
        assert_eq!(printed(&dashed, None, None, &[]), "NO_HEADERS - null - null\n");
    }

    #[test]
    fn a_terminal_gets_no_control_characters_and_a_pipe_gets_every_byte() {
        // covers reliability §4.4: terminal escape sequences
        let evil = b"\x1b]0;owned\x07\ttab";
        let terminal = RecordFormat { escape: true, ..plain() };
        assert_eq!(printed(&terminal, None, Some(evil), &[]), "\\u{1b}]0;owned\\u{7}\ttab\n");
        assert_eq!(printed(&plain(), None, Some(evil), &[]).as_bytes(), [evil.as_slice(), b"\n"].concat());
    }

    #[test]
    fn json_has_everything_and_says_what_is_hexadecimal() {
        let json = RecordFormat { format: Format::Json, ..plain() };
        let object: Value =
            serde_json::from_str(&printed(&json, Some(&[0xff, 0]), Some(b"v"), &[("h", None)])).unwrap();
        let expected = json!({
            "topic": "t", "partition": 3, "offset": 0, "timestamp": 42,
            "headers": [{"name": "h", "value": null}], "key_hex": "ff00", "value": "v",
        });
        assert_eq!(object, expected);
    }
}
