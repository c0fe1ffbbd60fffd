//! `netsim sweep`: one scenario with many settings, each combination a run of its own process.
//!
//! The folder holds `plan.json` (what the sweep is), `points/NAME` (a run directory each, with the
//! run's output beside it) and, from the first finished run on, the tables and the page. A sweep that
//! was interrupted goes on where it was: what is finished is not run again.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::Args;
use comfy_table::{Table, presets};
use netsim_report::metrics;
use netsim_report::sweep::{Outcome, Point, Sweep};
use netsim_scenario::{ScenarioFile, Setting};
use serde::{Deserialize, Serialize};

mod combine;

use crate::children::{self, finished, log_of};
use combine::{Axis, Combination};

/// The file that says what a sweep is.
const PLAN: &str = "plan.json";
/// The folder of the runs.
const POINTS: &str = "points";

/// The most runs of a sweep. Chosen: days of work; more is a slip of the fingers.
const MOST: usize = 10_000;

/// The most combinations that are looked at before the first run begins.
const MOST_TRIED: usize = 1_000;

/// What the table on the screen shows of the numbers; the files have all.
const SHOWN: [&str; 5] = [
    "mesh_open_median_s",
    "pairs_direct_percent",
    "rtt_median_ms",
    "job_end_median_s",
    "mesh_mbytes",
];

/// `netsim sweep`.
#[derive(Debug, Args)]
pub struct SweepArgs {
    /// A scenario's file, or its name in netsim list.
    scenario: String,
    /// Sets a value of the scenario to each of these in turn. Several of them: all combinations.
    #[arg(long, value_name = "PATH=VALUE,...", required = true)]
    set: Vec<Axis>,
    /// Runs every combination with this many seeds, counted from --seed.
    #[arg(long, value_name = "N", default_value = "1",
          value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// The first seed.
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,
    /// Where the runs, the tables and the page go. The folder of an interrupted sweep is gone on with.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// More arguments for each netsim run, as in: -- --backend sim.
    #[arg(last = true)]
    run: Vec<String>,
}

/// What a sweep is, so that another one does not go on in its folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Plan {
    format: u32,
    scenario: String,
    /// The file's text: another one is another sweep.
    text: String,
    axes: Vec<Axis>,
    seed: u64,
    seeds: u64,
    run: Vec<String>,
}

/// Runs a sweep and returns its exit status: 0 if every run passed.
pub fn execute(args: SweepArgs) -> anyhow::Result<i32> {
    let file = Path::new(&args.scenario);
    let text = if file.is_file() {
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?
    } else {
        String::new()
    };
    let names: BTreeSet<&str> = args.set.iter().map(|axis| axis.path.as_str()).collect();
    if names.len() < args.set.len() {
        bail!("a path is set twice: give all of its values to one --set");
    }
    if names.contains("seed") {
        bail!("the seed is not set but counted: use --seed FIRST and --seeds COUNT");
    }
    let seeds: Option<Vec<u64>> = (0..args.seeds).map(|more| args.seed.checked_add(more)).collect();
    let Some(seeds) = seeds else {
        bail!(
            "{} seeds from {} on are more than there are: take a smaller --seed",
            args.seeds,
            args.seed
        );
    };
    let all = combine::all(&args.set, &seeds);
    if all.len() > MOST {
        bail!("{} runs are more than a sweep may have ({MOST}): take fewer values", all.len());
    }
    let plan = Plan {
        format: netsim_report::FORMAT,
        scenario: args.scenario,
        text,
        axes: args.set,
        seed: args.seed,
        seeds: args.seeds,
        run: args.run,
    };
    check(&plan, &all)?;
    prepare(&args.out, &plan)?;

    let mut sweep = Sweep {
        scenario: plan.scenario.clone(),
        parameters: plan.axes.iter().map(|axis| axis.path.clone()).collect(),
        points: Vec::new(),
    };
    let count = all.len();
    for (number, combination) in (1..).zip(all) {
        let dir = args.out.join(POINTS).join(&combination.name);
        let was_there = finished(&dir).is_some();
        let started = Instant::now();
        if !was_there {
            say(&format!("[{number}/{count}] {}", combination.name))?;
            run_one(&plan, &combination, &dir)?;
        }
        let point = look(&combination, &dir);
        let took = if was_there {
            "was there".to_owned()
        } else {
            format!("{:.1} s", started.elapsed().as_secs_f64())
        };
        say(&format!("[{number}/{count}] {}: {} ({took})", point.name, point.outcome.name()))?;
        if point.outcome == Outcome::Broken {
            say(&format!("    see {}", log_of(&dir).display()))?;
        }
        sweep.points.push(point);
        sweep.write(&args.out)?;
    }
    tell(&sweep, &args.out)?;
    let passed = sweep.points.iter().all(|point| point.outcome == Outcome::Passed);
    Ok(i32::from(!passed))
}

/// Refuses a sweep none of whose runs can begin, as with a key that is spelt wrong. That some values are no
/// scenario is a result.
fn check(plan: &Plan, all: &[Combination]) -> anyhow::Result<()> {
    let mut first_error = None;
    for combination in all.iter().take(MOST_TRIED) {
        match load(plan, combination) {
            Ok(()) => return Ok(()),
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    first_error.map_or(Ok(()), |error| Err(error.context("no run of this sweep can begin")))
}

fn load(plan: &Plan, combination: &Combination) -> anyhow::Result<()> {
    let settings: Result<Vec<Setting>, _> =
        combination.settings.iter().map(|setting| setting.parse()).collect();
    let file = ScenarioFile::load(&plan.scenario, &settings?)?;
    file.resolve(Some(combination.seed))?;
    Ok(())
}

/// Makes the folder, or finds that it is this sweep's.
fn prepare(out: &Path, plan: &Plan) -> anyhow::Result<()> {
    let file = out.join(PLAN);
    if let Ok(text) = fs::read(&file) {
        let found: Plan = serde_json::from_slice(&text)
            .with_context(|| format!("{} is damaged: choose another --out", file.display()))?;
        if found != *plan {
            bail!(
                "{} holds another sweep (see {PLAN} there): choose another --out, or remove it",
                out.display()
            );
        }
        return Ok(());
    }
    if fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is not empty and holds no sweep: choose another --out", out.display());
    }
    let made = fs::create_dir_all(out.join(POINTS)).and_then(|()| {
        let new = out.join(format!("{PLAN}.new"));
        fs::write(&new, serde_json::to_vec_pretty(plan)?)?;
        fs::rename(new, &file)
    });
    made.with_context(|| format!("cannot write to {}", out.display()))
}

fn run_one(plan: &Plan, combination: &Combination, dir: &Path) -> anyhow::Result<()> {
    children::run(&plan.scenario, combination.seed, &combination.settings, dir, &plan.run)
        .context("the sweep has not ended: the same command goes on with it")
}

fn look(combination: &Combination, dir: &Path) -> Point {
    let run = finished(dir);
    let outcome = match run.as_ref().map(|run| run.info.passed) {
        Some(Some(true)) => Outcome::Passed,
        Some(_) => Outcome::Failed,
        None => Outcome::Broken,
    };
    Point {
        name: combination.name.clone(),
        values: combination.values.clone(),
        seed: combination.seed,
        outcome,
        metrics: run.map(|run| metrics::of(&run)).unwrap_or_default(),
    }
}

/// The summary for people.
fn tell(sweep: &Sweep, out: &Path) -> anyhow::Result<()> {
    let summary = sweep.summary();
    let mut table = Table::new();
    let mut header = sweep.parameters.clone();
    header.extend(["passed".to_owned()]);
    header.extend(SHOWN.map(str::to_owned));
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header(header);
    let mut shown: BTreeSet<&Vec<String>> = BTreeSet::new();
    for point in &sweep.points {
        if !shown.insert(&point.values) {
            continue;
        }
        let of: Vec<&Point> = sweep.points.iter().filter(|p| p.values == point.values).collect();
        let passed = of.iter().filter(|point| point.outcome == Outcome::Passed).count();
        let mut row = point.values.clone();
        row.push(format!("{passed} of {}", of.len()));
        row.extend(SHOWN.map(|name| {
            let found = summary.iter().find(|s| s.values == point.values && s.metric == name);
            found.map_or_else(String::new, |found| {
                let [least, _, median, _, most] = found.quantiles;
                if found.runs == 1 {
                    format!("{median:.2}")
                } else {
                    format!("{median:.2} ({least:.2} to {most:.2})")
                }
            })
        }));
        table.add_row(row);
    }
    let passed = sweep.points.iter().filter(|point| point.outcome == Outcome::Passed).count();
    say(&table.to_string())?;
    say("numbers: median over the seeds (least to most)")?;
    let out = out.display();
    say(&format!("{passed} of {} runs passed: {out}/sweep.html, sweep.csv", sweep.points.len()))
}

fn say(text: &str) -> anyhow::Result<()> {
    writeln!(io::stdout().lock(), "{text}").context("cannot write to standard output")
}
