//! Stops a job where it stands, and lets it go on. Its walltime waits with it.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

use super::process::descendants;
use crate::confine::cage::Cage;

/// An order to pause, or to go on, and where it is told that this is done.
pub struct Pause {
    /// Stop it.
    pub paused: bool,
    /// Where the end goes.
    pub done: oneshot::Sender<Result<(), String>>,
}

/// How often all of a job's processes are signalled until none of them runs: each may have made another meanwhile.
const PASSES: u32 = 100;

/// Between two of them.
const PASS_PAUSE: Duration = Duration::from_millis(2);

/// The orders for one command.
pub struct Pauses {
    orders: mpsc::Receiver<Pause>,
}

impl Pauses {
    /// Orders, and where to give them.
    pub fn new() -> (mpsc::Sender<Pause>, Self) {
        let (sender, orders) = mpsc::channel(4);
        (sender, Self { orders })
    }

    /// Carries them out on the processes below `init`, until the command has run for `walltime`, pauses not counted.
    pub(super) async fn carry_out(&mut self, cage: &Cage, init: Option<i32>, walltime: Duration) {
        let (mut left, mut paused, mut since) = (walltime, false, Instant::now());
        loop {
            let order = tokio::select! {
                () = sleep(left.saturating_sub(since.elapsed())), if !paused => return,
                order = self.orders.recv() => order,
            };
            let Some(Pause { paused: wanted, done }) = order else {
                // Nobody can give orders any more: the shim ends.
                return std::future::pending().await;
            };
            let result = set(cage, init, wanted).await;
            if result.is_ok() && wanted != paused {
                if wanted {
                    left = left.saturating_sub(since.elapsed());
                }
                (paused, since) = (wanted, Instant::now());
            }
            let _ = done.send(result.map_err(|error| error.to_string()));
        }
    }
}

/// Stops the processes below `init`, or lets them go on: by the cage where it can, else by signals.
///
/// # Errors
/// When they do not stop.
pub(super) async fn set(cage: &Cage, init: Option<i32>, paused: bool) -> io::Result<()> {
    if cage.can_freeze() {
        return cage.freeze(paused).await;
    }
    let Some(init) = init else { return Ok(()) };
    let signal = if paused { Signal::SIGSTOP } else { Signal::SIGCONT };
    let mut told = HashSet::new();
    for _ in 0..PASSES {
        let mut left = 0;
        for pid in descendants(init) {
            let done = match state(pid) {
                // Who has ended may have a parent that stands still itself.
                None | Some('Z' | 'X') => true,
                Some('T' | 't') => paused,
                // Waits in the kernel, as for a child that was stopped on its way (vfork), and stops behind that.
                Some('D') => !paused || told.contains(&pid),
                Some(_) => !paused,
            };
            if !done {
                told.insert(pid);
                left += 1;
                let _ = kill(Pid::from_raw(pid), signal);
            }
        }
        if left == 0 {
            return Ok(());
        }
        sleep(PASS_PAUSE).await;
    }
    // Who is let go on may stop itself again.
    if paused { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
}

/// The letter of the process's state; none when it is gone.
fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}
