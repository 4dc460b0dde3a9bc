//! Memory and tables of one instance (W1).

use crate::limits;
use wasmtime::ResourceLimiter;

/// Counts what an instance's memories and tables take together, and refuses growth beyond the limit: the guest's
/// allocation fails, as on a machine that has no more.
pub(crate) struct Limiter {
    memory_bytes_max: u64,
    memory_bytes: u64,
    table_elements: usize,
    refused_bytes: Option<u64>,
}

impl Limiter {
    pub(crate) fn new(memory_bytes_max: u64) -> Self {
        Self { memory_bytes_max, memory_bytes: 0, table_elements: 0, refused_bytes: None }
    }

    /// The limit.
    pub(crate) fn memory_bytes_max(&self) -> u64 {
        self.memory_bytes_max
    }

    /// What all memories have now.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// What would have been the sum when growth was refused last in this call.
    pub(crate) fn refused_bytes(&self) -> Option<u64> {
        self.refused_bytes
    }

    /// A new call: an earlier refusal that the guest survived explains nothing any more.
    pub(crate) fn begin_call(&mut self) {
        self.refused_bytes = None;
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            // Fails whatever is said here, and is not to be counted.
            return Ok(false);
        }
        let growth = u64::try_from(desired.saturating_sub(current))?;
        let wanted = self.memory_bytes.saturating_add(growth);
        if wanted > self.memory_bytes_max {
            self.refused_bytes = Some(wanted);
            return Ok(false);
        }
        self.memory_bytes = wanted;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current);
        let wanted = self.table_elements.saturating_add(growth);
        if wanted > limits::TABLE_ELEMENTS_MAX || maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.table_elements = wanted;
        Ok(true)
    }

    fn instances(&self) -> usize {
        limits::CORE_INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        limits::TABLES_MAX
    }

    fn memories(&self) -> usize {
        limits::MEMORIES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers W1
    #[test]
    fn memories_are_limited_together() {
        let mut limiter = Limiter::new(300);
        assert!(limiter.memory_growing(0, 100, None).unwrap());
        assert!(limiter.memory_growing(0, 200, None).unwrap());
        assert_eq!(limiter.refused_bytes(), None);
        assert!(!limiter.memory_growing(100, 101, None).unwrap());
        assert_eq!(limiter.refused_bytes(), Some(301));
        assert_eq!(limiter.memory_bytes(), 300);
        limiter.begin_call();
        assert_eq!(limiter.refused_bytes(), None);
    }

    #[test]
    fn growth_beyond_a_memorys_own_maximum_is_not_counted() {
        let mut limiter = Limiter::new(300);
        assert!(!limiter.memory_growing(0, 200, Some(100)).unwrap());
        assert_eq!(limiter.memory_bytes(), 0);
        assert_eq!(limiter.refused_bytes(), None, "not our limit");
    }

    #[test]
    fn table_elements_are_limited_together() {
        let mut limiter = Limiter::new(0);
        assert!(limiter.table_growing(0, limits::TABLE_ELEMENTS_MAX, None).unwrap());
        assert!(!limiter.table_growing(0, 1, None).unwrap());
        assert!(!limiter.table_growing(5, usize::MAX, None).unwrap());
    }
}
