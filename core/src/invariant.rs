//! What must hold of a state machine's whole state, between any two events.

/// A state machine's state contradicts itself: a bug of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("invariant broken: {0}")]
pub struct Violation(
    /// What should have held.
    pub &'static str,
);

/// `Err` with the sentence that should have held.
pub(crate) fn holds(condition: bool, sentence: &'static str) -> Result<(), Violation> {
    if condition { Ok(()) } else { Err(Violation(sentence)) }
}
