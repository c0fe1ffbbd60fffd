//! What a session runs, with a terminal or with pipes.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use bytes::Bytes;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use pty_process::{OwnedReadPty, OwnedWritePty, Size};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

use super::backlog::Backlog;

/// A program, its environment beside the job's, and its terminal.
pub(super) struct Start {
    pub(super) words: Vec<OsString>,
    pub(super) variables: Vec<(String, String)>,
    pub(super) terminal: Option<Terminal>,
}

/// The client's terminal.
pub(super) struct Terminal {
    /// For `TERM`.
    pub(super) name: String,
    pub(super) size: Size,
}

impl Terminal {
    /// Rows, columns and pixels as the protocol has them, which has room for more than any terminal.
    pub(super) fn size(rows: u32, columns: u32, width: u32, height: u32) -> Size {
        let short = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
        Size::new_with_pixel(short(rows), short(columns), short(width), short(height))
    }
}

/// How it ended.
pub(super) enum End {
    /// With this code.
    Exited(u32),
    /// By this signal.
    Killed(i32),
}

/// A program that runs. When it is dropped, its terminal or its pipes close; what does not end of that is the
/// job's and ends with it.
pub(super) struct Program {
    input: Option<mpsc::UnboundedSender<Input>>,
    backlog: Backlog,
    /// The leader of its process group.
    leader: Option<Pid>,
    has_terminal: bool,
    end: JoinHandle<io::Result<ExitStatus>>,
    /// Ends the carrying of its input.
    feeding: AbortHandle,
}

enum Input {
    Bytes(Bytes),
    Size(Size),
}

impl Program {
    /// Starts it. Its outputs go to the two writers; with a terminal everything goes to the first.
    ///
    /// # Errors
    /// When there is no such program, or no further process, descriptor or terminal to be had.
    pub(super) fn start(
        start: Start,
        stdout: impl AsyncWrite + Unpin + Send + 'static,
        stderr: impl AsyncWrite + Unpin + Send + 'static,
        backlog: Backlog,
    ) -> io::Result<Self> {
        let Start { words, variables, terminal } = start;
        let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let has_terminal = terminal.is_some();
        let (input, inputs) = mpsc::unbounded_channel();
        let mut outputs = JoinSet::new();
        let feed;
        let child = match terminal {
            Some(terminal) => {
                let (pty, pts) = pty_process::open().map_err(io::Error::other)?;
                pty.resize(terminal.size).map_err(io::Error::other)?;
                let command = pty_process::Command::new(program)
                    .args(arguments)
                    .envs(variables)
                    .env("TERM", terminal.name);
                let child = command.spawn(pts).map_err(io::Error::other)?;
                let (from, to): (OwnedReadPty, OwnedWritePty) = pty.into_split();
                outputs.spawn(carry(from, stdout));
                feed = tokio::spawn(feed_terminal(inputs, to, backlog.clone()));
                child
            }
            None => {
                let mut child = Command::new(program)
                    .args(arguments)
                    .envs(variables)
                    .process_group(0)
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()?;
                if let Some(from) = child.stdout.take() {
                    outputs.spawn(carry(from, stdout));
                }
                if let Some(from) = child.stderr.take() {
                    outputs.spawn(carry(from, stderr));
                }
                feed = tokio::spawn(feed_pipe(inputs, child.stdin.take(), backlog.clone()));
                child
            }
        };
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        Ok(Self {
            input: Some(input),
            backlog,
            leader,
            has_terminal,
            end: tokio::spawn(end(child, outputs)),
            feeding: feed.abort_handle(),
        })
    }

    /// The end: the program's, and that of everything that holds its outputs.
    pub(super) async fn ended(&mut self) -> End {
        match (&mut self.end).await.map_err(io::Error::other).flatten() {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => End::Exited(code.unsigned_abs()),
                (None, signal) => End::Killed(signal.unwrap_or_default()),
            },
            Err(error) => {
                tracing::debug!(%error, "waiting for a session's program failed");
                End::Exited(u32::from(u8::MAX))
            }
        }
    }

    /// Bytes for its standard input.
    pub(super) fn input(&self, bytes: Bytes) {
        let Some(input) = &self.input else { return };
        let count = bytes.len();
        self.backlog.add(count);
        if input.send(Input::Bytes(bytes)).is_err() {
            self.backlog.remove(count);
        }
    }

    /// There will be no more of them. A terminal has no end.
    pub(super) fn close_input(&mut self) {
        if !self.has_terminal {
            self.input = None;
        }
    }

    /// The client's terminal has another size.
    pub(super) fn resize(&self, size: Size) {
        if let Some(input) = &self.input {
            let _ = input.send(Input::Size(size));
        }
    }

    /// A signal for the program and its children.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(leader) = self.leader.filter(|_| !self.end.is_finished()) {
            let _ = killpg(leader, signal);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end.abort();
        self.feeding.abort();
    }
}

/// An output to its end, which for a terminal is an error of its own kind.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> io::Result<u64> {
    copy(&mut from, &mut to).await
}

async fn end(mut child: Child, mut outputs: JoinSet<io::Result<u64>>) -> io::Result<ExitStatus> {
    let status = child.wait().await?;
    while outputs.join_next().await.is_some() {}
    Ok(status)
}

/// What has been sent and not yet read when the carrying ends is given back.
struct Waiting {
    inputs: mpsc::UnboundedReceiver<Input>,
    backlog: Backlog,
}

impl Waiting {
    async fn next(&mut self) -> Option<Input> {
        self.inputs.recv().await
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.inputs.close();
        while let Ok(input) = self.inputs.try_recv() {
            if let Input::Bytes(bytes) = input {
                self.backlog.remove(bytes.len());
            }
        }
    }
}

async fn feed_pipe(
    inputs: mpsc::UnboundedReceiver<Input>,
    to: Option<impl AsyncWrite + Unpin>,
    backlog: Backlog,
) {
    let mut waiting = Waiting { inputs, backlog };
    let Some(mut to) = to else { return };
    while let Some(input) = waiting.next().await {
        if let Input::Bytes(bytes) = input {
            let written = to.write_all(&bytes).await;
            waiting.backlog.remove(bytes.len());
            if written.is_err() {
                return;
            }
        }
    }
}

async fn feed_terminal(
    inputs: mpsc::UnboundedReceiver<Input>,
    mut to: OwnedWritePty,
    backlog: Backlog,
) {
    let mut waiting = Waiting { inputs, backlog };
    while let Some(input) = waiting.next().await {
        match input {
            Input::Bytes(bytes) => {
                let written = to.write_all(&bytes).await;
                waiting.backlog.remove(bytes.len());
                if written.is_err() {
                    return;
                }
            }
            Input::Size(size) => {
                if let Err(error) = to.resize(size) {
                    tracing::debug!(%error, "a terminal keeps its size");
                }
            }
        }
    }
}
