//! What a client knows of topics, leaders and brokers. Pure; time is an argument.

use crate::limits::{CACHED_TOPICS_MAX, TOPIC_PARTITIONS_MAX};
use headwater_protocol::ids::{BrokerId, LeaderEpoch, TopicId};
use headwater_protocol::messages::cluster::{MetadataResponse, TopicMetadata};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A topic as far as the data path needs it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TopicInfo {
    pub(crate) name: Arc<str>,
    pub(crate) id: TopicId,
    pub(crate) partitions: Vec<PartitionInfo>,
}

/// Who leads a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PartitionInfo {
    pub(crate) leader: Option<BrokerId>,
    pub(crate) leader_epoch: LeaderEpoch,
}

#[derive(Debug)]
struct Cached {
    info: Arc<TopicInfo>,
    learned_at: Instant,
}

/// Topics by name and brokers by id, as brokers told.
#[derive(Debug, Default)]
pub(crate) struct MetadataCache {
    topics: BTreeMap<Arc<str>, Cached>,
    brokers: BTreeMap<BrokerId, String>,
}

impl MetadataCache {
    /// Takes in the answer to a question for `asked`. A topic that was asked for and is not in the answer does not
    /// exist. An older reign of a leader never replaces a newer one (TRN-4): brokers learn of changes at different
    /// times.
    ///
    /// # Errors
    /// What is wrong with the answer, in words.
    pub(crate) fn apply(&mut self, asked: &[String], response: &MetadataResponse, now: Instant) -> Result<(), String> {
        if let Some(topic) = response.topics.iter().find(|topic| topic.partitions.len() > TOPIC_PARTITIONS_MAX) {
            let count = topic.partitions.len();
            return Err(format!("topic {} with {count} partitions; at most {TOPIC_PARTITIONS_MAX} exist", topic.name));
        }
        for name in asked {
            if !response.topics.iter().any(|topic| topic.name == *name) {
                self.topics.remove(name.as_str());
            }
        }
        for topic in &response.topics {
            let known = self.topics.get(topic.name.as_str()).map(|cached| &*cached.info);
            let info = Arc::new(merge(known, topic));
            self.topics.insert(Arc::clone(&info.name), Cached { info, learned_at: now });
        }
        self.brokers = response.brokers.iter().map(|broker| (broker.id, broker.address.clone())).collect();
        while self.topics.len() > CACHED_TOPICS_MAX {
            let oldest = self.topics.values().min_by_key(|cached| cached.learned_at);
            let Some(name) = oldest.map(|cached| Arc::clone(&cached.info.name)) else { break };
            self.topics.remove(&name);
        }
        Ok(())
    }

    /// The topic, if it is known and was learned less than `age_max` ago.
    pub(crate) fn topic(&self, name: &str, now: Instant, age_max: Duration) -> Option<Arc<TopicInfo>> {
        let cached = self.topics.get(name)?;
        (now.saturating_duration_since(cached.learned_at) < age_max).then(|| Arc::clone(&cached.info))
    }

    /// Drops what is known of a topic, so that it is asked for again.
    pub(crate) fn forget(&mut self, name: &str) {
        self.topics.remove(name);
    }

    /// Every broker the cluster has told of, and where it is reached.
    pub(crate) fn brokers(&self) -> impl Iterator<Item = (BrokerId, &str)> {
        self.brokers.iter().map(|(id, address)| (*id, address.as_str()))
    }
}

fn merge(known: Option<&TopicInfo>, fresh: &TopicMetadata) -> TopicInfo {
    let known = known.filter(|known| known.id == fresh.id);
    let partitions = fresh.partitions.iter().enumerate().map(|(number, partition)| {
        let fresh = PartitionInfo { leader: partition.leader, leader_epoch: partition.leader_epoch };
        let known = known.and_then(|known| known.partitions.get(number));
        known.filter(|known| known.leader_epoch > fresh.leader_epoch).copied().unwrap_or(fresh)
    });
    let name = known.map_or_else(|| fresh.name.as_str().into(), |known| Arc::clone(&known.name));
    TopicInfo { name, id: fresh.id, partitions: partitions.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_protocol::ids::{ClusterId, PartitionEpoch};
    use headwater_protocol::messages::cluster::{BrokerMetadata, PartitionMetadata};

    /// Name, id, and leader and its epoch of each partition.
    type Topic<'a> = (&'a str, u8, &'a [(u32, i32)]);

    fn response(topics: &[Topic<'_>]) -> MetadataResponse {
        let topic = |(name, id, partitions): &Topic<'_>| TopicMetadata {
            name: (*name).to_owned(),
            id: TopicId([*id; 16]),
            internal: false,
            partitions: partitions
                .iter()
                .map(|(leader, epoch)| PartitionMetadata {
                    leader: Some(BrokerId(*leader)),
                    leader_epoch: LeaderEpoch(*epoch),
                    partition_epoch: PartitionEpoch(0),
                    replicas: vec![],
                    isr: vec![],
                })
                .collect(),
            settings: vec![],
        };
        MetadataResponse {
            cluster: ClusterId([1; 16]),
            brokers: vec![BrokerMetadata { id: BrokerId(1), address: "a:1".into() }],
            topics: topics.iter().map(topic).collect(),
        }
    }

    fn leaders(cache: &MetadataCache, name: &str, now: Instant) -> Vec<u32> {
        let topic = cache.topic(name, now, Duration::from_secs(1)).unwrap();
        topic.partitions.iter().map(|partition| partition.leader.unwrap().0).collect()
    }

    // covers TRN-4
    #[test]
    fn an_older_reign_never_replaces_a_newer_one_of_the_same_topic() {
        let (mut cache, now) = (MetadataCache::default(), Instant::now());
        cache.apply(&[], &response(&[("t", 1, &[(1, 5), (1, 5)])]), now).unwrap();
        cache.apply(&[], &response(&[("t", 1, &[(2, 4), (3, 6)])]), now).unwrap();
        assert_eq!(leaders(&cache, "t", now), [1, 3]);
        cache.apply(&[], &response(&[("t", 2, &[(4, 0)])]), now).unwrap();
        assert_eq!(leaders(&cache, "t", now), [4], "a new topic of the old name starts afresh");
    }

    #[test]
    fn what_was_asked_for_and_is_missing_or_old_is_not_known() {
        let (mut cache, now) = (MetadataCache::default(), Instant::now());
        cache.apply(&[], &response(&[("t", 1, &[(1, 0)]), ("u", 2, &[(1, 0)])]), now).unwrap();
        let age = Duration::from_secs(10);
        assert!(cache.topic("t", now + Duration::from_secs(9), age).is_some());
        assert!(cache.topic("t", now + Duration::from_secs(10), age).is_none());
        cache.apply(&["t".to_owned()], &response(&[]), now).unwrap();
        assert!(cache.topic("t", now, age).is_none());
        assert!(cache.topic("u", now, age).is_some(), "not asked for");
        cache.forget("u");
        assert!(cache.topic("u", now, age).is_none());
        assert_eq!(cache.brokers().collect::<Vec<_>>(), [(BrokerId(1), "a:1")]);
    }
}
