//! The coordinator under load: agents that poll, lists, submissions, orders, the scheduler, a long history.
//!
//! ```text
//!   processor 1: this program, the load    ──HTTPS on loopback──▶    processor 0: coordinator serve
//! ```
//! Real programs, real TLS, a database on the disk that syncs each commit. What OAR 2.5.9 reaches was
//! measured on such a machine with its best tuning; ratios name the figure that they are taken of.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use netsim_virtual::queue::FullCluster;

use self::load::Pace;
use self::rows::Measured;
use self::site::Site;
use super::figures::{Header, Results};
use crate::progress::Progress;

mod line;
mod load;
mod pin;
mod rows;
mod site;

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// A crowd, waiting agents and a history that are smaller, for CI.
    pub short: bool,
    /// Length of each measurement.
    pub each: Duration,
    /// Where the coordinators' data and logs go: on a disk.
    pub dir: PathBuf,
}

impl Plan {
    fn sized(&self, long: usize, short: usize) -> usize {
        if self.short { short } else { long }
    }

    /// Agents that poll every half minute.
    fn crowd(&self) -> usize {
        self.sized(20_000, 1_000)
    }

    /// Agents that wait for orders.
    fn waiting(&self) -> usize {
        self.sized(5_000, 500)
    }

    /// Jobs that have ended.
    fn history(&self) -> usize {
        self.sized(100_000, 10_000)
    }

    /// How often each agent of the crowd polls.
    fn interval(&self) -> Duration {
        Duration::from_secs(if self.short { 5 } else { 30 })
    }
}

/// Resources and live jobs of the server that OAR's lists were measured on.
const RESOURCES: usize = 329;
const LIVE_JOBS: usize = 200;

/// Descriptors for everything but the crowd's connections: here, and in the coordinator.
const RESERVED: usize = 200;

/// Measures everything.
///
/// # Errors
/// The coordinator cannot be started, or refuses what it must not.
pub fn run(plan: &Plan, progress: &mut Progress) -> anyhow::Result<Results> {
    let descriptors = pin::raise_descriptors()?;
    let crowd_size = plan.crowd().min(descriptors.saturating_sub(RESERVED));
    let pinned = pin::to_processor(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start")?;
    let mut measured = Measured::default();
    runtime.block_on(async {
        lists(plan, &mut measured, progress).await?;
        crowd(plan, crowd_size, &mut measured, progress).await?;
        waiting(plan, &mut measured, progress).await
    })?;
    progress.begin("scheduling");
    measured.passes = passes();
    let mut machine = super::net::machine();
    let placed = match pinned {
        Ok(()) => "the coordinator on processor 0, the load on processor 1".to_owned(),
        Err(error) => format!("not pinned: {error:#}"),
    };
    machine.insert("processors".to_owned(), placed);
    let versions = [
        ("Clouds@home".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        (
            "OAR".to_owned(),
            "2.5.9 of Debian 12, measured once beside Apache with 16 workers".to_owned(),
        ),
    ];
    let header =
        Header { bench: "api".to_owned(), machine, versions: versions.into(), short: plan.short };
    Ok(Results { header, figures: rows::figures(plan.short, &measured) })
}

/// What OAR was measured with: a small server, 200 jobs.
async fn lists(
    plan: &Plan,
    measured: &mut Measured,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    progress.begin("starting a coordinator with 329 resources and 200 jobs");
    let site = Site::start(&plan.dir.join("lists"))?;
    let agents = site.enrol(RESOURCES).await?;
    let (busy, idle) = agents.split_at(LIVE_JOBS);
    load::begin_jobs(&site, busy).await?;
    let flow = load::Flow::start(&site, idle);
    progress.begin("polls, and lists while states change");
    measured.polls = Some(load::polls(&site, &agents, plan.each).await?);
    let jobs = ["/jobs.json", "/resources.json", "/jobs.json?state=Terminated&limit=200"];
    measured.jobs = Some(load::asks(&site, jobs[0], plan.each).await?);
    measured.resources = Some(load::asks(&site, jobs[1], plan.each).await?);
    measured.ended = Some(load::asks(&site, jobs[2], plan.each).await?);
    flow.stop().await?;
    progress.begin(format!("{} jobs that end", plan.history()));
    load::history(&site, plan.history()).await?;
    let flow = load::Flow::start(&site, idle);
    measured.late_polls = Some(load::polls(&site, &agents, plan.each).await?);
    measured.late_jobs = Some(load::asks(&site, jobs[0], plan.each).await?);
    measured.late_ended = Some(load::asks(&site, jobs[2], plan.each).await?);
    flow.stop().await?;
    progress.begin("submissions");
    measured.submissions = Some(load::submissions(&site, plan.each).await?);
    site.stop()
}

/// The paper's agents, as many as there are descriptors for.
async fn crowd(
    plan: &Plan,
    size: usize,
    measured: &mut Measured,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    progress.begin(format!("{size} agents join"));
    let site = Site::start(&plan.dir.join("crowd"))?;
    let agents = site.enrol(size).await?;
    progress.begin(format!("{size} agents poll"));
    measured.crowd_size = size;
    let pace = Pace {
        interval: plan.interval(),
        measured: (plan.each * 10).max(plan.interval() * 2),
        submissions: 10,
    };
    measured.crowd = Some(load::crowd(&site, agents, pace).await?);
    measured.crowd_rss_mib = site.peak_memory_mib();
    site.stop()
}

/// Agents that hold a poll open until there is an order.
async fn waiting(
    plan: &Plan,
    measured: &mut Measured,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    progress.begin(format!("{} agents wait for orders", plan.waiting()));
    let site = Site::start(&plan.dir.join("waiting"))?;
    let agents = site.enrol(plan.waiting()).await?;
    measured.orders = Some(load::orders(&site, agents, plan.each * 4).await?);
    site.stop()
}

/// The milliseconds of a whole pass, by the number of resources and of waiting jobs.
fn passes() -> Vec<(usize, f64)> {
    let pass = |size: usize| {
        let cluster = FullCluster::new(size, size, 100);
        let times = (0..3).map(|_| {
            let start = Instant::now();
            std::hint::black_box(cluster.pass());
            start.elapsed().as_secs_f64() * 1_000.0
        });
        (size, times.fold(f64::INFINITY, f64::min))
    };
    [1_250, 2_500, 5_000, 10_000].into_iter().map(pass).collect()
}
