//! Once the faults are over, everything is done within a deadline: records have an outcome, consumers are at the end,
//! tasks have processed and sent all there is (OUT-2).

use super::Violation;

/// What is not done yet.
#[derive(Clone, Debug, Default)]
pub struct Unfinished(Vec<String>);

impl Unfinished {
    /// Notes something that is not done.
    pub fn note(&mut self, what: impl FnOnce() -> String) {
        // A few say enough.
        if self.0.len() < 8 {
            self.0.push(what());
        }
    }

    /// Whether all is done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The deadline has passed.
    #[must_use]
    pub fn violation(&self) -> Violation {
        Violation::new("liveness", self.0.join("; "))
    }
}
