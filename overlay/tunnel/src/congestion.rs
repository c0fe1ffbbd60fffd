//! QUIC's congestion control, which a connection that carries datagrams goes without.
//!
//! What the datagrams carry controls its own congestion, as with UDP: two controllers in a row would only
//! be as fast as the slower of them, and loss is what the inner one has to see. What is in flight stays
//! bounded. Which connections carry datagrams is known after the handshake, so all of a server's begin
//! with the usual controller.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory, CubicConfig};
use quinn::{AckFrequencyConfig, Connection, TransportConfig};
use quinn_proto::RttEstimator;

/// Bytes in flight without congestion control. Chosen: 300 Mbit/s at 200 ms.
const IN_FLIGHT: u64 = 8 << 20;

/// Packets that one acknowledgement is for. Chosen: what one receive call brings; each costs both sides a packet of
/// its own, which parts a batch.
const ACKNOWLEDGED: u32 = 64;

/// Datagrams that wait inside QUIC, each way, bytes: what [`crate::Queue`] does not hold. Chosen: a
/// few turns of the connection's task.
const BUFFER: usize = 384 * 1024;

/// Prepares connections that may come to carry datagrams, on either side.
pub fn prepare(transport: &mut TransportConfig) {
    let mut acknowledgements = AckFrequencyConfig::default();
    acknowledgements.ack_eliciting_threshold(ACKNOWLEDGED.into());
    acknowledgements.max_ack_delay(Some(Duration::from_millis(10)));
    transport
        .ack_frequency_config(Some(acknowledgements))
        .datagram_receive_buffer_size(Some(BUFFER))
        .datagram_send_buffer_size(BUFFER)
        .congestion_controller_factory(Arc::new(Usual(Arc::default())));
}

/// Ends congestion control on a connection of a [prepare]d side.
pub(crate) fn lift(connection: &Connection) {
    if let Ok(controller) = connection.congestion_state().into_any().downcast::<Liftable>() {
        controller.is_lifted.store(true, Ordering::Relaxed);
    }
}

struct Usual(Arc<CubicConfig>);

impl ControllerFactory for Usual {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let usual = Arc::clone(&self.0).build(now, current_mtu);
        Box::new(Liftable { usual, is_lifted: Arc::default() })
    }
}

/// The usual controller, or none. Clones are lifted together.
struct Liftable {
    usual: Box<dyn Controller>,
    is_lifted: Arc<AtomicBool>,
}

impl Controller for Liftable {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.usual.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.usual.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.usual.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.usual.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.usual.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        if self.is_lifted.load(Ordering::Relaxed) { IN_FLIGHT } else { self.usual.window() }
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { usual: self.usual.clone_box(), is_lifted: Arc::clone(&self.is_lifted) })
    }

    fn initial_window(&self) -> u64 {
        self.usual.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifting_takes_the_window_from_the_usual_controller() {
        let now = Instant::now();
        let mut controller = Arc::new(Usual(Arc::default())).build(now, 1200);
        let before = controller.window();
        assert!(before < IN_FLIGHT);
        let copy = controller.clone_box().into_any().downcast::<Liftable>();
        copy.unwrap_or_else(|_| unreachable!()).is_lifted.store(true, Ordering::Relaxed);
        controller.on_congestion_event(now, now, true, 100_000);
        assert_eq!(controller.window(), IN_FLIGHT);
        assert_eq!(controller.initial_window(), before);
    }
}
