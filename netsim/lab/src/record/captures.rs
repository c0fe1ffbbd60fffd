//! `--pcap NODE`: what goes over a node's wires, for Wireshark.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::netns::Netns;
use crate::wait;

/// From its start until tcpdump listens, and from the signal until its end.
const PATIENCE: Duration = Duration::from_secs(10);

/// The size of one capture, in millions of bytes, where it begins again at its start (`tcpdump -C`).
const MOST_MB: &str = "1000";

/// Captures under way. Dropping them kills them; [`Captures::end`] ends them with whole packets.
#[derive(Debug, Default)]
pub struct Captures(Vec<Capture>);

#[derive(Debug)]
struct Capture {
    node: String,
    file: PathBuf,
    child: Child,
}

impl Captures {
    /// Captures all packets on all interfaces of a node into `DIR/NODE.pcap`; it listens when this
    /// returns.
    ///
    /// # Errors
    /// When tcpdump is missing or does not begin.
    pub fn start(&mut self, node: &str, netns: &Netns, dir: &Path) -> anyhow::Result<()> {
        let file = dir.join(format!("{node}.pcap"));
        let said = dir.join(format!("{node}.tcpdump.log"));
        let failed = || format!("cannot write {}", said.display());
        let mut command = netns.command("tcpdump");
        // Each packet at once, so that a kill costs none; no names; as this user, in whose directory
        // the file is.
        command.args(["-i", "any", "-n", "-U", "-s", "0", "-Z", "root", "-C", MOST_MB, "-W", "1"]);
        command.arg("-w").arg(&file).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(fs::File::create(&said).with_context(failed)?);
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                bail!("tcpdump is missing: --pcap needs it (apt-get install tcpdump)")
            }
            Err(error) => return Err(error).context("cannot start tcpdump"),
        };
        let mut capture = Capture { node: node.to_owned(), file, child };
        let listens = wait::until("tcpdump listening", PATIENCE, || {
            let text = fs::read_to_string(&said).unwrap_or_default();
            let ended = capture.child.try_wait().ok().flatten().is_some();
            (ended || text.contains("listening on")).then_some((!ended, text))
        });
        match listens {
            Ok((true, _)) => self.0.push(capture),
            Ok((false, text)) => bail!("tcpdump on {node} ended: {}", text.trim()),
            Err(late) => {
                let _ = capture.child.kill();
                let _ = capture.child.wait();
                bail!("{late} on {node}");
            }
        }
        Ok(())
    }

    /// Ends them; returns what is wrong with them.
    pub fn end(mut self) -> Vec<String> {
        for capture in &self.0 {
            let pid = Pid::from_raw(capture.child.id().cast_signed());
            let _ = kill(pid, Signal::SIGINT);
        }
        let mut wrong = Vec::new();
        for capture in &mut self.0 {
            let node = &capture.node;
            let ended =
                wait::until("the end of tcpdump", PATIENCE, || capture.child.try_wait().ok()?);
            match ended {
                Ok(status) if status.success() => {}
                Ok(status) => wrong.push(format!("tcpdump on {node} ended with {status}")),
                Err(late) => wrong.push(format!("{node}: {late}")),
            }
            if !capture.file.is_file() {
                wrong.push(format!("there is no capture of {node}"));
            }
        }
        wrong
    }
}

impl Drop for Captures {
    fn drop(&mut self) {
        for capture in &mut self.0 {
            if capture.child.try_wait().ok().flatten().is_none() {
                let _ = capture.child.kill();
                let _ = capture.child.wait();
            }
        }
    }
}
