//! The suite's view of a link of the simulator.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Heard, LinkProbe, Passed, Shot};
use crate::link::{Link, LinkProfile, OneWay};
use crate::network::{Happening, Network, Outgoing, PUBLIC};

/// A link of the simulator.
#[derive(Clone, Copy, Debug)]
pub struct SimulatedLink {
    /// For all that is random about it.
    pub seed: u64,
}

impl LinkProbe for SimulatedLink {
    type Error = Infallible;

    fn lateness(&self) -> Duration {
        Duration::ZERO
    }

    fn cannot(&self, _way: &OneWay) -> bool {
        false
    }

    fn send(&mut self, way: &OneWay, train: &[Shot]) -> Result<Passed, Infallible> {
        let mut network: Network<usize> = Network::new(self.seed);
        let link = LinkProfile { up: *way, down: OneWay::PERFECT };
        let sender = network.add_host(PUBLIC, link);
        let receiver = network.add_host(PUBLIC, Link::PERFECT);
        let to = SocketAddr::new(network.address(receiver), 7);
        let mut passed = Passed::default();
        let listen = |network: &mut Network<usize>, passed: &mut Passed, until: Duration| {
            while network.next_event().is_some_and(|at| at <= until) {
                match network.handle_next() {
                    Some(Happening::Delivered(delivery)) => {
                        let sent = train.get(delivery.payload).map_or(Duration::ZERO, |s| s.at);
                        let at = network.now();
                        passed.heard.push(Heard { shot: delivery.payload, took: at - sent, at });
                    }
                    Some(Happening::TooBig(notice)) => passed.told_mtu = Some(notice.mtu_bytes),
                    Some(Happening::Changed(_)) | None => {}
                }
            }
        };
        for (index, shot) in train.iter().enumerate() {
            listen(&mut network, &mut passed, shot.at);
            network.advance_to(shot.at);
            network.send_packet(sender, Outgoing::udp(7, to, shot.bytes, index));
        }
        listen(&mut network, &mut passed, Duration::MAX);
        Ok(passed)
    }
}
