//! The whole life of a launch.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use coordinator_api::agent::{Fault, ReportedState, SetState};
use coordinator_client::Client;
use nix::fcntl::OFlag;
use tokio::sync::watch;

use super::directory::JobDirectory;
use super::ending::{FinalReport, Outcome};
use super::remains::Remains;
use super::{prepare, supervise};
use crate::confine::cage::Cages;
use crate::environment::OutputFiles;
use crate::events::Events;
use crate::mesh::MeshNetwork;
use crate::owner::Owner;
use crate::retry::Reach;
use crate::shim::client::ShimClient;
use crate::shim::protocol::Ending;
use crate::stage::pack::{MAX_STAGEOUT_BYTES, pack};

/// How often a disk that is read-only is tried again.
const READ_ONLY_PAUSE: Duration = Duration::from_secs(2);

/// What every launch needs.
pub struct Context {
    /// The coordinator, with the node's credential; or a plain OAR server.
    pub client: Client,
    /// Whether it answers.
    pub reach: Reach,
    /// The overlay; none for a plain OAR server's node.
    pub network: Option<MeshNetwork>,
    /// The node's OAR host name.
    pub hostname: String,
    /// What the owner gives to jobs.
    pub owner: Owner,
    /// Where control groups of jobs can be made.
    pub cages: Cages,
    /// Where what happens is written for whoever watches.
    pub events: Events,
    /// The program that has the subcommand `shim`: this one.
    pub program: PathBuf,
}

/// What the poller wants of a launch. It only ever moves down this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// Go on.
    Run,
    /// End the command, stage out, report.
    Kill,
    /// End everything and say nothing.
    Abandon,
}

/// Completes when the order is at least `order`.
pub(super) async fn ordered(orders: &mut watch::Receiver<Order>, order: Order) {
    if orders.wait_for(|current| *current >= order).await.is_err() {
        // The poller is gone: so is this task, soon.
        std::future::pending().await
    }
}

/// Lives it, from wherever the folder says that it stands, to the accepted report and the removed folder.
///
/// # Errors
/// When the folder cannot be removed; the end has been reported then.
pub async fn live(
    context: Arc<Context>,
    directory: JobDirectory,
    mut orders: watch::Receiver<Order>,
) -> io::Result<()> {
    let (report, remains) = match directory.final_report() {
        Ok(Some(report)) => (Some(report), None),
        Ok(None) => {
            let (outcome, remains) = outcome(&context, &directory, &mut orders).await;
            (conclude(&context, &directory, outcome, &mut orders).await, remains)
        }
        Err(error) => {
            (conclude(&context, &directory, disk_failed(&error), &mut orders).await, None)
        }
    };
    if let Some(report) = report {
        tokio::select! {
            () = deliver(&context, &directory, &report) => {}
            () = ordered(&mut orders, Order::Abandon) => {}
        }
    }
    if let Some(remains) = remains {
        remains.part(&mut orders).await;
    }
    // Nothing of the job may be left when its folder goes.
    let _ = ShimClient::at(directory.path()).release().await;
    let folder = directory.clone();
    tokio::task::spawn_blocking(move || folder.remove()).await.map_err(io::Error::other)?
}

async fn outcome(
    context: &Context,
    directory: &JobDirectory,
    orders: &mut watch::Receiver<Order>,
) -> (Outcome, Option<Remains>) {
    let lived = async {
        let (job, assignment, place) = match prepare::prepare(context, directory, orders).await? {
            Ok(ready) => ready,
            Err(outcome) => return Ok((outcome, None)),
        };
        let lived = supervise::supervise(context, directory, &job, &assignment, orders).await;
        drop(place);
        lived
    };
    lived.await.unwrap_or_else(|error: io::Error| (disk_failed(&error), None))
}

fn disk_failed(error: &io::Error) -> Outcome {
    let message = format!("the node's disk failed: {error}");
    Outcome::Unusable { fault: Fault::Node, message }
}

/// Packs the results and decides the report. It is decided also when it cannot be written down: the
/// coordinator must hear of the end from a node with a full disk, too.
async fn conclude(
    context: &Context,
    directory: &JobDirectory,
    mut outcome: Outcome,
    orders: &mut watch::Receiver<Order>,
) -> Option<FinalReport> {
    let mut stageout = false;
    let told = outcome.report(0).and_then(|report| report.message);
    let told = told.filter(|_| context.client.is_plain_oar());
    // Whatever the end was: what a command has written so far is the scientist's.
    if outcome != Outcome::Dropped && (directory.has_started() || told.is_some()) {
        match packed(directory, told, orders).await {
            Ok(entries) => stageout = entries > 0,
            Err(error) => {
                tracing::error!(job = %directory.id(), %error, "packing the results failed");
                let message = format!("the results could not be packed: {error}");
                outcome = Outcome::Unusable { fault: Fault::Node, message };
            }
        }
    }
    let id = directory.id();
    match &outcome {
        Outcome::Ended(report) => match &report.ending {
            Ending::Unusable { reason } => {
                tracing::error!(job = %id, %reason, "the job did not run")
            }
            ending @ (Ending::Exited { .. }
            | Ending::Killed
            | Ending::Walltime
            | Ending::Alone
            | Ending::OverLimit { .. }) => {
                tracing::info!(job = %id, ?ending, "the job has ended");
            }
        },
        Outcome::Unusable { message, .. } => {
            tracing::warn!(job = %id, reason = %message, "the job did not run");
        }
        Outcome::Released | Outcome::Killed | Outcome::Dropped => {
            tracing::info!(job = %id, ?outcome, "the job is over");
        }
    }
    let report = outcome.report(id.generation).map(|state| FinalReport { stageout, state })?;
    if let Err(error) = directory.set_final_report(&report) {
        tracing::error!(job = %id, %error, "writing the report down failed");
    }
    Some(report)
}

/// Packs the results. A disk that has turned read-only has them still: they wait for it, until the job is killed.
/// `told` goes to the end of the job's standard error.
async fn packed(
    directory: &JobDirectory,
    mut told: Option<String>,
    orders: &mut watch::Receiver<Order>,
) -> io::Result<u64> {
    let mut is_logged = false;
    loop {
        let (folder, message) = (directory.clone(), told.take());
        let packed = tokio::task::spawn_blocking(move || {
            if let Some(message) = message {
                tell_in_stderr(&folder, &message)?;
            }
            pack_results(&folder)
        });
        let packed = packed.await.map_err(io::Error::other).flatten();
        let Err(error) = &packed else { return packed };
        if error.kind() != io::ErrorKind::ReadOnlyFilesystem {
            return packed;
        }
        if !std::mem::replace(&mut is_logged, true) {
            let job = directory.id();
            tracing::error!(%job, "the node's disk is read-only: the results wait until it is not");
        }
        tokio::select! {
            () = tokio::time::sleep(READ_ONLY_PAUSE) => {}
            () = ordered(orders, Order::Kill) => return packed,
        }
    }
}

/// A plain OAR server has no place for a report's message: it goes to the end of the job's standard error.
fn tell_in_stderr(directory: &JobDirectory, message: &str) -> io::Result<()> {
    let Some(job) = directory.job()? else { return Ok(()) };
    let work = directory.work();
    if !work.is_dir() {
        directory.fresh_work()?;
    }
    // The job may have taken its own rights away, or put something else in the file's place.
    fs::set_permissions(&work, fs::Permissions::from_mode(0o700))?;
    let mut options = fs::OpenOptions::new();
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let opened = options.create(true).append(true).mode(0o600).custom_flags(flags.bits());
    let written = opened
        .open(work.join(OutputFiles::of(&job).stderr))
        .and_then(|mut file| writeln!(file, "agent: {message}"));
    if let Err(error) = written {
        tracing::warn!(job = %directory.id(), %error, "the reason cannot be told in the results");
    }
    Ok(())
}

fn pack_results(directory: &JobDirectory) -> io::Result<u64> {
    let Some(job) = directory.job()? else { return Ok(0) };
    let outputs = OutputFiles::of(&job);
    // The job may have taken its own rights away.
    fs::set_permissions(directory.work(), fs::Permissions::from_mode(0o700))?;
    let baseline = directory.baseline()?.unwrap_or_default();
    let packed = pack(
        &directory.work(),
        &baseline,
        &[outputs.stdout.into(), outputs.stderr.into()],
        outputs.left_out.as_ref(),
        &directory.stageout(),
        MAX_STAGEOUT_BYTES,
    )?;
    for line in &packed.left_out {
        tracing::debug!(job = %directory.id(), %line, "left out of the results");
    }
    Ok(packed.entries)
}

/// Sends the results, then the report, until the coordinator has them or refuses them.
async fn deliver(context: &Context, directory: &JobDirectory, report: &FinalReport) {
    let id = directory.id();
    let mut state: SetState = report.state.clone();
    if report.stageout {
        let archive = directory.stageout();
        let sent = context
            .reach
            .insist(|| context.client.upload_stageout(id.job, id.generation, &archive));
        if let Err(error) = sent.await {
            tracing::warn!(job = %id, %error, "the results were not accepted");
            let message = format!("the results were not accepted: {error}");
            state.message = Some(match state.message {
                Some(first) => format!("{first}; {message}"),
                None => message,
            });
            // Nothing else would say there that they are missing.
            if context.client.is_plain_oar() {
                state.state = ReportedState::Error;
            }
        }
    }
    let told = context.reach.insist(|| context.client.set_state(id.job, &state));
    if let Err(error) = told.await {
        tracing::warn!(job = %id, %error, "the report was not accepted");
    }
}
