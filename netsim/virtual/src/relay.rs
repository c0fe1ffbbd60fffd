//! A relay and reflector that speaks the binding protocol: state and nothing else.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;

use netsim_sim::HostId;
use overlay_core::NodeId;
use overlay_core::wire::{ControlFrame, Ticket};

/// What the reflector wants to be shown.
pub const REFLECTOR_TOKEN: [u8; 16] = [0x70; 16];

/// A relay that runs alone, on a machine of its own.
#[derive(Debug)]
pub struct LoneRelay {
    /// Its name.
    pub id: NodeId,
    /// Its machine.
    pub host: HostId,
    /// The coordinator that it works for.
    pub server: usize,
    /// The relay.
    pub relay: Relay,
}

/// What a relay does that should only pass packets on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spite {
    /// Nothing.
    #[default]
    None,
    /// It drops the packets of channels; control frames are answered as if nothing were.
    DropsPackets,
    /// It drops every packet of a channel but each so many-th.
    PassesOneIn(u64),
    /// It passes every packet on so many times more.
    Replays(u64),
    /// It gives packets back to their sender.
    Returns,
}

/// A relay and reflector.
#[derive(Debug, Default)]
pub struct Relay {
    secret: u64,
    bound: BTreeMap<(u32, u8), SocketAddr>,
    /// Where it says that it sees whoever asks; none: the truth.
    pub lies: Option<SocketAddr>,
    channels_of: BTreeMap<SocketAddr, u16>,
    /// What it does to packets besides passing them on.
    pub spite: Spite,
    /// Packets that it was to pass on.
    passed: u64,
    /// As of an older version: it knows no keepalives.
    pub is_old: bool,
    /// A relay that does not run answers nothing.
    pub down: bool,
}

impl Relay {
    /// Starts again: every binding and the cookie's secret are forgotten.
    pub fn restart(&mut self) {
        self.secret += 1;
        self.bound.clear();
        self.channels_of.clear();
        self.down = false;
    }

    /// What a node is answered; none where nothing is.
    ///
    /// # Panics
    ///
    /// When a node sends what no node sends: that is a defect of the overlay's core.
    pub fn answer(&mut self, from: SocketAddr, bytes: &[u8]) -> Option<ControlFrame> {
        match ControlFrame::decode(bytes).expect("nodes send well-formed frames") {
            ControlFrame::ReflectRequest { token, nonce } if token == REFLECTOR_TOKEN => {
                Some(ControlFrame::ReflectResponse { nonce, observed: self.lies.unwrap_or(from) })
            }
            ControlFrame::BindRequest { ticket, nonce } => {
                let cookie = self.cookie(&ticket, from);
                Some(ControlFrame::BindChallenge { nonce, cookie })
            }
            ControlFrame::BindAnswer { ticket, nonce, cookie } => {
                (cookie == self.cookie(&ticket, from)).then(|| {
                    self.bind((ticket.channel, ticket.side), from);
                    ControlFrame::BindAck { nonce, channel: ticket.channel, lifetime_s: 120 }
                })
            }
            ControlFrame::KeepAlive { nonce } => {
                let observed = self.lies.unwrap_or(from);
                let channels = self.channels_of.get(&from).copied().unwrap_or(0);
                let ack = ControlFrame::KeepAliveAck { nonce, observed, channels, lifetime_s: 120 };
                (channels > 0 && !self.is_old).then_some(ack)
            }
            // Answers from elsewhere are the reflector's of the laboratory.
            ControlFrame::ReflectElsewhere { .. } => None,
            other @ (ControlFrame::ReflectRequest { .. }
            | ControlFrame::ReflectResponse { .. }
            | ControlFrame::BindChallenge { .. }
            | ControlFrame::BindAck { .. }
            | ControlFrame::KeepAliveAck { .. }) => panic!("a node sent {other:?} to a relay"),
        }
    }

    /// Where a packet of a channel goes on to, in its spite, and how often.
    pub fn pass_on(&mut self, from: SocketAddr, channel: u32) -> Option<(SocketAddr, u64)> {
        let to = self.forward(from, channel)?;
        self.passed += 1;
        match self.spite {
            Spite::None => Some((to, 1)),
            Spite::DropsPackets => None,
            Spite::PassesOneIn(of) => self.passed.is_multiple_of(of.max(1)).then_some((to, 1)),
            Spite::Replays(more) => Some((to, 1 + more)),
            Spite::Returns => Some((from, 1)),
        }
    }

    /// Where a packet of a channel goes on to; none when its sender is not bound.
    pub fn forward(&self, from: SocketAddr, channel: u32) -> Option<SocketAddr> {
        let side = (0..2).find(|side| self.bound.get(&(channel, *side)) == Some(&from))?;
        self.bound.get(&(channel, 1 - side)).copied()
    }

    fn bind(&mut self, side: (u32, u8), to: SocketAddr) {
        if let Some(old) = self.bound.insert(side, to)
            && let Some(count) = self.channels_of.get_mut(&old)
        {
            *count = count.saturating_sub(1);
        }
        let count = self.channels_of.entry(to).or_default();
        *count = count.saturating_add(1);
    }

    fn cookie(&self, ticket: &Ticket, from: SocketAddr) -> [u8; 16] {
        let mut hasher = DefaultHasher::new();
        (self.secret, ticket.to_bytes(), from).hash(&mut hasher);
        let mut cookie = [0; 16];
        cookie[..8].copy_from_slice(&hasher.finish().to_be_bytes());
        cookie
    }
}
