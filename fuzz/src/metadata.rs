//! Metadata records: what a damaged or foreign metadata log would hold.

use crate::edits::edited;
use headwater_core::cluster::{ClusterImage, MetadataRecord, ReplicaAssignment, TopicCreated};
use headwater_protocol::ids::{BrokerEpoch, BrokerId, ClusterId, DirectoryId, IncarnationId, TopicId};

/// A log of a cluster with one broker and one topic, each record edited by its share of the input, then applied.
///
/// # Panics
/// As [`records`].
pub fn edited_log(input: &[u8]) {
    let valid = valid_log();
    let share = input.len().div_ceil(valid.len()).max(1);
    let mut edits = input.chunks(share);
    let mut framed = Vec::new();
    for record in &valid {
        let bytes = edited(&record.encode(), edits.next().unwrap_or_default());
        framed.push(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
        framed.extend_from_slice(bytes.get(..usize::from(u8::MAX)).unwrap_or(&bytes));
    }
    records(&framed);
}

/// What a cluster begins with.
fn valid_log() -> Vec<MetadataRecord> {
    let (broker, directory, topic) = (BrokerId(1), DirectoryId([1; 16]), TopicId([4; 16]));
    let replica = ReplicaAssignment { broker, directory };
    let created = TopicCreated {
        topic,
        name: "t".to_owned(),
        internal: false,
        partitions: vec![vec![replica]; 2],
        settings: vec![("durability".to_owned(), "os".to_owned())],
    };
    vec![
        MetadataRecord::ClusterCreated { cluster: ClusterId([7; 16]) },
        MetadataRecord::BrokerRegistered {
            broker,
            epoch: BrokerEpoch(1),
            incarnation: IncarnationId([2; 16]),
            directories: vec![directory],
            address: "localhost:1".to_owned(),
        },
        MetadataRecord::TopicCreated(created),
        MetadataRecord::TopicAltered { topic, settings: vec![("retention.ms".to_owned(), "5".to_owned())] },
        MetadataRecord::ProducerIdsAllotted { next: 1000 },
        MetadataRecord::TopicDeleted { topic },
        MetadataRecord::BrokerStopped { broker, epoch: BrokerEpoch(1) },
        MetadataRecord::BrokerUnregistered { broker },
    ]
}

/// Up to 16 records, each behind a byte with its length, decoded and applied one after the other.
///
/// # Panics
/// When a record that is taken does not survive being written and read again, or an image changes by a record that it
/// refuses.
pub fn records(input: &[u8]) {
    let (mut image, mut rest) = (ClusterImage::default(), input);
    for _ in 0..16 {
        let Some((length, bytes)) = rest.split_first() else { break };
        let (bytes, after) = bytes.split_at(usize::from(*length).min(bytes.len()));
        rest = after;
        let Ok(record) = MetadataRecord::decode(bytes) else { continue };
        assert_eq!(MetadataRecord::decode(&record.encode()).as_ref(), Ok(&record));
        let before = image.clone();
        if image.apply(std::slice::from_ref(&record)).is_err() {
            assert!(image == before, "a refused record changes nothing");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::fuzz!(metadata_records, 50_000, records);
    crate::fuzz!(metadata_logs, 50_000, edited_log);

    #[test]
    fn what_is_edited_is_valid_before() {
        let mut image = ClusterImage::default();
        for record in valid_log() {
            image.apply(&[record]).unwrap();
        }
    }
}
