//! `netsim run --backend sim`: a scenario in virtual time, without programs, namespaces or rights.

use std::path::Path;
use std::time::{Duration, Instant};
use std::{process, thread};

use anyhow::Context as _;
use netsim_report::{Backend, Recorder, What};
use netsim_scenario::{Resolved, ScenarioFile};
use netsim_virtual::Outcome;
use nix::sys::signal::{SigSet, Signal};

use crate::progress::Progress;
use crate::record::{self, About, Out};

/// How often it is told how far a run is, at most.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Runs a scenario; the events go to a run directory, if there shall be one. What to say of it, and
/// whether all that is expected holds.
///
/// # Errors
/// Where the scenario cannot be simulated, or the directory cannot be written.
pub fn simulate(
    name: &str,
    file: &ScenarioFile,
    scenario: &Resolved,
    overrides: Vec<String>,
    out: Option<&Path>,
) -> anyhow::Result<(String, bool)> {
    let out = out.map(record::check).transpose()?;
    let mut ending = SigSet::empty();
    if out.is_some() {
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            ending.add(signal);
        }
        // Before there is another thread: all that are made later block them too.
        ending.thread_block().context("cannot block signals")?;
    }
    let begin = |dir: &Path| {
        let title = scenario.title.as_str();
        let (scenario_name, text, seed) = (name, file.text.as_str(), scenario.seed);
        let backend = Backend::Sim;
        let about = About { title, scenario: scenario_name, text, seed, overrides, backend };
        Out::begin(dir, about, scenario, None)
    };
    let out = out.as_deref().map(begin).transpose()?;
    let recorder = out.as_ref().map_or_else(Recorder::nowhere, |out| out.recorder().clone());
    if let Some(dir) = recorder.dir() {
        complete_on(ending, &dir, recorder.clone()).context("cannot wait for signals")?;
    }
    let mut progress = Progress::new();
    progress.begin(format!("building the networks of {} volunteers", scenario.volunteers.len()));
    let start = Instant::now();
    let (mut last, mut looked) = (0.0, None::<Instant>);
    let ran = netsim_virtual::run(scenario, start, &mut |at, what: What| {
        last = at.as_secs_f64();
        recorder.record_at(last, what);
        if looked.is_none() {
            progress.begin("in virtual time");
        }
        if looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
            looked = Some(Instant::now());
            progress.now(&format!("{last:.0} s"));
        }
    });
    let took = start.elapsed().as_secs_f64();
    progress.finish();
    let mut said = match &ran {
        Ok(outcome) => told(outcome, took),
        Err(_) => String::new(),
    };
    if let Some(out) = out {
        let passed = match &ran {
            Ok(outcome) => Ok(outcome.passed),
            Err(error) => Err(error.to_string()),
        };
        match out.end(last, passed) {
            Ok(page) => said.push_str(&format!("\n{}", page.display())),
            // Beside the verdict, not in its place.
            Err(error) => eprintln!("netsim: {error:#}"),
        }
    }
    let outcome = ran?;
    Ok((said, outcome.passed))
}

/// From now on a signal that ends this process, which must be blocked, completes the run directory first.
fn complete_on(signals: SigSet, out: &Path, recorder: Recorder) -> std::io::Result<()> {
    let out = out.to_owned();
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let Ok(signal) = signals.wait() else { return };
        let ended = recorder.interrupt(&format!("interrupted by {signal}"));
        let made = ended.map_err(Into::into).and_then(|()| netsim_report::report(&out));
        if let Err(error) = made {
            eprintln!("netsim: {:#}", anyhow::Error::new(error));
        }
        process::exit(128 + signal as i32);
    })?;
    Ok(())
}

fn told(outcome: &Outcome, took: f64) -> String {
    let virtual_s = outcome.took.as_secs_f64();
    let Outcome { terminated, failed, direct_pairs, relayed_pairs, packets, .. } = outcome;
    let ratio = virtual_s / took.max(1e-6);
    let mut said = format!(
        "{}: {virtual_s:.1} s of virtual time in {took:.2} s ({ratio:.1} times real time), \
         {packets} packets\n\
         jobs: {terminated} ended well, {failed} did not; pairs: {direct_pairs} direct, \
         {relayed_pairs} relayed",
        match (outcome.passed, outcome.not_looked_at.is_empty()) {
            (true, true) => "passed",
            (true, false) => "passed as far as it goes (see the end)",
            (false, _) => "FAILED",
        },
    );
    for failure in &outcome.failures {
        said.push_str(&format!("\n  {failure}"));
    }
    for warning in &outcome.warnings {
        said.push_str(&format!("\nwarning: {warning}"));
    }
    for what in &outcome.not_looked_at {
        said.push_str(&format!("\n{what}"));
    }
    said
}
