//! What the cleaner's thread last had to say of a partition, for whoever asks.

use headwater_protocol::messages::log::CleaningDescription;
use parking_lot::Mutex;

/// The longest reason that is kept, in bytes.
const REASON_BYTES_MAX: usize = 1000;

/// How a partition's compaction goes.
#[derive(Default)]
pub(crate) struct CompactionNotes(Mutex<CompactionNote>);

/// What is known since the broker started.
#[derive(Clone, Default)]
pub(crate) struct CompactionNote {
    /// The last cleaning that did anything.
    pub(crate) last: Option<CleaningDescription>,
    /// Why there will be none, until the key extractor changes.
    pub(crate) stopped: Option<String>,
    /// Why the last try failed.
    pub(crate) delayed: Option<String>,
}

impl CompactionNotes {
    /// What is known.
    pub(crate) fn get(&self) -> CompactionNote {
        self.0.lock().clone()
    }

    /// A cleaning ended well; it may have had nothing to do.
    pub(crate) fn cleaned(&self, last: Option<CleaningDescription>) {
        let mut note = self.0.lock();
        note.delayed = None;
        if last.is_some() {
            note.last = last;
        }
    }

    /// There will be no cleaning, for this reason.
    pub(crate) fn stopped(&self, reason: &str) {
        self.0.lock().stopped = Some(cut(reason));
    }

    /// What stopped the cleaning is over.
    pub(crate) fn goes_on(&self) {
        self.0.lock().stopped = None;
    }

    /// The last try failed, for this reason.
    pub(crate) fn delayed(&self, reason: &str) {
        self.0.lock().delayed = Some(cut(reason));
    }
}

/// The reason, or its beginning.
fn cut(reason: &str) -> String {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_kept_until_it_is_over_and_is_not_longer_than_it_may_be() {
        let notes = CompactionNotes::default();
        notes.stopped(&"é".repeat(REASON_BYTES_MAX));
        notes.delayed("disk");
        let note = notes.get();
        assert_eq!(note.stopped.as_ref().map(String::len), Some(REASON_BYTES_MAX));
        assert_eq!(note.delayed.as_deref(), Some("disk"));
        notes.goes_on();
        notes.cleaned(None);
        let note = notes.get();
        assert!(note.stopped.is_none() && note.delayed.is_none() && note.last.is_none());
    }
}
