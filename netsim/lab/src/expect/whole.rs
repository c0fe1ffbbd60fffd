//! What a scenario expects of the run as a whole: `[[expect]]`.

use std::collections::BTreeMap;

use netsim_scenario::Metric;
use netsim_scenario::file::Path;
use netsim_scenario::resolved::{Bounds, Expectation, Holds, Number};

use super::Checked;
use super::job::wrongly_relayed;
use super::lan::{self, Crossing};
use crate::conduct::Predictions;
use crate::report::{JobReport, PairReport};
use crate::topology::Machine;

/// What is known when everything has ended.
pub(super) struct Facts<'a> {
    pub(super) jobs: &'a [JobReport],
    /// Collected files, by group.
    pub(super) files: &'a BTreeMap<String, u64>,
    pub(super) predictions: &'a Predictions,
    pub(super) machines: Vec<&'a Machine>,
    pub(super) crossings: &'a [Crossing],
}

/// Looks at one expectation.
pub(super) fn check(expectation: &Expectation, facts: &Facts<'_>) -> Checked {
    let scope = expectation;
    let (text, met, found) = match &expectation.that {
        Holds::Number(number, bounds) => count(*number, bounds, scope, facts),
        Holds::Metric { metric, percentile, bounds } => {
            let values = facts.values(*metric, scope);
            let text = format!("{} of {} {}", ordinal(*percentile), metric.name(), seconds(bounds));
            match nearest_rank(values, *percentile) {
                Some((value, of)) => {
                    let found = format!("{value:.3} s (of {of} values)");
                    (text, bounds.hold(&value), found)
                }
                None => (text, false, "no values".to_owned()),
            }
        }
        Holds::RelayedAsPredicted => {
            let wrong = facts.pairs(scope).filter_map(|(job, pair)| wrongly_relayed(job, pair));
            let text = "the relayed pairs are those that RFC 4787 makes impossible".to_owned();
            verdict(text, facts.pairs(scope).count(), wrong.collect())
        }
        Holds::LanPairsDirect => {
            let text = "machines of one network talk inside it".to_owned();
            let pairs: Vec<_> = facts.pairs(scope).filter(|(j, p)| facts.is_lan(j, p)).collect();
            let astray = pairs.iter().filter_map(|(job, pair)| facts.leaves_the_lan(job, pair));
            let crossings = facts.crossings.iter().filter_map(|c| lan::too_much(c, pairs.len()));
            verdict(text, pairs.len(), astray.chain(crossings).collect())
        }
        Holds::Path { between: [a, b], is } => {
            let wanted = match is {
                Path::Direct => "direct",
                Path::Relayed => "relayed",
            };
            let text = format!("{a} – {b} is {wanted}");
            // The last job that both had a part in shows the path in the end.
            let found = facts.pairs(scope).filter(|(job, pair)| {
                let (low, high) = job.hosts(pair);
                (low == a && high == b) || (low == b && high == a)
            });
            let path = found.last().map_or_else(|| "no such pair".to_owned(), |(_, p)| p.path());
            (text, path == wanted, path)
        }
    };
    let text = match expectation.scope() {
        Some(scope) => format!("{scope}: {text}"),
        None => text,
    };
    Checked { text, met, found }
}

fn count(
    number: Number,
    bounds: &Bounds<u64>,
    scope: &Expectation,
    facts: &Facts<'_>,
) -> (String, bool, String) {
    let pairs =
        |path: &str| facts.pairs(scope).filter(|(_, pair)| pair.path() == path).count() as u64;
    let (name, found) = match number {
        Number::JobsTerminated => {
            let well = |job: &&JobReport| job.state == "Terminated";
            ("jobs that ended well", facts.jobs(scope).filter(well).count() as u64)
        }
        Number::JobsFailed => {
            let failed = |job: &&JobReport| job.state != "Terminated";
            ("jobs that failed", facts.jobs(scope).filter(failed).count() as u64)
        }
        Number::DirectPairs => ("direct pairs", pairs("direct")),
        Number::RelayedPairs => ("relayed pairs", pairs("relayed")),
        Number::CollectedFiles => {
            let of = |(name, _): &(&String, &u64)| facts.jobs(scope).any(|job| job.group == **name);
            ("collected files", facts.files.iter().filter(of).map(|(_, count)| count).sum())
        }
    };
    let text = format!("{name}: {}", limits(bounds, |n| n.to_string()));
    (text, bounds.hold(&found), found.to_string())
}

/// Nothing may be wrong, and there must have been something to look at.
fn verdict(text: String, looked_at: usize, wrong: Vec<String>) -> (String, bool, String) {
    if looked_at == 0 {
        return (text, false, "no such pairs".to_owned());
    }
    let found = if wrong.is_empty() { format!("{looked_at} pairs") } else { wrong.join("; ") };
    (text, wrong.is_empty(), found)
}

impl<'a> Facts<'a> {
    /// The jobs that an expectation is about; of those that were repeated, the last try.
    fn jobs(&self, scope: &Expectation) -> impl Iterator<Item = &'a JobReport> {
        let jobs = self.jobs.iter().filter(|job| !job.was_repeated);
        jobs.filter(move |job| scope.covers(&job.coordinator, &job.group))
    }

    fn pairs(&self, scope: &Expectation) -> impl Iterator<Item = (&'a JobReport, &'a PairReport)> {
        self.jobs(scope).flat_map(|job| job.pairs.iter().map(move |pair| (job, pair)))
    }

    /// A metric's values, in seconds.
    fn values(&self, metric: Metric, scope: &Expectation) -> Vec<f64> {
        let ends = || self.pairs(scope).flat_map(|(_, pair)| pair.ends());
        match metric {
            Metric::TimeToMesh => {
                let ms = self.jobs(scope).filter_map(|job| job.mesh_ready_after_ms);
                ms.map(|ms| ms as f64 / 1e3).collect()
            }
            Metric::Rtt => {
                let of = |(_, pair): (_, &PairReport)| {
                    pair.ends().filter_map(|end| end.rtt_us).min().map(|us| us as f64 / 1e6)
                };
                self.pairs(scope).filter_map(of).collect()
            }
            Metric::FirstByte => ends()
                .filter_map(|end| end.established_after_ms)
                .map(|ms| ms as f64 / 1e3)
                .collect(),
            Metric::QueueTime => self.jobs(scope).filter_map(|job| job.queued_s).collect(),
            Metric::RunTime => self.jobs(scope).filter_map(|job| job.ran_s).collect(),
        }
    }

    fn is_lan(&self, job: &JobReport, pair: &PairReport) -> bool {
        let (low, high) = job.hosts(pair);
        self.predictions.share_a_network(low, high)
    }

    /// Why the path of a pair in one network is not inside of it, if it is not.
    fn leaves_the_lan(&self, job: &JobReport, pair: &PairReport) -> Option<String> {
        let names = job.names(pair);
        if pair.is_relayed() {
            return Some(format!("{names} is relayed"));
        }
        let (low, high) = job.hosts(pair);
        let inside = |end: &coordinator_api::mesh::MeshPair, peer: &str| {
            let machine = self.machines.iter().find(|machine| machine.name == peer);
            let via = end.via.as_ref().and_then(|via| via.parse::<std::net::SocketAddr>().ok());
            machine.zip(via).is_some_and(|(machine, via)| {
                let ip = via.ip().to_canonical();
                ip == machine.address || machine.ipv6.is_some_and(|own| ip == own)
            })
        };
        let forth = pair.forth.as_ref().map(|end| (end, high));
        let back = pair.back.as_ref().map(|end| (end, low));
        let astray = forth.into_iter().chain(back).find(|(end, peer)| !inside(end, peer));
        astray.map(|(end, _)| {
            let via = end.via.as_deref().unwrap_or("an unknown endpoint");
            format!("{names} goes by {via}, which is not in their network")
        })
    }
}

/// The value at a percentile, by the nearest rank, and how many values there are.
fn nearest_rank(mut values: Vec<f64>, percentile: f64) -> Option<(f64, usize)> {
    values.sort_by(f64::total_cmp);
    let rank = (percentile / 100.0 * values.len() as f64).ceil() as usize;
    let value = values.get(rank.saturating_sub(1).min(values.len().saturating_sub(1)))?;
    Some((*value, values.len()))
}

fn ordinal(percentile: f64) -> String {
    match percentile {
        0.0 => "the least".to_owned(),
        50.0 => "the median".to_owned(),
        100.0 => "the most".to_owned(),
        other => format!("the {other}th percentile"),
    }
}

fn seconds(bounds: &Bounds<f64>) -> String {
    limits(bounds, |s| format!("{s} s"))
}

fn limits<T: PartialEq>(bounds: &Bounds<T>, show: impl Fn(&T) -> String) -> String {
    match (&bounds.least, &bounds.most) {
        (Some(least), Some(most)) if least == most => format!("exactly {}", show(least)),
        (Some(least), Some(most)) => format!("{} to {}", show(least), show(most)),
        (Some(least), None) => format!("at least {}", show(least)),
        (None, Some(most)) => format!("at most {}", show(most)),
        (None, None) => "any".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let of = |percentile| nearest_rank(vec![3.0, 1.0, 2.0, 4.0], percentile);
        assert_eq!(of(0.0), Some((1.0, 4)));
        assert_eq!(of(50.0), Some((2.0, 4)));
        assert_eq!(of(75.0), Some((3.0, 4)));
        assert_eq!(of(76.0), Some((4.0, 4)));
        assert_eq!(of(100.0), Some((4.0, 4)));
        assert_eq!(nearest_rank(Vec::new(), 50.0), None);
    }

    #[test]
    fn limits_are_said_as_people_would() {
        let of = |least, most| limits(&Bounds { least, most }, u64::to_string);
        assert_eq!(of(Some(3), Some(3)), "exactly 3");
        assert_eq!(of(Some(3), Some(4)), "3 to 4");
        assert_eq!(of(Some(3), None), "at least 3");
        assert_eq!(of(None, Some(4)), "at most 4");
    }
}
