//! A key extractor: compacts by what JSON pointers (RFC 6901) find in a record's value. Settings of the topic:
//! - `pointer=/id`: where the key is; given several times, all of them together are the key
//! - `deleted=/gone`: where it says `true` the record deletes its key
//!
//! A value that is no JSON, or lacks a pointer, stays for ever.

use headwater_guest_sdk::{KeyExtractor, Record, Settings, Verdict, export_key_extractor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The extractor: the pointers, token by token.
pub struct JsonKey {
    pointers: Vec<Vec<String>>,
    deleted: Option<Vec<String>>,
}

export_key_extractor!(JsonKey);

impl KeyExtractor for JsonKey {
    fn init(settings: &Settings) -> Result<Self, String> {
        let pointers: Vec<_> = settings.all("pointer").map(tokens).collect::<Result<_, _>>()?;
        let deleted = settings.get("deleted").map(tokens).transpose()?;
        if pointers.is_empty() {
            Err("json-key needs a setting pointer=/NAME".into())
        } else {
            Ok(Self { pointers, deleted })
        }
    }

    fn extract<'a>(&self, record: &Record<'a>) -> Result<Verdict<'a>, String> {
        let Some(Ok(text)) = record.value.map(std::str::from_utf8) else { return Ok(Verdict::Keep) };
        let found: Option<Vec<&str>> = self.pointers.iter().map(|pointer| find(text, pointer)).collect();
        let Some(found) = found else { return Ok(Verdict::Keep) };
        let key = match found[..] {
            [one] => Cow::Borrowed(one.as_bytes()),
            _ => Cow::Owned(found.join(",").into_bytes()),
        };
        let is_deleted = self.deleted.as_ref().is_some_and(|pointer| find(text, pointer) == Some("true"));
        Ok(if is_deleted { Verdict::Tombstone(key) } else { Verdict::Key(key) })
    }
}

fn tokens(pointer: &str) -> Result<Vec<String>, String> {
    let rest = pointer.strip_prefix('/').ok_or(format!("{pointer:?} is no JSON pointer: it begins with /"))?;
    Ok(rest.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect())
}

/// The JSON text that a pointer leads to. What lies beside the way is skipped, not read.
fn find<'a>(mut text: &'a str, pointer: &[String]) -> Option<&'a str> {
    for token in pointer {
        let below: &RawValue = match text.trim_start().starts_with('[') {
            true => serde_json::from_str::<Vec<&RawValue>>(text).ok()?.get(token.parse::<usize>().ok()?)?,
            false => serde_json::from_str::<BTreeMap<Cow<'_, str>, &RawValue>>(text).ok()?.remove(token.as_str())?,
        };
        text = below.get();
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_guest_sdk::testing::extract_keys;

    #[test]
    fn pointers_name_the_key_and_the_deletion() {
        let settings = [("pointer", "/row/id"), ("pointer", "/tags/1"), ("deleted", "/gone")];
        let rows = [r#"{"row":{"id":7},"tags":["a","b"],"x":[{}]}"#, r#"{"gone":true,"tags":[1,2],"row":{"id":"é"}}"#];
        let key = |text: &str| Cow::Owned(text.as_bytes().to_vec());
        let expected = [Verdict::Key(key("7,\"b\"")), Verdict::Tombstone(key("\"é\",2"))];
        assert_eq!(extract_keys::<JsonKey>(&settings, rows).unwrap(), expected);
        let without = ["", "no json", "{}", r#"{"row":{"id":1}}"#, r#"{"row":3,"tags":[1,2]}"#];
        assert!(extract_keys::<JsonKey>(&settings, without).unwrap().iter().all(|it| *it == Verdict::Keep));
        assert!(extract_keys::<JsonKey>(&[], [""]).unwrap_err().contains("pointer=/NAME"));
        assert!(extract_keys::<JsonKey>(&[("pointer", "id")], [""]).unwrap_err().contains("begins with /"));
    }
}
