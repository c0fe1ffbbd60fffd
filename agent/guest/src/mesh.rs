//! The agent's end of its jobs' networks.
//!
//! The agent holds the one UDP socket and the tunnels; a job's shim holds the device. This module brings
//! both together and hides the overlay from the rest of the agent.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};

use data_encoding::HEXLOWER;
use overlay_core::ids::MeshId;
use overlay_core::netmap::Netmap;
use zeroize::Zeroizing;

use crate::enrol::Membership;
use crate::identity::Identity;

/// The MTU of `mesh0`: 1500 - 40 (IPv6) - 8 (UDP) - 8 (relay frame) - 32 (WireGuard), so that a packet
/// fits every path as it is.
pub const MESH_MTU: u16 = 1412;

/// The device of a mesh.
pub struct MeshDevice;

impl MeshDevice {
    /// Not built in yet.
    ///
    /// # Errors
    /// Always.
    pub fn open(_name: &str, _mtu: u16) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The device's descriptor.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(Box::leak(Box::new(io::stdin())))
    }

    /// Not built in yet.
    ///
    /// # Errors
    /// Always.
    pub fn set_addresses(&self, _: Ipv4Addr, _: u8, _: Ipv6Addr, _: u8) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// What happens in a mesh.
pub enum MeshEvent {
    /// The members.
    Netmap(Netmap),
    /// Every pair has a working path.
    Open,
    /// The node is no longer part of it.
    Closed {
        /// Why.
        reason: String,
    },
}

/// A mesh's private key.
pub struct MeshSecret(Zeroizing<[u8; 32]>);

impl MeshSecret {
    /// A fresh one.
    pub fn generate() -> Self {
        Self(Zeroizing::new(rand::random()))
    }

    /// As 64 hexadecimal digits.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(HEXLOWER.encode(&*self.0))
    }

    /// From 64 hexadecimal digits.
    pub fn from_text(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(HEXLOWER.decode(text.as_bytes()).ok()?);
        Some(Self(Zeroizing::new(bytes.as_slice().try_into().ok()?)))
    }
}

/// The overlay. Cheap to clone.
#[derive(Clone)]
pub struct MeshNetwork;

/// The agent's place in one mesh.
pub struct JoinedMesh;

impl MeshNetwork {
    /// Starts it.
    ///
    /// # Errors
    /// None yet.
    #[expect(clippy::unused_async, reason = "in between")]
    pub async fn start(_: &Identity, _: &Membership, _: SocketAddr) -> Result<Self, io::Error> {
        Ok(Self)
    }

    /// Joins.
    ///
    /// # Errors
    /// Always.
    #[expect(clippy::unused_async, reason = "in between")]
    pub async fn join(&self, _: MeshId, _: OwnedFd, _: &MeshSecret) -> Result<JoinedMesh, String> {
        Err("not built in".into())
    }

    /// Closes.
    #[expect(clippy::unused_async, reason = "in between")]
    pub async fn shutdown(self) {}
}

impl JoinedMesh {
    /// The next event.
    pub async fn event(&mut self) -> MeshEvent {
        std::future::pending().await
    }

    /// Leaves.
    #[expect(clippy::unused_async, reason = "in between")]
    pub async fn leave(self) {}
}
