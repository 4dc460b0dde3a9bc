//! Modules: code that users upload.

use super::request;
use crate::ids::ModuleDigest;
use serde::{Deserialize, Serialize};

/// Stores the module that the frame's body holds (a component, as bytes).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UploadModuleRequest {
    /// Name, by the rules of topic names.
    pub name: String,
    /// Version; `None` for one more than the highest number in use, from "1".
    pub version: Option<String>,
    /// How many bytes the body has.
    pub module_bytes: u32,
}
request!(UploadModuleRequest, UploadModule, 0, ModuleDescription);

/// Asks for every name and version.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ListModulesRequest {}

/// All modules, by name, then upload order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ListModulesResponse {
    /// The modules.
    pub modules: Vec<ModuleDescription>,
}
request!(ListModulesRequest, ListModules, 0, ListModulesResponse);

/// Asks for one module.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DescribeModuleRequest {
    /// `name` (its newest version), `name@version`, or a digest.
    pub reference: String,
}
request!(DescribeModuleRequest, DescribeModule, 0, ModuleDescription);

/// Forgets a module that no processor uses.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeleteModuleRequest {
    /// As in [`DescribeModuleRequest`], but a bare name means all its versions.
    pub reference: String,
}

/// What was forgotten.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeleteModuleResponse {
    /// The modules that are gone.
    pub modules: Vec<ModuleDescription>,
}
request!(DeleteModuleRequest, DeleteModule, 0, DeleteModuleResponse);

/// A module in the store.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ModuleDescription {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// SHA-256 of the bytes.
    pub digest: ModuleDigest,
    /// Size of the component.
    pub size_bytes: u64,
    /// World it targets, such as `headwater:module/processor@0.1.0`.
    pub world: String,
    /// Interfaces it imports.
    pub imports: Vec<String>,
    /// When it was uploaded, ms since the Unix epoch.
    pub uploaded_at: i64,
}
