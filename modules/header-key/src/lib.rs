//! A key extractor: compacts by the value of a record header. Settings of the topic:
//! - `header=NAME`: the last header of this name has the key
//!
//! A record without a value deletes its key; one without the header stays for ever.

use headwater_guest_sdk::{KeyExtractor, Record, Settings, Verdict, export_key_extractor};

/// The extractor: the header's name.
pub struct HeaderKey(String);

export_key_extractor!(HeaderKey);

impl KeyExtractor for HeaderKey {
    fn init(settings: &Settings) -> Result<Self, String> {
        settings.get("header").map(|name| Self(name.to_owned())).ok_or("header-key needs a setting header=NAME".into())
    }

    fn extract<'a>(&self, record: &Record<'a>) -> Result<Verdict<'a>, String> {
        Ok(match (record.header(&self.0).flatten(), record.value) {
            (None, _) => Verdict::Keep,
            (Some(key), Some(_)) => Verdict::Key(key.into()),
            (Some(key), None) => Verdict::Tombstone(key.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_guest_sdk::testing::{TestRecord, extract_keys};

    #[test]
    fn the_last_header_of_the_name_is_the_key() {
        let with = |value: Option<&str>, headers: &[(&str, Option<&[u8]>)]| {
            let record = TestRecord { value: value.map(|text| text.into()), ..TestRecord::default() };
            headers.iter().fold(record, |record, (name, value)| record.header(name, *value))
        };
        let records = [
            with(Some("v"), &[("id", Some(b"1")), ("id", Some(b"2")), ("x", None)]),
            with(None, &[("id", Some(b"3"))]),
            with(Some("v"), &[("id", None)]),
            with(Some("v"), &[("ID", Some(b"1"))]),
        ];
        let expected =
            [Verdict::Key(b"2"[..].into()), Verdict::Tombstone(b"3"[..].into()), Verdict::Keep, Verdict::Keep];
        assert_eq!(extract_keys::<HeaderKey>(&[("header", "id")], records).unwrap(), expected);
        assert!(extract_keys::<HeaderKey>(&[], [""]).unwrap_err().contains("header=NAME"));
    }
}
