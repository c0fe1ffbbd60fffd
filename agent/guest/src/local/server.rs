//! The running agent's side of the socket.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use overlay_driver::netcheck::LIFETIMES;
use overlay_driver::{Overlay, Via};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::SOCKET;
use super::protocol::{
    Answer, Ask, MAX_QUESTION, Over, Pong, Question, Reply, VERSION, read_line, write_line,
};
use crate::metrics;
use crate::owner::Owner;
use crate::status::network::NetworkStatus;

/// Questions at a time. Chosen: a person has one or two; a lifetime check takes minutes.
const MAX_CONNECTIONS: usize = 16;

/// How long a question may take to arrive, and an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a ping waits for its answer.
const PING_PATIENCE: Duration = Duration::from_secs(2);

/// Pause after a failed accept, lest the task spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The socket. Dropping it ends its task and removes it.
pub struct LocalServer {
    path: std::path::PathBuf,
    task: JoinHandle<()>,
}

impl LocalServer {
    /// Listens in the state directory, which must be locked by this process. A node of a plain OAR server has no
    /// overlay.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn start(state: &Path, overlay: Option<Overlay>, owner: Owner) -> io::Result<Self> {
        let path = state.join(SOCKET);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        // By the folder's descriptor: a socket's path may only be 107 bytes long.
        let folder = File::open(state)?;
        let listener =
            UnixListener::bind(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()))?;
        // Until here the folder (0700) keeps others out.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        let task = tokio::spawn(accept(listener, overlay, owner));
        Ok(Self { path, task })
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        self.task.abort();
        // A socket that stays is replaced by the next agent.
        let _ = fs::remove_file(&self.path);
    }
}

async fn accept(listener: UnixListener, overlay: Option<Overlay>, owner: Owner) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (overlay, owner) = (overlay.clone(), owner.clone());
        let place = Arc::clone(&places).try_acquire_owned();
        tokio::spawn(async move {
            let result = match place {
                Ok(_place) => serve(&mut stream, overlay.as_ref(), &owner).await,
                Err(_) => Err("too many questions at once: try again in a moment".to_owned()),
            };
            let _ = timeout(PATIENCE, write_line(&mut stream, &Reply::of(result))).await;
        });
    }
}

/// Whether that user may ask the agent of `owner`.
fn may_ask(user: u32, owner: u32) -> bool {
    user == owner || user == 0
}

async fn serve(
    stream: &mut UnixStream,
    overlay: Option<&Overlay>,
    owner: &Owner,
) -> Result<Answer, String> {
    let who = stream.peer_cred().map_err(|error| error.to_string())?;
    if !may_ask(who.uid(), nix::unistd::geteuid().as_raw()) {
        return Err("only the user that the agent runs as may ask it".into());
    }
    let line = timeout(PATIENCE, read_line(&mut *stream, MAX_QUESTION)).await;
    let line = line.map_err(|_| "no question came".to_owned())?.map_err(|e| e.to_string())?;
    let ask = parse(&line)?;
    answer(ask, overlay, owner).await
}

fn parse(line: &[u8]) -> Result<Ask, String> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: u16,
    }
    let not_understood = |error| format!("the question is not understood: {error}");
    let Versioned { version } = serde_json::from_slice(line).map_err(not_understood)?;
    if version != VERSION {
        return Err(format!(
            "the running agent speaks version {VERSION} of the local protocol, not {version}: ask it with \
             the `agent` program that it was started from, or start it again"
        ));
    }
    let question: Question = serde_json::from_slice(line).map_err(not_understood)?;
    Ok(question.ask)
}

async fn answer(ask: Ask, overlay: Option<&Overlay>, owner: &Owner) -> Result<Answer, String> {
    let overlay = || overlay.ok_or("a plain OAR server gives its jobs no network");
    match ask {
        Ask::Network => Ok(Answer::Network(Box::new(network(overlay()?, owner).await?))),
        Ask::Ping { node, over, size } => {
            let overlay = overlay()?;
            let id = network(overlay, owner).await?.find(&node)?;
            let via = match over {
                Over::Current => Via::Current,
                Over::Relay => Via::Relay,
            };
            let answered = overlay.ping(id, via, usize::from(size), PING_PATIENCE).await;
            let answered = answered.map_err(|error| error.to_string())?;
            Ok(Answer::Pong(Pong {
                relayed: answered.relayed,
                endpoint: answered.endpoint,
                rtt_us: u64::try_from(answered.rtt.as_micros()).unwrap_or(u64::MAX),
            }))
        }
        Ask::Netcheck { lifetime } => {
            let lifetimes: &[Duration] = if lifetime { &LIFETIMES } else { &[] };
            Ok(Answer::Netcheck(overlay()?.netcheck(lifetimes).await))
        }
        Ask::Owner { change } => {
            let said = owner.change(&change).map_err(|error| error.to_string())?;
            Ok(Answer::Owner(Box::new(said)))
        }
        Ask::Metrics => {
            let overlay = overlay()?;
            let view = overlay.view().await.ok_or("the agent is stopping")?;
            Ok(Answer::Metrics { text: metrics::of(overlay, &view) })
        }
    }
}

async fn network(overlay: &Overlay, owner: &Owner) -> Result<NetworkStatus, String> {
    let view = overlay.view().await.ok_or("the agent is stopping")?;
    Ok(NetworkStatus::of(overlay, &view, owner.network_use()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_and_root_may_ask() {
        assert!(may_ask(1000, 1000) && may_ask(0, 1000));
        assert!(!may_ask(1001, 1000) && !may_ask(1000, 0));
    }

    #[test]
    fn questions_are_versioned_and_understood_whole() {
        assert_eq!(parse(br#"{"version":1,"ask":{"type":"network"}}"#), Ok(Ask::Network));
        let newer = parse(br#"{"version":2,"ask":{"type":"unheard-of"}}"#).unwrap_err();
        assert!(newer.contains("version 1") && newer.contains("not 2"), "{newer}");
        for bad in [&b""[..], b"{}", b"[1]", br#"{"version":1}"#, b"\xff\xff"] {
            assert!(parse(bad).unwrap_err().contains("not understood"));
        }
    }
}
