//! Tests of the machine.

/// A rule taken out of the protocol, to see what breaks without it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mutant {
    /// STEP-4: outputs leave before their commit is durable.
    SendBeforeDurable,
    /// STEP-1, STEP-13: the store goes ahead of the changelog's high watermark.
    ApplyBeforeDurable,
    /// STEP-12: the floor counts sends.
    FloorCountsSends,
    /// STEP-10: what an output expects next is taken for what it has below its high watermark.
    ExpectCountsAsAcknowledged,
    /// Step-protocol §1: an answer that can't be is believed.
    BelieveAnyAnswer,
}
