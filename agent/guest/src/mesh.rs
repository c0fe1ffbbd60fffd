//! The agent's end of its jobs' networks.
//!
//! The agent holds the one UDP socket and the tunnels; a job's shim holds the device and the key. This
//! module brings both together.

use std::fs;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use coordinator_client::pinned_tls_with_identity;
use coordinator_client::proxy::{api_address, proxy_of};
use coordinator_client::token::host_of;
use data_encoding::HEXLOWER;
use overlay_core::ids::MeshId;
use overlay_driver::{
    ControlConfig, JoinError, Leases, Overlay, OverlayConfig, RateLimit, StartError, TunnelConfig,
    default_workers,
};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::enrol::Membership;
use crate::events::Events;
use crate::identity::{Identity, IdentityError};
use crate::owner::Will;
use crate::state_dir::write_private;

pub use overlay_driver::tun::MeshDevice;
pub use overlay_driver::{Mesh, MeshEvent, MeshKeys, WireGuardSecret};

/// The MTU of `mesh0`: 1500 - 40 (IPv6) - 8 (UDP) - 8 (relay frame) - 32 (WireGuard), so that a packet
/// fits every path as it is.
pub const MESH_MTU: u16 = 1412;

/// The file that remembers the UDP port: peers of running jobs look for a restarted agent there.
const PORT_FILE: &str = "port";

/// Why the overlay could not be started.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The node's certificate is unusable.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// TLS does not take the certificate.
    #[error("TLS refuses the node's certificate: {0}")]
    Tls(#[from] rustls::Error),
    /// The UDP socket or the data plane.
    #[error("the overlay could not be started")]
    Start(#[from] StartError),
}

/// The overlay. Cheap to clone.
#[derive(Clone)]
pub struct MeshNetwork {
    overlay: Overlay,
}

/// What the volunteer has said of the UDP socket.
#[derive(Clone, Debug)]
pub struct SocketOptions {
    /// Where it is bound.
    pub bind: SocketAddr,
    /// Endpoints that lead to it from outside.
    pub advertise: Vec<SocketAddr>,
    /// Whether the home's router is asked to open its port.
    pub port_mapping: bool,
    /// Whether many ports may be tried to meet a peer by chance.
    pub birthday_probing: bool,
    /// Threads that carry the packets; none: as many as suit the machine.
    pub workers: Option<NonZeroU16>,
    /// What the owner grants all of it.
    pub limit: Arc<RateLimit>,
}

impl MeshNetwork {
    /// Binds the UDP socket and connects to the coordinator's rendezvous, again and again if need be. With port 0
    /// the port of the last time is taken, when it is free.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub async fn start(
        identity: &Identity,
        membership: &Membership,
        options: &SocketOptions,
        state: &Path,
        events: &Events,
    ) -> Result<Self, NetworkError> {
        let SocketOptions { bind, advertise, .. } = options;
        let bind = *bind;
        let port_file = state.join(PORT_FILE);
        let last = fs::read_to_string(&port_file).ok().and_then(|text| text.trim().parse().ok());
        let config = |bind| {
            let config = overlay_config(identity, membership, bind, advertise.to_vec())?;
            let observer = events.observer();
            let port_mapping = options.port_mapping.then(Leases::default);
            let birthday_probing = options.birthday_probing;
            Ok::<_, NetworkError>(OverlayConfig {
                port_mapping,
                birthday_probing,
                workers: options.workers.unwrap_or_else(default_workers),
                limit: Arc::clone(&options.limit),
                observer,
                ..config
            })
        };
        let again = match last.filter(|_| bind.port() == 0) {
            Some(port) => Overlay::start(config(SocketAddr::new(bind.ip(), port))?).await.ok(),
            None => None,
        };
        let overlay = match again {
            Some(overlay) => overlay,
            None => Overlay::start(config(bind)?).await?,
        };
        let port = overlay.local_addr().port();
        if let Err(error) = write_private(&port_file, port.to_string().as_bytes()) {
            tracing::warn!(%error, "remembering the UDP port failed");
        }
        tracing::info!(port, "the overlay's UDP socket");
        Ok(Self { overlay })
    }

    /// The overlay itself, for the owner's questions.
    pub fn overlay(&self) -> &Overlay {
        &self.overlay
    }

    /// Tells the jobs' peers, for ever, what the owner lets jobs do.
    pub async fn tell_activity(&self, mut will: watch::Receiver<Will>) {
        loop {
            let activity = will.borrow_and_update().activity();
            self.overlay.set_activity(activity).await;
            if will.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Joins the mesh of a job with its device's descriptor and its keys.
    ///
    /// # Errors
    /// [`JoinError`].
    pub async fn join(
        &self,
        mesh: MeshId,
        tun: OwnedFd,
        keys: MeshKeys,
    ) -> Result<Mesh, JoinError> {
        self.overlay.join(mesh, tun, keys).await
    }

    /// Closes the socket. To be called before the meshes are dropped, which would leave them: the next
    /// agent takes them up again.
    pub async fn shutdown(self) {
        self.overlay.shutdown().await;
    }
}

/// What the node's overlay is made from.
///
/// # Errors
/// [`NetworkError::Identity`], [`NetworkError::Tls`].
pub fn overlay_config(
    identity: &Identity,
    membership: &Membership,
    bind: SocketAddr,
    advertise: Vec<SocketAddr>,
) -> Result<OverlayConfig, NetworkError> {
    let server = membership.rendezvous.clone();
    let control = ControlConfig {
        server_name: host_of(&format!("https://{server}")).unwrap_or(server.clone()),
        server,
        tls: pinned_tls_with_identity(membership.root, identity.certificate()?)?,
        tunnel: api_address(&membership.url)
            .map(|port| TunnelConfig::new(port, proxy_of(&membership.url))),
        software: concat!("agent ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let (observer, port_mapping) = (None, None);
    Ok(OverlayConfig {
        node: identity.node(),
        bind,
        advertise,
        control,
        observer,
        port_mapping,
        birthday_probing: false,
        workers: NonZeroU16::MIN,
        limit: Arc::default(),
    })
}

/// The secret as the shim keeps it: 64 hexadecimal digits.
pub fn secret_to_text(secret: &WireGuardSecret) -> Zeroizing<String> {
    Zeroizing::new(HEXLOWER.encode(&*secret.to_bytes()))
}

/// The secret that the shim kept.
pub fn secret_from_text(text: &str) -> Option<WireGuardSecret> {
    let bytes = Zeroizing::new(HEXLOWER.decode(text.as_bytes()).ok()?);
    Some(WireGuardSecret::from_bytes(bytes.as_slice().try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_survives_the_shim() {
        let secret = WireGuardSecret::generate();
        let again = secret_from_text(&secret_to_text(&secret)).unwrap();
        assert_eq!(again.public(), secret.public());
        assert!(secret_from_text("5e").is_none());
    }
}
