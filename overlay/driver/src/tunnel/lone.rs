//! Relays that run alone, for a node that gets no UDP out: a [`Site`] for each of them.
//!
//! While UDP carries packets to the coordinator's relay there is none. While nothing does, those that are there
//! stay: they are what is left when the coordinator is away.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use overlay_core::ladder::Rung;
use overlay_core::wire::parse_reflector_token;
use overlay_core::{NodeId, RelayOffer};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use super::making::{Making, QuicPlace};
use super::pinned::pinned_to;
use super::{Dialer, Lane, Site, TunnelConfig};
use crate::control::NOWHERE;
use crate::socket::{Socket, plain};
use crate::view::Seen;
use crate::worker::WorkerHandle;

/// How often it is looked whether a relay that the coordinator does not know any more carries packets still.
const LOOK: Duration = Duration::from_secs(30);

/// See the module.
pub(crate) struct LoneSites {
    socket: Arc<Socket>,
    worker: WorkerHandle,
    tunnel: TunnelConfig,
    used: watch::Receiver<Option<Rung>>,
    offers: watch::Receiver<Vec<RelayOffer>>,
    running: BTreeMap<NodeId, Running>,
    tasks: JoinSet<()>,
}

struct Running {
    offer: RelayOffer,
    lane: Arc<Lane>,
    task: AbortHandle,
}

impl LoneSites {
    /// `used` is what carries packets to the coordinator's relay, `offers` are the relays that run alone.
    pub(crate) fn new(
        socket: Arc<Socket>,
        worker: WorkerHandle,
        tunnel: TunnelConfig,
        used: watch::Receiver<Option<Rung>>,
        offers: watch::Receiver<Vec<RelayOffer>>,
    ) -> Self {
        let (running, tasks) = (BTreeMap::new(), JoinSet::new());
        Self { socket, worker, tunnel, used, offers, running, tasks }
    }

    /// Runs until it is dropped.
    pub(crate) async fn run(mut self) {
        loop {
            let used = *self.used.borrow_and_update();
            let offers = self.offers.borrow_and_update().clone();
            match used {
                Some(Rung::Udp) => self.keep(|_| false),
                Some(Rung::Quic | Rung::Tls | Rung::Connect) => self.adjust(offers),
                None => {}
            }
            tokio::select! {
                Ok(()) = self.used.changed() => {}
                Ok(()) = self.offers.changed() => {}
                () = sleep(LOOK) => {}
            }
        }
    }

    /// One for each offer. It may be the coordinator that lost touch: one that carries packets stays.
    fn adjust(&mut self, offers: Vec<RelayOffer>) {
        self.keep(|running| {
            let offer = offers.iter().find(|offer| offer.relay == running.offer.relay);
            match offer {
                Some(offer) => *offer == running.offer,
                None => running.lane.rung().is_some(),
            }
        });
        for offer in offers {
            if !self.running.contains_key(&offer.relay)
                && let Some(running) = self.start(&offer)
            {
                self.running.insert(offer.relay, running);
            }
        }
    }

    fn keep(&mut self, stays: impl Fn(&Running) -> bool) {
        for (_, gone) in self.running.extract_if(.., |_, running| !stays(running)) {
            gone.task.abort();
            self.socket.detour().remove(&gone.lane);
        }
    }

    fn start(&mut self, offer: &RelayOffer) -> Option<Running> {
        let token = parse_reflector_token(&offer.token).ok()?;
        let at = plain(offer.endpoint);
        let (quic, dialer) = match self.ways_to(offer, at) {
            Ok(ways) => ways?,
            Err(error) => {
                tracing::warn!(relay = %offer.relay, %error, "cannot use this relay's tunnel");
                return None;
            }
        };
        let lane = Arc::new(Lane::to_relay(at));
        self.socket.detour().add(Arc::clone(&lane));
        let making =
            Making { socket: Arc::clone(&self.socket), quic, control: None, dialer: Some(dialer) };
        let (site, handle) = Site::new(making, Arc::clone(&lane), self.worker.clone());
        handle.seen.send_replace(Some(Seen { observed: NOWHERE, reflector: at, token }));
        let task = self.tasks.spawn(async move {
            // What it has seen ends with the handle.
            let _handle = handle;
            site.run().await;
        });
        Some(Running { offer: offer.clone(), lane, task })
    }

    /// Its ways around UDP: QUIC's datagrams, where the port of its tunnels is not the relay's own, and TLS.
    #[expect(clippy::type_complexity, reason = "two ways, or none, or an error")]
    fn ways_to(
        &self,
        offer: &RelayOffer,
        at: SocketAddr,
    ) -> Result<Option<(Option<QuicPlace>, Dialer)>, Box<dyn Error + Send + Sync>> {
        let Some(port) = offer.tunnel else { return Ok(None) };
        let place = SocketAddr::new(at.ip(), port).to_string();
        let name = at.ip().to_string();
        let quic = match port == at.port() {
            true => None,
            false => Some(QuicPlace::new(place.clone(), name.clone(), pinned_to(offer.relay)?)?),
        };
        let tunnel = TunnelConfig { server: place, ..self.tunnel.clone() };
        Ok(Some((quic, Dialer::new(tunnel, &name, pinned_to(offer.relay)?)?)))
    }
}
