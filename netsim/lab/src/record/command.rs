//! `netsim report`.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use netsim_report::RunState;
use netsim_report::record::names;

/// `netsim report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Run directories, as netsim run --out DIR makes them.
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// Where the page that compares several goes.
    #[arg(long, value_name = "FILE", default_value = "compare.html")]
    to: PathBuf,
}

/// Makes the page and the tables of one run again, or one page that compares several runs.
///
/// # Errors
/// When a directory is no run, or something cannot be written.
pub fn execute(args: &ReportArgs) -> anyhow::Result<i32> {
    let mut out = io::stdout().lock();
    if let [dir] = args.dirs.as_slice() {
        let run = netsim_report::report(dir)?;
        let verdict = match run.info.passed {
            Some(true) => "passed",
            Some(false) => "failed",
            None if run.info.state == RunState::Interrupted => "interrupted",
            None => "incomplete",
        };
        writeln!(
            out,
            "{}: {verdict}, {:.1} s, {} volunteers, {} jobs, {} ordered pairs",
            dir.display(),
            run.end,
            run.volunteers().count(),
            run.jobs.len(),
            run.pairs.len()
        )?;
        for what in &run.missing {
            writeln!(out, "  missing: {what}")?;
        }
        writeln!(out, "{}", dir.join(names::REPORT).display())?;
        return Ok(0);
    }
    let dirs: Vec<&Path> = args.dirs.iter().map(PathBuf::as_path).collect();
    netsim_report::compare(&dirs, &args.to)?;
    writeln!(out, "{}", args.to.display()).context("cannot write to standard output")?;
    Ok(0)
}
