//! The rules that can be taken out of the model, one at a time. Each must then cost what it protects.

/// One line per rule: its id, and what the cluster does instead.
macro_rules! removals {
    ($($name:ident: $rule:literal, $instead:literal;)*) => {
        /// A rule left out. The name says what the cluster does instead.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum Removal {
            $(#[doc = concat!($rule, ": ", $instead, ".")] $name,)*
        }

        impl Removal {
            pub(crate) const ALL: &[Self] = &[$(Self::$name),*];

            /// The rule that is left out.
            pub(crate) fn rule(self) -> &'static str {
                match self { $(Self::$name => $rule),* }
            }

            /// What the cluster does instead.
            pub(crate) fn instead(self) -> &'static str {
                match self { $(Self::$name => $instead),* }
            }
        }
    };
}

removals! {
    AcknowledgeOnAppend: "REP-1", "the leader acknowledges acks=all as soon as it has appended";
    AckBeforeFlush: "LOG-1", "with `durability=fsync` a follower acknowledges what it has not flushed";
    LeaderCountsUnflushed: "LOG-1", "with `durability=fsync` the leader counts its own log to its end";
    HwIgnoresProposedIsr: "REP-4", "the HW ignores a joining follower that the controller may already count";
    HwIgnoresCommittedIsr: "REP-4", "the HW ignores a leaving follower that the controller still counts";
    AcksOutliveTheEpoch: "REP-5", "who leads again remembers the acknowledgements of its earlier leader epoch";
    HwBelowMinIsr: "REP-5", "the HW advances with fewer than min.insync.replicas";
    MinIsrCountsProposed: "REP-5", "min.insync.replicas is compared with the maximal ISR, not the committed one";
    JoinAnywhere: "REP-7", "a follower joins the ISR wherever it is";
    JoinBelowEpochStart: "REP-7", "a follower joins at the leader's HW, below the start of the leader's epoch";
    JoinWithOldBrokerEpoch: "REP-7", "the broker epoch in AlterPartition is not compared";
    JoinInSyncOnOneLog: "REP-7", "in sync on one log of the placement group is in sync";
    AlterIgnoresPartitionEpoch: "REP-9", "AlterPartition is compared on the leader epoch only";
    AlterIgnoresEpochs: "REP-9", "AlterPartition is compared on nothing";
    AlterRolledBackOnTimeout: "REP-9", "the leader takes a request without an answer for a rejected one";
    ElectWithoutNewEpoch: "REP-10", "a leader is elected without a new leader epoch";
    ElectAnyone: "REP-10", "any unfenced replica may be elected";
    ElrOutlivesFullIsr: "REP-11", "the ELR is kept when the ISR is large enough again";
    UncleanRestartKeepsPlaces: "REP-12", "a broker keeps its places in ISR and ELR through an unclean restart";
    RestartedLeaderGoesOn: "REP-12", "a restarted leader goes on in its leader epoch";
    OldElectionAfterRestart: "REP-12", "a restarted broker takes up what its earlier broker epoch was elected to";
    LastReplicaStandingStays: "REP-13", "no ELR: the last member stays in the ISR whatever happens to it";
    RecoverWithFirstAnswer: "REP-14", "with ISR and ELR empty, whoever answers first is elected";
    RecoverGroupByFirstLog: "REP-14", "who is elected by one log of a group keeps its own tail in the others";
    TruncateToHw: "TRN-1", "a follower truncates to its HW (before KIP-101)";
    NoEpochEntryAtElection: "TRN-2", "a new leader marks its epoch only with its first record";
    TruncateOnce: "TRN-3", "one truncation, by an answer that names no epoch (KIP-101 without KIP-279)";
    AckAcrossEpochs: "TRN-4", "a leader takes acknowledgements from followers in other leader epochs";
    TruncateOnlyOutOfRange: "TRN-8", "a follower truncates only when out of range; epochs are not compared";
}
