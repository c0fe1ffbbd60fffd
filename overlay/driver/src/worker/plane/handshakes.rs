//! Handshakes, which cost a hundred times what a packet costs, wait here and have their share of each turn: when a
//! job of hundreds of nodes begins, the data of others goes on between them.

use std::collections::VecDeque;
use std::time::Instant;

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::{Packet, TunnResult};
use overlay_core::{MeshId, Path, SessionKey};

use super::super::crew::Item;
use super::super::mesh::Place;
use super::Plane;

/// Handshakes of one turn. Each is two to six X25519 operations, about 0.3 ms, so that data waits for less than
/// a millisecond.
pub(super) const PER_TURN: usize = 2;

/// Packets that are looked at in one turn; those with a wrong MAC cost a hundredth.
const LOOKED_AT: usize = 64;

/// Handshakes that wait. Chosen: an initiation of every member of one of the largest meshes; whoever is not
/// heard tries again.
const MOST: usize = 1024;

/// The longest reply that handling an initiation may give (a cookie, 64 bytes).
const COOKIE_BYTES: usize = 64;

/// What waits.
#[derive(Default)]
pub(super) struct Handshakes(VecDeque<Waiting>);

enum Waiting {
    /// An initiation from nobody knows whom.
    Initiation(Path, Vec<u8>),
    /// An initiation of the member with that key.
    OfMember(Path, (MeshId, [u8; 32]), Vec<u8>),
    /// A response for the session with that receiver index.
    Response(Path, u32, Vec<u8>),
    /// To be begun on these paths.
    Begin(SessionKey, Vec<Path>),
}

/// What an initiation turned out to be.
enum Looked {
    /// Nothing that was made for this node, or too many came.
    Refused,
    /// One of somebody that no mesh knows.
    Stranger,
    /// One of the member with that key.
    Member(Place, MeshId, [u8; 32]),
}

impl Handshakes {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn push(&mut self, waiting: Waiting) -> bool {
        let has_room = self.0.len() < MOST;
        if has_room {
            self.0.push_back(waiting);
        }
        has_room
    }
}

impl Plane {
    /// Whether handshakes wait, or sessions whose timers may begin one.
    pub(in crate::worker) fn has_handshakes(&self) -> bool {
        !self.handshakes.is_empty() || self.is_ticking
    }

    pub(super) fn put_initiation(&mut self, via: Path, packet: &[u8]) {
        self.put_handshake(Waiting::Initiation(via, packet.to_vec()));
    }

    pub(super) fn put_response(&mut self, via: Path, receiver: u32, packet: &[u8]) {
        self.put_handshake(Waiting::Response(via, receiver, packet.to_vec()));
    }

    /// Takes an initiation of the member with that key, which another worker has looked at.
    pub(in crate::worker) fn on_initiation(
        &mut self,
        via: Path,
        member: (MeshId, [u8; 32]),
        packet: &[u8],
    ) {
        self.put_handshake(Waiting::OfMember(via, member, packet.to_vec()));
    }

    /// Has a handshake begun on these paths, soon.
    pub(in crate::worker) fn initiate(&mut self, key: SessionKey, via: Vec<Path>) {
        self.put_handshake(Waiting::Begin(key, via));
    }

    fn put_handshake(&mut self, waiting: Waiting) {
        if !self.handshakes.push(waiting) {
            self.net.stats.refused_packets += 1;
        }
    }

    /// Does a turn's share of the handshakes that wait.
    pub(in crate::worker) fn shake_hands(&mut self) {
        if self.is_ticking {
            self.tick(Instant::now());
        }
        let mut done = 0;
        for _ in 0..LOOKED_AT {
            let Some(waiting) = (done < PER_TURN).then(|| self.handshakes.0.pop_front()).flatten()
            else {
                break;
            };
            done += usize::from(self.shake_hand(waiting));
        }
        self.crew.flush();
    }

    /// Whether that was costly.
    fn shake_hand(&mut self, waiting: Waiting) -> bool {
        let now = Instant::now();
        let (place, via, packet) = match waiting {
            Waiting::Initiation(via, packet) => match self.look_at(via, &packet) {
                Looked::Refused => {
                    self.net.stats.unknown_sessions += 1;
                    return false;
                }
                Looked::Stranger => (None, via, packet),
                Looked::Member(Place::There { number, .. }, mesh, key) => {
                    self.crew.hand_over(number, Item::Initiation(via, mesh, key), &packet);
                    return true;
                }
                Looked::Member(place, ..) => (Some(place), via, packet),
            },
            Waiting::OfMember(via, (mesh, key), packet) => {
                (self.mesh(mesh).and_then(|mesh| mesh.session_of_key(&key)), via, packet)
            }
            Waiting::Response(via, receiver, packet) => {
                (self.sessions.of_receiver(receiver).map(Place::Here), via, packet)
            }
            Waiting::Begin(key, via) => {
                self.begin(now, key, &via);
                return true;
            }
        };
        match place {
            Some(Place::Here(slot)) => self.open::<true>(now, slot, (via, None), &packet),
            Some(Place::There { .. }) | None => self.net.stats.unknown_sessions += 1,
        }
        true
    }

    fn begin(&mut self, now: Instant, key: SessionKey, via: &[Path]) {
        let Some(slot) = self.sessions.slot(key) else { return };
        self.wake(now, slot);
        if let Some(session) = self.sessions.get_mut(slot) {
            session.initiate(&mut self.net, via);
        }
    }

    /// Whose an initiation is: the mesh whose key its MAC was made with, the member whose key is inside. The MAC
    /// is looked at before the costly X25519 operation.
    fn look_at(&mut self, via: Path, packet: &[u8]) -> Looked {
        let mut cookie = [0u8; COOKIE_BYTES];
        for (_, mesh) in self.meshes.iter() {
            let from = Some(via.endpoint().ip());
            // It looks at the clock itself and starts anew once a second.
            mesh.limiter.reset_count();
            match mesh.limiter.verify_packet(from, packet, &mut cookie) {
                Ok(Packet::HandshakeInit(initiation)) => {
                    let half = parse_handshake_anon(mesh.secret.inner(), &mesh.public, &initiation);
                    let key = half.ok().map(|half| half.peer_static_public);
                    let member = key.and_then(|key| Some((mesh.session_of_key(&key)?, key)));
                    return match member {
                        Some((place, key)) => Looked::Member(place, mesh.id, key),
                        None => Looked::Stranger,
                    };
                }
                Err(TunnResult::WriteToNetwork(cookie)) => {
                    self.net.push_copy(via, cookie);
                    return Looked::Refused;
                }
                Ok(_) | Err(_) => {}
            }
        }
        Looked::Refused
    }
}
