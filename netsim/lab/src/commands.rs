//! The command line of `netsim`.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use netsim_scenario::{self as scenario, ScenarioFile, Setting};

use crate::bench::command::Bench;

use crate::drawing::{Drawing, Svg};
use crate::leftovers::{self, Found};
use crate::record::command::ReportArgs;
use crate::running::RunArgs;
use crate::sweep::SweepArgs;
use crate::visit::{self, Lab};
use crate::world::Programs;
use crate::{doctor, needs, record, running, sweep};

/// Runs the whole system in network namespaces on this machine.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a scenario with the real programs; exit status 0 only if all that it expects holds.
    Run(RunArgs),
    /// Runs a command on a node of a running lab, and passes its exit status on.
    ///
    /// The node's network and the lab's processes are what the command sees; its files are this machine's,
    /// with the right to change them. It starts in the node's own directory. On a volunteer, AGENT_STATE
    /// names the agent's directory, so that agent status just works.
    Exec {
        /// The lab's directory, where several are running.
        #[arg(long, value_name = "DIR")]
        run: Option<PathBuf>,
        /// As coordinator, scientist, vol-1; vol-1-r0 is the router of vol-1.
        node: String,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Opens a shell on a node of a running lab.
    ///
    /// The node's network and the lab's processes are what the shell sees; its files are this machine's,
    /// with the right to change them. It starts in the node's own directory. On a volunteer, AGENT_STATE
    /// names the agent's directory, so that agent status just works.
    Shell {
        /// The lab's directory, where several are running.
        #[arg(long, value_name = "DIR")]
        run: Option<PathBuf>,
        /// As coordinator, scientist, vol-1; vol-1-r0 is the router of vol-1.
        node: String,
    },
    /// Checks a scenario file and draws its network.
    Check {
        /// A scenario's file, or its name in netsim list.
        scenario: String,
        /// Sets a value of the scenario, such as volunteers.count=50; may be given several times.
        #[arg(long, value_name = "PATH=VALUE")]
        set: Vec<Setting>,
        /// Writes the drawing as a picture too.
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
    /// Makes the page of a run again, or compares several; see docs/run-directory.md.
    Report(ReportArgs),
    /// Runs a scenario with many settings and seeds, and tabulates what comes of it.
    Sweep(SweepArgs),
    /// Lists the scenarios.
    List,
    /// Removes what killed runs have left: their directories in the temporary directory.
    Clean {
        /// Only says what it finds; exit status 1 if there is anything.
        #[arg(long)]
        dry_run: bool,
        /// Also what failed runs keep for their logs.
        #[arg(long)]
        kept: bool,
    },
    /// Tries everything that the laboratory needs of this machine.
    Doctor,
    /// Measures, and compares with the peers.
    #[command(subcommand)]
    Bench(Bench),
}

/// Does what the command line says and returns the exit status.
///
/// # Safety
///
/// The process must have a single thread: some commands move it into new namespaces.
pub unsafe fn execute(args: Args) -> anyhow::Result<i32> {
    match args.command {
        // SAFETY: by this function's contract.
        Command::Run(args) => unsafe { running::execute(args) },
        Command::Exec { run, node, command } => {
            // SAFETY: by this function's contract.
            unsafe { visit(run, &node, &command) }
        }
        // SAFETY: by this function's contract.
        Command::Shell { run, node } => unsafe { visit(run, &node, &[visit::shell()]) },
        Command::Check { scenario, set, svg } => {
            let scenario = ScenarioFile::load(&scenario, &set)?.resolve(None)?;
            let (volunteers, jobs) = (scenario.volunteers.len(), scenario.jobs.len());
            let file = scenario.file.display();
            say(&format!("{file}: right ({volunteers} volunteers, {jobs} jobs)"))?;
            let absent = Programs::beside_this()
                .ok()
                .and_then(|programs| needs::absent_program(&scenario, &programs));
            for warning in scenario.warnings().into_iter().chain(absent) {
                say(&format!("warning: {warning}"))?;
            }
            let drawing = Drawing::of(&scenario);
            if let Some(svg) = svg {
                std::fs::write(&svg, Svg(&drawing).to_string())
                    .with_context(|| format!("cannot write {}", svg.display()))?;
            }
            say(&drawing.to_string())
        }
        Command::Report(args) => record::command::execute(&args),
        Command::Sweep(args) => sweep::execute(args),
        Command::List => {
            for name in scenario::names() {
                let title = match ScenarioFile::load(name, &[]) {
                    Ok(file) => file.scenario.title,
                    Err(error) => format!("unusable: {error}"),
                };
                say(&format!("{name:16} {title}"))?;
            }
            Ok(0)
        }
        Command::Clean { dry_run, kept } => clean(dry_run, kept),
        // SAFETY: by this function's contract.
        Command::Doctor => unsafe { examine() },
        // SAFETY: by this function's contract.
        Command::Bench(bench) => unsafe { crate::bench::command::execute(bench) },
    }
}

unsafe fn visit(run: Option<PathBuf>, node: &str, command: &[OsString]) -> anyhow::Result<i32> {
    let run = run.map(std::path::absolute).transpose()?;
    let lab = Lab::find(run.as_deref())?;
    // SAFETY: by this function's contract.
    unsafe { lab.run(lab.node(node)?, command) }
}

fn clean(dry_run: bool, kept: bool) -> anyhow::Result<i32> {
    let (mut left, mut is_clean) = (0, true);
    for found in leftovers::find().context("cannot look into the temporary directory")? {
        let leftover = match found {
            Found::InUse(dir) => {
                say(&format!("in use      {}", dir.display()))?;
                continue;
            }
            Found::Unmarked(dir) => {
                say(&format!("left alone  {}: no run of yours has marked it", dir.display()))?;
                continue;
            }
            Found::Kept(leftover) if !kept => {
                let dir = leftover.dir.display();
                say(&format!("kept        {dir}: a failed run's logs; --kept removes them"))?;
                continue;
            }
            Found::Kept(leftover) | Found::Leftover(leftover) => leftover,
        };
        is_clean = false;
        let (dir, processes) = (leftover.dir.clone(), leftover.processes.clone());
        if dry_run {
            left += 1;
        } else if let Err(error) = leftover.remove() {
            left += 1;
            eprintln!("netsim: cannot remove {}: {error}", dir.display());
            continue;
        }
        let verb = if dry_run { "found" } else { "removed" };
        for process in processes {
            let verb = if dry_run { "found" } else { "ended" };
            say(&format!("{verb:11} process {} {}", process.pid, process.command))?;
        }
        say(&format!("{verb:11} {}", dir.display()))?;
    }
    if is_clean {
        say("no killed run has left anything")?;
    }
    Ok(i32::from(left > 0))
}

unsafe fn examine() -> anyhow::Result<i32> {
    // SAFETY: by this function's contract.
    let findings = unsafe { doctor::examine() };
    for finding in &findings {
        match &finding.mend {
            None => say(&format!("ok       {}", finding.what))?,
            Some(mend) => say(&format!("MISSING  {}: {mend}", finding.what))?,
        };
    }
    let missing = findings.iter().any(|finding| finding.mend.is_some());
    Ok(i32::from(missing))
}

fn say(text: &str) -> anyhow::Result<i32> {
    writeln!(io::stdout().lock(), "{text}").context("cannot write to standard output")?;
    Ok(0)
}
