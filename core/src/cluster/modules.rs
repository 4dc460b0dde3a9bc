//! Decisions about modules: names and versions that point at digests.

use super::names::{Named, check_name, did_you_mean};
use super::settings::quoted;
use super::{ClusterImage, Decision, MetadataRecord, ModuleImage, TopicImage};
use crate::limits;
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::ModuleDigest;
use headwater_protocol::messages::module::ModuleDescription;
use std::sync::Arc;

/// How the name of the key extractors' world begins; a version follows.
const KEY_EXTRACTOR_WORLD: &str = "headwater:module/key-extractor@";

/// A module whose bytes are in the store, checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddModule {
    /// Name to point at it.
    pub name: String,
    /// Version, or `None` for the next number.
    pub version: Option<String>,
    /// SHA-256 of the bytes.
    pub digest: ModuleDigest,
    /// Bytes of the component.
    pub size_bytes: u64,
    /// The world it targets.
    pub world: String,
    /// The interfaces it imports.
    pub imports: Vec<String>,
    /// Now, ms since the Unix epoch.
    pub uploaded_at: i64,
}

/// Gives a module a name and a version.
///
/// The same bytes under the same name and version again (or, without a version, as the newest one of that name) change
/// nothing and answer with what is there: an upload whose answer was lost can be sent again.
///
/// # Errors
/// `InvalidModule` for names and versions that are not allowed, and for a version that is taken by other bytes.
pub fn add_module(image: &ClusterImage, request: AddModule) -> Result<Decision<ModuleDescription>, ApiError> {
    check_name(Named::Module, &request.name)?;
    let versions = image.modules.get(request.name.as_str()).map_or(&[][..], Vec::as_slice);
    let there = match &request.version {
        Some(version) => {
            check_name(Named::ModuleVersion, version)?;
            versions.iter().find(|module| module.version == *version)
        }
        None => versions.last().filter(|newest| newest.digest == request.digest),
    };
    if let Some(there) = there {
        if there.digest == request.digest {
            return Ok(Decision { records: Vec::new(), answer: there.describe() });
        }
        let label = there.reference().label();
        return invalid(format!("{label} is taken by another module ({}); choose another version", there.digest));
    }
    check_size(image, &request)?;
    let version = match request.version {
        Some(version) => version,
        None => next_version(versions)?,
    };
    let module = ModuleImage {
        name: request.name,
        version,
        digest: request.digest,
        size_bytes: request.size_bytes,
        world: request.world,
        imports: request.imports,
        uploaded_at: request.uploaded_at,
    };
    let answer = module.describe();
    Ok(Decision { records: vec![MetadataRecord::ModuleAdded(module)], answer })
}

fn check_size(image: &ClusterImage, request: &AddModule) -> Result<(), ApiError> {
    if image.modules().count() >= limits::MODULES_MAX {
        return invalid(format!("the cluster has {} modules already; delete one first", limits::MODULES_MAX));
    }
    if request.imports.len() > limits::MODULE_IMPORTS_MAX {
        let (count, max) = (request.imports.len(), limits::MODULE_IMPORTS_MAX);
        return invalid(format!("the module imports {count} interfaces; at most {max} are allowed"));
    }
    let too_long = |name: &&String| name.len() > limits::INTERFACE_NAME_BYTES_MAX;
    if let Some(name) = request.imports.iter().chain([&request.world]).find(too_long) {
        let (shown, max) = (quoted(name), limits::INTERFACE_NAME_BYTES_MAX);
        return invalid(format!("the interface name \"{shown}…\" is longer than {max} bytes"));
    }
    Ok(())
}

/// One more than the highest number among the versions, from 1.
fn next_version(versions: &[Arc<ModuleImage>]) -> Result<String, ApiError> {
    let highest = versions.iter().filter_map(|module| module.version.parse::<u64>().ok()).max().unwrap_or(0);
    match highest.checked_add(1) {
        Some(next) => Ok(next.to_string()),
        None => invalid(format!("version {highest} is the highest number there is; name a version")),
    }
}

/// Forgets names and versions; the bytes go when nothing points at them any more ([`ClusterImage::digests`]).
///
/// # Errors
/// `UnknownModule`; `ModuleInUse`, naming the processor.
pub fn delete_module(image: &ClusterImage, reference: &str) -> Result<Decision<Vec<ModuleDescription>>, ApiError> {
    let found = image.find_modules(reference);
    if found.is_empty() {
        return Err(image.unknown_module(reference));
    }
    let mut records = Vec::with_capacity(found.len());
    for module in &found {
        if let Some(user) = image.processors().find(|processor| processor.runs(&module.reference())) {
            let label = module.reference().label();
            let message = format!(
                "module {label} is in use by processor {:?}; deploy another one there, or delete it, first",
                user.name
            );
            return Err(ApiError::new(ErrorCode::ModuleInUse, message));
        }
        if let Some(topic) = image.topics().find(|topic| needs(image, topic, &found)) {
            let message = format!(
                "module {} is the key extractor of topic {:?}: set another one there, or none, first",
                module.reference().label(),
                topic.name
            );
            return Err(ApiError::new(ErrorCode::ModuleInUse, message));
        }
        records.push(MetadataRecord::ModuleDeleted { name: module.name.clone(), version: module.version.clone() });
    }
    Ok(Decision { records, answer: found.iter().map(|module| module.describe()).collect() })
}

/// Whether nothing is left of a topic's key extractor without these.
fn needs(image: &ClusterImage, topic: &TopicImage, doomed: &[&Arc<ModuleImage>]) -> bool {
    let Some(extractor) = &topic.settings.compaction.key_extractor else { return false };
    image.find_modules(&extractor.module).iter().all(|module| doomed.iter().any(|other| Arc::ptr_eq(module, other)))
}

impl ModuleImage {
    /// Whether compaction can ask it for keys.
    pub fn is_key_extractor(&self) -> bool {
        self.world.starts_with(KEY_EXTRACTOR_WORLD)
    }
}

impl ClusterImage {
    /// The module that `name` (its newest version), `name@version` or a digest means.
    ///
    /// # Errors
    /// `UnknownModule`, with the name that was probably meant.
    pub fn resolve_module(&self, reference: &str) -> Result<&Arc<ModuleImage>, ApiError> {
        self.find_modules(reference).last().copied().ok_or_else(|| self.unknown_module(reference))
    }

    /// All modules that a reference means: of a bare name all versions, of a digest all names.
    fn find_modules(&self, reference: &str) -> Vec<&Arc<ModuleImage>> {
        if let Ok(digest) = reference.parse::<ModuleDigest>() {
            return self.modules().filter(|module| module.digest == digest).collect();
        }
        let (name, version) = match reference.split_once('@') {
            Some((name, version)) => (name, Some(version)),
            None => (reference, None),
        };
        let versions = self.modules.get(name).into_iter().flatten();
        versions.filter(|module| version.is_none_or(|version| module.version == version)).collect()
    }

    fn unknown_module(&self, reference: &str) -> ApiError {
        let name = reference.split_once('@').map_or(reference, |(name, _)| name);
        let hint = match self.modules.get(name) {
            Some(versions) => {
                let versions: Vec<&str> = versions.iter().map(|module| module.version.as_str()).collect();
                format!("; versions of {name:?} are {}", versions.join(", "))
            }
            None => did_you_mean(name, self.modules.keys().map(AsRef::as_ref)),
        };
        ApiError::new(ErrorCode::UnknownModule, format!("there is no module {:?}{hint}", quoted(reference)))
    }
}

fn invalid<T>(message: String) -> Result<T, ApiError> {
    Err(ApiError::new(ErrorCode::InvalidModule, message))
}
