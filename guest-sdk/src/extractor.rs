//! Key extractors: modules that tell compaction which key a record has.

use crate::error::ContractError;
use crate::record::{Batch, BatchMeta, Record};
use std::borrow::Cow;

/// Names the key that compaction keeps the newest record of. A pure function of its settings and the record: the same
/// record is asked about again in later cleanings, on other instances.
///
/// Deploy it as a topic's `compaction.key.extractor`; build it with the feature `key-extractor` of this crate.
pub trait KeyExtractor: Sized {
    /// Makes the extractor; first on every instance. An error says why it can't run with these settings.
    fn init(settings: &Settings) -> Result<Self, String>;

    /// What the record is to compaction. An error stops the compaction of the partition, and loses nothing.
    fn extract<'a>(&self, record: &Record<'a>) -> Result<Verdict<'a>, String>;
}

/// What a record is to compaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It stays, whatever else there is.
    Keep,
    /// It stays until there is a newer record of this key.
    Key(Cow<'a, [u8]>),
    /// It says that this key is gone: all older records of it go, and after a while this one, too.
    Tombstone(Cow<'a, [u8]>),
}

/// Names and values of `compaction.key.extractor.settings`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(Vec<(String, String)>);

impl Settings {
    /// These pairs, in order.
    pub fn new<N: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// The value of a name; the last one of several.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rfind(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// All values of a name, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// Index and data of `verdicts`, as the contract has them.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    /// 16 bytes a record: verdict, key position, key length, zero.
    pub(crate) index: Vec<u8>,
    /// The keys, one behind the other.
    pub(crate) data: Vec<u8>,
}

/// Asks about each record of a batch. `index` and `data` as the contract has them.
///
/// # Errors
/// What the extractor says, with the record's offset.
pub(crate) fn extract_batch<E: KeyExtractor>(
    extractor: &E,
    (partition, base_offset): (u32, i64),
    index: &[u8],
    data: &[u8],
) -> Result<Packed, String> {
    let meta = BatchMeta { input: 0, partition, base_offset, stream_time: -1 };
    let batch = Batch::parse(meta, index, data).map_err(|ContractError(fault)| fault.to_owned())?;
    let mut packed = Packed { index: Vec::with_capacity(batch.len() * 16), data: Vec::new() };
    for record in &batch {
        let verdict =
            extractor.extract(&record).map_err(|error| format!("record at offset {}: {error}", record.offset))?;
        let (kind, key) = match &verdict {
            Verdict::Keep => (0_u8, &[][..]),
            Verdict::Key(key) => (1, key.as_ref()),
            Verdict::Tombstone(key) => (2, key.as_ref()),
        };
        let too_large = |_| "the keys of one batch have more than 4 GiB".to_owned();
        let position = u32::try_from(packed.data.len()).map_err(too_large)?;
        let length = u32::try_from(key.len()).map_err(too_large)?;
        packed.index.extend([kind, 0, 0, 0]);
        packed.index.extend(position.to_le_bytes());
        packed.index.extend(length.to_le_bytes());
        packed.index.extend([0; 4]);
        packed.data.extend_from_slice(key);
    }
    Ok(packed)
}

/// Makes a type the key extractor of this module: `export_key_extractor!(MyExtractor);`, once, in a `cdylib` crate that
/// has this crate's feature `key-extractor`.
///
/// For any target but wasm32 it only checks that the type is a [`KeyExtractor`].
#[macro_export]
macro_rules! export_key_extractor {
    ($extractor:ty) => {
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&$crate::Settings) -> ::std::result::Result<$extractor, ::std::string::String> =
            <$extractor as $crate::KeyExtractor>::init;
        #[cfg(target_arch = "wasm32")]
        $crate::export_key_extractor_component!($extractor);
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestRecord, extract_keys};

    struct First;

    impl KeyExtractor for First {
        fn init(settings: &Settings) -> Result<Self, String> {
            settings.get("fail").map_or(Ok(Self), |why| Err(why.to_owned()))
        }

        fn extract<'a>(&self, record: &Record<'a>) -> Result<Verdict<'a>, String> {
            match record.value {
                None => Ok(Verdict::Keep),
                Some(b"") => Err("empty".to_owned()),
                Some([b'-', rest @ ..]) => Ok(Verdict::Tombstone(Cow::Borrowed(rest))),
                Some(value) => Ok(Verdict::Key(Cow::Borrowed(&value[..1]))),
            }
        }
    }

    #[test]
    fn verdicts_are_packed_as_the_contract_has_them() {
        let records = [TestRecord::from("ab"), TestRecord::default(), TestRecord::from("-cd")];
        let (index, data) = crate::testing::pack_records(&records);
        let packed = extract_batch(&First, (0, 40), &index, &data).unwrap();
        let entry =
            |kind: u8, position: u8, length: u8| [kind, 0, 0, 0, position, 0, 0, 0, length, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(packed.index, [entry(1, 0, 1), entry(0, 1, 0), entry(2, 1, 2)].concat());
        assert_eq!(packed.data, b"acd");
        let (index, data) = crate::testing::pack_records(&[TestRecord::from("")]);
        let error = extract_batch(&First, (0, 40), &index, &data);
        assert_eq!(error.unwrap_err(), "record at offset 40: empty");
    }

    #[test]
    fn settings_and_records_reach_the_extractor() {
        let extracted = extract_keys::<First>(&[], ["xy", "-z"]).unwrap();
        assert_eq!(extracted, [Verdict::Key(b"x"[..].into()), Verdict::Tombstone(b"z"[..].into())]);
        assert_eq!(extract_keys::<First>(&[("fail", "no"), ("fail", "never")], ["x"]), Err("never".to_owned()));
    }
}
