//! The asking side of the socket.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;

use super::SOCKET;
use super::protocol::{Answer, Ask, MAX_ANSWER, Question, Reply, VERSION, read_line, write_line};

/// How long an answer may take: above that of the longest check (185 s of silence and its probes).
const PATIENCE: Duration = Duration::from_secs(240);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No agent runs, or it is another user's.
    #[error(
        "no agent can be asked ({0}): is `agent run` running, as this user, with this --state?"
    )]
    NoAgent(#[source] io::Error),
    /// It said why not.
    #[error("{0}")]
    Refused(String),
    /// It hung up, or said something else.
    #[error("the agent's answer cannot be used: {0}")]
    Unusable(String),
}

/// Asks the agent of that state directory.
///
/// # Errors
/// [`AskError`].
pub async fn ask(state: &Path, ask: Ask) -> Result<Answer, AskError> {
    let folder = File::open(state).map_err(AskError::NoAgent)?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd());
    let mut stream = UnixStream::connect(path).await.map_err(AskError::NoAgent)?;
    let unusable = |error: io::Error| AskError::Unusable(error.to_string());
    write_line(&mut stream, &Question { version: VERSION, ask }).await.map_err(unusable)?;
    let line = timeout(PATIENCE, read_line(&mut stream, MAX_ANSWER)).await;
    let line = line.map_err(|_| AskError::Unusable("it takes too long".into()))?;
    let reply: Reply = serde_json::from_slice(&line.map_err(unusable)?)
        .map_err(|error| AskError::Unusable(error.to_string()))?;
    match (reply.answer, reply.error) {
        (Some(answer), None) => Ok(answer),
        (None, Some(error)) => Err(AskError::Refused(error)),
        (None, None) | (Some(_), Some(_)) => {
            Err(AskError::Unusable("neither an answer nor an error".into()))
        }
    }
}
