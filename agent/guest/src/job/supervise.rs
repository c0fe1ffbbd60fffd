//! While the command runs: the shim, the mesh, the wait.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use coordinator_api::agent::{Assignment, Fault};
use coordinator_api::job::Job;
use overlay_core::RttTable;
use overlay_core::ids::MeshId;
use overlay_core::netmap::{IPV4_PREFIX_LEN, IPV6_PREFIX_LEN, Netmap};
use tokio::process::Child;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::directory::JobDirectory;
use super::ending::Outcome;
use super::life::{Context, Order, ordered};
use super::news::{News, replace};
use super::output;
use super::remains::Remains;
use crate::environment::{self, MATRIX_SUFFIX, MeshAddresses, OutputFiles};
use crate::mesh::{
    MESH_MTU, Mesh, MeshEvent, MeshKeys, WireGuardSecret, secret_from_text, secret_to_text,
};
use crate::owner::Will;
use crate::shim::client::{ShimClient, ShimError};
use crate::shim::protocol::{ALONE_LIMIT, ExitReport, LaunchSpec, Role, VERSION};
use crate::shim::sandbox::{DEVICES_FOLDER, SSH_FOLDER};
use crate::shim::server::LAUNCH;
use crate::ssh::{self, NodeKey};

/// The most bytes of each captured output. Chosen: a result, not a log of years.
const MAX_OUTPUT_BYTES: u64 = 256 << 20;

/// Time between the polite and the final signal, milliseconds. OAR's own default is 60 s for a checkpoint
/// and 3 s for a kill.
const KILL_GRACE_MS: u64 = 5_000;

/// How much longer than the command a node without it may be asked for sessions, seconds: it begins earlier, and
/// is told when the job has ended. An hour bounds what the telling does not.
const LATER_S: u64 = 3600;

/// Runs the launch's command, or goes on waiting for it, to its end. What is left of the launch
/// then is to be [parted](Remains::part) with.
pub(super) async fn supervise(
    context: &Context,
    directory: &JobDirectory,
    job: &Job,
    assignment: &Assignment,
    orders: &mut watch::Receiver<Order>,
) -> io::Result<(Outcome, Option<Remains>)> {
    let mut child = None;
    let shim = match find_or_start(context, directory, job, assignment, &mut child).await? {
        Ok(shim) => shim,
        Err(outcome) => return Ok((outcome, None)),
    };
    let outputs = OutputFiles::of(job);
    let launch = Launch { context, directory, assignment, outputs, shim, key: OnceLock::new() };
    let (outcome, mesh) = launch.run(orders).await;
    let remains = Remains { mesh, shim: launch.shim, child }.after(&outcome).await;
    Ok((outcome, remains))
}

/// The launch's shim: the one that is there, or a new one if none was ever needed.
async fn find_or_start(
    context: &Context,
    directory: &JobDirectory,
    job: &Job,
    assignment: &Assignment,
    child: &mut Option<Child>,
) -> io::Result<Result<ShimClient, Outcome>> {
    let shim = ShimClient::at(directory.path());
    if directory.has_launch() {
        if shim.hello().await.is_ok() {
            tracing::info!(job = %directory.id(), "taken up again");
            return Ok(Ok(shim));
        }
        if let Some(report) = directory.exit()? {
            return Ok(Err(Outcome::Ended(report)));
        }
        if directory.has_started() {
            return Ok(Err(shim_died()));
        }
    }
    write_surroundings(context, directory, job, assignment)?;
    match ShimClient::start(&context.program, directory.path()).await {
        Ok((shim, process)) => {
            *child = Some(process);
            Ok(Ok(shim))
        }
        Err(error) => Ok(Err(Outcome::Unusable { fault: Fault::Node, message: error.to_string() })),
    }
}

fn shim_died() -> Outcome {
    Outcome::Unusable {
        fault: Fault::Node,
        message: "the job's supervising process died, and the job with it".into(),
    }
}

/// Everything that the shim and the sandbox read.
fn write_surroundings(
    context: &Context,
    directory: &JobDirectory,
    job: &Job,
    assignment: &Assignment,
) -> io::Result<()> {
    let etc = directory.path().join("etc");
    fs::create_dir_all(&etc)?;
    fs::write(etc.join("passwd"), environment::passwd())?;
    fs::write(etc.join("group"), environment::group())?;
    fs::write(etc.join("nsswitch.conf"), environment::name_service())?;
    fs::write(etc.join("hosts"), environment::hosts_alone(&context.hostname))?;
    let oar = directory.path().join("oar");
    fs::create_dir_all(&oar)?;
    fs::write(oar.join(job.id.to_string()), environment::node_file(assignment))?;
    fs::write(
        oar.join(format!("{}_resources", job.id)),
        environment::resource_properties_file(assignment),
    )?;
    if assignment.mesh {
        let devices = directory.path().join(DEVICES_FOLDER);
        for (path, text) in environment::network_devices(MESH_MTU) {
            let file = devices.join(path);
            fs::create_dir_all(file.parent().unwrap_or(&devices))?;
            fs::write(file, text)?;
        }
    }
    let outputs = OutputFiles::of(job);
    let role = role(assignment);
    let spec = LaunchSpec {
        version: VERSION,
        hostname: context.hostname.clone(),
        mesh_mtu: assignment.mesh.then_some(MESH_MTU),
        command: job.command.clone(),
        role,
        environment: environment::variables(job, assignment),
        stdout: outputs.stdout,
        stderr: outputs.stderr,
        max_output_bytes: MAX_OUTPUT_BYTES,
        walltime_s: assignment.walltime + if role.has_command() { 0 } else { LATER_S },
        kill_grace_ms: KILL_GRACE_MS,
        alone_limit_ms: u64::try_from(ALONE_LIMIT.as_millis()).unwrap_or(u64::MAX),
        limits: context.owner.limits_of(assignment),
        cage: context.cages.of(directory.path()),
    };
    directory.write(LAUNCH, &spec)
}

/// Where there is a network, others may come in over it.
fn role(assignment: &Assignment) -> Role {
    match (assignment.mesh, assignment.spmd || assignment.rank == 0) {
        (false, _) => Role::Command,
        (true, true) => Role::CommandAndSessions,
        (true, false) => Role::Sessions,
    }
}

/// How often the job's file of members gets new figures. Chosen: the coordinator's table is as old.
const NEWS_PAUSE: Duration = Duration::from_secs(2);

struct Launch<'a> {
    context: &'a Context,
    directory: &'a JobDirectory,
    assignment: &'a Assignment,
    outputs: OutputFiles,
    shim: ShimClient,
    /// Known when the network is joined.
    key: OnceLock<NodeKey>,
}

impl Launch<'_> {
    /// This node runs the command.
    fn has_command(&self) -> bool {
        self.assignment.spmd || self.assignment.rank == 0
    }

    async fn run(&self, orders: &mut watch::Receiver<Order>) -> (Outcome, Option<Mesh>) {
        let mut ended = std::pin::pin!(self.shim.wait());
        let begun = tokio::select! {
            begun = self.begin() => begun,
            report = &mut ended => return (self.outcome(report), None),
            () = ordered(orders, Order::Kill) => Ok(None),
        };
        let mut mesh = match begun {
            Ok(mesh) => mesh,
            Err(message) => return (Outcome::Unusable { fault: Fault::Node, message }, None),
        };

        let mut news = mesh.as_ref().and_then(|_| self.begin_news());
        let mut pause = tokio::time::interval(NEWS_PAUSE);
        pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut owner = self.context.owner.changes();
        owner.mark_changed();
        let mut paused = false;
        let mut following =
            std::pin::pin!(output::follow(self.context, self.directory, &self.outputs));
        let mut follows = self.has_command();
        let (mut killed, mut has_ended) = (false, false);
        let outcome = loop {
            tokio::select! {
                report = &mut ended, if !has_ended => {
                    match self.without_sessions(report) {
                        Some(outcome) => break outcome,
                        None => has_ended = true,
                    }
                }
                () = ordered(orders, Order::Kill), if !killed => {
                    killed = true;
                    if let Err(error) = self.shim.kill().await {
                        tracing::warn!(job = %self.directory.id(), %error, "the kill failed");
                    }
                    if !self.has_command() {
                        // What its sessions have written is packed when they have ended.
                        if !has_ended { let _ = (&mut ended).await; }
                        break Outcome::Released;
                    }
                }
                _ = pause.tick(), if news.is_some() => {
                    if let (Some(news), Some(mesh)) = (&mut news, &mesh) {
                        news.on_pairs(&mesh.pairs().await);
                    }
                }
                // Also at once, for a restarted agent.
                Ok(()) = owner.changed(), if !has_ended => {
                    let will = owner.borrow_and_update().clone();
                    self.obey(&will, &mut paused).await;
                }
                () = &mut following, if follows => follows = false,
                event = next_event(&mut mesh) => {
                    if let Err(reason) = self.on_event(event, &mut mesh, &mut news).await {
                        break Outcome::Unusable { fault: Fault::Node, message: reason };
                    }
                }
            }
        };
        (outcome, mesh)
    }

    /// The owner has said something, or the hour has come.
    async fn obey(&self, will: &Will, paused: &mut bool) {
        let id = self.directory.id();
        let limits = self.context.owner.limits_of(self.assignment);
        if let Err(error) = self.shim.limit(limits).await {
            tracing::warn!(job = %id, %error, "the job keeps its limits");
        }
        let wanted = will.is_paused();
        match self.shim.pause(wanted).await {
            Ok(()) if wanted != *paused => {
                tracing::info!(job = %id, "{}", if wanted { "paused" } else { "goes on" });
                *paused = wanted;
            }
            Ok(()) => {}
            Err(error) => tracing::warn!(job = %id, %error, "the job cannot be paused"),
        }
    }

    /// Starts the command, or joins the mesh whose opening will start it.
    async fn begin(&self) -> Result<Option<Mesh>, String> {
        if !self.assignment.mesh {
            if self.has_command() {
                self.start_command().await?;
            }
            return Ok(None);
        }
        let stored = self.shim.secret().await.map_err(|error| error.to_string())?;
        let secret = match stored.and_then(|text| secret_from_text(&text)) {
            Some(secret) => secret,
            None => {
                let secret = WireGuardSecret::generate();
                let text = secret_to_text(&secret);
                self.shim.store_secret(&text).await.map_err(|error| error.to_string())?;
                secret
            }
        };
        let key = NodeKey::of(&secret);
        let host = Some(key.public());
        let _ = self.key.set(key);
        let tun = self.shim.take_tun().await.map_err(|error| error.to_string())?;
        let id = self.directory.id();
        let mesh = MeshId { job: id.job, generation: id.generation };
        // Refused before, see `prepare`.
        let network = self.context.network.as_ref().ok_or("this node joins no networks")?;
        let joined = network.join(mesh, tun, MeshKeys { secret, host }).await;
        joined.map(Some).map_err(|error| format!("joining the job's network failed: {error}"))
    }

    /// None, with a line in the log, when the disk does not take it: the job does without.
    fn begin_news(&self) -> Option<News> {
        let id = self.directory.id();
        let mesh = MeshId { job: id.job, generation: id.generation };
        News::begin(self.oar_folder(), mesh, self.assignment.rank)
            .inspect_err(|error| tracing::warn!(job = %id, %error, "no news for the job"))
            .ok()
    }

    fn oar_folder(&self) -> PathBuf {
        self.directory.path().join("oar")
    }

    /// Round trip times, and the node file by them. A command of its own on each rank knows its peers
    /// by their lines, so those keep their order then.
    fn write_distances(&self, rtt: &RttTable) -> io::Result<()> {
        let (folder, job) = (self.oar_folder(), self.directory.id().job);
        let size = self.assignment.nodes.len();
        replace(&folder.join(format!("{job}{MATRIX_SUFFIX}")), &rtt.csv(size))?;
        if !self.assignment.spmd {
            let nodes = environment::node_file_by(self.assignment, rtt.chain(size));
            replace(&folder.join(job.to_string()), &nodes)?;
        }
        Ok(())
    }

    async fn start_command(&self) -> Result<(), String> {
        self.shim.run().await.map_err(|error| error.to_string())?;
        self.context.events.command_started(self.directory.id(), self.assignment.rank);
        Ok(())
    }

    async fn on_event(
        &self,
        event: MeshEvent,
        mesh: &mut Option<Mesh>,
        news: &mut Option<News>,
    ) -> Result<(), String> {
        let id = self.directory.id();
        match event {
            MeshEvent::Netmap(netmap) => {
                tracing::info!(job = %id, members = netmap.members.len(), "the job's members");
                if let Some(news) = news {
                    news.on_netmap(&netmap);
                }
                self.set_members(&netmap).await
            }
            MeshEvent::Member { node, ended } => {
                if let Some(news) = news {
                    news.on_member(node, ended);
                }
                Ok(())
            }
            MeshEvent::Open { rtt } => {
                tracing::info!(job = %id, "the job's network is open");
                // Said again to a restarted agent, whose job has read them long ago.
                if !self.directory.has_started()
                    && let Err(error) = self.write_distances(&rtt)
                {
                    tracing::warn!(job = %id, %error, "writing the round trip times failed");
                }
                if let (Some(news), Some(mesh)) = (news, &mesh) {
                    news.on_pairs(&mesh.pairs().await);
                }
                if self.has_command() {
                    self.start_command().await?;
                }
                Ok(())
            }
            MeshEvent::Closed { reason } => {
                // The lists say what is to become of the job; here only its network has ended.
                tracing::warn!(job = %id, %reason, "the job's network was closed");
                if let Some(mesh) = mesh.take() {
                    mesh.leave().await;
                }
                Ok(())
            }
        }
    }

    async fn set_members(&self, netmap: &Netmap) -> Result<(), String> {
        if let Some(member) =
            netmap.members.iter().find(|member| !environment::is_host_name(&member.name))
        {
            return Err(format!("the member name {:?} is no host name", member.name));
        }
        if let Some(key) = self.key.get() {
            ssh::write(&self.directory.path().join(SSH_FOLDER), key, netmap)
                .map_err(|error| format!("writing the job's ssh keys failed: {error}"))?;
        }
        let own = MeshAddresses::of(netmap.mesh, self.assignment.rank);
        let hosts = environment::hosts_of(netmap);
        let set =
            self.shim.set_members((own.ipv4, IPV4_PREFIX_LEN), (own.ipv6, IPV6_PREFIX_LEN), hosts);
        set.await.map_err(|error| error.to_string())?;
        // A second time changes nothing. What an older agent started knows of no sessions.
        if !self.has_command() && self.directory.role() == Some(Role::Sessions) {
            self.shim.run().await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// The launch's end, unless only sessions have ended on a node without the command: that is no end of the
    /// job, whose first node decides.
    fn without_sessions(&self, report: Result<ExitReport, ShimError>) -> Option<Outcome> {
        if self.has_command() || report.is_err() {
            return Some(self.outcome(report));
        }
        tracing::warn!(job = %self.directory.id(), "no further sessions on this node");
        None
    }

    /// What the end of the wait means. A shim that is gone may still have written its last word.
    fn outcome(&self, report: Result<ExitReport, ShimError>) -> Outcome {
        let Some(report) = report.ok().or_else(|| self.directory.exit().ok().flatten()) else {
            return shim_died();
        };
        self.context.events.command_ended(self.directory.id(), self.assignment.rank, &report);
        Outcome::Ended(report)
    }
}

async fn next_event(mesh: &mut Option<Mesh>) -> MeshEvent {
    match mesh {
        Some(mesh) => mesh.event().await,
        None => std::future::pending().await,
    }
}
