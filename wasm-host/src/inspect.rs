//! A look at an uploaded file, without compiling it: is it a module that can run here, and if not, why not.
//!
//! Everything is read with wasmparser's validator, which takes any bytes; function bodies are counted, not validated:
//! that is the compiling process's work.

mod contract;

use crate::failure::size;
use crate::features::FEATURES;
use crate::limits;
use contract::Contract;
use std::collections::BTreeSet;
use std::fmt;
use wasmparser::component_types::ComponentEntityType;
use wasmparser::types::TypesRef;
use wasmparser::{Parser, Payload, Validator};

/// How large an upload may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InspectLimits {
    /// Bytes of the file.
    pub component_bytes_max: usize,
    /// Functions over all core modules.
    pub functions_max: u32,
    /// Nested core modules and components.
    pub nested_modules_max: u32,
}

impl Default for InspectLimits {
    fn default() -> Self {
        Self {
            component_bytes_max: limits::COMPONENT_BYTES_MAX,
            functions_max: limits::FUNCTIONS_MAX,
            nested_modules_max: limits::NESTED_MODULES_MAX,
        }
    }
}

/// What a module is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum World {
    /// Transforms records.
    Processor,
    /// Names the keys of records, for compaction.
    KeyExtractor,
}

impl World {
    fn name(self) -> &'static str {
        match self {
            Self::Processor => "processor",
            Self::KeyExtractor => "key-extractor",
        }
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "headwater:module/{}@0.1.0", self.name())
    }
}

/// What an upload is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModuleInspection {
    /// World that it targets.
    pub world: World,
    /// Interfaces that it imports, in the file's order.
    pub imports: Vec<String>,
    /// Bytes of the file.
    pub size_bytes: u64,
    /// Functions over all core modules.
    pub functions: u32,
}

/// Why an upload can't run here. The uploader's to mend.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ModuleRefusal {
    /// Some other kind of file.
    #[error("the file is not WebAssembly: build the module with `headwater module build`")]
    NotWasm,
    /// What a compiler makes, not yet a component.
    #[error("the file is a core module, not a component: build it with `headwater module build`")]
    CoreModule,
    /// Larger than the limit.
    #[error(
        "the module has {}, the limit is {}: build with optimisation, or leave out dependencies",
        size(*.bytes), size(*.bytes_max)
    )]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// More functions than the limit.
    #[error("the module has more than {max} functions: build with link-time optimisation, or leave out dependencies")]
    TooManyFunctions {
        /// The limit.
        max: u32,
    },
    /// More nested modules than the limit.
    #[error("the component nests more than {max} modules")]
    TooManyModules {
        /// The limit.
        max: u32,
    },
    /// Damaged, or using parts of WebAssembly that are off here.
    #[error("the module is damaged or uses a WebAssembly feature that is off here: {0}")]
    Invalid(String),
    /// Asks for more than its world gives.
    #[error(
        "the module imports what the world {world} does not offer: {}{}. No clock, files, network or randomness: \
         build for wasm32-unknown-unknown and leave out what needs them",
        .imports.join(", "), hint(.imports)
    )]
    ForbiddenImports {
        /// The world that its exports are of.
        world: World,
        /// What it may not import; the first few.
        imports: Vec<String>,
    },
    /// Neither a processor nor a key extractor.
    #[error(
        "the component is of another world (it exports {}): a processor exports init, process and on-timers; \
         use headwater-guest-sdk",
        listed(.exports)
    )]
    OtherWorld {
        /// What it exports; the first few.
        exports: Vec<String>,
    },
    /// Begins like one of our worlds and lacks something.
    #[error("the module looks like a {world} and lacks {}: use headwater-guest-sdk's macro", .missing.join(", "))]
    MissingExports {
        /// The world that it resembles.
        world: World,
        /// What it does not export.
        missing: Vec<String>,
    },
    /// Built against another contract.
    #[error(
        "{name} of the module has another signature than {world} asks for: build it with this broker's version of \
         headwater-guest-sdk"
    )]
    WrongSignature {
        /// The world.
        world: World,
        /// Which import or export.
        name: String,
    },
    /// Our own contract does not read: a bug.
    #[error("the broker can't read its own contract: {0}; please report it")]
    Internal(String),
}

fn hint(imports: &[String]) -> &'static str {
    if imports.iter().any(|name| name.starts_with("wasi:")) { " (WASI is not offered)" } else { "" }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

fn invalid(error: wasmparser::BinaryReaderError) -> ModuleRefusal {
    ModuleRefusal::Invalid(error.to_string())
}

/// What was counted and listed on the way through the file.
#[derive(Default)]
struct Survey {
    functions: u32,
    nested: u32,
    imports: Vec<String>,
    exports: Vec<String>,
}

/// Looks at `bytes` without compiling. Takes milliseconds, whatever the bytes are.
///
/// # Errors
/// [`ModuleRefusal`] with reason and remedy.
pub fn inspect(bytes: &[u8], limits: &InspectLimits) -> Result<ModuleInspection, ModuleRefusal> {
    let size_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if bytes.len() > limits.component_bytes_max {
        let bytes_max = u64::try_from(limits.component_bytes_max).unwrap_or(u64::MAX);
        return Err(ModuleRefusal::TooLarge { bytes: size_bytes, bytes_max });
    }
    if Parser::is_core_wasm(bytes) {
        return Err(ModuleRefusal::CoreModule);
    }
    if !Parser::is_component(bytes) {
        return Err(ModuleRefusal::NotWasm);
    }
    let mut validator = Validator::new_with_features(FEATURES);
    // In the same validator: types of two files can be compared only there.
    let contract = Contract::read(&mut validator)?;
    validator.reset();
    let (survey, types) = survey(bytes, limits, &mut validator)?;
    let world = world_of(&survey.exports)?;
    check_against(&contract, world, &survey, types.as_ref())?;
    let imports = survey.imports.into_iter().filter(|name| is_interface(types.as_ref(), name)).collect();
    Ok(ModuleInspection { world, imports, size_bytes, functions: survey.functions })
}

fn survey(
    bytes: &[u8],
    limits: &InspectLimits,
    validator: &mut Validator,
) -> Result<(Survey, wasmparser::types::Types), ModuleRefusal> {
    let mut survey = Survey::default();
    let mut depth = 0_u32;
    let mut parser = Parser::new(0);
    parser.set_features(FEATURES);
    for payload in parser.parse_all(bytes) {
        let payload = payload.map_err(invalid)?;
        match &payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                depth += 1;
                survey.nested += 1;
                if survey.nested > limits.nested_modules_max {
                    return Err(ModuleRefusal::TooManyModules { max: limits.nested_modules_max });
                }
            }
            Payload::FunctionSection(section) => {
                survey.functions = survey.functions.saturating_add(section.count());
                if survey.functions > limits.functions_max {
                    return Err(ModuleRefusal::TooManyFunctions { max: limits.functions_max });
                }
            }
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section.clone() {
                    survey.imports.push(import.map_err(invalid)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section.clone() {
                    survey.exports.push(export.map_err(invalid)?.name.name.to_owned());
                }
            }
            _ => {}
        }
        if let wasmparser::ValidPayload::End(types) = validator.payload(&payload).map_err(invalid)? {
            if depth == 0 {
                return Ok((survey, types));
            }
            depth -= 1;
        }
    }
    Err(ModuleRefusal::Invalid("it has no end".to_owned()))
}

/// Not one of the types that a world's functions mention.
fn is_interface(types: TypesRef<'_>, import: &str) -> bool {
    let item = types.component_item_for_import(import);
    item.is_some_and(|item| matches!(item.ty, ComponentEntityType::Instance(_)))
}

/// The world by what is exported; a file of neither, or of half a world, is refused.
fn world_of(exports: &[String]) -> Result<World, ModuleRefusal> {
    let has = |name: &str| exports.iter().any(|export| export == name);
    let (world, needed) = if has("process") || has("on-timers") {
        (World::Processor, ["init", "process", "on-timers"].as_slice())
    } else if has("extract") {
        (World::KeyExtractor, ["init", "extract"].as_slice())
    } else {
        let exports = exports.iter().take(limits::LISTED_NAMES_MAX).cloned().collect();
        return Err(ModuleRefusal::OtherWorld { exports });
    };
    let missing = needed.iter().filter(|name| !has(name)).map(|name| (*name).to_owned()).collect::<Vec<_>>();
    if missing.is_empty() { Ok(world) } else { Err(ModuleRefusal::MissingExports { world, missing }) }
}

fn check_against(contract: &Contract, world: World, survey: &Survey, types: TypesRef<'_>) -> Result<(), ModuleRefusal> {
    let offered = contract.world(world.name())?;
    let forbidden = survey.imports.iter().filter(|name| offered.import(name).is_none());
    let imports = forbidden.cloned().collect::<BTreeSet<_>>();
    if !imports.is_empty() {
        let imports = imports.into_iter().take(limits::LISTED_NAMES_MAX).collect();
        return Err(ModuleRefusal::ForbiddenImports { world, imports });
    }
    let wrong = |name: &str| ModuleRefusal::WrongSignature { world, name: name.to_owned() };
    for name in &survey.imports {
        // The host's type must do where the guest's is asked for, so the guest may import less.
        let asked = types.component_item_for_import(name).map(|item| item.ty);
        let given = offered.import(name);
        let (Some(asked), Some(given)) = (asked, given) else {
            return Err(wrong(name));
        };
        if !ComponentEntityType::is_subtype_of(&given, contract.types(), &asked, types) {
            return Err(wrong(name));
        }
    }
    for (name, asked) in offered.exports() {
        let Some(given) = types.component_item_for_export(name) else {
            return Err(ModuleRefusal::MissingExports { world, missing: vec![name.to_owned()] });
        };
        if !ComponentEntityType::is_subtype_of(&given.ty, types, &asked, contract.types()) {
            return Err(wrong(name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
