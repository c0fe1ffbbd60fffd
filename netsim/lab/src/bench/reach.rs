//! How fast pairs of nodes reach each other, over all kinds of networks: a scenario run many times, and the
//! drills in virtual time ([`netsim_virtual::drills`]).
//!
//! Each run is a `netsim run` of its own with the next seed, so that every NAT, agent and port begins anew;
//! what counts are its pairs. Times begin with the netmap that names both (see [`netsim_report::reached`]).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use netsim_report::model::Prediction;
use netsim_report::reached::{self, Reached};
use netsim_report::statistics::{median, quantile};
use netsim_report::{PathKind, read};
use netsim_scenario::{ScenarioFile, Setting};
use netsim_virtual::drills::DRILLS;

use super::figures::{Better, Figure, Header, Results};
use super::net::machine;
use crate::children;

mod page;

pub use page::markdown;

/// The part of pairs that must be as the oracle says.
const AS_PREDICTED_PERCENT: f64 = 99.0;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// A scenario's file or name.
    pub scenario: String,
    /// What is set in it.
    pub set: Vec<Setting>,
    /// How often it is run.
    pub runs: u16,
    /// The seed of the first run; the others follow.
    pub seed: u64,
    /// Where the runs' directories go.
    pub dir: PathBuf,
    /// More arguments for each `netsim run`.
    pub more: Vec<String>,
}

/// The runs' pairs.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// The scenario's title.
    pub title: String,
    /// How many runs there were.
    pub runs: u16,
    /// Those that did not pass: their directories, which say why.
    pub failed: Vec<PathBuf>,
    /// Kinds of networks in the order of their first volunteer.
    pub kinds: Vec<String>,
    /// The pairs of all runs.
    pub pairs: Vec<Reached>,
    /// What the programs said of themselves.
    pub versions: BTreeMap<String, String>,
}

/// Runs the scenario so often; `tell` hears of each run when it has ended.
///
/// # Errors
/// When the scenario is none, or runs cannot be started. One that fails is counted.
pub fn measure(plan: &Plan, tell: &mut dyn FnMut(&str)) -> anyhow::Result<Measured> {
    let title = ScenarioFile::load(&plan.scenario, &plan.set)?.resolve(None)?.title;
    let mut measured = Measured { title, runs: plan.runs, ..Measured::default() };
    let settings: Vec<String> = plan.set.iter().map(ToString::to_string).collect();
    std::fs::create_dir_all(&plan.dir)
        .with_context(|| format!("cannot make {}", plan.dir.display()))?;
    for number in 1..=plan.runs {
        let seed = plan.seed.saturating_add(u64::from(number) - 1);
        let dir = plan.dir.join(format!("run-{number}"));
        let started = Instant::now();
        children::run(&plan.scenario, seed, &settings, &dir, &plan.more)?;
        let passed = measured.take(&dir);
        if !passed {
            measured.failed.push(dir.clone());
        }
        let outcome = match passed {
            true => "passed".to_owned(),
            false => format!("FAILED, see {}", children::log_of(&dir).display()),
        };
        let took = started.elapsed().as_secs_f64();
        tell(&format!("[{number}/{}] seed {seed}: {outcome} ({took:.1} s)", plan.runs));
    }
    Ok(measured)
}

impl Measured {
    /// The pairs of one run that has ended.
    ///
    /// # Errors
    /// Where that is none.
    pub(crate) fn of(dir: &std::path::Path) -> anyhow::Result<Self> {
        let title = read::info(dir)?.title;
        let mut measured = Self { title, runs: 1, ..Self::default() };
        if !measured.take(dir) {
            measured.failed.push(dir.to_owned());
        }
        Ok(measured)
    }

    /// Takes the pairs of a run. Whether it passed.
    fn take(&mut self, dir: &std::path::Path) -> bool {
        let Some(run) = children::finished(dir) else { return false };
        for volunteer in run.volunteers() {
            if !self.kinds.contains(&volunteer.behind) {
                self.kinds.push(volunteer.behind.clone());
            }
        }
        self.pairs.extend(reached::of(&run));
        if let Ok(info) = read::info(dir) {
            self.versions = info.versions;
        }
        run.info.passed == Some(true)
    }

    /// The pairs between two kinds of networks, in both directions.
    fn between<'a>(&'a self, a: &'a str, b: &'a str) -> impl Iterator<Item = &'a Reached> {
        let is_it = move |pair: &&Reached| {
            (pair.from == a && pair.to == b) || (pair.from == b && pair.to == a)
        };
        self.pairs.iter().filter(is_it)
    }

    /// Every two kinds, each once.
    fn pairs_of_kinds(&self) -> impl Iterator<Item = (&str, &str)> {
        let with_rest = |(index, a)| self.kinds[index..].iter().map(move |b: &String| (a, b));
        let all = self.kinds.iter().enumerate().flat_map(with_rest);
        all.map(|(a, b): (&String, &String)| (a.as_str(), b.as_str()))
    }

    /// All figures.
    pub fn figures(&self) -> Vec<Figure> {
        let mut figures = self.of_all_pairs();
        figures.extend(self.pairs_of_kinds().filter_map(|(a, b)| self.of_kinds(a, b)));
        figures
    }

    fn of_all_pairs(&self) -> Vec<Figure> {
        let all: Vec<&Reached> = self.pairs.iter().collect();
        let possible: Vec<&Reached> =
            self.pairs.iter().filter(|pair| pair.predicted.is_some_and(must_be_direct)).collect();
        let direct = possible.iter().filter(|pair| pair.direct_s.is_some()).count();
        let first = |pair: &&Reached| pair.first_byte_s;
        let to_direct = |pair: &&Reached| pair.direct_s;
        let impossible: Vec<&Reached> =
            self.pairs.iter().filter(|pair| pair.predicted.is_some_and(must_be_relayed)).collect();
        let relayed = impossible.iter().filter(|p| p.path == PathKind::Relayed).count();
        let passed = usize::from(self.runs) - self.failed.len();
        let most = |name: &str, value: Option<f64>, target| {
            Figure::once(name, "s", Better::Lower, value).hold(target)
        };
        vec![
            most("first byte after the netmap, median", at(&all, first, 0.5), 1.0)
                .note(format!("{} ordered pairs", all.len())),
            most("first byte after the netmap, 95th percentile", at(&all, first, 0.95), 2.0),
            most("direct where the oracle allows, median", at(&possible, to_direct, 0.5), 2.0)
                .note(format!("{} ordered pairs", possible.len())),
            most(
                "direct where the oracle allows, 95th percentile",
                at(&possible, to_direct, 0.95),
                5.0,
            ),
            Figure::once(
                "direct where the oracle allows, part of the pairs",
                "%",
                Better::Higher,
                part(direct, possible.len()),
            )
            .hold(AS_PREDICTED_PERCENT)
            .note(format!("{direct} of {}", possible.len())),
            Figure::once(
                "relayed where the oracle knows no way, part of the pairs",
                "%",
                Better::Higher,
                part(relayed, impossible.len()),
            )
            .hold(100.0)
            .note(format!("{relayed} of {}", impossible.len())),
            Figure::once("runs that passed", "%", Better::Higher, part(passed, self.runs.into()))
                .hold(AS_PREDICTED_PERCENT)
                .note(format!("{passed} of {}", self.runs)),
        ]
    }

    /// The part of the pairs between two kinds that are as the oracle says.
    fn of_kinds(&self, a: &str, b: &str) -> Option<Figure> {
        let pairs: Vec<&Reached> = self.between(a, b).collect();
        let (mut right, mut known) = (0, 0);
        for pair in &pairs {
            let Some(predicted) = pair.predicted else { continue };
            known += 1;
            right += usize::from(predicted.allows(pair.path));
        }
        let predicted = pairs.iter().find_map(|pair| pair.predicted)?;
        let Summary { direct, count, first_byte, to_direct, .. } = Summary::of(&pairs);
        let said = |what: &str, times: [Option<f64>; 2]| match times {
            [Some(median), Some(p95)] => format!("; {what} {median:.2} s / {p95:.2} s"),
            _ => String::new(),
        };
        let note = format!(
            "oracle: {}; direct {direct} of {count}{}{}",
            predicted.name(),
            said("first byte", first_byte),
            said("direct", to_direct),
        );
        let name = format!("{a} × {b}: as the oracle says");
        let figure = Figure::once(name, "%", Better::Higher, part(right, known));
        Some(figure.hold(AS_PREDICTED_PERCENT).note(note))
    }
}

/// What is said of a group of pairs.
struct Summary {
    direct: usize,
    count: usize,
    predicted: Option<Prediction>,
    /// Median and 95th percentile.
    first_byte: [Option<f64>; 2],
    to_direct: [Option<f64>; 2],
}

impl Summary {
    fn of(pairs: &[&Reached]) -> Self {
        let first = |pair: &&Reached| pair.first_byte_s;
        let direct = |pair: &&Reached| pair.direct_s;
        Self {
            direct: pairs.iter().filter(|pair| pair.path == PathKind::Direct).count(),
            count: pairs.len(),
            predicted: pairs.iter().find_map(|pair| pair.predicted),
            first_byte: [at(pairs, first, 0.5), at(pairs, first, 0.95)],
            to_direct: [at(pairs, direct, 0.5), at(pairs, direct, 0.95)],
        }
    }
}

fn must_be_direct(predicted: Prediction) -> bool {
    predicted.path == PathKind::Direct && !predicted.by_guessing
}

fn must_be_relayed(predicted: Prediction) -> bool {
    predicted.path == PathKind::Relayed
}

/// The `q`-quantile of those that have the time at all.
fn at(pairs: &[&Reached], time: impl Fn(&&Reached) -> Option<f64>, q: f64) -> Option<f64> {
    quantile(pairs.iter().filter_map(time).collect(), q)
}

fn part(some: usize, all: usize) -> Option<f64> {
    (all > 0).then(|| 100.0 * some as f64 / all as f64)
}

/// Measures all drills with their seeds, at most so many, one after the other on each processor.
pub fn drills(most: u64, tell: &mut dyn FnMut(&str)) -> Vec<Figure> {
    let mut figures = Vec::new();
    for drill in &DRILLS {
        let started = Instant::now();
        let seeds: Vec<u64> = (1..=drill.seeds.min(most)).collect();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let values: Vec<Option<f64>> = std::thread::scope(|scope| {
            let shares: Vec<_> = seeds
                .chunks(seeds.len().div_ceil(cores))
                .map(|share| {
                    scope.spawn(move || share.iter().map(|s| drill.measure(*s, started)).collect())
                })
                .collect();
            // One that panicked has measured nothing.
            shares.into_iter().flat_map(|share| share.join().unwrap_or(vec![None])).collect()
        });
        figures.extend(drill_figures(drill.name, drill.unit, drill.most, &values));
        let took: Duration = started.elapsed();
        tell(&format!("{}: {} seeds ({:.1} s)", drill.name, values.len(), took.as_secs_f64()));
    }
    figures
}

/// The worst of a drill's values is held to its bound; where one is missing, nothing is there to be held.
fn drill_figures(name: &str, unit: &str, most: f64, values: &[Option<f64>]) -> Option<Figure> {
    let all: Option<Vec<f64>> = values.iter().copied().collect();
    let missing = values.iter().filter(|value| value.is_none()).count();
    let worst = all.as_ref().map(|all| all.iter().copied().fold(0.0, f64::max));
    let note = match &all {
        Some(all) => {
            let of = |q| quantile(all.clone(), q).unwrap_or_default();
            let middle = median(all.clone()).unwrap_or_default();
            format!(
                "virtual time, the most of {} seeds; median {middle:.2}, 95th percentile {:.2}",
                all.len(),
                of(0.95)
            )
        }
        None => format!("virtual time: it did not happen with {missing} of {} seeds", values.len()),
    };
    Some(Figure::once(name, unit, Better::Lower, worst).hold(most).note(note))
}

/// Everything as one file of results.
pub fn results(bench: &str, measured: &Measured, drills: Vec<Figure>) -> Results {
    let mut versions = measured.versions.clone();
    versions.insert("runs".to_owned(), measured.runs.to_string());
    let header = Header { bench: bench.to_owned(), machine: machine(), versions, short: false };
    let mut figures = measured.figures();
    // The kinds' rows come last: they are many.
    let of_all = figures.iter().position(|figure| figure.name.contains(" × "));
    let place = of_all.unwrap_or(figures.len());
    figures.splice(place..place, drills);
    Results { header, figures }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(kinds: [&str; 2], direct_s: Option<f64>, possible: bool) -> Reached {
        let path = if direct_s.is_some() { PathKind::Direct } else { PathKind::Relayed };
        let best = if possible { PathKind::Direct } else { PathKind::Relayed };
        let predicted = Some(Prediction { path: best, by_guessing: false });
        let [from, to] = kinds.map(str::to_owned);
        Reached { from, to, first_byte_s: Some(0.25), direct_s, path, predicted }
    }

    fn measured() -> Measured {
        let kinds = ["home", "symmetric"].map(str::to_owned).to_vec();
        let pairs = vec![
            pair(["home", "home"], Some(1.5), true),
            pair(["home", "home"], None, true),
            pair(["home", "symmetric"], None, false),
            pair(["symmetric", "home"], None, false),
        ];
        Measured { title: "two".to_owned(), runs: 1, kinds, pairs, ..Measured::default() }
    }

    #[test]
    fn pairs_that_could_be_direct_and_are_not_miss_the_figure() {
        let figures = measured().figures();
        let of = |name: &str| {
            let found = figures.iter().find(|figure| figure.name.contains(name));
            found.map(|figure| (figure.value, figure.met)).unwrap()
        };
        assert_eq!(of("direct where the oracle allows, median"), (Some(1.5), Some(true)));
        assert_eq!(of("direct where the oracle allows, part"), (Some(50.0), Some(false)));
        assert_eq!(of("relayed where the oracle knows no way"), (Some(100.0), Some(true)));
        assert_eq!(of("home × home"), (Some(50.0), Some(false)));
        assert_eq!(of("home × symmetric"), (Some(100.0), Some(true)));
        assert!(!figures.iter().any(|figure| figure.name.starts_with("symmetric × symmetric")));
    }

    #[test]
    fn the_worst_seed_of_a_drill_is_held_and_one_that_came_to_nothing_is_missed() {
        let of = |values: &[Option<f64>]| drill_figures("x", "s", 3.0, values).unwrap();
        let held = of(&[Some(1.0), Some(2.5)]);
        assert_eq!((held.value, held.met), (Some(2.5), Some(true)));
        assert_eq!(of(&[Some(1.0), Some(3.5)]).met, Some(false));
        let none = of(&[Some(1.0), None]);
        assert_eq!((none.value, none.met), (None, Some(false)));
        let results = results("nat-matrix", &measured(), vec![held]);
        let place = |name: &str| results.figures.iter().position(|f| f.name.contains(name));
        assert!(place("runs that passed") < place("x") && place("x") < place("home × home"));
    }

    #[test]
    fn page_has_a_row_and_a_column_for_each_kind() {
        let text = markdown(&measured(), &results("nat-matrix", &measured(), Vec::new()));
        assert!(text.contains("| 1 home | 1.50 (50 %) | R |"), "{text}");
        assert!(text.contains("| home × symmetric | relayed | 0 of 2 |"), "{text}");
    }
}
