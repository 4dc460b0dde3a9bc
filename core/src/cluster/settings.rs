//! Settings of a topic: names as in Kafka where Kafka has them.

mod compaction;

pub use compaction::{CleanupPolicy, CompactionSettings, DirtyRatio, KeyExtractor};

use super::names::did_you_mean;
use crate::limits;
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::limits::{BATCH_BYTES_MAX, INTERNAL_BATCH_BYTES_MAX};
use headwater_protocol::messages::cluster::SettingMetadata;
use std::fmt;

/// When a batch counts as held by a replica (LOG-1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// When it is on the disk.
    Fsync,
    /// When the operating system has it; a power cut may lose it.
    Os,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fsync => "fsync",
            Self::Os => "os",
        })
    }
}

const DURABILITY: &str = "durability";
const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";
const RETENTION_BYTES: &str = "retention.bytes";
const RETENTION_MS: &str = "retention.ms";
const SEGMENT_BYTES: &str = "segment.bytes";
const SEGMENT_MS: &str = "segment.ms";

/// In name order: what [`TopicSettings::describe`] promises.
const NAMES: [&str; 14] = [
    compaction::CLEANUP_POLICY,
    compaction::KEY_EXTRACTOR,
    compaction::KEY_EXTRACTOR_SETTINGS,
    compaction::DELETE_RETENTION_MS,
    DURABILITY,
    compaction::MAX_COMPACTION_LAG_MS,
    MAX_MESSAGE_BYTES,
    compaction::MIN_CLEANABLE_DIRTY_RATIO,
    compaction::MIN_COMPACTION_LAG_MS,
    MIN_INSYNC_REPLICAS,
    RETENTION_BYTES,
    RETENTION_MS,
    SEGMENT_BYTES,
    SEGMENT_MS,
];

const SEGMENT_BYTES_DEFAULT: u64 = 1 << 30;
/// Of internal topics: what grows is not cleaned, so it should not be much beside the state.
const SEGMENT_BYTES_INTERNAL: u64 = 16 << 20;
/// A segment must hold the largest batch; offsets in its index are 31 bits.
const SEGMENT_BYTES_RANGE: (u64, u64) = (1 << 20, (1 << 31) - 1);
/// Seven days, as in Kafka.
const RETENTION_MS_DEFAULT: u64 = 7 * 24 * 60 * 60 * 1000;
const SEGMENT_MS_DEFAULT: u64 = 7 * 24 * 60 * 60 * 1000;
const MAX_MESSAGE_BYTES_MIN: u64 = 1 << 10;
/// From this replication factor on, two replicas must be in sync by default.
const REPLICATION_FACTOR_SAFE: u16 = 3;

/// Every setting of a topic, typed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicSettings {
    /// `cleanup.policy`.
    pub cleanup_policy: CleanupPolicy,
    /// Those of compaction.
    pub compaction: CompactionSettings,
    /// `durability`.
    pub durability: Durability,
    /// `retention.bytes`: bytes of a partition beyond which its oldest segments go; `None` (-1): without a limit.
    pub retention_bytes: Option<u64>,
    /// `retention.ms`: milliseconds after which a segment goes, by its newest record; `None` (-1): never.
    pub retention_ms: Option<u64>,
    /// `segment.bytes`: bytes after which a log begins a new segment.
    pub segment_bytes: u64,
    /// `segment.ms`: milliseconds of record time after which a log begins a new segment.
    pub segment_ms: u64,
    /// `max.message.bytes`: bytes of the largest batch.
    pub max_message_bytes: u32,
    /// `min.insync.replicas`.
    pub min_insync_replicas: u16,
    /// Those of [`NAMES`] that the topic sets itself.
    set_on_topic: [bool; NAMES.len()],
}

impl TopicSettings {
    /// What a topic has that sets nothing itself.
    pub fn defaults(internal: bool, replication_factor: u16) -> Self {
        let max_message_bytes = if internal { INTERNAL_BATCH_BYTES_MAX } else { BATCH_BYTES_MAX };
        Self {
            // A changelog holds the newest of each key, everything else what is not too old.
            cleanup_policy: CleanupPolicy { compact: internal, delete: !internal },
            compaction: CompactionSettings::default(),
            durability: Durability::Fsync,
            retention_bytes: None,
            // What a changelog holds is state, however old.
            retention_ms: if internal { None } else { Some(RETENTION_MS_DEFAULT) },
            segment_bytes: if internal { SEGMENT_BYTES_INTERNAL } else { SEGMENT_BYTES_DEFAULT },
            segment_ms: SEGMENT_MS_DEFAULT,
            max_message_bytes: u32::try_from(max_message_bytes).unwrap_or(u32::MAX),
            min_insync_replicas: if replication_factor >= REPLICATION_FACTOR_SAFE { 2 } else { 1 },
            set_on_topic: [false; NAMES.len()],
        }
    }

    /// The defaults, with these (name, value) pairs on top.
    ///
    /// # Errors
    /// `InvalidConfig` for an unknown name (with the name that was probably meant), a name given twice, or a value out
    /// of its range (with the range, and why it is so).
    pub fn parse(pairs: &[(String, String)], internal: bool, replication_factor: u16) -> Result<Self, ApiError> {
        let mut settings = Self::defaults(internal, replication_factor);
        if pairs.len() > limits::SETTINGS_MAX {
            return Err(invalid(format!("{} settings are more than {}", pairs.len(), limits::SETTINGS_MAX)));
        }
        for (name, value) in pairs {
            let place = place(name)?;
            if std::mem::replace(&mut settings.set_on_topic[place], true) {
                return Err(invalid(format!("{name} is given twice")));
            }
            if name == compaction::CLEANUP_POLICY {
                settings.cleanup_policy = compaction::policy(value, internal)?;
            } else if !settings.compaction.set(name, value)? {
                settings.set(name, value, replication_factor)?;
            }
        }
        settings.compaction.finish(settings.cleanup_policy)?;
        Ok(settings)
    }

    /// These settings with the (name, value) pairs of `set` in place of what was there, and the defaults for the names
    /// in `delete`.
    ///
    /// # Errors
    /// As [`Self::parse`]; also a name that is both set and deleted.
    pub fn altered(
        &self,
        set: &[(String, String)],
        delete: &[String],
        internal: bool,
        replication_factor: u16,
    ) -> Result<Self, ApiError> {
        if set.len().saturating_add(delete.len()) > limits::SETTINGS_MAX {
            return Err(invalid(format!("more than {} settings at once", limits::SETTINGS_MAX)));
        }
        for name in delete {
            place(name)?;
            if set.iter().any(|(other, _)| other == name) {
                return Err(invalid(format!("{name} is both set and deleted")));
            }
        }
        let stays = |name: &String| !delete.contains(name) && !set.iter().any(|(other, _)| other == name);
        let mut pairs = self.overrides();
        pairs.retain(|(name, _)| stays(name));
        pairs.extend_from_slice(set);
        Self::parse(&pairs, internal, replication_factor)
    }

    fn set(&mut self, name: &str, value: &str, replication_factor: u16) -> Result<(), ApiError> {
        match name {
            DURABILITY => self.durability = durability(value)?,
            SEGMENT_BYTES => {
                let why = "it holds the largest batch, and positions in it are 31 bits";
                self.segment_bytes = number(name, value, SEGMENT_BYTES_RANGE, why)?;
            }
            RETENTION_BYTES => self.retention_bytes = limit(name, value, "bytes of a partition")?,
            RETENTION_MS => self.retention_ms = limit(name, value, "milliseconds")?,
            SEGMENT_MS => {
                let why = "a segment spans some time";
                self.segment_ms = number(name, value, (1, i64::MAX.unsigned_abs()), why)?;
            }
            MAX_MESSAGE_BYTES => {
                let range = (MAX_MESSAGE_BYTES_MIN, INTERNAL_BATCH_BYTES_MAX as u64);
                let bytes = number(name, value, range, "a batch has a header, and a frame's body holds it whole")?;
                self.max_message_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            }
            MIN_INSYNC_REPLICAS => {
                let range = (1, u64::from(replication_factor));
                let why = "with more than the replication factor nothing could ever be written";
                self.min_insync_replicas = u16::try_from(number(name, value, range, why)?).unwrap_or(u16::MAX);
            }
            _ => debug_assert!(false, "{name} is in NAMES and not here"),
        }
        Ok(())
    }

    /// Every setting, in name order.
    pub fn describe(&self) -> Vec<SettingMetadata> {
        let [extractor, extractor_settings] = self.compaction.extractor_texts();
        let values = [
            self.cleanup_policy.to_string(),
            extractor,
            extractor_settings,
            self.compaction.delete_retention_ms.to_string(),
            self.durability.to_string(),
            self.compaction.lag_text(),
            self.max_message_bytes.to_string(),
            self.compaction.dirty_ratio_min.to_string(),
            self.compaction.lag_ms_min.to_string(),
            self.min_insync_replicas.to_string(),
            limit_text(self.retention_bytes),
            limit_text(self.retention_ms),
            self.segment_bytes.to_string(),
            self.segment_ms.to_string(),
        ];
        let described = NAMES.into_iter().zip(values).zip(self.set_on_topic);
        described
            .map(|((name, value), set_on_topic)| SettingMetadata { name: name.into(), value, set_on_topic })
            .collect()
    }

    /// (name, value) of those that the topic sets itself: parsing them gives the same settings again.
    pub fn overrides(&self) -> Vec<(String, String)> {
        let set = self.describe().into_iter().filter(|setting| setting.set_on_topic);
        set.map(|setting| (setting.name, setting.value)).collect()
    }
}

/// Where a setting stands in [`NAMES`].
fn place(name: &str) -> Result<usize, ApiError> {
    NAMES.iter().position(|known| *known == name).ok_or_else(|| {
        let meant = did_you_mean(name, NAMES.iter().copied());
        let known = NAMES.join(", ");
        invalid(format!("no setting {:?}{meant}; the settings are {known}", quoted(name)))
    })
}

fn durability(value: &str) -> Result<Durability, ApiError> {
    match value {
        "fsync" => Ok(Durability::Fsync),
        "os" => Ok(Durability::Os),
        other => {
            let meant = did_you_mean(other, ["fsync", "os"].into_iter());
            let other = quoted(other);
            Err(invalid(format!(
                "{DURABILITY}={other:?}{meant}: it is fsync (answers wait for the disk) or os (a power cut may lose it)"
            )))
        }
    }
}

fn number(name: &str, value: &str, (lowest, highest): (u64, u64), why: &str) -> Result<u64, ApiError> {
    match value.parse::<u64>() {
        Ok(number) if (lowest..=highest).contains(&number) => Ok(number),
        Ok(_) | Err(_) => {
            let value = quoted(value);
            Err(invalid(format!("{name}={value:?}: it is a whole number from {lowest} to {highest}, because {why}")))
        }
    }
}

/// A limit, or -1 for none, as Kafka writes it.
fn limit(name: &str, value: &str, of: &str) -> Result<Option<u64>, ApiError> {
    match value.parse::<i64>() {
        Ok(-1) => Ok(None),
        Ok(number) if number >= 0 => Ok(Some(number.unsigned_abs())),
        Ok(_) | Err(_) => {
            let value = quoted(value);
            Err(invalid(format!("{name}={value:?}: it is a whole number of {of}, 0 or more, or -1 for no limit")))
        }
    }
}

fn limit_text(limit: Option<u64>) -> String {
    limit.map_or_else(|| "-1".to_owned(), |limit| limit.to_string())
}

fn invalid(message: String) -> ApiError {
    ApiError::new(ErrorCode::InvalidConfig, message)
}

/// So much of a user's text as an error message repeats.
pub(super) fn quoted(text: &str) -> &str {
    let mut end = text.len().min(limits::QUOTED_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
