//! Which parts of WebAssembly guests may use.

use wasmparser::WasmFeatures;

/// What rustc's `wasm32-unknown-unknown` emits by default, plus SIMD, constant arithmetic and the component model's
/// first release. No threads, no garbage collection, no exceptions, no 64-bit memories, no relaxed SIMD (whose results
/// differ between CPUs): W7, few proposals. Inspection and engine share this one set.
pub(crate) const FEATURES: WasmFeatures = WasmFeatures::MUTABLE_GLOBAL
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::SIMD)
    .union(WasmFeatures::FLOATS)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::COMPONENT_MODEL);
