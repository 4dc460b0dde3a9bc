//! How far each in-sync replica has come, and what follows for the high watermark (REP-5).

use headwater_protocol::ids::BrokerId;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Member {
    broker: BrokerId,
    /// It holds everything below, as durably as the topic asks; known from this reign only.
    acknowledged: i64,
}

/// The in-sync set with acknowledged offsets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Progress {
    members: Vec<Member>,
    members_min: usize,
}

impl Progress {
    /// At the beginning of a reign nobody is known to hold more than `log_start`.
    pub(super) fn new(in_sync: &[BrokerId], members_min: u16, log_start: i64) -> Self {
        let members = in_sync.iter().map(|broker| Member { broker: *broker, acknowledged: log_start }).collect();
        Self { members, members_min: usize::from(members_min) }
    }

    /// How many members acks = all and the high watermark need from now on.
    pub(super) fn need(&mut self, members_min: u16) {
        self.members_min = usize::from(members_min);
    }

    pub(super) fn contains(&self, broker: BrokerId) -> bool {
        self.members.iter().any(|member| member.broker == broker)
    }

    /// `broker` holds everything below `offset`. An older or a foreign acknowledgement changes nothing.
    pub(super) fn acknowledge(&mut self, broker: BrokerId, offset: i64) {
        if let Some(member) = self.members.iter_mut().find(|member| member.broker == broker) {
            member.acknowledged = member.acknowledged.max(offset);
        }
    }

    pub(super) fn acknowledged(&self, broker: BrokerId) -> Option<i64> {
        self.members.iter().find(|member| member.broker == broker).map(|member| member.acknowledged)
    }

    /// Size of the in-sync set.
    pub(super) fn in_sync(&self) -> usize {
        self.members.len()
    }

    /// Members that acks = all and the high watermark need.
    pub(super) fn needed(&self) -> usize {
        self.members_min
    }

    /// What every member holds, if they are enough of them (REP-5 b).
    pub(super) fn committed(&self) -> Option<i64> {
        let enough = self.members.len() >= self.members_min;
        self.members.iter().map(|member| member.acknowledged).min().filter(|_| enough)
    }
}
