//! What a run with `drills` prints beside its report: how fast its pairs reached each other, and how long data
//! waits when something happens to a network, in a job of its own and in virtual time.

use std::path::Path;

use anyhow::Context as _;

use crate::bench::figures::Results;
use crate::bench::reach::{self, Measured};
use crate::bench::{command, outages};
use crate::progress::Progress;

/// The seeds of each drill in virtual time. `netsim bench nat-matrix` takes more.
const SEEDS: u64 = 3;

/// The file of the run directory that has the figures as data.
const FILE: &str = "figures.json";

/// The figures of a run that has ended, after which each drill is done so often. `record` is its run directory;
/// the drills' programs work in `dir`. The process is in the lab's namespaces.
///
/// # Errors
/// When the laboratory cannot do what is asked of it.
pub(super) fn after(name: &str, rounds: u8, record: &Path, dir: &Path) -> anyhow::Result<Results> {
    let dir = dir.join("drills");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let measured = Measured::of(record)?;
    let mut progress = Progress::new();
    let figures =
        outages::run(&outages::Plan { rounds, short: true, dir: dir.clone() }, &mut progress);
    let step = progress.current().unwrap_or("measuring").to_owned();
    let mut figures = figures.with_context(|| {
        format!("the drills failed at the step \"{step}\"; see {}", dir.display())
    })?;
    progress.begin("the same and more in virtual time");
    figures.extend(reach::drills(SEEDS, &mut |text| progress.note(text)));
    progress.finish();
    let results = reach::results(name, &measured, figures);
    results.write(&record.join(FILE))?;
    Ok(results)
}

/// The same for several runs: the drills are done once, by a process of their own.
///
/// # Errors
/// As [`after`].
pub(super) fn of_several(
    name: &str,
    rounds: u8,
    measured: &Measured,
    dir: &Path,
) -> anyhow::Result<Results> {
    let mut figures = command::measure_outages(rounds, true, dir)?;
    if rounds > 0 {
        figures.extend(reach::drills(SEEDS, &mut |text| eprintln!("{text}")));
    }
    Ok(reach::results(name, measured, figures))
}
