//! Tests of the machine: each rule by itself, each counter-example of the step protocol, and random histories.

mod cleaned;
mod input_and_limits;
mod random;
mod replies;
mod rig;
mod takeovers;
mod traces;
mod world;

/// A rule taken out of the protocol, to see what breaks without it. The comment names the row of step-protocol §4.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mutant {
    /// STEP-4: outputs leave before their commit is durable. In the machine.
    SendBeforeDurable,
    /// STEP-1, STEP-13: the store goes ahead of the changelog's high watermark. In the machine.
    ApplyBeforeDurable,
    /// STEP-12: the floor counts sends. In the machine.
    FloorCountsSends,
    /// STEP-10: what an output expects next is taken for what it has below its high watermark. In the machine.
    ExpectCountsAsAcknowledged,
    /// §1: an answer that can't be is believed. In the machine.
    BelieveAnyAnswer,
    /// STEP-4: an inherited tail is taken for durable. In the takeover.
    TrustInheritedTail,
    /// STEP-12, STEP-13: a takeover queues nothing of what is in the log. In the takeover.
    ReplayNothing,
    /// STEP-12: a takeover queues the last step alone. In the takeover.
    ReplayLastStep,
    /// STEP-2: the changelog takes what an old owner appends. In the model.
    StaleAppend,
    /// STEP-5: input above its high watermark is read. In the model.
    ReadAboveHighWatermark,
    /// STEP-8: a new epoch's numbers begin anew, as an idempotent producer's (IDP-1). In the model.
    NumbersRestartPerEpoch,
    /// STEP-9: a gap is accepted. In the model.
    GapAccepted,
    /// STEP-9: only the last two batches are known as duplicates (IDP-2). In the model.
    LastBatchesOnly,
    /// STEP-10: acknowledged when appended. In the model.
    AcknowledgeOnAppend,
    /// STEP-10: a duplicate is acknowledged at once. In the model.
    DuplicateAtOnce,
    /// STEP-11: what was seen is forgotten with the leader, and the unknown is accepted. In the model.
    ForgetAndAccept,
    /// STEP-11: the same, and the unknown is refused. In the model.
    ForgetAndRefuse,
}
