//! The numbers that stand for a whole run: what runs are compared by.

use serde::Serialize;

use crate::event::PathKind;
use crate::figures::MeshTimes;
use crate::model::Run;
use crate::statistics::{median, quantile};

/// A number of a run. Names end in their unit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Metric {
    /// Its name in CSV and JSON.
    pub name: &'static str,
    /// Its name for people, with the unit.
    pub title: &'static str,
    /// The number, where there is one.
    pub value: Option<f64>,
}

/// All numbers of a run, always the same ones in the same order.
pub fn of(run: &Run) -> Vec<Metric> {
    let times = MeshTimes::of(run);
    let settled =
        |kind: PathKind| run.pairs.values().filter(|p| p.settled() == kind).count() as f64;
    let pairs = run.pairs.len() as f64;
    let part = |count: f64| (pairs > 0.0).then(|| 100.0 * count / pairs);
    let rtts: Vec<f64> = run.pairs.values().filter_map(|pair| pair.median_rtt()).collect();
    let ended = |state: &str| run.jobs.iter().filter(|job| job.state() == state).count() as f64;
    let spans = |span: fn(&crate::model::Job) -> Option<f64>| -> Vec<f64> {
        run.jobs.iter().filter_map(span).collect()
    };
    let to_end = spans(|job| Some(job.ended()? - job.submitted));
    let to_start = spans(|job| Some(job.started()? - job.submitted));
    let bytes: f64 = run.pairs.values().map(|pair| pair.bytes() as f64).sum();
    let changes: f64 = run.pairs.values().map(|pair| pair.changes() as f64).sum();
    let count = |value: f64| Some(value);
    let all: [(&'static str, &'static str, Option<f64>); 19] = [
        ("duration_s", "duration of the run (s)", count(run.end)),
        ("volunteers", "volunteers", count(run.volunteers().count() as f64)),
        ("jobs", "jobs", count(run.jobs.len() as f64)),
        ("jobs_terminated", "jobs that terminated", count(ended("Terminated"))),
        ("jobs_error", "jobs that ended with an error", count(ended("Error"))),
        ("job_start_median_s", "submission to start, median (s)", median(to_start)),
        ("job_end_median_s", "submission to end, median (s)", median(to_end.clone())),
        ("job_end_p95_s", "submission to end, 95th percentile (s)", quantile(to_end, 0.95)),
        ("mesh_open_median_s", "assignment to open mesh, median (s)", median(times.open.clone())),
        ("mesh_open_max_s", "assignment to open mesh, longest (s)", quantile(times.open, 1.0)),
        ("first_path_median_s", "first path of a pair, median (s)", median(times.any)),
        ("direct_path_median_s", "first direct path of a pair, median (s)", median(times.direct)),
        ("pairs", "ordered pairs", count(pairs)),
        ("pairs_direct_percent", "pairs that ended direct (%)", part(settled(PathKind::Direct))),
        ("pairs_relayed_percent", "pairs that ended relayed (%)", part(settled(PathKind::Relayed))),
        ("path_changes", "changes of path", count(changes)),
        ("rtt_median_ms", "round trip time of a pair, median (ms)", median(rtts.clone())),
        ("rtt_p95_ms", "round trip time of a pair, 95th percentile (ms)", quantile(rtts, 0.95)),
        ("mesh_mbytes", "sent by jobs into their networks (MB)", count(bytes / 1e6)),
    ];
    all.map(|(name, title, value)| Metric { name, title, value }).to_vec()
}
