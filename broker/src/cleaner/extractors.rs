//! Key extractors: modules that say which key a record has.

use super::thread::Classifiers;
use crate::metadata::Metadata;
use crate::module::Modules;
use headwater_core::cluster::KeyExtractor;
use headwater_log::cleaner::{ClassifierIdentity, RecordClassifier};
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
}

impl Classifiers for Extractors {
    fn identity(&self, extractor: &KeyExtractor) -> Result<ClassifierIdentity, String> {
        let image = self.metadata.image();
        let module = image.resolve_module(&extractor.module).map_err(|error| error.message)?;
        drop(self.modules.load(module.digest).map_err(|error| error.message)?);
        Err("this broker runs no key extractors".to_owned())
    }

    fn open(&self, extractor: &KeyExtractor) -> Result<Box<dyn RecordClassifier>, String> {
        self.identity(extractor).and_then(|_| Err("this broker runs no key extractors".to_owned()))
    }
}
