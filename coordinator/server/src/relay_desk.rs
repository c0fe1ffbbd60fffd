//! Which relays may come in, and the keys of each.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use overlay_core::NodeId;
use overlay_relay::RelayKeys;

use crate::causes::Causes;
use crate::clock::Clock;
use crate::pki::Pki;
use crate::rendezvous::AdmitsRelays;
use crate::secret::SecretHash;
use crate::store::Store;

/// See the module.
pub(crate) struct RelayDesk {
    pub(crate) store: Store,
    pub(crate) pki: Arc<Pki>,
    pub(crate) clock: Arc<Clock>,
}

impl AdmitsRelays for RelayDesk {
    fn admit<'a>(
        &'a self,
        relay: NodeId,
        token: Option<&'a str>,
    ) -> Pin<Box<dyn Future<Output = Option<RelayKeys>> + Send + 'a>> {
        Box::pin(async move {
            let token = token.and_then(SecretHash::of);
            match self.store.admit_relay(relay, token, self.clock.now()).await {
                Ok(true) => Some(self.pki.keys_of_relay(relay)),
                Ok(false) => None,
                Err(error) => {
                    tracing::error!(error = %Causes(&error), "cannot look a relay up");
                    None
                }
            }
        })
    }
}
