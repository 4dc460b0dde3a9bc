//! Names that users choose.

use super::settings::quoted;
use crate::limits;
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::ModuleDigest;

/// What a name is of, for messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Named {
    Topic,
    Processor,
    Module,
    ModuleVersion,
    Store,
}

impl Named {
    fn noun(self) -> &'static str {
        match self {
            Self::Topic => "topic name",
            Self::Processor => "processor name",
            Self::Module => "module name",
            Self::ModuleVersion => "module version",
            Self::Store => "store name",
        }
    }

    fn bytes_max(self) -> usize {
        match self {
            Self::Topic => limits::TOPIC_NAME_BYTES_MAX,
            Self::Processor => limits::PROCESSOR_NAME_BYTES_MAX,
            Self::Module => limits::MODULE_NAME_BYTES_MAX,
            Self::ModuleVersion => limits::MODULE_VERSION_BYTES_MAX,
            Self::Store => limits::STORE_NAME_BYTES_MAX,
        }
    }

    fn code(self) -> ErrorCode {
        match self {
            Self::Topic => ErrorCode::InvalidTopic,
            Self::Processor | Self::Store => ErrorCode::InvalidProcessor,
            Self::Module | Self::ModuleVersion => ErrorCode::InvalidModule,
        }
    }

    fn allows(self, byte: u8) -> bool {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'.' | b'_' | b'-')
            || (self == Self::ModuleVersion && byte == b'+')
    }
}

/// Kafka's rule for topics, and ours for everything else that has a name: not empty, not too long, only letters,
/// digits, `.`, `_` and `-` (in a version also `+`), neither `.` nor `..`.
pub(super) fn check_name(named: Named, name: &str) -> Result<(), ApiError> {
    let noun = named.noun();
    let error = |message: String| Err(ApiError::new(named.code(), message));
    if name.is_empty() {
        return error(format!("a {noun} can't be empty"));
    }
    if name.len() > named.bytes_max() {
        let (bytes, max, shown) = (name.len(), named.bytes_max(), quoted(name));
        let room = if named == Named::Processor { ", which leaves room for \"-changelog\"" } else { "" };
        return error(format!("the {noun} \"{shown}…\" has {bytes} bytes; at most {max} are allowed{room}"));
    }
    if let Some(other) = name.chars().find(|c| !u8::try_from(*c).is_ok_and(|byte| named.allows(byte))) {
        let plus = if named == Named::ModuleVersion { ", \"+\"" } else { "" };
        return error(format!(
            "the {noun} {name:?} has {other:?} in it; allowed are a-z, A-Z, 0-9, \".\", \"_\", \"-\"{plus}"
        ));
    }
    if name == "." || name == ".." {
        return error(format!("a {noun} can't be {name:?}"));
    }
    if named == Named::Module && name.parse::<ModuleDigest>().is_ok() {
        return error(format!(
            "the {noun} {name:?} looks like a digest; 64 hexadecimal digits name a module by its bytes"
        ));
    }
    Ok(())
}

/// The name with which `name` shares its metric names: `.` and `_` look the same there, so Kafka refuses both at once.
pub(super) fn collision_key(name: &str) -> impl Iterator<Item = u8> + '_ {
    name.bytes().map(|byte| if byte == b'.' { b'_' } else { byte })
}

/// `; did you mean "…"?` if one of `known` is close to `name`, or nothing.
pub(super) fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    const SIMILAR_ENOUGH: f64 = 0.75;
    let name = quoted(name);
    let best = known
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(similarity, _)| *similarity >= SIMILAR_ENOUGH)
        .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(a.1)));
    best.map(|(_, known)| format!("; did you mean {known:?}?")).unwrap_or_default()
}
