//! The settings by which a topic's old records go: `cleanup.policy`, and those of compaction.

use super::{invalid, limit, limit_text, number, quoted};
use crate::cluster::names::{Named, check_name, did_you_mean};
use crate::limits;
use headwater_protocol::error::ApiError;
use headwater_protocol::ids::ModuleDigest;
use std::fmt;

pub(super) const CLEANUP_POLICY: &str = "cleanup.policy";
pub(super) const KEY_EXTRACTOR: &str = "compaction.key.extractor";
pub(super) const KEY_EXTRACTOR_SETTINGS: &str = "compaction.key.extractor.settings";
pub(super) const DELETE_RETENTION_MS: &str = "delete.retention.ms";
pub(super) const MAX_COMPACTION_LAG_MS: &str = "max.compaction.lag.ms";
pub(super) const MIN_CLEANABLE_DIRTY_RATIO: &str = "min.cleanable.dirty.ratio";
pub(super) const MIN_COMPACTION_LAG_MS: &str = "min.compaction.lag.ms";

/// A day, as in Kafka.
const DELETE_RETENTION_MS_DEFAULT: u64 = 24 * 60 * 60 * 1000;
/// Half, as in Kafka.
const DIRTY_RATIO_DEFAULT: DirtyRatio = DirtyRatio(500_000);
const MILLIONTHS: f64 = 1_000_000.0;

/// What becomes of a topic's old records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CleanupPolicy {
    /// Of each key the newest record stays.
    pub compact: bool,
    /// What is too old, or too much, goes (`retention.ms`, `retention.bytes`).
    pub delete: bool,
}

impl fmt::Display for CleanupPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.compact, self.delete) {
            (true, true) => "compact,delete",
            (true, false) => "compact",
            (false, _) => "delete",
        })
    }
}

/// A part of 1, exact to a millionth.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DirtyRatio(u32);

impl DirtyRatio {
    /// 0 to 1.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / MILLIONTHS
    }
}

impl fmt::Display for DirtyRatio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_f64().fmt(f)
    }
}

/// The module that says which key a record has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyExtractor {
    /// `name` (its newest version), `name@version` or a digest.
    pub module: String,
    /// Name and value of what it is given at its start, in order.
    pub settings: Vec<(String, String)>,
}

/// How a topic is compacted, if it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CompactionSettings {
    /// `min.cleanable.dirty.ratio`: a log is cleaned when more than this part of what can be cleaned is dirty.
    pub dirty_ratio_min: DirtyRatio,
    /// `delete.retention.ms`: how long tombstones stay after their first cleaning.
    pub delete_retention_ms: u64,
    /// `min.compaction.lag.ms`: how long every record stays.
    pub lag_ms_min: u64,
    /// `max.compaction.lag.ms`: after which time a log is cleaned whatever its ratio; `None` (-1): never for that.
    pub lag_ms_max: Option<u64>,
    /// `compaction.key.extractor` and its settings; `None`: by the records' own keys.
    pub key_extractor: Option<KeyExtractor>,
    /// Given before, or without, the extractor.
    extractor_settings: Option<Vec<(String, String)>>,
}

impl Default for CompactionSettings {
    fn default() -> Self {
        Self {
            dirty_ratio_min: DIRTY_RATIO_DEFAULT,
            delete_retention_ms: DELETE_RETENTION_MS_DEFAULT,
            lag_ms_min: 0,
            lag_ms_max: None,
            key_extractor: None,
            extractor_settings: None,
        }
    }
}

impl CompactionSettings {
    /// Whether `name` is one of them; then it is set.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<bool, ApiError> {
        let ever = (0, i64::MAX.unsigned_abs());
        match name {
            DELETE_RETENTION_MS => {
                let why = "readers need some time to see a deletion";
                self.delete_retention_ms = number(name, value, ever, why)?;
            }
            MIN_COMPACTION_LAG_MS => self.lag_ms_min = number(name, value, ever, "it is a time in ms")?,
            MAX_COMPACTION_LAG_MS => self.lag_ms_max = limit(name, value, "milliseconds")?,
            MIN_CLEANABLE_DIRTY_RATIO => self.dirty_ratio_min = ratio(value)?,
            KEY_EXTRACTOR => self.key_extractor = Some(extractor(value)?),
            KEY_EXTRACTOR_SETTINGS => self.extractor_settings = Some(pairs(value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Puts together what depends on more than one setting, and refuses what contradicts itself.
    pub(super) fn finish(&mut self, policy: CleanupPolicy) -> Result<(), ApiError> {
        if self.lag_ms_max == Some(0) {
            return Err(invalid(format!("{MAX_COMPACTION_LAG_MS}=0: a log can't be clean at every moment")));
        }
        if let Some(lag_ms_max) = self.lag_ms_max.filter(|max| *max < self.lag_ms_min) {
            let lag_ms_min = self.lag_ms_min;
            return Err(invalid(format!(
                "{MIN_COMPACTION_LAG_MS}={lag_ms_min} is above {MAX_COMPACTION_LAG_MS}={lag_ms_max}: a record can't \
                 stay for the one and be cleaned within the other"
            )));
        }
        let settings = self.extractor_settings.take();
        match &mut self.key_extractor {
            Some(extractor) if !policy.compact => Err(invalid(format!(
                "{KEY_EXTRACTOR}={} says what compaction goes by, and {CLEANUP_POLICY}={policy} does not \
                 compact: set {CLEANUP_POLICY}=compact, too",
                extractor.module
            ))),
            Some(extractor) => {
                extractor.settings = settings.unwrap_or_default();
                Ok(())
            }
            None if settings.is_some() => Err(invalid(format!(
                "{KEY_EXTRACTOR_SETTINGS} without {KEY_EXTRACTOR}: name the module that they are for"
            ))),
            None => Ok(()),
        }
    }

    /// The values of `compaction.key.extractor` and `compaction.key.extractor.settings`; empty: none.
    pub(super) fn extractor_texts(&self) -> [String; 2] {
        let Some(extractor) = &self.key_extractor else { return [String::new(), String::new()] };
        let settings: Vec<String> = extractor.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        [extractor.module.clone(), settings.join(";")]
    }

    pub(super) fn lag_text(&self) -> String {
        limit_text(self.lag_ms_max)
    }
}

pub(super) fn policy(value: &str, internal: bool) -> Result<CleanupPolicy, ApiError> {
    let (mut compact, mut delete) = (false, false);
    for word in value.split(',').map(str::trim) {
        let is_twice = match word {
            "compact" => std::mem::replace(&mut compact, true),
            "delete" => std::mem::replace(&mut delete, true),
            other => {
                let meant = did_you_mean(other, ["compact", "delete"].into_iter());
                let value = quoted(value);
                return Err(invalid(format!("{CLEANUP_POLICY}={value:?}{meant}: it is delete, compact or both")));
            }
        };
        if is_twice {
            return Err(invalid(format!("{CLEANUP_POLICY}={:?}: {word} is there twice", quoted(value))));
        }
    }
    if internal && delete {
        return Err(invalid(format!("{CLEANUP_POLICY}=delete: what an internal topic holds is state, however old")));
    }
    Ok(CleanupPolicy { compact, delete })
}

fn ratio(value: &str) -> Result<DirtyRatio, ApiError> {
    match value.parse::<f64>() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(DirtyRatio((ratio * MILLIONTHS).round() as u32)),
        Ok(_) | Err(_) => {
            let value = quoted(value);
            Err(invalid(format!(
                "{MIN_CLEANABLE_DIRTY_RATIO}={value:?}: it is a number from 0 to 1, the part of a log that is dirty"
            )))
        }
    }
}

fn extractor(value: &str) -> Result<KeyExtractor, ApiError> {
    let (name, version) = value.split_once('@').map_or((value, None), |(name, version)| (name, Some(version)));
    let checked = match (name.parse::<ModuleDigest>(), version) {
        (Ok(_), None) => Ok(()),
        _ => check_name(Named::Module, name)
            .and_then(|()| version.map_or(Ok(()), |version| check_name(Named::ModuleVersion, version))),
    };
    checked.map_err(|error| invalid(format!("{KEY_EXTRACTOR}: {}", error.message)))?;
    Ok(KeyExtractor { module: value.to_owned(), settings: Vec::new() })
}

fn pairs(value: &str) -> Result<Vec<(String, String)>, ApiError> {
    if value.len() > limits::EXTRACTOR_SETTINGS_BYTES_MAX {
        let max = limits::EXTRACTOR_SETTINGS_BYTES_MAX;
        return Err(invalid(format!("{KEY_EXTRACTOR_SETTINGS} has {} bytes, more than {max}", value.len())));
    }
    let pair = |text: &str| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => {
            let text = quoted(text);
            Err(invalid(format!("{KEY_EXTRACTOR_SETTINGS}: {text:?} is not NAME=VALUE; pairs are separated by \";\"")))
        }
    };
    value.split(';').map(pair).collect()
}
