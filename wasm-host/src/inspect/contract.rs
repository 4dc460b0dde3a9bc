//! The contract itself, as types: what each world offers and asks for.

use super::ModuleRefusal;
use std::sync::OnceLock;
use wasmparser::Validator;
use wasmparser::component_types::{ComponentAnyTypeId, ComponentEntityType, ComponentType};
use wasmparser::types::{Types, TypesRef};

/// The one source of the contract; guests are built against the same file.
const WIT: &str = include_str!("../../../guest-sdk/wit/headwater.wit");

fn internal(error: impl std::fmt::Display) -> ModuleRefusal {
    ModuleRefusal::Internal(format!("{error:#}"))
}

/// The contract in the component model's binary form, made once.
fn encoded() -> Result<&'static [u8], ModuleRefusal> {
    static ENCODED: OnceLock<Result<Vec<u8>, String>> = OnceLock::new();
    let encoded = ENCODED.get_or_init(|| {
        let mut resolve = wit_parser::Resolve::default();
        let package = resolve.push_source("headwater.wit", WIT).map_err(|error| format!("{error:#}"))?;
        wit_component::encode(&resolve, package).map_err(|error| format!("{error:#}"))
    });
    encoded.as_deref().map_err(internal)
}

/// The contract's types, known to one validator.
pub(super) struct Contract {
    types: Types,
}

/// One world of it.
pub(super) struct ContractWorld<'a> {
    world: &'a ComponentType,
}

impl Contract {
    /// Reads the contract into `validator`, so that what the validator reads next can be compared with it.
    pub(super) fn read(validator: &mut Validator) -> Result<Self, ModuleRefusal> {
        let types = validator.validate_all(encoded()?).map_err(internal)?;
        Ok(Self { types })
    }

    pub(super) fn types(&self) -> TypesRef<'_> {
        self.types.as_ref()
    }

    /// A package's binary form exports each world as a type: a component that exports a component that has the world's
    /// imports and exports.
    pub(super) fn world(&self, name: &str) -> Result<ContractWorld<'_>, ModuleRefusal> {
        let types = self.types.as_ref();
        let wrapper = match types.component_item_for_export(name).map(|item| item.ty) {
            Some(ComponentEntityType::Type { referenced: ComponentAnyTypeId::Component(id), .. }) => types.get(id),
            _ => None,
        };
        let inner = match wrapper.and_then(|wrapper| wrapper.exports.values().next()).map(|item| item.ty) {
            Some(ComponentEntityType::Component(id)) => types.get(id),
            _ => None,
        };
        let world = inner.ok_or_else(|| internal(format!("no world {name}")))?;
        Ok(ContractWorld { world })
    }
}

impl ContractWorld<'_> {
    /// The interface that an import of this name is given. Of versions of one compatible line (0.1.x) any will do.
    pub(super) fn import(&self, name: &str) -> Option<ComponentEntityType> {
        let imports = self.world.imports.iter();
        let mut matching = imports.filter(|(offered, _)| line(offered) == line(name));
        matching.next().map(|(_, item)| item.ty)
    }

    /// The functions that a guest must have.
    pub(super) fn exports(&self) -> impl Iterator<Item = (&str, ComponentEntityType)> {
        let exports = self.world.exports.iter().map(|(name, item)| (name.as_str(), item.ty));
        exports.filter(|(_, ty)| matches!(ty, ComponentEntityType::Func(_)))
    }
}

/// Name and compatible line of a versioned interface: `a:b/c@0.1.2` is of line 0.1, `a:b/c@2.1.0` of line 2.
fn line(name: &str) -> (&str, &str) {
    let Some((name, version)) = name.rsplit_once('@') else {
        return (name, "");
    };
    let mut dots = version.match_indices('.').map(|(at, _)| at);
    let (first, second) = (dots.next(), dots.next());
    let end = if version.starts_with("0.") { second } else { first };
    (name, version.get(..end.unwrap_or(version.len())).unwrap_or(version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_one_line_are_one() {
        assert_eq!(line("a:b/c@0.1.2"), ("a:b/c", "0.1"));
        assert_eq!(line("a:b/c@0.1.0"), line("a:b/c@0.1.7"));
        assert_ne!(line("a:b/c@0.1.0"), line("a:b/c@0.2.0"));
        assert_eq!(line("a:b/c@2.1.0"), ("a:b/c", "2"));
        assert_eq!(line("process"), ("process", ""));
    }

    #[test]
    fn contract_has_both_worlds() {
        let contract = Contract::read(&mut Validator::new_with_features(crate::features::FEATURES)).unwrap();
        let processor = contract.world("processor").unwrap();
        let exports = processor.exports().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(exports, ["init", "process", "on-timers"]);
        for interface in
            [crate::bindings::OUTPUT, crate::bindings::STATE, crate::bindings::TIMERS, crate::bindings::LOG]
        {
            assert!(processor.import(interface).is_some(), "{interface}");
        }
        let extractor = contract.world("key-extractor").unwrap();
        assert_eq!(extractor.exports().map(|(name, _)| name).collect::<Vec<_>>(), ["init", "extract"]);
        assert!(extractor.import(crate::bindings::LOG).is_none());
        assert!(contract.world("other").is_err());
    }
}
