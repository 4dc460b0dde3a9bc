//! Key extractors: modules that say which key a record has.

use super::thread::Classifiers;
use crate::metadata::Metadata;
use crate::module::{Modules, digest_of};
use headwater_core::cluster::{KeyExtractor, ModuleImage};
use headwater_log::cleaner::{ClassifierError, ClassifierIdentity, Judgements, RecordClassifier};
use headwater_protocol::batch::Records;
use headwater_protocol::ids::ModuleDigest;
use headwater_wasm_host::{InstanceLimits, KeyExtractorInstance, KeyVerdict};
use std::sync::Arc;

/// Finds, compiles and instantiates them.
pub(crate) struct Extractors {
    metadata: Arc<Metadata>,
    modules: Arc<Modules>,
}

impl Extractors {
    /// Those that metadata names.
    pub(crate) fn new(metadata: Arc<Metadata>, modules: Arc<Modules>) -> Self {
        Self { metadata, modules }
    }

    /// The bytes of a key extractor, if there is such a module.
    pub(crate) fn digest(&self, extractor: &KeyExtractor) -> Option<ModuleDigest> {
        self.module(extractor).ok().map(|module| module.digest)
    }

    fn module(&self, extractor: &KeyExtractor) -> Result<Arc<ModuleImage>, String> {
        self.metadata.image().resolve_module(&extractor.module).map(Arc::clone).map_err(|error| error.message)
    }
}

impl Classifiers for Extractors {
    fn identity(&self, extractor: &KeyExtractor) -> Result<ClassifierIdentity, String> {
        Ok(identity_of(&self.module(extractor)?.digest.0, &extractor.settings))
    }

    fn open(&self, extractor: &KeyExtractor) -> Result<Box<dyn RecordClassifier>, String> {
        let digest = self.module(extractor)?.digest;
        let module = self.modules.load(digest).map_err(|error| error.message)?;
        let instance = KeyExtractorInstance::new(&module, &extractor.settings, InstanceLimits::default())
            .map_err(|error| format!("key extractor {}: {error}", extractor.module))?;
        let identity = identity_of(&digest.0, &extractor.settings);
        Ok(Box::new(ByExtractor { instance, identity, name: extractor.module.clone() }))
    }
}

/// The module's bytes and its settings, in 32 bytes.
fn identity_of(digest: &[u8; 32], settings: &[(String, String)]) -> ClassifierIdentity {
    let mut bytes = b"key extractor, version 1".to_vec();
    bytes.extend(digest);
    for text in settings.iter().flat_map(|(name, value)| [name, value]) {
        bytes.extend((text.len() as u64).to_be_bytes());
        bytes.extend(text.as_bytes());
    }
    digest_of(&bytes).0
}

struct ByExtractor {
    instance: KeyExtractorInstance,
    identity: ClassifierIdentity,
    name: String,
}

impl RecordClassifier for ByExtractor {
    fn identity(&self) -> ClassifierIdentity {
        self.identity
    }

    fn classify(&mut self, records: &Records, judgements: &mut Judgements) -> Result<(), ClassifierError> {
        let extracted = self.instance.extract(records, &mut |verdict| match verdict {
            KeyVerdict::Keep => judgements.keep(),
            KeyVerdict::Key(key) => judgements.key(key),
            KeyVerdict::Tombstone(key) => judgements.tombstone(key),
        });
        extracted.map_err(|error| ClassifierError(format!("key extractor {}: {error}", self.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_module_or_another_setting_is_somebody_else() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let ids = [
            identity_of(&[1; 32], &[]),
            identity_of(&[2; 32], &[]),
            identity_of(&[1; 32], &[pair("a", "b")]),
            identity_of(&[1; 32], &[pair("ab", "")]),
            identity_of(&[1; 32], &[pair("", "ab")]),
            identity_of(&[1; 32], &[pair("a", "b"), pair("a", "b")]),
        ];
        assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), ids.len());
    }
}
