//! The settings of one log.

use crate::limits;

/// How a log is cut into segments and indexed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogConfig {
    /// A segment ends before the append that would make it longer than so many bytes (`segment.bytes`).
    pub segment_bytes: u64,
    /// A segment ends before a batch whose records are so many milliseconds younger than its first one
    /// (`segment.ms`). Record time, not the clock's.
    pub segment_ms: u64,
    /// One index entry per so many bytes, at most (`index.interval.bytes`).
    pub index_interval_bytes: u64,
}

impl Default for LogConfig {
    /// Kafka's defaults: 1 GiB, 7 days, 4 KiB.
    fn default() -> Self {
        Self { segment_bytes: 1 << 30, segment_ms: 7 * 24 * 60 * 60 * 1000, index_interval_bytes: 4096 }
    }
}

impl LogConfig {
    /// Refuses what can't work.
    ///
    /// # Errors
    /// [`BadConfig`] names the setting and what it may be.
    pub fn check(&self) -> Result<(), BadConfig> {
        let within = |name, value, min, max| {
            if value < min || value > max { Err(BadConfig { name, value, min, max }) } else { Ok(()) }
        };
        within("segment.bytes", self.segment_bytes, limits::SEGMENT_BYTES_MIN, limits::SEGMENT_BYTES_MAX)?;
        within("segment.ms", self.segment_ms, 1, i64::MAX as u64)?;
        within("index.interval.bytes", self.index_interval_bytes, 0, limits::SEGMENT_BYTES_MAX)
    }
}

/// A setting is out of range.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{name}={value} is not between {min} and {max}: set it within these")]
pub struct BadConfig {
    /// The setting's name.
    pub name: &'static str,
    /// What it was set to.
    pub value: u64,
    /// The least it may be.
    pub min: u64,
    /// The most it may be.
    pub max: u64,
}
