//! What is asked and answered: one JSON line each.

use std::io;

use overlay_driver::netcheck::NetReport;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use crate::owner::{Change, Wishes};
use crate::status::network::NetworkStatus;

/// The version of this protocol: after an upgrade the running agent may be an older one.
pub const VERSION: u16 = 1;

/// The longest question, bytes.
pub const MAX_QUESTION: usize = 4 * 1024;

/// The longest answer, bytes: 32 of the largest networks, at 500 bytes a pair.
pub const MAX_ANSWER: usize = 16 << 20;

/// A line from the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// [`VERSION`].
    pub version: u16,
    /// The question itself.
    pub ask: Ask,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Ask {
    /// How does the network stand? -> [`Answer::Network`].
    Network,
    /// How long is the way to that node and back? -> [`Answer::Pong`].
    Ping {
        /// See [`NetworkStatus::find`].
        node: String,
        /// Which path.
        over: Over,
        /// Bytes of the packet.
        size: u16,
    },
    /// What does this network do to UDP? -> [`Answer::Netcheck`].
    Netcheck {
        /// The lifetime of mappings too, which takes minutes.
        lifetime: bool,
    },
    /// What has been counted? -> [`Answer::Metrics`].
    Metrics,
    /// What may jobs use, after this change? -> [`Answer::Owner`].
    Owner {
        /// May be none.
        change: Box<Change>,
    },
}

/// Which path a ping takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Over {
    /// That of the job's packets.
    Current,
    /// The relay.
    Relay,
}

/// A line to the client: an answer or an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// [`VERSION`].
    pub version: u16,
    /// The answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// Why there is none: a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Answer {
    /// How the network stands.
    Network(Box<NetworkStatus>),
    /// A ping came back.
    Pong(Pong),
    /// What the network does to UDP.
    Netcheck(NetReport),
    /// What jobs may use.
    Owner(Box<Wishes>),
    /// Counters, in Prometheus' text format.
    Metrics {
        /// The text.
        text: String,
    },
}

/// A ping that came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// Through a relay.
    pub relayed: bool,
    /// The peer's endpoint, or the relay's.
    pub endpoint: std::net::SocketAddr,
    /// Round trip time, microseconds.
    pub rtt_us: u64,
}

impl Reply {
    /// An answer, or a sentence that says why there is none.
    pub fn of(result: Result<Answer, String>) -> Self {
        let (answer, error) = match result {
            Ok(answer) => (Some(answer), None),
            Err(error) => (None, Some(error)),
        };
        Self { version: VERSION, answer, error }
    }
}

/// Reads one line of at most `limit` bytes, without its end.
///
/// # Errors
/// `UnexpectedEof` without a whole line, `InvalidData` when it is too long.
pub async fn read_line(stream: impl AsyncRead + Unpin, limit: usize) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    // One byte more than the limit, for the end.
    let bytes = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    BufReader::new(stream.take(bytes)).read_until(b'\n', &mut line).await?;
    if line.pop() == Some(b'\n') {
        return Ok(line);
    }
    Err(if line.len() >= limit {
        io::Error::new(io::ErrorKind::InvalidData, "the line is too long")
    } else {
        io::ErrorKind::UnexpectedEof.into()
    })
}

/// Writes a value as one line.
///
/// # Errors
/// When the other side is gone.
pub async fn write_line(
    mut stream: impl AsyncWrite + Unpin,
    value: &impl Serialize,
) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_this_form() {
        let ask = Ask::Ping { node: "vol-2".into(), over: Over::Relay, size: 56 };
        let text = serde_json::to_string(&Question { version: VERSION, ask }).unwrap();
        let expected =
            r#"{"version":1,"ask":{"type":"ping","node":"vol-2","over":"relay","size":56}}"#;
        assert_eq!(text, expected);
        let text = serde_json::to_string(&Reply::of(Err("no".into()))).unwrap();
        assert_eq!(text, r#"{"version":1,"error":"no"}"#);
    }

    #[tokio::test]
    async fn lines_are_whole_and_no_longer_than_allowed() {
        assert_eq!(read_line(&b"abc\nrest"[..], 3).await.unwrap(), b"abc");
        let long = read_line(&b"abcd\n"[..], 3).await.unwrap_err();
        assert_eq!(long.kind(), io::ErrorKind::InvalidData);
        let cut = read_line(&b"ab"[..], 3).await.unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
    }
}
