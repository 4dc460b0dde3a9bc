//! What can go wrong, and whose doing it is.

use std::fmt::Display;
use thiserror::Error;

/// A call that can't be done. Everything it did is discarded, the instance with it; the deployment's error policy
/// decides what becomes of the record.
///
/// Any error turns into one with `?`. Outside of a [`RecordProcessor`](crate::RecordProcessor) it is not known then
/// which record it was about, and the host has to find it by bisecting. [`Record::failure`](crate::Record::failure)
/// names it:
///
/// ```
/// # use headwater_guest_sdk::{Failure, Record};
/// fn amount(record: &Record<'_>) -> Result<u64, Failure> {
///     record.value_text().parse().map_err(|error| record.failure(error))
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The record of the batch, or the timer of the list, from 0.
    pub index: Option<u32>,
    /// For the operator: shown by `headwater processor describe`, written to the dead letter's headers.
    pub message: String,
}

impl Failure {
    /// A failure of no particular record.
    pub fn new(message: impl Display) -> Self {
        Self { index: None, message: message.to_string() }
    }

    /// A failure of the record or timer at `index`.
    pub fn at(index: u32, message: impl Display) -> Self {
        Self { index: Some(index), message: message.to_string() }
    }

    /// The same, of the record at `index` unless it already names one.
    pub(crate) fn or_at(mut self, index: u32) -> Self {
        self.index.get_or_insert(index);
        self
    }
}

// `Failure` is no `std::error::Error` itself, so that this can hold for all of them.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

/// Why records were not taken. The guest's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EmitError {
    /// Not an output of the deployment.
    #[error("the module uses an output that the deployment does not have: deploy with more --output")]
    UnknownOutput,
    /// A partition the output topic does not have.
    #[error("the module names a partition that the output topic does not have")]
    UnknownPartition,
    /// No topic takes such a record, for instance one with a negative timestamp.
    #[error("the module emits a malformed record")]
    Malformed,
    /// The record, or all of the step's outputs together.
    #[error("the module emits more than the limits of the topic or of the step allow")]
    TooLarge,
    /// Emitted from `init`.
    #[error("a module can't emit in init")]
    OutsideStep,
}

/// Why state was not read or written. Since writes gather until the end of the call, an error may come late; then it
/// fails the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StateError {
    /// Not a store of the deployment.
    #[error("the module uses a store that the deployment does not have: deploy with more --store")]
    UnknownStore,
    /// Packed bytes that don't hold together: a bug of the SDK or the host.
    #[error("malformed state entries")]
    Malformed,
    /// A key or a value above its limit, or all that the step changes.
    #[error("a key, a value or all that one step changes of the module's state is too large")]
    TooLarge,
    /// The task's state would be above its limit.
    #[error("the task's state is at its limit: let the module delete some, or deploy with a higher one")]
    QuotaExceeded,
    /// Used from `init`.
    #[error("a module can't use its state in init")]
    OutsideStep,
}

/// Why timers were not set or cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TimerError {
    /// Packed bytes that don't hold together: a bug of the SDK or the host.
    #[error("malformed timers")]
    Malformed,
    /// An id above its limit.
    #[error("the id of a timer is too large")]
    TooLarge,
    /// More timers than a task may have.
    #[error("the task has as many timers as it may")]
    QuotaExceeded,
    /// Used from `init`.
    #[error("a module can't set timers in init")]
    OutsideStep,
}

/// The host handed over bytes that do not hold together. Not the guest's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the host broke the module contract: {0}")]
pub struct ContractError(pub(crate) &'static str);
