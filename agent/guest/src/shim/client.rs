//! The agent's side of the shim's socket.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::descriptor::{receive_line, send_line};
use super::protocol::{Answer, ExitReport, Request};
use super::server::{SOCKET, START_LOG};
use crate::confine::limits::JobLimits;

/// Why a shim could not be started or asked.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// It does not answer: it has ended.
    #[error("the job's shim does not answer: {0}")]
    Gone(#[from] io::Error),
    /// It said no.
    #[error("{0}")]
    Refused(String),
    /// It said something else than was asked for.
    #[error("the job's shim answered something unexpected")]
    Unexpected,
}

/// How long a shim may take from its start to its first answer. Chosen: it only makes namespaces.
const START_LIMIT: Duration = Duration::from_secs(20);

/// How long a released shim may take to be gone. Chosen: it only ends.
const GONE: Duration = Duration::from_secs(2);

/// A shim as the agent sees it.
pub struct ShimClient {
    directory: PathBuf,
}

impl ShimClient {
    /// The shim of the job directory, whether it is there or not.
    pub fn at(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Starts a shim for the job directory, which must hold `launch.json`, and waits until it answers.
    ///
    /// The returned process must be kept or reaped by the caller; it survives the caller.
    ///
    /// # Errors
    /// [`ShimError::Refused`] with what the shim said before it ended.
    pub async fn start(program: &Path, directory: &Path) -> Result<(Self, Child), ShimError> {
        let log = File::create(directory.join(START_LOG))?;
        let mut child = Command::new(program)
            .arg0("agent")
            .arg("shim")
            .arg("--dir")
            .arg(directory)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let client = Self::at(directory);
        let answered = async {
            let mut pause = Duration::from_millis(2);
            while client.hello().await.is_err() {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(100));
            }
        };
        let said = |what: &str| {
            let log = std::fs::read_to_string(directory.join(START_LOG)).unwrap_or_default();
            ShimError::Refused(format!("{what}: {}", log.trim()))
        };
        tokio::select! {
            () = answered => Ok((client, child)),
            status = child.wait() => {
                let status = status?;
                Err(said(&format!("the job's shim ended at its start ({status})")))
            }
            () = tokio::time::sleep(START_LIMIT) => {
                child.kill().await?;
                Err(said("the job's shim did not start in time"))
            }
        }
    }

    /// Whether the command was started, and whether it has ended.
    ///
    /// # Errors
    /// [`ShimError`].
    pub async fn hello(&self) -> Result<(bool, bool), ShimError> {
        match self.ask(&Request::Hello).await? {
            (Answer::State { started, ended, .. }, _) => Ok((started, ended)),
            other => Err(unexpected(other.0)),
        }
    }

    /// The descriptor of `mesh0`.
    ///
    /// # Errors
    /// [`ShimError`]; refused when the job has no mesh.
    pub async fn take_tun(&self) -> Result<OwnedFd, ShimError> {
        match self.ask(&Request::TakeTun).await? {
            (Answer::Done, Some(descriptor)) => Ok(descriptor),
            other => Err(unexpected(other.0)),
        }
    }

    /// Gives the mesh's secret (64 hexadecimal digits) to the shim to keep.
    ///
    /// # Errors
    /// [`ShimError`].
    pub async fn store_secret(&self, secret: &str) -> Result<(), ShimError> {
        self.done(&Request::StoreSecret { secret: secret.to_owned() }).await
    }

    /// The secret that was stored before.
    ///
    /// # Errors
    /// [`ShimError`].
    pub async fn secret(&self) -> Result<Option<Zeroizing<String>>, ShimError> {
        match self.ask(&Request::Secret).await? {
            (Answer::Secret { secret }, _) => Ok(secret.map(Zeroizing::new)),
            other => Err(unexpected(other.0)),
        }
    }

    /// Sets the node's addresses in the mesh and everybody's names.
    ///
    /// # Errors
    /// [`ShimError`].
    pub async fn set_members(
        &self,
        ipv4: (Ipv4Addr, u8),
        ipv6: (Ipv6Addr, u8),
        hosts: String,
    ) -> Result<(), ShimError> {
        self.done(&Request::SetMembers { ipv4, ipv6, hosts }).await
    }

    /// Starts the command, unless it was started before.
    ///
    /// # Errors
    /// [`ShimError`].
    pub async fn run(&self) -> Result<(), ShimError> {
        self.done(&Request::Start).await
    }

    /// Orders the end of the command.
    ///
    /// # Errors
    /// [`ShimError`].
    pub async fn kill(&self) -> Result<(), ShimError> {
        self.done(&Request::Kill).await
    }

    /// Stops the command where it stands, or lets it go on, and waits until that is so.
    ///
    /// # Errors
    /// [`ShimError`].
    pub async fn pause(&self, paused: bool) -> Result<(), ShimError> {
        self.done(&Request::Pause { paused }).await
    }

    /// Sets other limits.
    ///
    /// # Errors
    /// [`ShimError`].
    pub async fn limit(&self, limits: JobLimits) -> Result<(), ShimError> {
        self.done(&Request::Limit { limits }).await
    }

    /// Waits for the command's end, however long it takes. While it waits, the shim knows that it has an
    /// agent.
    ///
    /// # Errors
    /// [`ShimError::Gone`] when the shim dies.
    pub async fn wait(&self) -> Result<ExitReport, ShimError> {
        match self.ask(&Request::Wait).await? {
            (Answer::Ended(report), _) => Ok(report),
            other => Err(unexpected(other.0)),
        }
    }

    /// Ends the shim.
    ///
    /// # Errors
    /// [`ShimError`]; gone is as good as released.
    pub async fn release(&self) -> Result<(), ShimError> {
        self.done(&Request::Release).await
    }

    /// Ends the shim, if it is there, and waits a moment until it is not.
    pub async fn release_and_wait(&self) {
        let gone = async {
            while self.release().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = timeout(GONE, gone).await;
    }

    async fn done(&self, request: &Request) -> Result<(), ShimError> {
        match self.ask(request).await? {
            (Answer::Done, _) => Ok(()),
            other => Err(unexpected(other.0)),
        }
    }

    async fn ask(&self, request: &Request) -> Result<(Answer, Option<OwnedFd>), ShimError> {
        let stream = connect(&self.directory).await?;
        let line = serde_json::to_vec(request).map_err(io::Error::from)?;
        send_line(&stream, line, None).await?;
        let (line, descriptor) = receive_line(&stream).await?;
        let answer = serde_json::from_slice(&line).map_err(|_| ShimError::Unexpected)?;
        Ok((answer, descriptor))
    }
}

fn unexpected(answer: Answer) -> ShimError {
    match answer {
        Answer::Refused { reason } => ShimError::Refused(reason),
        Answer::Done | Answer::State { .. } | Answer::Secret { .. } | Answer::Ended(_) => {
            ShimError::Unexpected
        }
    }
}

/// The socket's address goes through a descriptor of the folder: the address of a unix socket has room
/// for 108 bytes, the folder's path may have more.
async fn connect(directory: &Path) -> io::Result<UnixStream> {
    let folder = File::open(directory)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd())).await
}
