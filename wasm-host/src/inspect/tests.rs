//! Each refusal, with the file that earns it.

use super::*;
use crate::testing::component::{Guest, WIT, component};

fn refusal(bytes: &[u8]) -> ModuleRefusal {
    inspect(bytes, &InspectLimits::default()).unwrap_err()
}

/// A processor whose core module imports and exports what `world` of `wit` says, beside the usual.
fn processor_of(wit: &str, core: &str) -> Vec<u8> {
    component(wit, "processor", core)
}

const EXTRACTOR: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
  (func (export "init") (param i32 i32) (result i32) (i32.const 0))
  (func (export "extract") (param i32 i32 i64 i64 i32 i32 i32 i32) (result i32) (i32.const 0)))"#;

#[test]
fn a_processor_is_known_by_what_it_exports() {
    let bytes = Guest::default().component();
    let inspection = inspect(&bytes, &InspectLimits::default()).unwrap();
    assert_eq!(inspection.world, World::Processor);
    assert_eq!(inspection.world.to_string(), "headwater:module/processor@0.1.0");
    assert_eq!(inspection.size_bytes, bytes.len() as u64);
    // Four of the guest, and what componentising adds.
    assert!(inspection.functions >= 4);
    let interfaces = ["types", "output", "state", "timers", "log"].map(|name| format!("headwater:module/{name}@0.1.0"));
    let imports = inspection.imports.iter().collect::<BTreeSet<_>>();
    assert_eq!(imports, interfaces.iter().collect());
}

#[test]
fn a_key_extractor_is_known_too_and_imports_nothing_that_acts() {
    let bytes = component(WIT, "key-extractor", EXTRACTOR);
    let inspection = inspect(&bytes, &InspectLimits::default()).unwrap();
    assert_eq!(inspection.world, World::KeyExtractor);
    let wit = WIT.replace("world key-extractor {", "world key-extractor { import log;");
    let core = EXTRACTOR
        .replace("(module", r#"(module (import "headwater:module/log@0.1.0" "write" (func (param i32 i32 i32)))"#);
    let expected = ModuleRefusal::ForbiddenImports {
        world: World::KeyExtractor,
        imports: vec!["headwater:module/log@0.1.0".to_owned()],
    };
    assert_eq!(refusal(&component(&wit, "key-extractor", &core)), expected);
}

#[test]
fn files_that_are_no_components_are_told_apart() {
    for bytes in [b"".as_slice(), b"\0asm", b"#!/bin/sh", &[0; 4096], b"\0asm\x09\0\0\0"] {
        assert_eq!(refusal(bytes), ModuleRefusal::NotWasm);
    }
    let core = wat::parse_str(Guest::default().core()).unwrap();
    assert_eq!(refusal(&core), ModuleRefusal::CoreModule);
    assert!(refusal(&core).to_string().contains("headwater module build"));
}

#[test]
fn size_functions_and_nesting_are_limited() {
    let bytes = Guest::default().component();
    let limits = InspectLimits { component_bytes_max: bytes.len() - 1, ..InspectLimits::default() };
    let length = bytes.len() as u64;
    let expected = ModuleRefusal::TooLarge { bytes: length, bytes_max: length - 1 };
    assert_eq!(inspect(&bytes, &limits).unwrap_err(), expected);
    let limits = InspectLimits { component_bytes_max: bytes.len(), ..InspectLimits::default() };
    let functions = inspect(&bytes, &limits).unwrap().functions;
    let limits = InspectLimits { functions_max: functions - 1, ..InspectLimits::default() };
    assert_eq!(inspect(&bytes, &limits).unwrap_err(), ModuleRefusal::TooManyFunctions { max: functions - 1 });
    let limits = InspectLimits { nested_modules_max: 1, ..InspectLimits::default() };
    assert_eq!(inspect(&bytes, &limits).unwrap_err(), ModuleRefusal::TooManyModules { max: 1 });
}

// covers §4.4 "import not granted"
#[test]
fn forbidden_imports_are_named() {
    let wit = WIT.replace("world processor {", "world processor { import wasi:clocks/wall-clock@0.2.0;")
        + "package wasi:clocks@0.2.0 { interface wall-clock { now: func() -> u64; } }";
    let import = r#"(module $guest (import "wasi:clocks/wall-clock@0.2.0" "now" (func (result i64)))"#;
    let core = Guest::default().core().replace("(module $guest", import);
    let refused = refusal(&processor_of(&wit, &core));
    let imports = vec!["wasi:clocks/wall-clock@0.2.0".to_owned()];
    assert_eq!(refused, ModuleRefusal::ForbiddenImports { world: World::Processor, imports });
    assert!(refused.to_string().contains("wasi:clocks/wall-clock@0.2.0 (WASI is not offered)"), "{refused}");
}

#[test]
fn other_worlds_and_halves_of_ours_are_refused() {
    let empty = wat::parse_str("(component)").unwrap();
    assert_eq!(refusal(&empty), ModuleRefusal::OtherWorld { exports: Vec::new() });
    let wit = "package other:thing@1.0.0; world runner { export run: func(); }";
    let other = component(wit, "runner", r#"(module (func (export "run")))"#);
    let refused = refusal(&other);
    assert_eq!(refused, ModuleRefusal::OtherWorld { exports: vec!["run".to_owned()] });
    assert!(refused.to_string().contains("headwater-guest-sdk"));

    let line = "  export on-timers: func(stream-time: s64, timers: list<u8>) -> result<_, failure>;\n";
    let wit = WIT.replace(line, "");
    assert_ne!(wit, WIT);
    let core = Guest::default().core().replace("(export \"on-timers\")", "");
    let missing = vec!["on-timers".to_owned()];
    let expected = ModuleRefusal::MissingExports { world: World::Processor, missing };
    assert_eq!(refusal(&processor_of(&wit, &core)), expected);
}

#[test]
fn another_version_of_the_contract_is_refused_by_name() {
    let wit = WIT.replace("export on-timers: func(stream-time: s64,", "export on-timers: func(stream-time: u64,");
    assert_ne!(wit, WIT);
    let expected = ModuleRefusal::WrongSignature { world: World::Processor, name: "on-timers".to_owned() };
    assert_eq!(refusal(&processor_of(&wit, &Guest::default().core())), expected);

    let wit = WIT.replace("get-many: func(store: u32,", "get-many: func(store: s32,");
    assert_ne!(wit, WIT);
    let name = "headwater:module/state@0.1.0".to_owned();
    let expected = ModuleRefusal::WrongSignature { world: World::Processor, name };
    assert_eq!(refusal(&processor_of(&wit, &Guest::default().core())), expected);

    let wit = WIT.replace("package headwater:module@0.1.0;", "package headwater:module@0.2.0;");
    let core = Guest::default().core().replace("@0.1.0", "@0.2.0");
    assert!(matches!(refusal(&processor_of(&wit, &core)), ModuleRefusal::ForbiddenImports { .. }));
}

#[test]
fn a_newer_patch_of_the_contract_is_taken() {
    let wit = WIT.replace("package headwater:module@0.1.0;", "package headwater:module@0.1.9;");
    let core = Guest::default().core().replace("@0.1.0", "@0.1.9");
    let bytes = processor_of(&wit, &core);
    assert_eq!(inspect(&bytes, &InspectLimits::default()).unwrap().world, World::Processor);
    // And runs: the linker takes one patch for another.
    crate::testing::compile(crate::testing::runtime(), &bytes);
}

// covers W7: features that are off
#[test]
fn features_that_are_off_are_refused() {
    let with = |definition: &str| {
        let text = format!("(component (core module {definition}))");
        wat::parse_str(text).unwrap()
    };
    for definition in ["(memory i64 1)", "(memory 1 1 shared)", "(tag)", "(memory 1) (memory 1)"] {
        assert!(matches!(refusal(&with(definition)), ModuleRefusal::Invalid(_)), "{definition}");
    }
    assert!(matches!(refusal(&with("(memory 1)")), ModuleRefusal::OtherWorld { .. }), "the control");
}

// covers W4: no bytes make the broker panic
#[test]
fn damaged_components_are_refused_without_a_panic() {
    let whole = Guest::default().component();
    for length in (8..whole.len()).step_by(13) {
        // Some cuts leave a component, but never a processor.
        assert!(inspect(&whole[..length], &InspectLimits::default()).is_err(), "{length} bytes");
    }
    for at in (8..whole.len()).step_by(7) {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] ^= flip;
            drop(inspect(&damaged, &InspectLimits::default()));
        }
    }
}
