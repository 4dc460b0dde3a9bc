//! Which key a record has: what the cleaner is told by whoever knows what the topic means.

use super::key_map::KeyHash;
use headwater_protocol::batch::Records;
use twox_hash::XxHash3_128;

/// Says of each record of a batch what it is to compaction. A pure function of the records: the same batch is judged
/// again in a later cleaning.
pub trait RecordClassifier {
    /// Who judges, as 32 bytes that change with every change of how it judges. Another identity than the last
    /// cleaning's makes the log dirty from its start.
    fn identity(&self) -> ClassifierIdentity;

    /// Gives `judgements` one verdict for each record, in order.
    ///
    /// # Errors
    /// [`ClassifierError`]; the cleaning ends, and nothing that is not in place already changes.
    fn classify(&mut self, records: &Records, judgements: &mut Judgements) -> Result<(), ClassifierError>;
}

/// Names a classifier and all it goes by.
pub type ClassifierIdentity = [u8; 32];

/// Why a batch can't be judged.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ClassifierError(
    /// Whose fault it is, and what to do.
    pub String,
);

/// What a record is to compaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It stays, whatever else there is.
    Keep,
    /// It goes.
    Dead,
    /// It stays until there is a newer record of its key; a tombstone until its horizon, too.
    Key { hash: KeyHash, is_tombstone: bool },
}

/// The verdicts on the records of one batch.
#[derive(Debug)]
pub struct Judgements {
    seed: u64,
    pub(super) verdicts: Vec<Verdict>,
}

impl Judgements {
    /// Keys are hashed with `seed`, which who writes records should not know.
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, verdicts: Vec::new() }
    }

    /// The next record has no key: it stays.
    pub fn keep(&mut self) {
        self.verdicts.push(Verdict::Keep);
    }

    /// The next record is of no use to anybody: it goes.
    pub fn dead(&mut self) {
        self.verdicts.push(Verdict::Dead);
    }

    /// The next record has this key.
    pub fn key(&mut self, key: &[u8]) {
        let hash = self.hash(key);
        self.verdicts.push(Verdict::Key { hash, is_tombstone: false });
    }

    /// The next record deletes this key.
    pub fn tombstone(&mut self, key: &[u8]) {
        let hash = self.hash(key);
        self.verdicts.push(Verdict::Key { hash, is_tombstone: true });
    }

    fn hash(&self, key: &[u8]) -> KeyHash {
        KeyHash::of(XxHash3_128::oneshot_with_seed(self.seed, key))
    }

    /// Has a batch judged anew.
    pub(super) fn judge(
        &mut self,
        classifier: &mut dyn RecordClassifier,
        records: &Records,
    ) -> Result<(), ClassifierError> {
        self.verdicts.clear();
        classifier.classify(records, self)?;
        if self.verdicts.len() == records.count() {
            return Ok(());
        }
        let (verdicts, count) = (self.verdicts.len(), records.count());
        Err(ClassifierError(format!("{verdicts} verdicts on {count} records; this is a bug of the classifier")))
    }
}

/// By the records' own keys, as in Kafka: a null value is a tombstone, a record without a key stays.
#[derive(Clone, Copy, Default, Debug)]
pub struct ByRecordKey;

impl RecordClassifier for ByRecordKey {
    fn identity(&self) -> ClassifierIdentity {
        *b"record key, version 1\0\0\0\0\0\0\0\0\0\0\0"
    }

    fn classify(&mut self, records: &Records, judgements: &mut Judgements) -> Result<(), ClassifierError> {
        for record in records {
            let record = record.map_err(|error| ClassifierError(error.to_string()))?;
            match (record.key, record.value) {
                (None, _) => judgements.keep(),
                (Some(key), Some(_)) => judgements.key(key),
                (Some(key), None) => judgements.tombstone(key),
            }
        }
        Ok(())
    }
}

impl Verdict {
    pub(super) fn is_tombstone(self) -> bool {
        matches!(self, Self::Key { is_tombstone: true, .. })
    }
}
