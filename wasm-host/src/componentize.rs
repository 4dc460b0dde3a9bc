//! From what a guest's compiler makes to what a broker takes.

use wit_component::ComponentEncoder;

/// Why a core module did not become a component.
#[derive(Debug, thiserror::Error)]
pub enum ComponentizeError {
    /// Not WebAssembly at all.
    #[error("this is not a WebAssembly module")]
    NotWasm,
    /// Nothing to do.
    #[error("this is a component already")]
    AlreadyComponent,
    /// The module can't be wrapped.
    #[error("{0}. Is headwater-guest-sdk linked, and its `export_processor!` macro used, in a crate of type cdylib?")]
    Encode(String),
}

/// Wraps a core module, as rustc makes it for `wasm32-unknown-unknown`, into a component of the world that its
/// `component-type` sections name. The result is validated.
///
/// # Errors
/// [`ComponentizeError`]
pub fn componentize(core_module: &[u8]) -> Result<Vec<u8>, ComponentizeError> {
    if wasmparser::Parser::is_component(core_module) {
        return Err(ComponentizeError::AlreadyComponent);
    }
    if !wasmparser::Parser::is_core_wasm(core_module) {
        return Err(ComponentizeError::NotWasm);
    }
    let component =
        ComponentEncoder::default().validate(true).module(core_module).and_then(|mut encoder| encoder.encode());
    component.map_err(|error| ComponentizeError::Encode(format!("{error:#}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_wrapped_is_named() {
        assert!(matches!(componentize(b"#!/bin/sh"), Err(ComponentizeError::NotWasm)));
        let component = wat::parse_str("(component)").unwrap();
        assert!(matches!(componentize(&component), Err(ComponentizeError::AlreadyComponent)));
        let foreign = wat::parse_str(r#"(module (import "env" "puts" (func (param i32))))"#).unwrap();
        let error = componentize(&foreign).unwrap_err().to_string();
        assert!(error.contains("env") && error.contains("headwater-guest-sdk"), "{error}");
    }
}
