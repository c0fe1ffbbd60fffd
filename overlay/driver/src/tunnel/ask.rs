//! Asks the reflector beside a relay, by a way of one's choice: whether it answers, and how a train fares.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use overlay_core::ladder::train::{Measured, Nonce, Train};
use overlay_core::wire::ControlFrame;
use overlay_core::wire::tunnel::Target;
use overlay_tunnel::Queue;
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};

use super::Detour;
use crate::socket::Socket;
use crate::view::Seen;

/// Before a question that is not answered is asked again; then twice as long each time.
const AGAIN: Duration = Duration::from_millis(300);

/// By which way a question goes.
#[derive(Clone)]
pub(super) enum By {
    /// The node's own socket.
    Udp(Arc<Socket>),
    /// A tunnel.
    Link(Queue),
}

/// Somebody who asks.
pub(super) struct Asking {
    pub(super) detour: Arc<Detour>,
    pub(super) by: By,
    pub(super) seen: Seen,
}

impl Asking {
    /// Completes when there is an answer.
    pub(super) async fn until_answered(self) {
        let mut questions = Questions::new(&self);
        let mut patience = AGAIN;
        loop {
            questions.ask(rand::random());
            if timeout(patience, questions.answers.recv()).await.is_ok() {
                return;
            }
            patience *= 2;
        }
    }

    /// Sends a train and waits for what comes back.
    pub(super) async fn train(self) -> Measured {
        let mut questions = Questions::new(&self);
        let mut train = Train::new(Instant::now());
        loop {
            let now = Instant::now();
            let nonce = rand::random();
            if train.ask(now, nonce) {
                questions.ask(nonce);
            } else if let Some(measured) = train.result(now) {
                return measured;
            }
            tokio::select! {
                Some((nonce, at)) = questions.answers.recv() => train.on_answer(at, nonce),
                () = sleep_until(train.next_step().into()) => {}
            }
        }
    }

    fn send(&self, to: SocketAddr, datagram: &[u8]) {
        match &self.by {
            // What is not sent is not answered.
            By::Udp(socket) => drop(socket.send_past_detour(to, datagram)),
            By::Link(queue) => drop(queue.push(Target::Relay, datagram.to_vec())),
        }
    }
}

/// The questions that are open; nobody waits for their answers after it.
struct Questions<'a> {
    asking: &'a Asking,
    sender: mpsc::UnboundedSender<(Nonce, Instant)>,
    answers: mpsc::UnboundedReceiver<(Nonce, Instant)>,
    nonces: Vec<Nonce>,
}

impl<'a> Questions<'a> {
    fn new(asking: &'a Asking) -> Self {
        let (sender, answers) = mpsc::unbounded_channel();
        Self { asking, sender, answers, nonces: Vec::new() }
    }

    fn ask(&mut self, nonce: Nonce) {
        self.nonces.push(nonce);
        self.asking.detour.expect(nonce, self.sender.clone());
        let Seen { reflector, token, .. } = self.asking.seen;
        let frame = ControlFrame::ReflectRequest { token, nonce };
        self.asking.send(reflector, &frame.encode());
    }
}

impl Drop for Questions<'_> {
    fn drop(&mut self) {
        self.asking.detour.forget(&self.nonces);
    }
}
