//! Which stream carries which partition.

use crate::limits::LANES_MAX;
use headwater_protocol::ids::{BrokerId, TopicId};

/// A stream to a broker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct LaneKey {
    /// The broker that leads the lane's partitions.
    pub(crate) broker: BrokerId,
    /// Below [`LANES_MAX`].
    pub(crate) number: u32,
}

impl LaneKey {
    /// The lane of what has no leader.
    pub(crate) const NONE: Self = Self { broker: BrokerId(u32::MAX), number: LANES_MAX };
}

/// The lane number of a partition: a hash that is the same on every client and puts neighbouring partitions of a topic
/// on different lanes.
pub(crate) fn lane_number(topic: TopicId, partition: u32) -> u32 {
    // FNV-1a over the topic; the partition is added so that up to LANES_MAX partitions of one topic never share.
    let mut hash: u32 = 0x811c_9dc5;
    for byte in topic.0 {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    hash.wrapping_add(partition) % LANES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn neighbouring_partitions_of_a_topic_get_lanes_of_their_own() {
        for seed in 0..50_u8 {
            let topic = TopicId([seed; 16]);
            let lanes: BTreeSet<u32> = (0..LANES_MAX).map(|partition| lane_number(topic, partition)).collect();
            assert_eq!(lanes.len(), LANES_MAX as usize);
            assert!(lanes.iter().all(|lane| *lane < LANES_MAX));
        }
        assert_eq!(lane_number(TopicId([1; 16]), 7), lane_number(TopicId([1; 16]), 7));
    }

    #[test]
    fn single_partition_topics_spread_over_the_lanes() {
        let topics = (0..256_u16).map(|n| TopicId(u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()));
        let lanes: BTreeSet<u32> = topics.map(|topic| lane_number(topic, 0)).collect();
        assert!(lanes.len() > 24, "{}", lanes.len());
    }
}
