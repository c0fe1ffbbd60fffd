//! The program `netsim`, as a user starts it.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// `netsim` with these arguments. Whatever it leaves behind is in `temp`.
pub(crate) fn netsim(temp: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netsim"));
    command.args(args).env("TMPDIR", temp).stdin(Stdio::null());
    command
}

/// The exit status of a command, and what it said.
pub(crate) fn said(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

/// Sends a signal to a program that runs.
pub(crate) fn end(run: &Child, signal: Signal) {
    kill(Pid::from_raw(run.id().cast_signed()), signal).unwrap();
}
