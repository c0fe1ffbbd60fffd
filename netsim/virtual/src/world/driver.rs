//! What a node's driver does: carries out outputs, seals, opens and reports.

use overlay_core::wire::Probe;
use overlay_core::{Input, Output, Path, SessionKey};

use super::{PORT, Packet, World};
use crate::wireguard::{Inner, Opened, Wg, WgPacket};

impl World {
    pub(super) fn carry_out(&mut self, index: usize, output: Output) {
        let at = self.now();
        match output {
            Output::Transmit { to, bytes } => {
                self.net.send(self.nodes[index].host, PORT, to, Packet::Control(bytes));
            }
            Output::AddSession { session, initiator, .. } => {
                assert_eq!(initiator, self.nodes[index].id < session.peer);
                let old = self.nodes[index].sessions.insert(session, Wg::default());
                assert!(old.is_none(), "a session is removed before it is added again");
            }
            Output::RemoveSession(session) => {
                self.nodes[index].sessions.remove(&session).expect("the session was added");
                self.nodes[index].pairs.remove(&session);
                self.nodes[index].removed.push(session);
            }
            Output::Initiate { session, via } => {
                assert!(!via.is_empty(), "an initiation goes somewhere");
                self.initiate(index, session, via);
            }
            Output::Probe { session, via, bytes } => {
                self.seal(index, session, via, Inner::Probe(bytes));
            }
            Output::UsePath { peer, primary, also } => {
                self.nodes[index].paths.insert(peer, (primary, also));
            }
            Output::RouteMtu { .. } => {}
            Output::Announce(candidates) => {
                assert_eq!(candidates.node, self.nodes[index].id);
                self.nodes[index].candidates = Some(candidates.clone());
                self.pass_on(index, &candidates);
            }
            Output::PairChanged(session, state) => {
                let node = &mut self.nodes[index];
                node.history.push((at, session, state.clone()));
                node.pairs.insert(session, state);
            }
        }
    }

    fn initiate(&mut self, index: usize, session: SessionKey, via: Vec<Path>) {
        self.keys += 1;
        let key = self.keys;
        let node = &mut self.nodes[index];
        node.sessions.get_mut(&session).expect("the session was added").initiate(key);
        *node.initiated.entry(session).or_default() += 1;
        let session = SessionKey { peer: node.id, ..session };
        for path in via {
            self.transmit(index, path, WgPacket::Initiation { session, key });
        }
    }

    pub(super) fn seal(&mut self, index: usize, session: SessionKey, path: Path, inner: Inner) {
        let node = &self.nodes[index];
        let Some(key) = node.sessions.get(&session).and_then(Wg::key) else { return };
        let session = SessionKey { peer: node.id, ..session };
        self.transmit(index, path, WgPacket::Transport { session, key, inner });
    }

    fn transmit(&mut self, index: usize, path: Path, packet: WgPacket) {
        let host = self.nodes[index].host;
        match path {
            Path::Direct(to) => {
                let too_big = matches!(&packet, WgPacket::Transport { inner: Inner::Probe(bytes), .. }
                    if bytes.len() > self.direct_mtu);
                if !too_big {
                    self.net.send(host, PORT, to, Packet::Direct(packet));
                }
            }
            Path::Relayed { relay, channel } => {
                self.net.send(host, PORT, relay, Packet::Relayed(channel, packet));
            }
        }
    }

    pub(super) fn open(&mut self, index: usize, via: Path, packet: WgPacket) {
        let session = packet.session();
        let own = self.nodes[index].id;
        let reversed = SessionKey { peer: own, ..session };
        let Some(wg) = self.nodes[index].sessions.get_mut(&session) else { return };
        match wg.open(packet) {
            Opened::Nothing => {}
            Opened::Respond(key) => {
                self.transmit(index, via, WgPacket::Response { session: reversed, key });
            }
            Opened::Confirm => {
                self.report_authenticated(index, session, via, true, false);
                self.seal(index, session, via, Inner::Keepalive);
            }
            Opened::Inner(inner, is_new) => {
                let data = matches!(inner, Inner::Data(_));
                self.report_authenticated(index, session, via, is_new, data);
                match inner {
                    Inner::Keepalive => {}
                    Inner::Probe(bytes) => {
                        assert!(Probe::decode(&bytes).is_ok(), "nodes send well-formed probes");
                        self.input(index, Input::Probe { session, via, bytes: &bytes });
                    }
                    Inner::Data(number) => {
                        self.nodes[index].received.entry(session).or_default().insert(number);
                    }
                }
            }
        }
    }

    fn report_authenticated(
        &mut self,
        index: usize,
        session: SessionKey,
        via: Path,
        is_new: bool,
        data: bool,
    ) {
        let now = self.now();
        if is_new || self.nodes[index].may_report(now, session, Some(via)) {
            self.input(index, Input::Authenticated { session, via, data });
        }
    }
}
