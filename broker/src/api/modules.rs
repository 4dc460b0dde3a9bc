//! Modules: upload, list, describe, delete.

use super::Api;
use crate::clock::unix_time_ms;
use crate::metadata::blocking;
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
            let (digest, inspection) = api.modules.accept(&module)?;
            let named = AddModule {
                name: request.name,
                version: request.version,
                digest,
                size_bytes: inspection.size_bytes,
                world: inspection.world.to_string(),
                imports: inspection.imports,
                uploaded_at: unix_time_ms(),
            };
            api.metadata.decide_blocking(|image| add_module(image, named))
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
