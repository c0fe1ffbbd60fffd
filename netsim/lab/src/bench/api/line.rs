//! A connection of HTTP/1.1 over TLS, as plain as can be: the load must cost less than what it measures.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context as _, bail};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::site::Site;

/// The longest answer: a page of details.
const MAX_ANSWER: usize = 16 << 20;

/// A request, made once and sent often.
#[derive(Clone, Debug)]
pub(super) struct Request(Vec<u8>);

impl Request {
    /// `path` is below `/oarapi`.
    pub(super) fn new(method: &str, path: &str, token: Option<&str>, body: &str) -> Self {
        let mut text = format!(
            "{method} /oarapi{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\n"
        );
        if let Some(token) = token {
            text += &format!("Authorization: Bearer {token}\r\n");
        }
        if method != "GET" {
            text +=
                &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        }
        Self(format!("{text}\r\n{body}").into_bytes())
    }
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The body of an answer with this status.
    pub(super) fn json(&self, status: u16) -> anyhow::Result<serde_json::Value> {
        if self.status != status {
            bail!("answered {}: {}", self.status, String::from_utf8_lossy(&self.body));
        }
        serde_json::from_slice(&self.body).context("the answer is no JSON")
    }
}

/// Where lines lead, and whom they trust.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) address: SocketAddr,
    pub(super) tls: Arc<ClientConfig>,
    /// Connections come from many addresses: the coordinator lets in so many from each.
    pub(super) from: Arc<AtomicU8>,
}

/// One connection that stays.
pub(super) struct Line {
    stream: TlsStream<TcpStream>,
    read: Vec<u8>,
}

impl Line {
    pub(super) async fn open(site: &Site) -> anyhow::Result<Self> {
        Self::through(&site.door).await
    }

    pub(super) async fn through(door: &Door) -> anyhow::Result<Self> {
        let from = door.from.fetch_add(1, Ordering::Relaxed);
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::new(127, 0, 1, from.max(1)), 0).into())?;
        let stream = socket.connect(door.address).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let name = ServerName::from(door.address.ip());
        let stream = TlsConnector::from(door.tls.clone()).connect(name, stream).await;
        Ok(Self { stream: stream.context("cannot speak TLS")?, read: Vec::new() })
    }

    pub(super) async fn ask(&mut self, request: &Request) -> anyhow::Result<Answer> {
        self.stream.write_all(&request.0).await?;
        self.stream.flush().await?;
        self.read.clear();
        let (head, status, length) = loop {
            self.more().await?;
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                let text = std::str::from_utf8(&self.read[..end]).context("a head is no text")?;
                let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
                break (end + 4, status.context("no status")?, length(text)?);
            }
        };
        while self.read.len() < head + length {
            self.more().await?;
        }
        Ok(Answer { status, body: self.read[head..head + length].to_vec() })
    }

    async fn more(&mut self) -> anyhow::Result<()> {
        if self.read.len() > MAX_ANSWER {
            bail!("the answer is longer than {MAX_ANSWER} bytes");
        }
        self.read.reserve(16 << 10);
        match self.stream.read_buf(&mut self.read).await? {
            0 => bail!("the connection was closed"),
            _ => Ok(()),
        }
    }
}

fn length(head: &str) -> anyhow::Result<usize> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    // Only an answer without a body says nothing of its length.
    found.map_or(Ok(0), |(_, value)| value.trim().parse().context("a length is no number"))
}
