//! The CSV files that are derived from the logs: nodes.csv, jobs.csv, pairs.csv and paths.csv.

use std::io;
use std::path::Path;

use crate::event::PathKind;
use crate::model::{Prediction, Run};
use crate::record::{RecordError, replace};

/// Writes them into a run directory, each as a whole.
///
/// # Errors
/// [`RecordError`].
pub fn write(run: &Run, dir: &Path) -> Result<(), RecordError> {
    for (name, make) in [
        ("nodes.csv", nodes as fn(&Run) -> io::Result<Vec<u8>>),
        ("jobs.csv", jobs),
        ("pairs.csv", pairs),
        ("paths.csv", paths),
    ] {
        let path = dir.join(name);
        let written = make(run).and_then(|bytes| replace(&path, &bytes));
        written.map_err(|source| RecordError::Write { path, source })?;
    }
    Ok(())
}

/// Rows of any length.
pub(crate) fn csv_rows(rows: &[Vec<String>]) -> io::Result<Vec<u8>> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    for row in rows {
        csv.write_record(row)?;
    }
    csv.into_inner().map_err(|error| io::Error::other(error.to_string()))
}

/// Rows under a header.
fn csv<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> io::Result<Vec<u8>> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record(header)?;
    for row in rows {
        csv.write_record(row)?;
    }
    csv.into_inner().map_err(|error| io::Error::other(error.to_string()))
}

fn optional(value: Option<f64>) -> String {
    value.filter(|value| value.is_finite()).map(exact).unwrap_or_default()
}

/// Microseconds of seconds, and no more digits than that.
fn exact(value: f64) -> String {
    // Of the two zeros the one without a sign.
    ((value * 1e6).round() / 1e6 + 0.0).to_string()
}

fn nodes(run: &Run) -> io::Result<Vec<u8>> {
    let grown = |series: &[(f64, f64)]| {
        let (first, last) = (series.first(), series.last());
        first.zip(last).map_or_else(String::new, |(first, last)| exact((last.1 - first.1).max(0.0)))
    };
    let total = |spans: &[(f64, f64)]| spans.iter().map(|(from, to)| to - from).sum::<f64>();
    let row = |node: &crate::model::Node| {
        let available = (!node.available.is_empty()).then(|| total(&node.available));
        [
            node.name.clone(),
            node.role.name().to_owned(),
            node.behind.clone(),
            node.region.clone(),
            exact(total(&node.up)),
            optional(available),
            node.up.len().to_string(),
            node.crashes.to_string(),
            grown(&node.sent),
            grown(&node.received),
            node.coordinator.clone(),
        ]
    };
    csv(
        [
            "node",
            "role",
            "behind",
            "region",
            "up_s",
            "available_s",
            "starts",
            "crashes",
            "sent_bytes",
            "received_bytes",
            "coordinator",
        ],
        run.nodes.iter().map(row),
    )
}

fn jobs(run: &Run) -> io::Result<Vec<u8>> {
    let row = |job: &crate::model::Job| {
        [
            job.id.number.to_string(),
            job.command.clone(),
            job.nodes.to_string(),
            job.state().to_owned(),
            job.exit.map(|exit| exit.to_string()).unwrap_or_default(),
            exact(job.submitted),
            optional(job.started()),
            optional(job.ended()),
            optional(job.opened.last().map(|opened| opened.after)),
            job.opened.len().to_string(),
            job.id.coordinator.clone(),
        ]
    };
    csv(
        [
            "job",
            "command",
            "nodes",
            "state",
            "exit",
            "submitted_s",
            "started_s",
            "ended_s",
            "mesh_open_after_s",
            "meshes",
            "coordinator",
        ],
        run.jobs.iter().map(row),
    )
}

fn pairs(run: &Run) -> io::Result<Vec<u8>> {
    let rows = run.pairs.iter().map(|(key, pair)| {
        let predicted = run.predicted(key).map_or("", Prediction::name);
        [
            key.job.number.to_string(),
            key.from.clone(),
            key.to.clone(),
            pair.settled().name().to_owned(),
            predicted.to_owned(),
            optional(pair.first(None)),
            optional(pair.first(Some(PathKind::Direct))),
            exact(pair.seconds(PathKind::Direct)),
            exact(pair.seconds(PathKind::Relayed)),
            exact(pair.seconds(PathKind::None)),
            pair.changes().to_string(),
            optional(pair.median_rtt()),
            pair.bytes().to_string(),
            pair.explain().to_owned(),
            key.job.coordinator.clone(),
        ]
    });
    csv(
        [
            "job",
            "from",
            "to",
            "path",
            "predicted",
            "first_path_s",
            "first_direct_s",
            "direct_s",
            "relayed_s",
            "none_s",
            "changes",
            "rtt_median_ms",
            "sent_bytes",
            "explain",
            "coordinator",
        ],
        rows,
    )
}

fn paths(run: &Run) -> io::Result<Vec<u8>> {
    let rows = run.pairs.iter().flat_map(|(key, pair)| {
        pair.history.iter().map(|stretch| {
            [
                key.job.number.to_string(),
                key.from.clone(),
                key.to.clone(),
                exact(stretch.from),
                exact(stretch.to),
                stretch.path.name().to_owned(),
                stretch.via.clone().unwrap_or_default(),
                optional(stretch.rtt_ms),
                stretch.explain.clone(),
                key.job.coordinator.clone(),
            ]
        })
    });
    csv(
        ["job", "from", "to", "from_s", "to_s", "path", "via", "rtt_ms", "explain", "coordinator"],
        rows,
    )
}

#[cfg(test)]
mod tests {
    use super::exact;

    #[test]
    fn there_is_one_zero() {
        assert_eq!([exact(0.0), exact(-0.0), exact(-1e-9)], ["0", "0", "0"]);
        assert_eq!(exact(-1.25), "-1.25");
    }
}
