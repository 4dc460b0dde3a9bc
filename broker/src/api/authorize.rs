//! Who may do what. In this version a certificate of the cluster's CA makes an admin; every handler asks all the same.

use super::Api;
use headwater_protocol::error::ApiError;
use headwater_protocol::messages::ApiKey;
use headwater_transport::Principal;

impl Api {
    /// Whether `principal` may call `api`. Whoever got through the handshake has a certificate of the cluster's CA, or
    /// the operator allowed connections without one (on loopback only): both are admins (DESIGN §8).
    pub(crate) fn authorize(&self, principal: &Principal, api: ApiKey) -> Result<(), ApiError> {
        tracing::trace!(?principal, ?api, "authorized");
        Ok(())
    }
}
