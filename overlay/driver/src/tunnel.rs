//! The ways to the coordinator and its relay: UDP, QUIC datagrams where UDP reaches one port only, and TLS on
//! the API's port, directly or through an HTTP proxy.
//!
//! ```text
//!   worker, quinn ─▶ Socket ─▶ Detour: Lane ─ queue ─▶ Link ─▶ the place's gateway ─▶ its UDP sockets
//!                                     worker ◀─────── Link ◀──┘
//!   Site: which link a lane leads through, by overlay_core::ladder
//! ```
//!
//! Only what goes to the coordinator and to relays takes the detour, unchanged; everything above is as with UDP.
//! [`Detour`] is the switch in the socket, with a [`Lane`] for each place: the coordinator with its relay, and for
//! nodes without UDP each relay that runs alone ([`LoneSites`]). [`Link`](link::Link) is a stream or connection
//! behind a lane; [`Site`] carries out what the ladder of its place decides.

mod ask;
mod detour;
mod dial;
mod lane;
mod link;
mod lone;
mod making;
mod pinned;
mod site;

use std::time::Duration;

pub(crate) use detour::Detour;
pub(crate) use dial::Dialer;
pub(crate) use lane::Lane;
pub(crate) use lone::LoneSites;
pub(crate) use making::QuicPlace;
pub(crate) use site::{Site, SiteHandle};
pub use site::{Step, Way};

/// Where the coordinator's TLS port is, and the proxy on the way.
#[derive(Clone)]
pub struct TunnelConfig {
    /// Host and port: those of the API.
    pub server: String,
    /// An HTTP proxy that takes CONNECT, such as `http://user:password@proxy.example:3128`.
    pub proxy: Option<String>,
    /// When a better way is tried again for the first time while a worse one is in use; then more rarely. The
    /// one in use is looked at as often, or every ten seconds if that is more often.
    pub recheck: Duration,
}

impl TunnelConfig {
    /// To that host and port, with the usual times.
    pub fn new(server: String, proxy: Option<String>) -> Self {
        Self { server, proxy, recheck: overlay_core::ladder::RETRY }
    }
}
