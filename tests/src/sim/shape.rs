//! What a seed draws before its run begins: sizes, timings, and which faults are on ("swarm").

use super::guest::GuestKind;
use super::rng::Rng;

/// Which faults happen, each as how many times in a simulated minute (0: off).
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// A broker's process dies; the page cache survives.
    pub kill: u64,
    /// A machine loses power; of what is not synced any part survives.
    pub power_cut: u64,
    /// As `power_cut`, in the middle of some call to the disk.
    pub torn_call: u64,
    /// A sync fails (LOG-7).
    pub failed_sync: u64,
    /// The disk is full for a while.
    pub full_disk: u64,
    /// A read fails once.
    pub failed_read: u64,
    /// Syncs take seconds for a while.
    pub stall: u64,
    /// A process gets no time for a while.
    pub pause: u64,
    /// A connection is lost.
    pub lost_connection: u64,
    /// A wall clock jumps.
    pub clock_step: u64,
    /// A guest traps.
    pub trap: u64,
    /// The operating system writes dirty pages back by itself.
    pub write_back: u64,
    /// Some call to the disk fails.
    pub failed_call: u64,
    /// One write to some partition's log finds no room. Only where a run is asked for it.
    pub full_write: u64,
    /// A bit rots in a batch that was synced.
    pub rot: u64,
    /// A partition's directory comes back as it once was, or empty.
    pub old_directory: u64,
    /// One way of a connection is silent.
    pub half_open: u64,
}

/// A run's shape.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Brokers.
    pub nodes: usize,
    /// How long faults happen and records are produced, in microseconds.
    pub chaos_us: u64,
    /// How long everything may take to be well again after that, in simulated microseconds.
    pub heal_us: u64,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Bytes of a disk's sector.
    pub sector_bytes: usize,
    /// Typical time of a sync.
    pub sync_us: u64,
    /// Typical time of a message on the network.
    pub network_us: u64,
    /// Partitions of each topic that is there from the beginning.
    pub partitions: u32,
    /// Whether the plain topic is of durability `os`.
    pub durability_os: bool,
    /// Producing clients.
    pub producers: usize,
    /// Records that each producer sends.
    pub records: u64,
    /// Bytes of a producer's batch.
    pub batch_bytes: usize,
    /// Typical time between two records of one producer.
    pub record_us: u64,
    /// Consuming clients.
    pub consumers: usize,
    /// Processors.
    pub processors: usize,
    /// Records of one step.
    pub step_records: u32,
    /// Whether topics come and go.
    pub topics_come_and_go: bool,
    /// Whether processors are deployed again, paused and resumed.
    pub processors_change: bool,
    /// Whether guests in real wasm are deployed, too.
    pub compiled: bool,
    /// Whether the oldest records of outputs are deleted now and then.
    pub retention: bool,
    /// Whether changelogs and outputs are compacted now and then.
    pub compaction: bool,
    /// Whether clocks drift by up to a tenth.
    pub wild_clocks: bool,
    /// Delivery time-out of the producers in ms.
    pub delivery_ms: u64,
    /// How long a request may outlive its connection, in typical times of a message.
    pub lingers: u64,
    /// The faults.
    pub faults: Faults,
}

impl Shape {
    /// The guests that are deployed.
    #[must_use]
    pub fn guests(&self) -> &'static [GuestKind] {
        if self.compiled { &GuestKind::ALL } else { &GuestKind::NATIVE }
    }

    /// Draws a shape.
    pub fn draw(rng: &mut Rng) -> Self {
        let on = |rng: &mut Rng, per_minute: u64| if rng.per_mille(450) { rng.between(1, per_minute) } else { 0 };
        let rare = |rng: &mut Rng, per_minute: u64| if rng.per_mille(150) { rng.between(1, per_minute) } else { 0 };
        let faults = Faults {
            kill: on(rng, 20),
            power_cut: on(rng, 20),
            torn_call: on(rng, 10),
            failed_sync: on(rng, 4),
            full_disk: on(rng, 6),
            failed_read: on(rng, 6),
            stall: on(rng, 10),
            pause: on(rng, 6),
            lost_connection: on(rng, 120),
            clock_step: on(rng, 6),
            trap: on(rng, 60),
            write_back: on(rng, 120),
            failed_call: on(rng, 10),
            full_write: 0,
            rot: rare(rng, 6),
            old_directory: rare(rng, 8),
            half_open: on(rng, 10),
        };
        Self {
            nodes: 1,
            lingers: 4,
            chaos_us: rng.between(5_000_000, 40_000_000),
            heal_us: 180_000_000,
            segment_bytes: *rng.pick(&[1024, 2048, 4096, 16_384, 1 << 20]).unwrap_or(&4096),
            sector_bytes: *rng.pick(&[512, 4096]).unwrap_or(&512),
            sync_us: *rng.pick(&[100, 2_000, 2_000, 20_000]).unwrap_or(&2_000),
            network_us: *rng.pick(&[50, 500, 500, 5_000, 50_000]).unwrap_or(&500),
            partitions: u32::try_from(rng.between(1, 4)).unwrap_or(1),
            durability_os: rng.per_mille(300),
            producers: usize::try_from(rng.between(1, 4)).unwrap_or(1),
            records: rng.between(20, 400),
            batch_bytes: *rng.pick(&[1024, 1024, 2048, 16_384]).unwrap_or(&1024),
            record_us: *rng.pick(&[500, 5_000, 20_000, 100_000]).unwrap_or(&5_000),
            consumers: usize::try_from(rng.between(0, 2)).unwrap_or(1),
            processors: usize::try_from(rng.between(0, 2)).unwrap_or(1),
            step_records: u32::try_from(*rng.pick(&[1, 3, 20, 1000]).unwrap_or(&20)).unwrap_or(1),
            topics_come_and_go: rng.per_mille(400),
            processors_change: rng.per_mille(400),
            compiled: rng.per_mille(100),
            retention: rng.per_mille(400),
            compaction: rng.per_mille(500),
            wild_clocks: rng.per_mille(200),
            delivery_ms: *rng.pick(&[800, 5_000, 120_000, 120_000]).unwrap_or(&120_000),
            faults,
        }
    }
}
