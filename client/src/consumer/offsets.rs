//! From "the end" to an offset.

use crate::backoff::Backoff;
use crate::client::{Shared, Target};
use crate::error::ClientError;
use crate::metadata::TopicInfo;
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::BrokerId;
use headwater_protocol::messages::records::{FoundOffset, ListOffsetsRequest, OffsetSpec};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::{Instant, sleep};

/// Where to begin to read a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartOffset {
    /// At the first offset that is there.
    Beginning,
    /// At the high watermark: only what is committed from now on.
    End,
    /// At this offset.
    Offset(i64),
    /// At the first record whose timestamp is at or after this one, ms since the Unix epoch; at the end if none is.
    Timestamp(i64),
}

impl StartOffset {
    /// The offset, or what to look up.
    fn known(self) -> Result<i64, OffsetSpec> {
        match self {
            Self::Offset(offset) => Ok(offset),
            Self::Beginning => Err(OffsetSpec::Earliest),
            Self::End => Err(OffsetSpec::Latest),
            Self::Timestamp(timestamp) => Err(OffsetSpec::AtOrAfter(timestamp)),
        }
    }
}

/// What is still to be looked up: partition and spec.
type Wanted = BTreeMap<u32, OffsetSpec>;

/// Looks up where to begin; answers in the order of `starts`. Partitions that move meanwhile are asked for again.
pub(super) async fn resolve(
    shared: &Shared,
    info: &Arc<TopicInfo>,
    starts: &[(u32, StartOffset)],
) -> Result<Vec<(u32, i64)>, ClientError> {
    let mut info = Arc::clone(info);
    let (mut found, mut wanted) = (BTreeMap::new(), Wanted::new());
    for (partition, start) in starts {
        check_partition(&info, *partition)?;
        match start.known() {
            Ok(offset) if offset < 0 => {
                return Err(ClientError::Config(format!("offset {offset}: offsets begin at 0")));
            }
            Ok(offset) => drop(found.insert(*partition, offset)),
            Err(spec) => drop(wanted.insert(*partition, spec)),
        }
    }
    let deadline = Instant::now() + shared.config.request_timeout;
    let mut backoff = Backoff::new(shared.config.reconnect_backoff, shared.config.reconnect_backoff_max);
    while !wanted.is_empty() {
        let trouble = ask_leaders(shared, &info, &mut wanted, &mut found).await?;
        if let Some(trouble) = trouble {
            let pause = backoff.fail();
            if Instant::now() + pause >= deadline {
                return Err(trouble.into());
            }
            sleep(pause).await;
            shared.refresh(std::slice::from_ref(&info.name)).await?;
            info = shared.topic(&info.name).await?;
        }
    }
    Ok(starts.iter().filter_map(|(partition, _)| Some((*partition, *found.get(partition)?))).collect())
}

/// Asks each leader once; moves what was found from `wanted` to `found`. Gives a passing reason why something is left.
async fn ask_leaders(
    shared: &Shared,
    info: &TopicInfo,
    wanted: &mut Wanted,
    found: &mut BTreeMap<u32, i64>,
) -> Result<Option<ApiError>, ClientError> {
    let mut by_leader: BTreeMap<BrokerId, Vec<u32>> = BTreeMap::new();
    let mut trouble = None;
    for partition in wanted.keys() {
        match info.partitions.get(*partition as usize).and_then(|partition| partition.leader) {
            Some(leader) => by_leader.entry(leader).or_default().push(*partition),
            None => {
                let message = format!("{}-{partition} has no leader at the moment", info.name);
                trouble = Some(ApiError::new(ErrorCode::NotLeaderOrFollower, message));
            }
        }
    }
    for (leader, partitions) in by_leader {
        let asked = partitions.iter().filter_map(|number| Some((info.id, *number, *wanted.get(number)?))).collect();
        let request = ListOffsetsRequest { partitions: asked };
        let response = shared.call(Target::Broker(leader), &request).await?;
        if response.partitions.len() != partitions.len() {
            return Err(crate::connection::protocol("the partition's leader", &"an answer for other partitions"));
        }
        for (partition, outcome) in partitions.into_iter().zip(response.partitions) {
            let spec = wanted.get(&partition).copied();
            match outcome {
                Ok(FoundOffset { offset: Some(offset), .. }) if offset >= 0 => {
                    wanted.remove(&partition);
                    found.insert(partition, offset);
                }
                // No record is that young: what comes next is.
                Ok(_) if matches!(spec, Some(OffsetSpec::AtOrAfter(_))) => {
                    wanted.insert(partition, OffsetSpec::Latest);
                }
                Ok(_) => return Err(crate::connection::protocol("the partition's leader", &"no offset, no error")),
                Err(error) if error.code.is_retriable() => trouble = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(trouble)
}

fn check_partition(info: &TopicInfo, partition: u32) -> Result<(), ClientError> {
    let count = info.partitions.len();
    if (partition as usize) < count {
        return Ok(());
    }
    let message = format!("topic {} has partitions 0 to {}, not {partition}", info.name, count.saturating_sub(1));
    Err(ApiError::new(ErrorCode::UnknownTopicOrPartition, message).into())
}
