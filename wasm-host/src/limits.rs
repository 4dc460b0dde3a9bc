//! Named limits, with their units and defaults. DESIGN §7: on by default, all of them.

use headwater_protocol::limits as wire;
use std::time::Duration;

/// Bytes of an uploaded component.
pub const COMPONENT_BYTES_MAX: usize = wire::MODULE_BYTES_MAX as usize;

/// Functions of a component, over all its core modules.
pub const FUNCTIONS_MAX: u32 = 50_000;

/// Core modules and components nested in a component.
pub const NESTED_MODULES_MAX: u32 = 64;

/// Names that a refusal lists before it says "and more".
pub const LISTED_NAMES_MAX: usize = 8;

/// Linear memories of instances that the pool has room for; more live outside it.
pub const POOLED_MEMORIES_MAX: u32 = 128;

/// How often the ticker interrupts guests so that budgets are looked at.
pub const EPOCH_TICK: Duration = Duration::from_millis(10);

/// Bytes of native stack that a guest's calls may use.
pub const GUEST_STACK_BYTES_MAX: usize = 512 << 10;

/// Bytes of stack that a thread needs which calls guests: the guest's own, and what the host does below it.
pub const GUEST_THREAD_STACK_BYTES: usize = 4 << 20;

/// Core instances of one component.
pub const CORE_INSTANCES_MAX: usize = 128;

/// Linear memories of one component.
pub const MEMORIES_MAX: usize = 8;

/// Tables of one component.
pub const TABLES_MAX: usize = 64;

/// Elements of all tables of one instance, 8 bytes each.
pub const TABLE_ELEMENTS_MAX: usize = 200_000;

/// Elements of one table of a pooled instance; a component that wants more lives outside the pool.
pub const POOLED_TABLE_ELEMENTS_MAX: usize = 20_000;

/// Frames of a guest's stack that an error shows.
pub const TRAP_FRAMES_MAX: usize = 8;

/// Frames of a guest's stack that are looked at, those of its language's panic machinery included.
pub const TRAP_FRAMES_SEEN_MAX: usize = 32;

/// Bytes of a function's name in such a frame.
pub const FRAME_BYTES_MAX: usize = 120;

/// Bytes of a guest's own error message that are kept.
pub const FAILURE_MESSAGE_BYTES_MAX: usize = 4 << 10;

/// Bytes of compiled modules that the cache keeps.
pub const CACHE_BYTES_MAX: u64 = 1 << 30;

/// Bytes of memory of the process that compiles.
pub const COMPILE_MEMORY_BYTES_MAX: u64 = 1 << 30;

/// CPU time of the process that compiles.
pub const COMPILE_CPU_MAX: Duration = Duration::from_secs(60);

/// Time from the start of the process that compiles to its answer.
pub const COMPILE_WALL_CLOCK_MAX: Duration = Duration::from_secs(180);

/// Bytes of one compiled module.
pub const ARTEFACT_BYTES_MAX: u64 = 256 << 20;

/// Bytes of the compiling process's last words that an error shows.
pub const STDERR_BYTES_MAX: usize = 4 << 10;

/// Records that a key extractor is asked about in one call.
pub const EXTRACT_RECORDS_MAX: usize = 4096;

/// Bytes of keys, values and headers of one such call, unless one record alone has more.
pub const EXTRACT_BYTES_MAX: usize = 1 << 20;

/// Limits of one instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InstanceLimits {
    /// Bytes of linear memory, over all memories of the instance.
    pub memory_bytes_max: u64,
    /// CPU time of a `process` or `on-timers` call per record or timer.
    pub cpu_per_record_max: Duration,
    /// CPU time that every such call may use, however few its records.
    pub cpu_per_call_min: Duration,
    /// CPU time that no such call may use more of, however many its records, unless one record alone may: a guest that
    /// spins is found out soon, and whoever is only slow gets fewer records a call.
    pub cpu_per_call_max: Duration,
    /// CPU time of instantiation and `init`.
    pub cpu_init_max: Duration,
    /// Fuel of a call per record or timer, and of instantiation and `init` each: about one a wasm instruction. Only for
    /// a runtime with [`RuntimeConfig::fuel`](crate::RuntimeConfig::fuel), which must have it.
    pub fuel_per_record: Option<u64>,
    /// Bytes that one call of a host function may carry, each way.
    pub hostcall_bytes_max: usize,
    /// Bytes of one log line; what is longer is cut.
    pub log_message_bytes_max: usize,
}

impl Default for InstanceLimits {
    fn default() -> Self {
        Self {
            memory_bytes_max: 64 << 20,
            cpu_per_record_max: Duration::from_millis(100),
            cpu_per_call_min: Duration::from_millis(100),
            cpu_per_call_max: Duration::from_secs(2),
            cpu_init_max: Duration::from_secs(2),
            fuel_per_record: None,
            hostcall_bytes_max: 32 << 20,
            log_message_bytes_max: 4 << 10,
        }
    }
}

impl InstanceLimits {
    /// Fuel of a call over `records` records or timers, at least that of one.
    pub(crate) fn fuel_budget(&self, records: usize) -> Option<u64> {
        let records = u64::try_from(records.max(1)).unwrap_or(u64::MAX);
        self.fuel_per_record.map(|fuel| fuel.saturating_mul(records))
    }

    /// CPU time of a call over `records` records or timers.
    pub(crate) fn cpu_budget(&self, records: usize) -> Duration {
        let records = u32::try_from(records).unwrap_or(u32::MAX);
        let most = self.cpu_per_call_max.max(self.cpu_per_record_max);
        self.cpu_per_record_max.saturating_mul(records).min(most).max(self.cpu_per_call_min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers W2: CPU budget = per record × records, with a floor and a cap
    #[test]
    fn budget_grows_with_records_between_a_floor_and_a_cap() {
        let limits = InstanceLimits {
            cpu_per_record_max: Duration::from_millis(2),
            cpu_per_call_min: Duration::from_millis(50),
            ..InstanceLimits::default()
        };
        assert_eq!(limits.cpu_budget(0), Duration::from_millis(50));
        assert_eq!(limits.cpu_budget(25), Duration::from_millis(50));
        assert_eq!(limits.cpu_budget(500), Duration::from_secs(1));
        assert_eq!(limits.cpu_budget(1000), Duration::from_secs(2));
        assert_eq!(limits.cpu_budget(1001), Duration::from_secs(2));
        assert_eq!(limits.cpu_budget(usize::MAX), Duration::from_secs(2));
        let generous = InstanceLimits { cpu_per_record_max: Duration::from_secs(60), ..limits };
        assert_eq!(generous.cpu_budget(1), Duration::from_secs(60), "one record may use what it may use");
        assert_eq!(generous.cpu_budget(9), Duration::from_secs(60));
    }
}
