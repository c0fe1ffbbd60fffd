//! `netsim run`.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use netsim_report::{Backend, Recorder, What};
use netsim_scenario::resolve::MOST_REAL_VOLUNTEERS;
use netsim_scenario::{Resolved, ScenarioFile, Setting};

use crate::bench::reach::{self, Plan};
use crate::confine::{self, Keep};
use crate::progress::Progress;
use crate::record::captures::Captures;
use crate::record::traffic::Traffic;
use crate::record::{self, About, Out};
use crate::report::Report;
use crate::simulate::simulate;
use crate::topology::Machine;
use crate::world::World;
use crate::{conduct, needs};

mod figures;

/// `netsim run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// A scenario's file, or its name in netsim list.
    scenario: String,
    /// Sets a value of the scenario, as volunteers.count=50; may be given several times.
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<Setting>,
    /// Leaves a run directory there: event log, readings, tables, logs and a page with figures.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Captures all packets of this node into the run directory; may be given several times.
    #[arg(long, value_name = "NODE", requires = "out")]
    pcap: Vec<String>,
    /// Writes the report as JSON too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Uses this directory for the programs' files and logs, and keeps it.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Decides everything that is left to chance, instead of the scenario's seed.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Keeps everything running after the jobs until Ctrl-C, for netsim shell and netsim exec.
    #[arg(long)]
    hold: bool,
    /// What runs it.
    #[arg(long, value_enum, default_value_t)]
    backend: By,
    /// Leaves out what a scenario with drills does when its jobs have ended.
    #[arg(long)]
    no_drills: bool,
    /// Runs it so often, each time with the next seed, and tells how fast its pairs reached each other.
    #[arg(long, value_name = "N", conflicts_with_all = ["pcap", "json", "keep", "hold"],
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: Option<u16>,
}

/// What runs a scenario.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum By {
    /// The real programs in network namespaces, in real time.
    #[default]
    Lab,
    /// The overlay's and the coordinator's cores on a simulated network, in virtual time.
    Sim,
}

/// Runs a scenario and returns the exit status: 0 if all that it expects holds.
///
/// # Safety
///
/// The process must have a single thread: it moves into new namespaces.
pub unsafe fn execute(args: RunArgs) -> anyhow::Result<i32> {
    let file = ScenarioFile::load(&args.scenario, &args.set)?;
    let scenario = file.resolve(args.seed)?;
    if let Some(runs) = args.runs {
        let drills = if args.no_drills { 0 } else { scenario.drills };
        return several(args, runs, scenario.seed, drills);
    }
    if args.backend == By::Sim {
        return in_virtual_time(&args, &file, &scenario);
    }
    if scenario.volunteers.len() > MOST_REAL_VOLUNTEERS {
        let count = scenario.volunteers.len();
        bail!(
            "{count} volunteers: the laboratory starts {MOST_REAL_VOLUNTEERS} at most; add --backend sim"
        );
    }
    check_nodes(&scenario, &args.pcap)?;
    // Before the run, so that a place that cannot be written to does not cost one.
    let create = |path: &Path| {
        File::create(path).with_context(|| format!("cannot write {}", path.display()))
    };
    let json = args.json.as_deref().map(create).transpose()?;
    let policy = if args.keep.is_some() { Keep::Always } else { Keep::OnFailure };
    let dir = std::path::absolute(args.keep.unwrap_or_else(confine::default_run_dir))?;
    if std::fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is not empty: choose a new directory, or remove it", dir.display());
    }
    // SAFETY: by this function's contract.
    unsafe { needs::check(&scenario) }?;
    // Last: nothing else that is wrong shall leave a directory behind.
    let out = args.out.as_deref().map(record::check).transpose()?;
    let at_end = |status| {
        if let Some(out) = &out {
            complete(out, &dir, status);
        }
    };
    // SAFETY: as above.
    unsafe { confine::enter_and_then(&dir, policy, at_end) }?;
    confine::end_on_signals();

    let about = About {
        title: &scenario.title,
        scenario: &args.scenario,
        text: &file.text,
        seed: scenario.seed,
        overrides: args.set.iter().map(ToString::to_string).collect(),
        backend: Backend::Lab,
    };
    // A lab that is held is not taken down for another one.
    let drills = if args.no_drills || args.hold { 0 } else { scenario.drills };
    // The figures are made of what is recorded.
    let record = out.or_else(|| (drills > 0).then(|| dir.join("record")));
    let begin = |record: &PathBuf| Out::begin(record, about, &scenario, Some(&dir));
    let out = record.as_ref().map(begin).transpose()?;
    let (outcome, world, captures) = work(&scenario, &dir, out.as_ref(), &args.pcap);
    // While the lab is held they go on.
    let captures = if args.hold && world.is_some() {
        Some(captures)
    } else {
        end_captures(captures, out.as_ref());
        None
    };
    let outcome = match (outcome, world) {
        (outcome, world @ Some(_)) if args.hold => {
            let status = show(outcome, out, json, &dir).unwrap_or_else(complain);
            eprintln!(
                "the lab goes on until Ctrl-C: `netsim shell NODE`, `netsim exec NODE -- COMMAND`, \
                 with `--run {}` if there are others",
                dir.display()
            );
            let (_world, _captures) = (world, captures);
            confine::hold(status);
        }
        (Ok(report), Some(world)) => {
            eprintln!("ending everything and looking for leftovers");
            Ok(match world.stop() {
                Ok(()) => report,
                Err(error) => with_failure(report, format!("{error:#}"), out.as_ref()),
            })
        }
        (outcome, _) => outcome,
    };
    let status = show(outcome, out, json, &dir)?;
    if let Some(record) = record.filter(|_| drills > 0) {
        tell(&figures::after(&args.scenario, drills, &record, &dir)?.to_string());
    }
    Ok(status)
}

/// Runs it several times, and tells of all pairs together.
fn several(args: RunArgs, runs: u16, seed: u64, drills: u8) -> anyhow::Result<i32> {
    let temporary = tempfile::tempdir().context("cannot make a temporary directory")?;
    let dir = match args.out {
        Some(out) => record::check(&out)?,
        None => temporary.path().to_owned(),
    };
    let backend = match args.backend {
        By::Lab => "lab",
        By::Sim => "sim",
    };
    let more = ["--backend", backend, "--no-drills"].map(str::to_owned).to_vec();
    let plan = Plan { scenario: args.scenario, set: args.set, runs, seed, dir, more };
    let measured = reach::measure(&plan, &mut |text| eprintln!("{text}"))?;
    tell(&figures::of_several(&plan.scenario, drills, &measured, &plan.dir)?.to_string());
    if let Some(failed) = measured.failed.first() {
        let dir = if failed.starts_with(temporary.path()) { temporary.keep() } else { plan.dir };
        tell(&format!("{} of {runs} runs failed: see {}", measured.failed.len(), dir.display()));
    }
    Ok(i32::from(!measured.failed.is_empty()))
}

/// Completes the run directory of a run that could not do it itself.
fn complete(out: &Path, dir: &Path, status: i32) {
    let why = match confine::interrupted_by(status) {
        Some(signal) => format!("interrupted by {signal}"),
        None => format!("netsim has ended by itself with exit status {status}"),
    };
    match record::interrupted(out, Some(dir), &why) {
        Ok(None) => {}
        Ok(Some(page)) => eprintln!("what was recorded until then: {}", page.display()),
        Err(error) => eprintln!("netsim: {error:#}"),
    }
}

/// What was found out stays found out when something else fails afterwards.
fn with_failure(mut report: Report, text: String, out: Option<&Out>) -> Report {
    if let Some(out) = out {
        out.recorder().record(What::Failure { text: text.clone() });
    }
    report.failures.push(text);
    Report { passed: false, ..report }
}

fn in_virtual_time(
    args: &RunArgs,
    file: &ScenarioFile,
    scenario: &Resolved,
) -> anyhow::Result<i32> {
    if args.json.is_some() || args.keep.is_some() || args.hold || !args.pcap.is_empty() {
        bail!("--json, --keep, --hold and --pcap are for the laboratory: leave them out");
    }
    let overrides = args.set.iter().map(ToString::to_string).collect();
    let out = args.out.as_deref();
    let (text, passed) = simulate(&args.scenario, file, scenario, overrides, out)?;
    tell(&text);
    Ok(i32::from(!passed))
}

/// The run itself, while everything is watched that was asked for.
fn work(
    scenario: &Resolved,
    dir: &Path,
    out: Option<&Out>,
    pcap: &[String],
) -> (anyhow::Result<Report>, Option<World>, Captures) {
    let mut progress = Progress::new();
    let recorder = out.map_or_else(Recorder::nowhere, |out| out.recorder().clone());
    let mut captures = Captures::default();
    let mut traffic = None;
    let mut when_built = |world: &World| -> anyhow::Result<()> {
        let Some(out) = out else { return Ok(()) };
        let machines = record::machines(world);
        let nodes: Vec<_> = machines
            .iter()
            .flat_map(|machine| {
                let routers = machine.routers.iter().map(|router| (&router.name, &router.netns));
                std::iter::once((&machine.name, &machine.netns)).chain(routers)
            })
            .collect();
        for node in pcap {
            let found = nodes.iter().find(|(name, _)| *name == node);
            let (_, netns) = found.with_context(|| format!("there is no node {node}"))?;
            captures.start(node, netns, &out.captures())?;
        }
        let of = |machine: &&Machine| (machine.name.clone(), machine.netns.clone());
        traffic = Some(Traffic::start(machines.iter().map(of).collect(), recorder.clone())?);
        Ok(())
    };
    let (outcome, world) = conduct::run(scenario, dir, &recorder, &mut progress, &mut when_built);
    drop(traffic);
    let step = progress.current().unwrap_or("running the scenario").to_owned();
    let steps = progress.finish();
    let outcome =
        outcome.with_context(|| format!("failed at the step \"{step}\"; see {}", dir.display()));
    (outcome.map(|report| Report { steps, ..report }), world, captures)
}

/// Ends them, and tells what is wrong with them.
fn end_captures(captures: Captures, out: Option<&Out>) {
    for text in captures.end() {
        eprintln!("netsim: {text}");
        if let Some(out) = out {
            out.recorder().record(What::Failure { text });
        }
    }
}

/// Writes the report for people and programs, completes the run directory, and returns the exit status
/// that it means. The verdict is what was run for: whatever else cannot be written is told beside it.
fn show(
    outcome: anyhow::Result<Report>,
    out: Option<Out>,
    json: Option<File>,
    dir: &Path,
) -> anyhow::Result<i32> {
    let page = out.map(|out| {
        let t = out.recorder().now();
        let said = outcome.as_ref().map(|report| report.passed).map_err(|e| format!("{e:#}"));
        out.end(t, said)
    });
    let page = page.transpose().unwrap_or_else(|error| {
        complain(error);
        None
    });
    let report = outcome?;
    let mut text = report.to_string();
    if !report.passed {
        text += &format!("\nthe logs are in {}", dir.display());
    }
    // One that goes with the directory is nobody's to look at.
    if let Some(page) = page.filter(|page| !page.starts_with(dir)) {
        text += &format!("\nthe page is {}", page.display());
    }
    tell(&text);
    if let Some(json) = json {
        let written = serde_json::to_writer_pretty(json, &report);
        if let Err(error) = written.context("cannot write the report as JSON") {
            complain(error);
        }
    }
    Ok(i32::from(!report.passed))
}

/// Tells what was found: on standard error, where standard output takes nothing.
fn tell(text: &str) {
    if let Err(error) = writeln!(io::stdout().lock(), "{text}") {
        eprintln!("netsim: cannot write to standard output: {error}\n{text}");
    }
}

fn complain(error: anyhow::Error) -> i32 {
    eprintln!("netsim: {error:#}");
    1
}

/// Whether there are nodes of these names; before the run, so that a slip does not cost one.
fn check_nodes(scenario: &Resolved, names: &[String]) -> anyhow::Result<()> {
    let hosts = scenario.topology.hosts.iter().map(|host| &host.name);
    let known: Vec<&String> =
        hosts.chain(scenario.topology.routers.iter().map(|router| &router.name)).collect();
    match names.iter().find(|name| !known.contains(name)) {
        None => Ok(()),
        Some(name) => {
            let mut known: Vec<&str> = known.into_iter().map(String::as_str).collect();
            known.truncate(20);
            bail!("--pcap {name}: there is no such node; there are: {}, ...", known.join(", "))
        }
    }
}
