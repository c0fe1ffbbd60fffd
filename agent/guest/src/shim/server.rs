//! The shim's main loop: answers the agent, minds the command, and ends without either.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use zeroize::Zeroizing;

use super::descriptor::{receive_line, send_line};
use super::pause::{Pause, Pauses};
use super::process::{self, Stop};
use super::protocol::{Answer, Ending, ExitReport, LaunchSpec, MAX_LINE, Request, VERSION};
use crate::mesh::MeshDevice;

/// The socket, in the job's directory.
pub const SOCKET: &str = "shim.sock";
/// What the shim has to do.
pub const LAUNCH: &str = "launch.json";
/// How the command ended.
pub const EXIT: &str = "exit.json";
/// Exists from the moment the command may have been started.
pub const STARTED: &str = "started";
/// The shim's standard error.
pub const START_LOG: &str = "shim.log";

/// Where SSH is served.
const SSH_PORT: u16 = 22;

/// How often a disk is asked again that did not take the job's end: one that is full, or read-only for now.
const WRITE_PAUSE: Duration = Duration::from_secs(2);

/// The name of the mesh's device inside the job.
const DEVICE: &str = "mesh0";

/// Runs a shim to its end. Call in a process of one thread.
///
/// # Errors
/// Anything that keeps it from serving; the text goes to the agent.
pub fn run(directory: &Path) -> anyhow::Result<()> {
    use anyhow::Context as _;

    close_inherited();
    // A session of its own: no terminal, and no signal that is meant for the agent's group.
    nix::unistd::setsid().ok();
    let spec = read_spec(directory).context("reading launch.json failed")?;
    let lock = File::create(directory.join("shim.lock"))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, errno)| errno)
        .context("the launch has a shim already")?;
    super::isolate()?;
    process::adopt_orphans()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tun = spec
        .mesh_mtu
        .map(|mtu| MeshDevice::open(DEVICE, mtu))
        .transpose()
        .context("making mesh0 failed (is /dev/net/tun there, and may this user open it?)")?;
    // Before the network opens, so that a node that is early waits and is not refused.
    let sessions = spec.role.has_sessions().then(listen).transpose();
    let sessions = sessions.context("listening for the job's sessions failed")?;
    runtime.block_on(serve(directory, spec, tun, sessions))?;
    Ok(())
}

/// Closes what the agent got from whoever started it: it would go on to the job.
fn close_inherited() {
    let open: Vec<RawFd> = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .filter_map(|item| item.ok()?.file_name().to_str()?.parse().ok())
        .filter(|descriptor| *descriptor > 2)
        .collect();
    for descriptor in open {
        // One of them was the listing's own, and is closed already.
        let _ = nix::unistd::close(descriptor);
    }
}

fn read_spec(directory: &Path) -> anyhow::Result<LaunchSpec> {
    let spec: LaunchSpec = serde_json::from_slice(&fs::read(directory.join(LAUNCH))?)?;
    anyhow::ensure!(spec.version == VERSION, "its version {} is unknown", spec.version);
    Ok(spec)
}

/// A question and where its answer goes.
struct Asked {
    request: Request,
    reply: oneshot::Sender<(Answer, Option<OwnedFd>)>,
}

/// The socket of the node's SSH server, in the job's network.
fn listen() -> io::Result<TcpListener> {
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, SSH_PORT))
        .or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, SSH_PORT)))
}

async fn serve(
    directory: &Path,
    spec: LaunchSpec,
    tun: Option<MeshDevice>,
    sessions: Option<TcpListener>,
) -> io::Result<()> {
    let folder = File::open(directory)?;
    let _ = fs::remove_file(directory.join(SOCKET));
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()))?;
    fs::set_permissions(directory.join(SOCKET), fs::Permissions::from_mode(0o600))?;
    drop(folder);

    let (asked, mut questions) = mpsc::channel(16);
    let agents = Arc::new(watch::Sender::new(0usize));
    tokio::spawn(accept(listener, asked, agents.clone()));

    let alone_limit = Duration::from_millis(spec.alone_limit_ms);
    let mut shim = Shim {
        directory: directory.to_owned(),
        spec,
        tun,
        sessions,
        has_addresses: false,
        secret: None,
        command: None,
        exit: None,
        is_unwritten: false,
        waiting: Vec::new(),
    };
    let mut alone_since = Some(Instant::now());
    let mut is_given_up = false;
    let mut presence = agents.subscribe();
    loop {
        if is_given_up && shim.exit.is_some() && !shim.is_unwritten {
            return Ok(());
        }
        let deadline = alone_since.map(|since| since + alone_limit);
        tokio::select! {
            Some(question) = questions.recv() => {
                if shim.answer(question) { return Ok(()); }
            }
            report = ended(&mut shim.command) => {
                shim.command = None;
                shim.finish(report);
            }
            () = sleep(WRITE_PAUSE), if shim.is_unwritten => shim.write_exit(),
            _ = presence.changed() => {
                let present = *presence.borrow_and_update() > 0;
                alone_since = if present { None } else { alone_since.or(Some(Instant::now())) };
            }
            () = sleep_until(deadline.unwrap_or_else(Instant::now)),
                if deadline.is_some() && !is_given_up =>
            {
                // Nobody came back. What is there stays on the disk for the agent that will.
                shim.stop(Stop::Alone);
                is_given_up = true;
            }
        }
    }
}

/// A command that runs.
struct Running {
    stop: watch::Sender<Option<Stop>>,
    pause: mpsc::Sender<Pause>,
    report: JoinHandle<ExitReport>,
}

async fn ended(command: &mut Option<Running>) -> ExitReport {
    match command {
        None => std::future::pending().await,
        Some(running) => (&mut running.report).await.unwrap_or_else(|error| ExitReport {
            ending: Ending::Unusable { reason: format!("the shim failed: {error}") },
            started: true,
            output_cut: false,
            out_of_memory: false,
        }),
    }
}

struct Shim {
    directory: PathBuf,
    spec: LaunchSpec,
    tun: Option<MeshDevice>,
    /// Until the sandbox has it.
    sessions: Option<TcpListener>,
    has_addresses: bool,
    secret: Option<Zeroizing<String>>,
    command: Option<Running>,
    exit: Option<ExitReport>,
    /// The disk has not taken the end yet.
    is_unwritten: bool,
    waiting: Vec<oneshot::Sender<(Answer, Option<OwnedFd>)>>,
}

impl Shim {
    /// Answers; true when that was the last question.
    fn answer(&mut self, question: Asked) -> bool {
        let Asked { request, reply } = question;
        let mut last = false;
        let answer = match request {
            Request::Hello => Ok(Answer::State {
                version: VERSION,
                started: self.command.is_some() || self.exit.is_some(),
                ended: self.exit.is_some(),
            }),
            Request::TakeTun => match self.descriptor() {
                Ok(descriptor) => {
                    let _ = reply.send((Answer::Done, Some(descriptor)));
                    return false;
                }
                Err(reason) => Err(reason),
            },
            Request::StoreSecret { secret } => {
                self.secret = Some(Zeroizing::new(secret));
                Ok(Answer::Done)
            }
            Request::Secret => {
                Ok(Answer::Secret { secret: self.secret.as_ref().map(|secret| secret.to_string()) })
            }
            Request::SetMembers { ipv4, ipv6, hosts } => {
                self.set_members(ipv4, ipv6, &hosts).map(|()| Answer::Done)
            }
            Request::Start => self.start().map(|()| Answer::Done),
            Request::Kill => {
                self.stop(Stop::Ordered);
                Ok(Answer::Done)
            }
            Request::Pause { paused } => {
                self.pause(paused, reply);
                return false;
            }
            Request::Limit { limits } => {
                self.spec.limits = limits;
                // What has not begun begins with them.
                let set = self.command.as_ref().map_or(Ok(()), |_| self.spec.cage.set(&limits));
                set.map(|()| Answer::Done).map_err(|error| error.to_string())
            }
            Request::Wait => {
                match &self.exit {
                    Some(report) => drop(reply.send((Answer::Ended(report.clone()), None))),
                    None => self.waiting.push(reply),
                }
                return false;
            }
            Request::Release => {
                // Ending this process ends the sandbox with it.
                last = true;
                Ok(Answer::Done)
            }
        };
        let answer = answer.unwrap_or_else(|reason| Answer::Refused { reason });
        let _ = reply.send((answer, None));
        last
    }

    fn descriptor(&self) -> Result<OwnedFd, String> {
        let tun = self.tun.as_ref().ok_or("the job has no mesh")?;
        tun.descriptor().try_clone_to_owned().map_err(|error| error.to_string())
    }

    fn set_members(
        &mut self,
        ipv4: (Ipv4Addr, u8),
        ipv6: (Ipv6Addr, u8),
        hosts: &str,
    ) -> Result<(), String> {
        let tun = self.tun.as_ref().ok_or("the job has no mesh")?;
        // They follow from the rank and never change; the members do.
        if !self.has_addresses {
            tun.set_addresses(ipv4.0, ipv4.1, ipv6.0, ipv6.1)
                .map_err(|error| format!("setting the addresses of mesh0 failed: {error}"))?;
            self.has_addresses = true;
        }
        write_in_place(&self.directory.join("etc/hosts"), hosts.as_bytes())
            .map_err(|error| format!("writing the hosts file failed: {error}"))
    }

    fn start(&mut self) -> Result<(), String> {
        if self.command.is_some() || self.exit.is_some() {
            return Ok(());
        }
        File::create(self.directory.join(STARTED)).map_err(|error| error.to_string())?;
        let (stop, stopped) = watch::channel(None);
        let (pause, pauses) = Pauses::new();
        let (directory, spec) = (self.directory.clone(), self.spec.clone());
        let work = process::run(directory, spec, self.sessions.take(), stopped, pauses);
        self.command = Some(Running { stop, pause, report: tokio::spawn(work) });
        Ok(())
    }

    /// Answers when it is done. What has not begun, or has ended, stands still anyway.
    fn pause(&self, paused: bool, reply: oneshot::Sender<(Answer, Option<OwnedFd>)>) {
        let order = self.command.as_ref().map(|running| running.pause.clone());
        tokio::spawn(async move {
            let (done, result) = oneshot::channel();
            let ordered = match order {
                Some(order) => order.send(Pause { paused, done }).await.is_ok(),
                None => false,
            };
            // The command may end before its turn comes.
            let result = if ordered { result.await.unwrap_or(Ok(())) } else { Ok(()) };
            let answer = match result {
                Ok(()) => Answer::Done,
                Err(reason) => Answer::Refused { reason },
            };
            let _ = reply.send((answer, None));
        });
    }

    /// Ends the command, or makes sure that it will never start. False when the end is known already.
    fn stop(&mut self, stop: Stop) -> bool {
        if self.exit.is_some() {
            return false;
        }
        match &self.command {
            Some(running) => {
                running.stop.send_if_modified(|current| {
                    let first = current.is_none();
                    current.get_or_insert(stop);
                    first
                });
            }
            None => self.finish(ExitReport::not_started(stop.ending())),
        }
        true
    }

    /// The command has ended. Whoever waits is told, whether or not the disk takes it.
    fn finish(&mut self, report: ExitReport) {
        self.exit = Some(report.clone());
        self.write_exit();
        for reply in self.waiting.drain(..) {
            let _ = reply.send((Answer::Ended(report.clone()), None));
        }
    }

    /// Writes the end down, or has it tried again: another agent may come, and this process may die.
    fn write_exit(&mut self) {
        let written = serde_json::to_vec(&self.exit)
            .map_err(io::Error::from)
            .and_then(|text| crate::state_dir::write_private(&self.directory.join(EXIT), &text));
        if let Err(error) = &written
            && !self.is_unwritten
        {
            tracing::error!(%error, "the disk does not take the job's end; trying again");
        }
        self.is_unwritten = written.is_err();
    }
}

/// Rewrites a file that is bound into the sandbox: a renamed file would not be seen there.
fn write_in_place(path: &Path, text: &[u8]) -> io::Result<()> {
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(path)?;
    file.write_all_at(text, 0)?;
    file.set_len(text.len() as u64)?;
    (&file).flush()
}

async fn accept(
    listener: UnixListener,
    asked: mpsc::Sender<Asked>,
    agents: Arc<watch::Sender<usize>>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (asked, agents) = (asked.clone(), agents.clone());
                tokio::spawn(async move {
                    agents.send_modify(|count| *count += 1);
                    let _ = converse(stream, asked).await;
                    agents.send_modify(|count| *count -= 1);
                });
            }
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn converse(mut stream: UnixStream, asked: mpsc::Sender<Asked>) -> io::Result<()> {
    let (line, _) = receive_line(&stream).await?;
    debug_assert!(line.len() <= MAX_LINE);
    let (reply, answer) = oneshot::channel();
    let request = serde_json::from_slice(&line)?;
    let _ = asked.send(Asked { request, reply }).await;

    let mut nothing = [0u8; 1];
    let (answer, descriptor) = tokio::select! {
        answer = answer => answer.map_err(io::Error::other)?,
        // The agent has gone away while it waited.
        _ = stream.read(&mut nothing) => return Ok(()),
    };
    let line = serde_json::to_vec(&answer)?;
    send_line(&stream, line, descriptor.as_ref().map(AsFd::as_fd)).await
}
