//! One node's control connection: who it is, then messages both ways until it ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use overlay_core::NodeId;
use overlay_core::control::codec::{FrameReader, encode};
use overlay_core::control::relays::RELAY_ALPN;
use overlay_core::control::{ToCoordinator, ToNode};
use overlay_core::wire::tunnel::DATAGRAM_ALPN;
use overlay_relay::{Moment, canonical};
use overlay_tunnel::identity::node_of;
use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, Incoming, RecvStream, SendStream, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::sync::mpsc;

use super::Doors;
use super::pace::{Pace, weight};
use super::relay;
use super::shared::Shared;
use crate::places::Place;

/// The coordinator ends.
pub(super) const CLOSE_SHUTDOWN: VarInt = VarInt::from_u32(0);
/// The key is not enrolled.
pub(super) const CLOSE_NOT_ENROLLED: VarInt = VarInt::from_u32(1);
/// What was sent is no message.
pub(super) const CLOSE_MALFORMED: VarInt = VarInt::from_u32(2);
/// The same node has a newer connection.
pub(super) const CLOSE_REPLACED: VarInt = VarInt::from_u32(3);
/// The node does not read what it is sent.
pub(super) const CLOSE_SLOW: VarInt = VarInt::from_u32(4);
/// The registry has decided so, see the reason.
pub(super) const CLOSE_TOLD: VarInt = VarInt::from_u32(5);

/// From the first packet to the first stream, each step.
pub(super) const SET_UP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a full stream may stay full.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Messages that wait for one node. Chosen: a ticket and candidates for each peer of the two largest
/// networks at once, with room.
const QUEUE: usize = 8192;

/// Messages that are written in one go.
const WRITE_BATCH: usize = 64;

/// How often the node's address is looked at, in case its NAT has moved it.
const ROAMING_INTERVAL: Duration = Duration::from_secs(5);

/// Serves a connection from its first packet to its end.
pub(super) async fn serve(incoming: Incoming, handshake: Place, shared: Arc<Shared>, doors: Doors) {
    let Ok(connecting) = incoming.accept() else { return };
    let Ok(Ok(connection)) = tokio::time::timeout(SET_UP_TIMEOUT, connecting).await else { return };
    let Some(node) = node_at(&connection) else { return };
    if protocol(&connection).as_deref() == Some(RELAY_ALPN) {
        return relay::serve(connection, node, handshake, &shared, doors.relays.as_ref()).await;
    }
    let is_enrolled = tokio::time::timeout(SET_UP_TIMEOUT, doors.enrolled.enrolled(node)).await;
    if is_enrolled != Ok(true) {
        tracing::debug!(%node, "a node that is not enrolled was turned away");
        let reason = b"this node is not enrolled: join with a new token";
        connection.close(CLOSE_NOT_ENROLLED, reason);
        return;
    }
    if protocol(&connection).as_deref() == Some(DATAGRAM_ALPN) {
        drop(handshake);
        // It says why it ended, which is the end of the connection.
        let ended = doors.gateway.serve_datagrams(connection).await;
        tracing::debug!(%node, ?ended, "a tunnel of QUIC datagrams has ended");
        return;
    }
    let stream = tokio::time::timeout(SET_UP_TIMEOUT, connection.accept_bi()).await;
    let Ok(Ok((send, receive))) = stream else {
        connection.close(CLOSE_MALFORMED, b"the node opens a stream and says hello");
        return;
    };
    drop(handshake);
    let (queue, queued) = mpsc::channel(QUEUE);
    shared.attach(node, canonical(connection.remote_address()), connection.clone(), queue);
    if !doors.enrolled.enrolled(node).await {
        // Revoked between the question above and now.
        shared.change(|registry| registry.revoke(node));
    }
    tokio::spawn(write(connection.clone(), send, queued));
    let reason = read(&shared, node, &connection, receive).await;
    connection.close(CLOSE_MALFORMED, reason.as_bytes());
    shared.detach(node, &connection);
}

fn protocol(connection: &Connection) -> Option<Vec<u8>> {
    connection.handshake_data()?.downcast::<HandshakeData>().ok()?.protocol
}

fn node_at(connection: &Connection) -> Option<NodeId> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    node_of(chain.first()?)
}

/// Reads until the connection ends; says why this side gave up, if it did.
async fn read(
    shared: &Shared,
    node: NodeId,
    connection: &Connection,
    mut stream: RecvStream,
) -> String {
    let mut reader = FrameReader::<ToCoordinator>::new();
    let mut pace = Pace::new(Instant::now());
    let mut observed = canonical(connection.remote_address());
    let mut look = tokio::time::interval(ROAMING_INTERVAL);
    loop {
        let chunk = tokio::select! {
            chunk = stream.read_chunk(usize::MAX, true) => chunk,
            _ = look.tick() => {
                let current = canonical(connection.remote_address());
                if current != observed {
                    observed = current;
                    shared.change_for(node, connection, |r| r.handle_roamed(node, current));
                }
                continue;
            }
        };
        let Ok(Some(chunk)) = chunk else { return "the control stream has ended".to_owned() };
        reader.extend(&chunk.bytes);
        let mut messages = 0;
        loop {
            match reader.next_message() {
                Ok(Some(message)) => {
                    messages += weight(&message);
                    let now = Moment::read();
                    let handle = |r: &mut super::Registry| r.handle_message(now, node, message);
                    shared.change_for(node, connection, handle);
                }
                Ok(None) => break,
                Err(error) => return error.to_string(),
            }
        }
        let pause = pace.count(Instant::now(), messages, chunk.bytes.len());
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
}

/// Writes what is queued until the connection ends.
async fn write(connection: Connection, mut stream: SendStream, mut queued: mpsc::Receiver<ToNode>) {
    let mut messages = Vec::with_capacity(WRITE_BATCH);
    while queued.recv_many(&mut messages, WRITE_BATCH).await > 0 {
        let mut bytes = Vec::new();
        for message in messages.drain(..) {
            match encode(&message) {
                Ok(encoded) => bytes.extend_from_slice(&encoded),
                Err(error) => tracing::error!(%error, "a message to a node cannot be written"),
            }
        }
        match tokio::time::timeout(WRITE_TIMEOUT, stream.write_all(&bytes)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => {
                connection.close(CLOSE_SLOW, b"this node reads too slowly");
                return;
            }
        }
    }
}
