//! A coordinator of its own, its user and its agents.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use coordinator_api::enrolment::{Enrol, Enrolled, signed_text};
use coordinator_client::{JoinToken, Login, pinned_tls};
use futures_util::future::try_join_all;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use super::line::{Door, Line, Request};

/// Machines that join at the same time.
const AT_ONCE: usize = 64;

/// Tokens of one call: the program's own limit.
const TOKENS: usize = 10_000;

/// The running program.
pub(super) struct Site {
    pub(super) door: Door,
    /// The user's token.
    pub(super) user: String,
    program: Child,
    data: PathBuf,
}

/// A machine that has joined.
#[derive(Clone, Debug)]
pub(super) struct Agent {
    pub(super) name: String,
    pub(super) credential: String,
}

impl Site {
    /// On the first processor, with its data in `data`.
    pub(super) fn start(data: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(data).with_context(|| format!("cannot make {}", data.display()))?;
        let log = std::fs::File::create(data.with_extension("log"))?;
        let mut command = Command::new("taskset");
        command
            .args(["-c", "0"])
            .arg(own_program("coordinator")?)
            .arg("serve")
            .arg("--data")
            .arg(data);
        let local = "127.0.0.1:0";
        command.args(["--listen", local, "--rendezvous", local, "--relay", local]);
        command.args(["--public-address", "127.0.0.1", "--user-rate", "0", "--node-timeout", "1h"]);
        command.env("RUST_LOG", "warn");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        // SAFETY: between fork and exec only a system call is made.
        unsafe { command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?)) };
        let mut program = command.spawn().context("cannot start taskset and coordinator")?;
        let said = program.stdout.take().context("no output")?;
        for line in BufReader::new(said).lines() {
            if line?.trim() == "ready" {
                let login: Login = tool(&["user", "add", "bench"], data)?.trim().parse()?;
                let authority = login.url.trim_start_matches("https://");
                let address = authority.split('/').next().unwrap_or_default();
                let address: SocketAddr = address.parse().context("an address that is none")?;
                let tls = Arc::new(pinned_tls(login.root));
                let door = Door { address, tls, from: Arc::default() };
                return Ok(Self { door, user: login.token, program, data: data.to_owned() });
            }
        }
        bail!("the coordinator did not start: see {}", data.with_extension("log").display())
    }

    /// Machines of one core join.
    pub(super) async fn enrol(&self, count: usize) -> anyhow::Result<Vec<Agent>> {
        let mut tokens = Vec::with_capacity(count);
        while tokens.len() < count {
            let some = (count - tokens.len()).min(TOKENS).to_string();
            let text = tool(&["token", "add", "--count", &some], &self.data)?;
            for token in text.split_whitespace() {
                tokens.push(token.parse::<JoinToken>()?.token);
            }
        }
        let lanes = tokens.chunks(count.div_ceil(AT_ONCE)).map(|tokens| self.join(tokens));
        Ok(try_join_all(lanes).await?.concat())
    }

    async fn join(&self, tokens: &[String]) -> anyhow::Result<Vec<Agent>> {
        let mut line = Line::open(self).await?;
        let mut agents = Vec::with_capacity(tokens.len());
        for token in tokens {
            let request = Request::new(
                "POST",
                "/agents.json",
                None,
                &serde_json::to_string(&enrolment(token)?)?,
            );
            let body = line.ask(&request).await?.json(201)?;
            let Enrolled { hostname: name, credential, .. } = serde_json::from_value(body)?;
            agents.push(Agent { name, credential });
        }
        Ok(agents)
    }

    /// The most memory that it had, MiB.
    pub(super) fn peak_memory_mib(&self) -> Option<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.program.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib / 1_024.0)
    }

    /// Ends it in order.
    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        kill(Pid::from_raw(self.program.id().cast_signed()), Signal::SIGTERM)?;
        let status = self.program.wait()?;
        if !status.success() {
            bail!(
                "the coordinator ended with {status}: see {}",
                self.data.with_extension("log").display()
            );
        }
        Ok(())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // It has ended, or something went wrong.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

fn enrolment(token: &str) -> anyhow::Result<Enrol> {
    let document =
        Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).ok().context("no randomness")?;
    let key = Ed25519KeyPair::from_pkcs8(document.as_ref()).ok().context("no key")?;
    let node = hex(key.public_key().as_ref());
    let signature = hex(key.sign(signed_text(token, &node).as_bytes()).as_ref());
    let software = "bench".to_owned();
    Ok(Enrol { token: token.to_owned(), node, signature, cores: 1, memory_mib: 1_024, software })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the coordinator's command line says.
fn tool(arguments: &[&str], data: &Path) -> anyhow::Result<String> {
    let output = Command::new(own_program("coordinator")?)
        .args(arguments)
        .arg("--data")
        .arg(data)
        .output()?;
    if !output.status.success() {
        bail!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Beside this program.
fn own_program(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let path = own.with_file_name(name);
    if !path.exists() {
        bail!("{} is missing: build it with `make build`", path.display());
    }
    Ok(path)
}
