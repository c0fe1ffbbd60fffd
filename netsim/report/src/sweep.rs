//! What a sweep found: one scenario, run with different settings and seeds.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::figures::compare::Points;
use crate::metrics::Metric;
use crate::page::compare;
use crate::record::{RecordError, json, replace};
use crate::statistics::quantile;
use crate::tables::csv_rows;

/// A sweep.
#[derive(Clone, Debug, Serialize)]
pub struct Sweep {
    /// The scenario's file or name.
    pub scenario: String,
    /// The names of what was set, in the order of the command line.
    pub parameters: Vec<String>,
    /// Its runs, in the order in which they were made.
    pub points: Vec<Point>,
}

/// A run of a sweep.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// The folder of its run directory.
    pub name: String,
    /// The values of the sweep's parameters.
    pub values: Vec<String>,
    /// Its seed.
    pub seed: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// What it found.
    pub metrics: Vec<Metric>,
}

/// What became of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// All that the scenario expects holds.
    Passed,
    /// Something that it expects does not hold.
    Failed,
    /// The run could not go on to its end.
    Broken,
}

/// A number over the seeds of one combination of values.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The values of the sweep's parameters.
    pub values: Vec<String>,
    /// The number's name.
    pub metric: &'static str,
    /// How many runs have it.
    pub runs: usize,
    /// The least, the quartiles, the most.
    pub quantiles: [f64; 5],
}

impl Outcome {
    /// As in the files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Broken => "broken",
        }
    }
}

impl Sweep {
    /// The numbers over the seeds, of each combination of values in order of the runs.
    pub fn summary(&self) -> Vec<Summary> {
        let mut order: Vec<&Vec<String>> = Vec::new();
        for point in &self.points {
            if !order.contains(&&point.values) {
                order.push(&point.values);
            }
        }
        let mut summary = Vec::new();
        for values in order {
            let of = self.points.iter().filter(|point| point.values == *values);
            let mut numbers: BTreeMap<usize, (&'static str, Vec<f64>)> = BTreeMap::new();
            for metric in of.flat_map(|point| point.metrics.iter().enumerate()) {
                let (at, metric) = metric;
                let entry = numbers.entry(at).or_insert((metric.name, Vec::new()));
                entry.1.extend(metric.value.filter(|value| value.is_finite()));
            }
            for (metric, found) in numbers.into_values().filter(|(_, found)| !found.is_empty()) {
                let q = |q: f64| quantile(found.clone(), q).unwrap_or_default();
                let quantiles = [0.0, 0.25, 0.5, 0.75, 1.0].map(q);
                summary.push(Summary {
                    values: values.clone(),
                    metric,
                    runs: found.len(),
                    quantiles,
                });
            }
        }
        summary
    }

    /// A row for each run: its values, its seed, its outcome, its numbers. The header is the first row.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let metrics: Vec<&'static str> = self
            .points
            .iter()
            .find(|point| !point.metrics.is_empty())
            .map(|point| point.metrics.iter().map(|metric| metric.name).collect())
            .unwrap_or_default();
        let mut header = self.parameters.clone();
        header.extend(["seed", "outcome", "run"].map(str::to_owned));
        header.extend(metrics.iter().map(|name| (*name).to_owned()));
        let mut rows = vec![header];
        for point in &self.points {
            let mut row = point.values.clone();
            row.extend([point.seed.to_string(), point.outcome.name().into(), point.name.clone()]);
            row.extend(metrics.iter().map(|name| {
                let metric = point.metrics.iter().find(|metric| metric.name == *name);
                metric.and_then(|metric| metric.value).map(|v| v.to_string()).unwrap_or_default()
            }));
            rows.push(row);
        }
        rows
    }

    /// Writes `sweep.csv` (a row for each run), `summary.csv` (the seeds taken together), `sweep.json` and
    /// `sweep.html`, each as a whole.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn write(&self, dir: &Path) -> Result<(), RecordError> {
        let mut summary = vec![self.parameters.clone()];
        let names = ["metric", "runs", "min", "quartile1", "median", "quartile3", "max"];
        summary[0].extend(names.map(str::to_owned));
        for of in self.summary() {
            let mut row = of.values;
            row.extend([of.metric.to_owned(), of.runs.to_string()]);
            row.extend(of.quantiles.map(|quantile| quantile.to_string()));
            summary.push(row);
        }
        let put = |name: &str, bytes: std::io::Result<Vec<u8>>| {
            let path = dir.join(name);
            let written = bytes.and_then(|bytes| replace(&path, &bytes));
            written.map_err(|source| RecordError::Write { path, source })
        };
        put("sweep.csv", csv_rows(&self.rows()))?;
        put("summary.csv", csv_rows(&summary))?;
        put("sweep.json", json(self))?;
        put("sweep.html", Ok(self.page().into_bytes()))
    }

    fn page(&self) -> String {
        // What is set together stands together on the axis.
        let label = |point: &Point| point.values.join(", ");
        let titles = self.points.iter().find(|point| !point.metrics.is_empty());
        let titles = titles.map(|point| point.metrics.clone()).unwrap_or_default();
        let numbers: Vec<Points> = titles
            .iter()
            .enumerate()
            .map(|(index, metric)| {
                let mut at: Vec<(String, Vec<f64>)> = Vec::new();
                for point in &self.points {
                    let value = point.metrics.get(index).and_then(|metric| metric.value);
                    let place = at.iter().position(|(name, _)| *name == label(point));
                    let place = place.unwrap_or_else(|| {
                        at.push((label(point), Vec::new()));
                        at.len() - 1
                    });
                    at[place].1.extend(value);
                }
                Points { metric: metric.title.to_owned(), at }
            })
            .collect();
        let mut rows = self.rows();
        let header = rows.remove(0);
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        let title = format!("{}: {} runs", self.scenario, self.points.len());
        compare::render_sweep(&title, &self.parameters.join(", "), &numbers, &header, rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(value: &str, seed: u64, number: Option<f64>) -> Point {
        let metric = Metric { name: "rtt_median_ms", title: "round trip (ms)", value: number };
        let outcome = if number.is_some() { Outcome::Passed } else { Outcome::Broken };
        let metrics = if number.is_some() { vec![metric] } else { Vec::new() };
        let name = format!("{value}-{seed}");
        Point { name, values: vec![value.to_owned()], seed, outcome, metrics }
    }

    #[test]
    fn seeds_are_summed_up_by_values_and_broken_runs_stay_rows() {
        let points = vec![
            point("10", 1, Some(1.0)),
            point("10", 2, Some(3.0)),
            point("50", 1, None),
            point("50", 2, Some(7.0)),
        ];
        let parameters = vec!["volunteers.count".to_owned()];
        let sweep = Sweep { scenario: "a.toml".to_owned(), parameters, points };

        let summary = sweep.summary();

        assert_eq!(summary.len(), 2);
        assert_eq!((summary[0].runs, summary[0].quantiles), (2, [1.0, 1.5, 2.0, 2.5, 3.0]));
        assert_eq!((summary[1].runs, summary[1].quantiles[2]), (1, 7.0));
        let rows = sweep.rows();
        assert_eq!(rows[0], ["volunteers.count", "seed", "outcome", "run", "rtt_median_ms"]);
        assert_eq!(rows[3], ["50", "1", "broken", "50-1", ""]);
        assert_eq!(rows[4], ["50", "2", "passed", "50-2", "7"]);
    }
}
