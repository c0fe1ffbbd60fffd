//! The asking side of the socket.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;

use super::SOCKET;
use super::protocol::{Answer, Ask, MAX_ANSWER, Question, Reply, VERSION, read_line, write_line};

/// How long an answer may take that the agent has at hand, or that a ping brings.
const PATIENCE: Duration = Duration::from_secs(10);

/// The same of a check of the network: its questions are repeated.
const CHECK_PATIENCE: Duration = Duration::from_secs(60);

/// The same of the longest check: 185 s of silence and its probes.
const LIFETIME_PATIENCE: Duration = Duration::from_secs(240);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is no such directory.
    #[error("{} is no agent's directory: name it with --state, or start with `agent run --join TOKEN`", .0.display())]
    NoState(PathBuf),
    /// No agent runs.
    #[error("no agent runs on {}: start it with `agent run`", .0.display())]
    NotRunning(PathBuf),
    /// It is another user's, for example.
    #[error("the agent on {} cannot be asked: ask as the user whose agent it is", .state.display())]
    NoAgent {
        /// Its directory.
        state: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is there, and says nothing.
    #[error(
        "the agent on {} does not answer: its process may be stopped, or the machine overloaded", .0.display()
    )]
    Silent(PathBuf),
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
    let patience = match ask {
        Ask::Network | Ask::Metrics | Ask::Owner { .. } | Ask::Ping { .. } => PATIENCE,
        Ask::Netcheck { lifetime: false } => CHECK_PATIENCE,
        Ask::Netcheck { lifetime: true } => LIFETIME_PATIENCE,
    };
    ask_within(patience, state, ask).await
}

async fn ask_within(patience: Duration, state: &Path, ask: Ask) -> Result<Answer, AskError> {
    let no_agent = |source| AskError::NoAgent { state: state.to_owned(), source };
    let folder = File::open(state).map_err(|error| {
        let is_missing = error.kind() == ErrorKind::NotFound;
        if is_missing { AskError::NoState(state.to_owned()) } else { no_agent(error) }
    })?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd());
    let mut stream = UnixStream::connect(path).await.map_err(|error| {
        // The second is what a killed agent leaves.
        let is_stopped =
            [ErrorKind::NotFound, ErrorKind::ConnectionRefused].contains(&error.kind());
        if is_stopped { AskError::NotRunning(state.to_owned()) } else { no_agent(error) }
    })?;
    let unusable = |error: io::Error| AskError::Unusable(error.to_string());
    let answered = timeout(patience, async {
        write_line(&mut stream, &Question { version: VERSION, ask }).await?;
        read_line(&mut stream, MAX_ANSWER).await
    });
    let line = answered.await.map_err(|_| AskError::Silent(state.to_owned()))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_asks_nobody_is_told_why() {
        let dir = tempfile::tempdir().unwrap();
        let said = async |state: &Path| ask(state, Ask::Network).await.unwrap_err().to_string();
        let nothing = said(&dir.path().join("none")).await;
        assert!(nothing.contains("is no agent's directory"), "{nothing}");
        let stopped = said(dir.path()).await;
        assert!(stopped.starts_with("no agent runs on"), "{stopped}");
        // What a killed agent has left.
        drop(std::os::unix::net::UnixListener::bind(dir.path().join(SOCKET)).unwrap());
        let killed = said(dir.path()).await;
        assert!(killed.starts_with("no agent runs on"), "{killed}");
    }

    #[tokio::test]
    async fn an_agent_that_stands_still_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let _listening = std::os::unix::net::UnixListener::bind(dir.path().join(SOCKET)).unwrap();
        let soon = Duration::from_millis(50);
        let said = ask_within(soon, dir.path(), Ask::Network).await.unwrap_err().to_string();
        assert!(said.contains("does not answer"), "{said}");
    }
}
