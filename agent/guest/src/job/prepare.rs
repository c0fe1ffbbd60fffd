//! Before the command: fetch, acknowledge, stage in.

use std::io;
use std::time::Duration;

use coordinator_api::agent::{Assignment, Fault, ReportedState, SetState};
use coordinator_api::job::Job;
use coordinator_client::ClientError;
use coordinator_client::transfer::TransferError;
use tokio::sync::watch;
use tokio::time::timeout;

use super::directory::JobDirectory;
use super::ending::Outcome;
use super::life::{Context, Order, ordered};
use crate::environment::is_host_name;
use crate::owner::Place;
use crate::stage::baseline::Baseline;
use crate::stage::unpack::{UnpackLimits, unpack};

/// How often an archive may arrive with the wrong hash before the job is given back.
const DAMAGED_LIMIT: u32 = 3;

/// The most bytes of a stage-in archive: as much as may come out of it.
const MAX_STAGEIN_BYTES: u64 = 16 << 30;

/// The longest command: the kernel's bound on one argument (MAX_ARG_STRLEN, 128 KiB) with its final zero.
const MAX_COMMAND_BYTES: usize = (128 << 10) - 1;

/// How long a launch waits for cores before it is given back. Chosen: those of a job that is ending come free within
/// it, and it is well before the coordinator's launch deadline of 60 s.
const CORES_PATIENCE: Duration = Duration::from_secs(20);

/// The most lines of a node file.
const MAX_CORES: u64 = 1_000_000;

/// Brings the folder to the point where the shim can be started, and finds a place among the owner's cores. The inner
/// error is the launch's end.
pub(super) async fn prepare(
    context: &Context,
    directory: &JobDirectory,
    orders: &mut watch::Receiver<Order>,
) -> io::Result<Result<(Job, Assignment, Place), Outcome>> {
    // Before the shim is started the coordinator is asked again: it may have given the job away while
    // this agent was not there. Afterwards it must not be waited for, since the shim does not wait.
    let known = directory.job()?.filter(|_| directory.has_launch());
    let (job, assignment, place) = match known {
        Some(job) => match assignment_of(context, &job) {
            Ok(assignment) => {
                let place = context.owner.readmit(&assignment);
                (job, assignment, place)
            }
            Err(message) => return Ok(Err(Outcome::Unusable { fault: Fault::Job, message })),
        },
        None => {
            let taken = tokio::select! {
                taken = take(context, directory) => taken,
                () = ordered(orders, Order::Kill) => Err(Outcome::Killed),
            };
            match taken {
                Ok(taken) => {
                    directory.set_job(&taken.0)?;
                    taken
                }
                Err(outcome) => return Ok(Err(outcome)),
            }
        }
    };
    if directory.baseline()?.is_none()
        && let Err(outcome) = stage_in(context, directory, &assignment, orders).await?
    {
        return Ok(Err(outcome));
    }
    Ok(Ok((job, assignment, place)))
}

/// Fetches the job and acknowledges it, when there are cores for it: what is acknowledged runs, to the coordinator, and
/// its time passes.
async fn take(
    context: &Context,
    directory: &JobDirectory,
) -> Result<(Job, Assignment, Place), Outcome> {
    let id = directory.id();
    let fetched = context.reach.insist(|| context.client.job(id.job)).await;
    let job = fetched.map_err(|error| unwanted(directory, &error))?;
    // A plain OAR server knows no launches.
    let generation = job.assignment.as_ref().map_or(0, |assignment| assignment.generation);
    if generation != id.generation {
        return Err(Outcome::Dropped);
    }
    let assignment = match assignment_of(context, &job) {
        Ok(assignment) => assignment,
        Err(message) => {
            // A plain OAR server is told why in the results, and takes those of running jobs only.
            if context.client.is_plain_oar() {
                acknowledge(context, directory).await?;
                if let Err(error) = directory.set_job(&job) {
                    tracing::warn!(job = %id, %error, "the reason cannot be told in the results");
                }
            }
            return Err(Outcome::Unusable { fault: Fault::Job, message });
        }
    };
    let place = place(context, &assignment).await?;
    acknowledge(context, directory).await?;
    tracing::info!(job = %id, "taken");
    Ok((job, assignment, place))
}

async fn acknowledge(context: &Context, directory: &JobDirectory) -> Result<(), Outcome> {
    let id = directory.id();
    let acknowledgement = SetState {
        state: ReportedState::Running,
        generation: id.generation,
        exit_code: None,
        fault: None,
        message: None,
    };
    let told = context.reach.insist(|| context.client.set_state(id.job, &acknowledgement));
    told.await.map_err(|error| unwanted(directory, &error))
}

fn unwanted(directory: &JobDirectory, error: &ClientError) -> Outcome {
    tracing::info!(job = %directory.id(), %error, "the coordinator has no use for this launch any more");
    Outcome::Dropped
}

/// Where jobs run together, each has its cores. A coordinator that counts more of them than the owner gives now is
/// told, and chooses another node; a plain OAR server would end the job: it waits.
async fn place(context: &Context, assignment: &Assignment) -> Result<Place, Outcome> {
    let admitted = context.owner.admit(assignment);
    if assignment.generation == 0 {
        return Ok(admitted.await);
    }
    timeout(CORES_PATIENCE, admitted).await.map_err(|_| {
        let cores = context.owner.cores();
        let message =
            format!("the node's owner gives {cores} cores to jobs, and other jobs have them");
        Outcome::Unusable { fault: Fault::Node, message }
    })
}

/// The job's assignment, checked.
fn assignment_of(context: &Context, job: &Job) -> Result<Assignment, String> {
    let assignment = job.assignment.clone().ok_or("the server does not say where the job runs")?;
    if assignment.mesh && context.network.is_none() {
        return Err("a job with a network of its own (`-t mesh`, `-t spmd`) needs a coordinator of Clouds@home: this \
                    OAR server cannot bring its nodes together"
            .into());
    }
    if job.command.is_empty() || job.command.contains('\0') {
        return Err("the job's command is empty or holds a NUL byte".into());
    }
    if job.command.len() > MAX_COMMAND_BYTES {
        return Err(format!("the job's command is longer than {MAX_COMMAND_BYTES} bytes"));
    }
    if let Some(node) = assignment.nodes.iter().find(|node| !is_host_name(&node.name)) {
        return Err(format!("the node name {:?} is no host name", node.name));
    }
    let cores: u64 = assignment.nodes.iter().map(|node| u64::from(node.cores)).sum();
    if usize::from(assignment.rank) >= assignment.nodes.len() || cores > MAX_CORES {
        return Err("the job's list of nodes is unusable".into());
    }
    Ok(assignment)
}

async fn stage_in(
    context: &Context,
    directory: &JobDirectory,
    assignment: &Assignment,
    orders: &mut watch::Receiver<Order>,
) -> io::Result<Result<(), Outcome>> {
    if assignment.stagein {
        let archive = directory.stagein();
        let sha256 = assignment.stagein_sha256.as_deref();
        let fetched = tokio::select! {
            fetched = download(context, directory.id().job, sha256, &archive) => fetched,
            () = ordered(orders, Order::Kill) => return Ok(Err(Outcome::Killed)),
        };
        if let Err(error) = fetched {
            let fault = match &error {
                TransferError::File { .. } | TransferError::Changed { .. } => Fault::Node,
                TransferError::Client(_)
                | TransferError::Damaged { .. }
                | TransferError::NotTaken { .. }
                | TransferError::TooLarge { .. } => Fault::Job,
            };
            let message = format!("the stage-in did not arrive: {error}");
            return Ok(Err(Outcome::Unusable { fault, message }));
        }
    }
    // Not to be left in the middle: a kill waits for it, and it is bounded by its limits.
    let (folder, wanted) = (directory.clone(), assignment.stagein);
    let unpacked = tokio::task::spawn_blocking(move || {
        let work = folder.fresh_work()?;
        if wanted && let Err(error) = unpack(&folder.stagein(), &work, &UnpackLimits::default()) {
            return Ok(Err(error));
        }
        folder.set_baseline(&Baseline::of(&work)?)?;
        let _ = std::fs::remove_file(folder.stagein());
        Ok::<_, io::Error>(Ok(()))
    });
    Ok(unpacked.await.map_err(io::Error::other)??.map_err(|error| Outcome::Unusable {
        fault: if error.is_archives_fault() { Fault::Job } else { Fault::Node },
        message: format!("the stage-in cannot be used: {error}"),
    }))
}

async fn download(
    context: &Context,
    job: u64,
    sha256: Option<&str>,
    to: &std::path::Path,
) -> Result<(), TransferError> {
    if to.exists() {
        return Ok(());
    }
    let mut damaged = 0;
    loop {
        let fetch = || context.client.download_stagein(job, sha256, to, MAX_STAGEIN_BYTES, |_| {});
        match context.reach.insist(fetch).await {
            Err(error @ TransferError::Damaged { .. }) => {
                damaged += 1;
                if damaged == DAMAGED_LIMIT {
                    return Err(error);
                }
            }
            done => return done,
        }
    }
}
