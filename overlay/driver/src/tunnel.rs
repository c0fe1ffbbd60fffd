//! The way to the coordinator and its relay where UDP does not get through: TLS on the API's port,
//! directly or through an HTTP proxy.
//!
//! ```text
//!   worker, quinn ─▶ Socket ─▶ Detour ─ queue ─▶ TLS ─▶ coordinator's gateway ─▶ its UDP sockets
//!                                 worker ◀────── TLS ◀──┘
//! ```
//!
//! Only what goes to the coordinator and its relay takes the detour, unchanged; everything above is as
//! with UDP. [`Detour`] is the switch in the socket, [`Tunnel`] the stream behind it.

mod detour;
mod dial;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use overlay_core::wire::tunnel::{self, Frame, Target};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::task::JoinHandle;

pub(crate) use detour::Detour;
pub(crate) use dial::Dialer;

use crate::worker::{Command, WorkerHandle};

/// Datagrams that wait for the stream; the oldest go first. Chosen: 100 ms of 30 Mbit/s.
const QUEUE: usize = 256;

/// Bytes that are read or written at a time.
const CHUNK: usize = 32 * 1024;

/// How often UDP is tried while the tunnel is in use.
const RECHECK: Duration = Duration::from_secs(60);

/// Where the coordinator's TLS port is, and the proxy on the way.
#[derive(Clone)]
pub struct TunnelConfig {
    /// Host and port: those of the API.
    pub server: String,
    /// An HTTP proxy that takes CONNECT, such as `http://user:password@proxy.example:3128`.
    pub proxy: Option<String>,
    /// How often UDP is tried again while the tunnel is in use.
    pub recheck: Duration,
}

impl TunnelConfig {
    /// To that host and port, with the usual times.
    pub fn new(server: String, proxy: Option<String>) -> Self {
        Self { server, proxy, recheck: RECHECK }
    }
}

/// A tunnel in use. Dropping it closes the stream, and the detour with it.
pub(crate) struct Tunnel {
    detour: Arc<Detour>,
    task: JoinHandle<io::Result<()>>,
}

impl Tunnel {
    /// Takes a stream into use: from now on the detour leads through it.
    pub(crate) fn open(
        stream: impl AsyncRead + AsyncWrite + Send + 'static,
        detour: Arc<Detour>,
        worker: WorkerHandle,
    ) -> Self {
        let (sender, queued) = broadcast::channel(QUEUE);
        let (reader, writer) = tokio::io::split(stream);
        let receiving = Arc::clone(&detour);
        let task = tokio::spawn(async move {
            tokio::select! {
                ended = send(writer, queued) => ended,
                ended = receive(reader, &receiving, &worker) => ended,
            }
        });
        detour.open(sender);
        Self { detour, task }
    }

    /// Completes when the stream has ended.
    pub(crate) async fn ended(&mut self) {
        // Why it ended changes nothing.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.detour.close();
        self.task.abort();
    }
}

async fn send(
    mut writer: impl AsyncWrite + Unpin,
    mut queued: broadcast::Receiver<(Target, Vec<u8>)>,
) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(CHUNK);
    loop {
        match queued.recv().await {
            Ok((target, datagram)) => tunnel::encode(target, &datagram, &mut bytes),
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return Ok(()),
        }
        while bytes.len() < CHUNK
            && let Ok((target, datagram)) = queued.try_recv()
        {
            tunnel::encode(target, &datagram, &mut bytes);
        }
        writer.write_all(&bytes).await?;
        writer.flush().await?;
        bytes.clear();
    }
}

async fn receive(
    mut reader: impl AsyncRead + Unpin,
    detour: &Detour,
    worker: &WorkerHandle,
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(CHUNK);
    loop {
        let (mut taken, mut datagrams) = (0, Vec::<(SocketAddr, Vec<u8>)>::new());
        while let Some(Frame { target, datagram, len }) = tunnel::decode(&buffer[taken..])
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
        {
            taken += len;
            if let Some(from) = detour.source(target) {
                datagrams.push((from, datagram.to_vec()));
            }
        }
        buffer.drain(..taken);
        if !datagrams.is_empty() {
            // Waiting holds the stream up, and the other end then drops the oldest.
            let command = Command::Tunnelled(datagrams);
            worker.send(command).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
        }
        let mut limited = (&mut reader).take(CHUNK as u64);
        if limited.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}
