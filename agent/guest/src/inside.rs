//! The first program in the sandbox of a job with a network: runs the job's command, if this node has it, and
//! serves SSH to the job's other nodes.
//!
//! ```text
//!  shim -- bwrap -- agent inside -+- sh -c COMMAND        (first node, or every node of an spmd job)
//!                                 `- SSH on port 22 -+- sh -c ...    (each session of another node)
//!                                                    `- ...
//! ```
//!
//! It lives in the sandbox and has no right that the job has not: what a session starts is shut in because its
//! parent is, and shares the job's files, processes and shared memory. Whoever breaks into the server is where
//! the job is anyway. It is handed the listening socket as its standard input: the shim listens before the
//! network opens, so that no connection is refused, however late this program starts.

mod backlog;
mod program;
mod server;
mod session;

pub use session::SFTP_SERVERS;

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

/// Added to a signal's number in the exit code of a command that it ended, as a shell does.
const SIGNAL_EXIT: i32 = 128;

/// Runs `command` to its end and returns its exit code; without one, serves sessions until it is told to end.
///
/// # Errors
/// When the command cannot be started. Sessions that cannot be served are told on standard error, where the
/// scientist finds it, and do not keep the command from running.
pub async fn run(command: Option<OsString>) -> anyhow::Result<u8> {
    let mut terminate = signal(SignalKind::terminate())?;
    let serving = listener().and_then(|listener| Ok((listener, server::Keys::read()?)));
    match serving {
        Ok((listener, keys)) => {
            tokio::spawn(server::serve(listener, keys));
        }
        Err(error) => tracing::warn!(%error, "no ssh between the job's nodes"),
    }
    let Some(command) = command else {
        terminate.recv().await;
        return Ok(0);
    };
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(command)
        .stdin(Stdio::null())
        .spawn()
        .context("starting the job's command failed")?;
    loop {
        tokio::select! {
            status = child.wait() => {
                let status = status?;
                let ended = status.signal().map(|signal| SIGNAL_EXIT + signal);
                let code = status.code().or(ended).unwrap_or(SIGNAL_EXIT);
                return Ok(u8::try_from(code).unwrap_or(u8::MAX));
            }
            // The command gets it as well, and decides itself; ending here would take its time away.
            _ = terminate.recv() => {}
        }
    }
}

/// The socket that the shim listens on.
fn listener() -> io::Result<TcpListener> {
    let socket = std::net::TcpListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}
