//! The control session with the coordinator: one QUIC stream of framed JSON, reconnected for ever.

mod board;
mod outgoing;

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use overlay_core::control::codec::{self, DecodeMessageError, EncodeMessageError, FrameReader};
use overlay_core::control::{CONTROL_VERSION, ToCoordinator, ToNode};
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream};
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until, timeout};

pub(crate) use board::Board;
use outgoing::Outgoing;

use crate::worker::{Command, WorkerHandle};

/// First and longest pause between two attempts. Chosen: a restarted coordinator is found again at
/// once, an absent one costs a packet exchange in 30 s.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// How long one address of the coordinator may take to shake hands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes taken from the stream at a time.
const READ_BYTES: usize = 16 * 1024;

/// Where the coordinator is and how to trust it.
pub struct ControlConfig {
    /// Host name or address, and port: `coordinator.example:6443`. Resolved anew for every attempt.
    pub server: String,
    /// The name that the coordinator's certificate must carry.
    pub server_name: String,
    /// The pinned root and this node's certificate. The ALPN is set by the overlay.
    pub tls: rustls::ClientConfig,
    /// Name and version of the program, for people.
    pub software: String,
}

/// Keeps the coordinator informed and passes on what it says.
pub(crate) struct ControlTask {
    pub(crate) endpoint: Endpoint,
    pub(crate) client: ClientConfig,
    pub(crate) server: String,
    pub(crate) server_name: String,
    pub(crate) software: String,
    /// The socket has no IPv6: such addresses of the coordinator are skipped.
    pub(crate) ipv4_only: bool,
    pub(crate) board: Arc<Board>,
    pub(crate) worker: WorkerHandle,
    pub(crate) connected: watch::Sender<bool>,
}

/// Why a control session ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("resolve the coordinator's name")]
    Resolve(#[source] std::io::Error),
    #[error("the coordinator's name has no usable address")]
    NoAddress,
    #[error("reach the coordinator")]
    Connect(#[from] quinn::ConnectError),
    #[error("talk to the coordinator")]
    Connection(#[from] quinn::ConnectionError),
    #[error("no answer from the coordinator within {CONNECT_TIMEOUT:?}")]
    Timeout,
    #[error("read from the control stream")]
    Read(#[from] quinn::ReadError),
    #[error("write to the control stream")]
    Write(#[from] quinn::WriteError),
    #[error("the control stream ended")]
    Ended,
    #[error("understand the coordinator")]
    Decode(#[from] DecodeMessageError),
    #[error("make a control message")]
    Encode(#[from] EncodeMessageError),
    #[error("the data plane has stopped")]
    WorkerStopped,
}

impl ControlTask {
    /// Runs until it is dropped or the data plane stops.
    pub(crate) async fn run(self) {
        let (first, longest) = BACKOFF;
        let backoff = ExponentialBuilder::new()
            .with_min_delay(first)
            .with_max_delay(longest)
            .without_max_times()
            .with_jitter();
        let mut delays = backoff.build();
        loop {
            let error = match self.connect().await {
                Ok(connection) => self.session(&connection).await,
                Err(error) => error,
            };
            if matches!(error, SessionError::WorkerStopped) {
                return;
            }
            if self.connected.send_replace(false) {
                delays = backoff.build();
            }
            let delay = delays.next().unwrap_or(longest);
            tracing::info!(error = %chain(&error), ?delay, "no control session, trying again");
            sleep(delay).await;
        }
    }

    async fn connect(&self) -> Result<Connection, SessionError> {
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host(&self.server)
            .await
            .map_err(SessionError::Resolve)?
            .filter(|address| address.is_ipv4() || !self.ipv4_only)
            .collect();
        let mut last = SessionError::NoAddress;
        for address in addresses {
            let connecting =
                self.endpoint.connect_with(self.client.clone(), address, &self.server_name)?;
            last = match timeout(CONNECT_TIMEOUT, connecting).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => error.into(),
                Err(_) => SessionError::Timeout,
            };
        }
        Err(last)
    }

    /// Talks until the connection ends; never returns without a reason.
    async fn session(&self, connection: &Connection) -> SessionError {
        let result = async {
            let (mut send, receive) = connection.open_bi().await?;
            let software = self.software.clone();
            let hello = ToCoordinator::Hello { version: CONTROL_VERSION, software };
            send.write_all(&codec::encode(&hello)?).await?;
            tokio::try_join!(self.listen(receive), self.speak(send)).map(|_| ())
        };
        match result.await {
            Err(error) => error,
            Ok(()) => SessionError::Connection(quinn::ConnectionError::LocallyClosed),
        }
    }

    async fn listen(&self, mut receive: RecvStream) -> Result<(), SessionError> {
        let mut frames = FrameReader::<ToNode>::new();
        let mut piece = vec![0u8; READ_BYTES];
        loop {
            let len = receive.read(&mut piece).await?.ok_or(SessionError::Ended)?;
            frames.extend(&piece[..len]);
            while let Some(message) = frames.next_message()? {
                if matches!(message, ToNode::Welcome { .. }) {
                    tracing::info!("control session is up");
                    self.connected.send_replace(true);
                }
                let command = Command::Coordinator(Box::new(message));
                self.worker.send(command).await.map_err(|_| SessionError::WorkerStopped)?;
            }
        }
    }

    async fn speak(&self, mut send: SendStream) -> Result<(), SessionError> {
        let mut outgoing = Outgoing::default();
        loop {
            let (messages, again) = outgoing.due(Instant::now(), &mut self.board.lock());
            for message in &messages {
                send.write_all(&codec::encode(message)?).await?;
            }
            let timer = async {
                match again {
                    Some(at) => sleep_until(at.into()).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = self.board.changed() => {}
                () = timer => {}
            }
        }
    }
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
