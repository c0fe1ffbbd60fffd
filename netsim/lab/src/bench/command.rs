//! `netsim bench`.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::chart::Chart;
use super::figures::{Figure, Header, Results};
use super::{api, net, outages, reach};
use crate::children;
use crate::confine::{self, Keep};
use crate::progress::Progress;

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// The data plane beside its peers, on this machine.
    Net {
        /// A coarser run of what has a floor, against wireguard-go only.
        #[arg(long)]
        short: bool,
        /// Interleaved rounds; the figures are medians. None only with --pieces: gives the figures of what is
        /// there.
        #[arg(long, value_name = "N", default_value_t = 3)]
        rounds: u8,
        /// Length of each measurement.
        #[arg(long, value_name = "TIME", default_value = "4s", value_parser = humantime::parse_duration)]
        each: Duration,
        /// Measures only the peers and loads of these names, such as `wireguard-go`, and writes
        /// nothing: to look at one thing closely.
        #[arg(long, value_name = "NAME")]
        only: Vec<String>,
        /// Measures in pieces: adds the rounds of this run to those in FILE, and gives the figures of all.
        #[arg(long, value_name = "FILE")]
        pieces: Option<PathBuf>,
        /// Where programs are looked for first.
        #[arg(long, value_name = "DIR", default_value = "target/tools/bin")]
        tools: PathBuf,
        /// Where `net.json` is written; what an earlier one had reached must be reached again.
        #[arg(long, value_name = "DIR", default_value = "bench/results")]
        out: PathBuf,
        /// The page whose part on this benchmark is written anew.
        #[arg(long, value_name = "FILE")]
        page: Option<PathBuf>,
    },
    /// The coordinator under load: one processor for it, the other for the load.
    Api(Api),
    /// How fast nodes reach each other: the scenario nat-matrix many times, and the drills in virtual time.
    NatMatrix(NatMatrix),
    /// How long a job's data waits when a relay dies, a machine moves, a router starts again, in the
    /// laboratory; a part of nat-matrix.
    Outages(Outages),
}

/// `netsim bench api`.
#[derive(Debug, Args)]
pub struct Api {
    /// A smaller crowd and a shorter history, each measured for a moment.
    #[arg(long)]
    short: bool,
    /// Length of each measurement; the crowd is measured for ten times that. 5 s, or 1 s for the short form.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    each: Option<Duration>,
    /// Where `api.json` is written; what an earlier one had reached must be reached again.
    #[arg(long, value_name = "DIR", default_value = "bench/results")]
    out: PathBuf,
    /// The page whose part on this benchmark is written anew.
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// Where the coordinators keep their data meanwhile: on a disk, and empty.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// `netsim bench outages`.
#[derive(Debug, Args)]
pub struct Outages {
    /// How often each event happens.
    #[arg(long, value_name = "N", default_value_t = 4,
          value_parser = clap::value_parser!(u8).range(1..=100))]
    rounds: u8,
    /// A shorter silence: it is listened to for half as long.
    #[arg(long)]
    short: bool,
    /// Writes the figures there; in a file that has others, those stay.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The page whose part on these figures is written anew.
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
}

/// `netsim bench nat-matrix`.
#[derive(Debug, Args)]
pub struct NatMatrix {
    /// How often the scenario is run, each time with the next seed.
    #[arg(long, value_name = "N", default_value_t = 30,
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: u16,
    /// The first seed.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How often each event of `netsim bench outages` happens; 0 leaves it out.
    #[arg(long, value_name = "N", default_value_t = 4,
          value_parser = clap::value_parser!(u8).range(0..=100))]
    rounds: u8,
    /// Keeps the runs' directories there.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Where `nat-matrix.json` is written.
    #[arg(long, value_name = "DIR", default_value = "bench/results")]
    out: PathBuf,
    /// The page whose part on this benchmark is written anew.
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
}

/// Measures, prints, writes; exit status 1 when a figure that was reached before is missed.
///
/// # Safety
///
/// The process must have a single thread: it moves into new namespaces.
pub unsafe fn execute(bench: Bench) -> anyhow::Result<i32> {
    let (short, rounds, each, only, pieces, tools, out, page) = match bench {
        Bench::Net { short, rounds, each, only, pieces, tools, out, page } => {
            (short, rounds, each, only, pieces, tools, out, page)
        }
        Bench::Api(args) => return api(args),
        Bench::NatMatrix(args) => return nat_matrix(args),
        // SAFETY: by this function's contract.
        Bench::Outages(args) => return unsafe { outages(&args) },
    };
    let is_part = !only.is_empty();
    let file = std::path::absolute(out)?.join("net.json");
    let page = page.map(std::path::absolute).transpose()?;
    let before = Results::read(&file)?;
    let dir = confine::default_run_dir();
    let tools = std::path::absolute(tools)?;
    let pieces = pieces.map(std::path::absolute).transpose()?;
    let rounds = usize::from(if pieces.is_none() { rounds.max(1) } else { rounds });
    // SAFETY: by this function's contract.
    unsafe { confine::enter(&dir, Keep::OnFailure) }?;
    confine::end_on_signals();
    let plan = net::Plan { rounds, each, short, only, pieces, tools, dir };
    let mut progress = Progress::new();
    let results = net::run(&plan, &mut progress);
    let step = progress.current().unwrap_or("measuring").to_owned();
    progress.finish();
    let results = results
        .with_context(|| format!("failed at the step \"{step}\"; see {}", plan.dir.display()))?;
    if is_part {
        writeln!(io::stdout().lock(), "{results}")?;
        return Ok(0);
    }
    tell(&results, before.as_ref(), &file, page.as_deref())
}

/// Measures in ordinary processes on loopback: no laboratory is needed.
fn api(args: Api) -> anyhow::Result<i32> {
    let file = std::path::absolute(args.out)?.join("api.json");
    let before = Results::read(&file)?;
    let temporary = tempfile::tempdir().context("cannot make a temporary directory")?;
    let dir = args.dir.unwrap_or_else(|| temporary.path().to_owned());
    let usual = Duration::from_secs(if args.short { 1 } else { 5 });
    let plan = api::Plan { short: args.short, each: args.each.unwrap_or(usual), dir };
    let mut progress = Progress::new();
    let results = api::run(&plan, &mut progress);
    let step = progress.current().unwrap_or("measuring").to_owned();
    progress.finish();
    let results = results.with_context(|| format!("failed at the step \"{step}\""))?;
    tell(&results, before.as_ref(), &file, args.page.as_deref())
}

/// Exit status 1 when a figure is missed.
///
/// # Safety
///
/// The process must have a single thread: it moves into new namespaces.
unsafe fn outages(args: &Outages) -> anyhow::Result<i32> {
    let json = args.json.as_deref().map(std::path::absolute).transpose()?;
    let page = args.page.as_deref().map(std::path::absolute).transpose()?;
    let dir = confine::default_run_dir();
    // SAFETY: by this function's contract.
    unsafe { confine::enter(&dir, Keep::OnFailure) }?;
    confine::end_on_signals();
    let plan = outages::Plan { rounds: args.rounds, short: args.short, dir };
    let mut progress = Progress::new();
    let figures = outages::run(&plan, &mut progress);
    let step = progress.current().unwrap_or("measuring").to_owned();
    progress.finish();
    let figures = figures
        .with_context(|| format!("failed at the step \"{step}\"; see {}", plan.dir.display()))?;
    let header = Header { bench: "outages".to_owned(), short: args.short, ..Header::default() };
    let results = Results { header, figures };
    writeln!(io::stdout().lock(), "{results}")?;
    if let Some(page) = page {
        write_outages(&page, &results.figures)?;
    }
    if let Some(json) = json {
        let mut all = Results::read(&json)?.unwrap_or_else(|| results.clone());
        all.take(results.figures.clone());
        all.write(&json)?;
    }
    Ok(i32::from(results.figures.iter().any(|figure| figure.met == Some(false))))
}

/// Writes the part of the page that is about these figures.
fn write_outages(page: &Path, figures: &[Figure]) -> anyhow::Result<()> {
    let results = Results { header: Header::default(), figures: figures.to_vec() };
    write_part(page, "outages", results.markdown().trim())
        .with_context(|| format!("cannot write {}", page.display()))
}

/// The figures of `netsim bench outages`, which needs a process of its own.
pub(crate) fn measure_outages(rounds: u8, short: bool, dir: &Path) -> anyhow::Result<Vec<Figure>> {
    if rounds == 0 {
        return Ok(Vec::new());
    }
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let (json, log) = (dir.join("outages.json"), dir.join("outages.log"));
    let _ = fs::remove_file(&json);
    let rounds = rounds.to_string();
    let args = ["bench", "outages", "--rounds", &rounds, "--json"].map(OsString::from);
    let args = args.into_iter().chain([json.clone().into()]);
    let args = args.chain(short.then(|| "--short".into()));
    children::itself(args, &log)?;
    let results = Results::read(&json)?;
    let results = results.with_context(|| {
        let said = fs::read_to_string(&log).unwrap_or_default();
        format!("`netsim bench outages` has failed:\n{said}")
    })?;
    Ok(results.figures)
}

/// Exit status 1 when a figure is missed.
fn nat_matrix(args: NatMatrix) -> anyhow::Result<i32> {
    let file = std::path::absolute(args.out)?.join("nat-matrix.json");
    let page = args.page.map(std::path::absolute).transpose()?;
    let temporary = tempfile::tempdir().context("cannot make a temporary directory")?;
    let dir = match args.keep {
        Some(dir) => std::path::absolute(dir)?,
        None => temporary.path().to_owned(),
    };
    let plan = reach::Plan {
        scenario: "nat-matrix".to_owned(),
        set: Vec::new(),
        runs: args.runs,
        seed: args.seed,
        dir,
        more: vec!["--no-drills".to_owned()],
    };
    let mut say = |text: &str| eprintln!("{text}");
    let outages = measure_outages(args.rounds, false, &plan.dir)?;
    say("outages: measured");
    let mut drills = outages.clone();
    drills.extend(reach::drills(u64::MAX, &mut say));
    let measured = reach::measure(&plan, &mut say)?;
    let results = reach::results("nat-matrix", &measured, drills);
    let mut out = io::stdout().lock();
    writeln!(out, "{results}")?;
    results.write(&file)?;
    if let Some(page) = page {
        if !outages.is_empty() {
            write_outages(&page, &outages)?;
        }
        write_part(&page, "nat-matrix", &reach::markdown(&measured, &results))
            .with_context(|| format!("cannot write {}", page.display()))?;
    }
    let missed: Vec<_> = results.figures.iter().filter(|f| f.met == Some(false)).collect();
    for figure in &missed {
        writeln!(out, "MISSED: {} ({})", figure.name, figure.note)?;
    }
    if !measured.failed.is_empty() {
        let kept = if plan.dir == temporary.path() { temporary.keep() } else { plan.dir };
        writeln!(out, "{} runs failed: see {}", measured.failed.len(), kept.display())?;
    }
    Ok(i32::from(!missed.is_empty()))
}

fn tell(
    results: &Results,
    before: Option<&Results>,
    file: &Path,
    page: Option<&Path>,
) -> anyhow::Result<i32> {
    let mut out = io::stdout().lock();
    writeln!(out, "{results}")?;
    let comparable = before.filter(|before| before.header.short == results.header.short);
    let lost: Vec<_> = comparable.map(|b| results.lost_since(b).collect()).unwrap_or_default();
    for figure in &lost {
        writeln!(out, "LOST: {} was reached before and is not any more", figure.name)?;
    }
    if lost.is_empty() {
        results.write(file)?;
    } else {
        let kept = file.with_extension("lost.json");
        results.write(&kept)?;
        writeln!(out, "{} stays; this run is in {}", file.display(), kept.display())?;
    }
    if let Some(page) = page {
        let chart = draw(results, page)?;
        write_part(page, &results.header.bench, &(chart + &results.markdown()))
            .with_context(|| format!("cannot write {}", page.display()))?;
    }
    let missed = results.figures.iter().filter(|figure| figure.met == Some(false)).count();
    if missed > 0 {
        writeln!(out, "{missed} required figures were missed")?;
    }
    // The short form holds its floors; the long one holds what was reached.
    let failed = !lost.is_empty() || (results.header.short && missed > 0);
    Ok(i32::from(failed))
}

/// What is drawn beside the page, and how it is named there.
const CHART: (&str, &str) =
    ("TCP, one stream, through the tunnel (Gbit/s)", "TCP one stream, goodput: ");

/// Draws the figures beside the page; returns the line that shows the picture.
fn draw(results: &Results, page: &Path) -> anyhow::Result<String> {
    let (title, prefix) = CHART;
    let Some(chart) = Chart::new(title, &results.figures, prefix) else { return Ok(String::new()) };
    let name = format!("benchmark-{}.svg", results.header.bench);
    let file = page.with_file_name(&name);
    fs::write(&file, chart.to_string())
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(format!("![{title}]({name})\n\n"))
}

/// Replaces the part of a page between `<!-- NAME -->` and `<!-- /NAME -->`.
fn write_part(page: &Path, name: &str, part: &str) -> anyhow::Result<()> {
    let text = fs::read_to_string(page)?;
    let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (before, rest) = text.split_once(&open).with_context(|| format!("no line {open}"))?;
    let (_, after) = rest.split_once(&close).with_context(|| format!("no line {close}"))?;
    fs::write(page, format!("{before}{open}\n{part}\n{close}{after}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::figures::Better;
    use super::*;

    fn results(value: f64, short: bool) -> Results {
        let figure = Figure::new("ratio", "x", Better::Higher, vec![value]).require(3.0, 4.0);
        let header = Header { bench: "net".to_owned(), short, ..Header::default() };
        Results { header, figures: vec![figure] }
    }

    #[test]
    fn what_was_reached_must_be_reached_again() {
        let dir = tempfile::tempdir().unwrap();
        let (file, page) = (dir.path().join("net.json"), dir.path().join("page.md"));
        fs::write(&page, "above\n<!-- net -->\nold\n<!-- /net -->\nbelow\n").unwrap();
        let run = |value, short| {
            let before = Results::read(&file).unwrap();
            tell(&results(value, short), before.as_ref(), &file, Some(&page)).unwrap()
        };
        assert_eq!(run(2.0, false), 0, "it was never reached");
        assert_eq!(run(3.5, false), 0);
        assert_eq!(run(2.5, false), 1, "it is lost");
        let kept = Results::read(&file).unwrap().unwrap();
        assert_eq!(kept.figures[0].value, Some(3.5), "the run that reached it stays");
        assert!(file.with_extension("lost.json").exists());
        assert_eq!(run(2.9, true), 1, "the short form holds its floors");
        let page = fs::read_to_string(&page).unwrap();
        assert!(
            page.starts_with("above\n<!-- net -->\n") && page.ends_with("<!-- /net -->\nbelow\n")
        );
        assert!(page.contains("| ratio | 2.90x |") && !page.contains("old"), "{page}");
    }
}
