//! A key extractor that does what values tell it: `trap`, `spin`, `hog` (take all memory), `fail`. Any other value is
//! its own key. With the setting `tame=yes` it does nothing bad.

use headwater_guest_sdk::{KeyExtractor, Record, Settings, Verdict, export_key_extractor};

/// The extractor.
pub struct BadKey {
    is_tame: bool,
}

export_key_extractor!(BadKey);

impl KeyExtractor for BadKey {
    fn init(settings: &Settings) -> Result<Self, String> {
        match settings.get("refuse") {
            Some(why) => Err(why.to_owned()),
            None => Ok(Self { is_tame: settings.get("tame") == Some("yes") }),
        }
    }

    fn extract<'a>(&self, record: &Record<'a>) -> Result<Verdict<'a>, String> {
        match record.value {
            Some(b"trap") if !self.is_tame => std::process::abort(),
            Some(b"spin") if !self.is_tame => loop {
                std::hint::black_box(self.is_tame);
            },
            Some(b"hog") if !self.is_tame => {
                let mut all: Vec<Vec<u8>> = Vec::new();
                loop {
                    all.push(std::hint::black_box(vec![1; 1 << 20]));
                }
            }
            Some(b"fail") if !self.is_tame => Err("it was told to fail".to_owned()),
            Some(value) => Ok(Verdict::Key(value.into())),
            None => Ok(Verdict::Keep),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_guest_sdk::testing::extract_keys;

    #[test]
    fn it_fails_only_when_it_is_told_to() {
        assert_eq!(extract_keys::<BadKey>(&[], ["a"]).unwrap(), [Verdict::Key(b"a"[..].into())]);
        assert!(extract_keys::<BadKey>(&[], ["fail"]).unwrap_err().contains("told to fail"));
        assert!(extract_keys::<BadKey>(&[("tame", "yes")], ["trap", "spin", "hog", "fail"]).is_ok());
        assert_eq!(extract_keys::<BadKey>(&[("refuse", "no")], [""]), Err("no".to_owned()));
    }
}
