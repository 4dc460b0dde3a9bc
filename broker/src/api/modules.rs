//! Modules: upload, list, describe, delete.

use super::Api;
use crate::clock::unix_time_ms;
use crate::metadata::blocking;
use crate::module::digest_of;
use bytes::Bytes;
use headwater_core::cluster::{AddModule, add_module, delete_module};
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::messages::module::{
    DeleteModuleRequest, DeleteModuleResponse, DescribeModuleRequest, ListModulesResponse, ModuleDescription,
    UploadModuleRequest,
};
use std::sync::Arc;

impl Api {
    /// Inspects, compiles and stores the module, then gives it its name.
    pub(crate) async fn upload_module(
        self: Arc<Self>,
        request: UploadModuleRequest,
        module: Bytes,
    ) -> Result<ModuleDescription, ApiError> {
        if request.module_bytes as usize != module.len() {
            let message =
                format!("the request names {} bytes of module and has {}", request.module_bytes, module.len());
            return Err(ApiError::new(ErrorCode::InvalidRequest, message));
        }
        let api = Arc::clone(&self);
        let described = blocking(move || {
            let uploaded_at = unix_time_ms();
            let mut named = AddModule {
                name: request.name,
                version: request.version,
                digest: digest_of(&module),
                size_bytes: module.len() as u64,
                world: String::new(),
                imports: Vec::new(),
                uploaded_at,
            };
            // A name that is refused is refused before the module is compiled and stored.
            add_module(&api.metadata.image(), named.clone())?;
            let (digest, inspection) = api.modules.accept(&module)?;
            debug_assert_eq!(digest, named.digest);
            named.size_bytes = inspection.size_bytes;
            named.world = inspection.world.to_string();
            named.imports = inspection.imports;
            let decided = api.metadata.decide_blocking(|image| add_module(image, named));
            if decided.is_err() && !api.metadata.image().modules().any(|module| module.digest == digest) {
                api.modules.forget(digest);
            }
            decided
        })
        .await?;
        let (name, version) = (&described.name, &described.version);
        tracing::info!(name, version, digest = %described.digest, "module uploaded");
        Ok(described)
    }

    /// Every module.
    pub(crate) async fn list_modules(self: Arc<Self>) -> Result<ListModulesResponse, ApiError> {
        let image = self.metadata.image();
        Ok(ListModulesResponse { modules: image.modules().map(|module| module.describe()).collect() })
    }

    /// One module.
    pub(crate) async fn describe_module(
        self: Arc<Self>,
        request: DescribeModuleRequest,
    ) -> Result<ModuleDescription, ApiError> {
        self.metadata.image().resolve_module(&request.reference).map(|module| module.describe())
    }

    /// Takes names away, and the bytes that have no name left.
    pub(crate) async fn delete_module(
        self: Arc<Self>,
        request: DeleteModuleRequest,
    ) -> Result<DeleteModuleResponse, ApiError> {
        let api = Arc::clone(&self);
        blocking(move || {
            let modules = api.metadata.decide_blocking(|image| delete_module(image, &request.reference))?;
            let in_use = api.metadata.image().digests();
            for module in modules.iter().filter(|module| !in_use.contains(&module.digest)) {
                api.modules.forget(module.digest);
            }
            Ok(DeleteModuleResponse { modules })
        })
        .await
    }
}
