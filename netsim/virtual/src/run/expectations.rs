//! Whether what the scenario expects holds.

use std::collections::BTreeSet;
use std::time::Duration;

use netsim_report::{PathKind, What};
use netsim_scenario::Metric;
use netsim_scenario::Resolved;
use netsim_scenario::file::Path;
use netsim_scenario::resolved::{Expectation, Holds, Number, When};

use super::launches::{Finished, PairEnd};
use super::{JobAt, Outcome, Run, seconds};

impl Run<'_> {
    /// Looks at everything that is expected, and ends the run.
    pub(super) fn conclude(mut self) -> Outcome {
        let running: Vec<JobAt> = self.launches.keys().copied().collect();
        running.into_iter().for_each(|job| self.end_launch(job));
        for entry in 0..self.resolved.jobs.len() {
            self.look_at_job(entry);
        }
        self.look_at_events();
        let not_looked_at = not_looked_at(self.resolved);
        for text in self.warnings.clone().into_iter().chain(not_looked_at.iter().cloned()) {
            self.tell(What::Note { text });
        }
        for expectation in &self.resolved.expectations {
            self.look_at(expectation);
        }
        let (terminated, failed) = (self.ended(None, true), self.ended(None, false));
        Outcome {
            passed: self.failures.is_empty(),
            took: self.world.now(),
            terminated,
            failed,
            direct_pairs: self.pairs(None, PathKind::Direct),
            relayed_pairs: self.pairs(None, PathKind::Relayed),
            packets: self.world.net.counters().sent,
            failures: self.failures,
            not_looked_at,
            warnings: self.warnings,
        }
    }

    /// What waited for a job that never got so far.
    fn look_at_events(&mut self) {
        for index in self.timeline.never_due() {
            let happening = &self.resolved.timeline[index];
            if let When::Job { group, state, .. } = &happening.when {
                let state = format!("{state:?}").to_lowercase();
                self.fail(format!("event {} did not happen: {group} was never {state}", index + 1));
            }
        }
    }

    fn look_at_job(&mut self, entry: usize) {
        let job = &self.resolved.jobs[entry];
        let expect = &job.expect;
        if self.jobs[entry].is_empty() {
            let limit = self.resolved.duration.as_secs();
            return self.fail(format!("job {} was not submitted within {limit} s", job.name));
        }
        for id in self.jobs[entry].clone() {
            let Some(submission) = self.submissions.get(&id) else { continue };
            let (state, ended) = (submission.state, submission.ended.is_some());
            let terminated = submission.terminated;
            let met = terminated || (ended && expect.may_fail);
            let (key, name) = (self.key(id), &job.name);
            self.judge(format!("job {key} ({name}) ends well"), met, format!("it is {state}"));
            if !terminated {
                continue;
            }
            let Some(finished) = self.finished.get(&id) else { continue };
            let least = expect.pair_bytes.0;
            let short = finished.pairs.values().filter(|pair| pair.received < least).count();
            let total = finished.pairs.len();
            if least > 0 && total > 0 {
                let text = format!("job {key} ({name}): every pair carries {least} bytes");
                self.judge(text, short == 0, format!("{short} of {total} did not"));
            }
            if expect.relayed_as_predicted {
                let wrong = self.unlike_predicted(&[id]);
                let text = format!("job {key} ({name}): relayed pairs are as predicted");
                self.judge(text, wrong.is_empty(), wrong.join(", "));
            }
        }
    }

    fn look_at(&mut self, expectation: &Expectation) {
        let scope = Some(expectation);
        let of = expectation.scope().map(|group| format!(" of {group}")).unwrap_or_default();
        match &expectation.that {
            // Said already.
            Holds::Number(Number::CollectedFiles, _) => {}
            Holds::Number(number, bounds) => {
                let (name, found) = match number {
                    Number::JobsTerminated => ("jobs that end well", self.ended(scope, true)),
                    Number::JobsFailed => ("jobs that fail", self.ended(scope, false)),
                    Number::DirectPairs => ("direct pairs", self.pairs(scope, PathKind::Direct)),
                    Number::RelayedPairs | Number::CollectedFiles => {
                        ("relayed pairs", self.pairs(scope, PathKind::Relayed))
                    }
                };
                let text = format!("number of {name}{of}: {}", range(bounds.least, bounds.most));
                self.judge(text, bounds.hold(&(found as u64)), found.to_string());
            }
            Holds::Metric { metric, percentile, bounds } => {
                let found = at_percentile(self.values(scope, *metric), *percentile);
                let name = metric.name();
                let range = range(bounds.least, bounds.most);
                let text = format!("{name}{of}, percentile {percentile}: {range} s");
                let met = found.is_some_and(|found| bounds.hold(&found));
                let found = found.map_or("no values".to_owned(), |found| format!("{found:.3} s"));
                self.judge(text, met, found);
            }
            Holds::RelayedAsPredicted => {
                let wrong = self.unlike_predicted(&self.ids(scope));
                let text = format!("relayed pairs{of} are as predicted");
                self.judge(text, wrong.is_empty(), wrong.join(", "));
            }
            Holds::LanPairsDirect => {
                let wrong = self.lan_pairs_elsewhere(scope);
                let text = format!("pairs{of} in one network talk inside it");
                self.judge(text, wrong.is_empty(), wrong.join(", "));
            }
            Holds::Path { between: [a, b], is } => {
                let wanted = match is {
                    Path::Direct => PathKind::Direct,
                    Path::Relayed => PathKind::Relayed,
                };
                let found = self.paths_between(scope, a, b);
                let met = !found.is_empty() && found.iter().all(|path| *path == wanted);
                let found: Vec<_> = found.iter().map(|path| path.name()).collect();
                let text = format!("{a} and {b} are {} in the end", wanted.name());
                self.judge(text, met, found.join(", "));
            }
        }
    }

    fn judge(&mut self, text: String, met: bool, found: String) {
        let found = if met { String::new() } else { found };
        if !met {
            self.failures.push(format!("{text}: {found}"));
        }
        self.tell(What::Expectation { text, met, found });
    }

    fn ids(&self, scope: Option<&Expectation>) -> Vec<JobAt> {
        let is_meant = |entry: usize| {
            let job = &self.resolved.jobs[entry];
            scope.is_none_or(|it| it.covers(&job.coordinator, &job.group))
        };
        let submissions = self.submissions.iter().filter(|(_, job)| is_meant(job.entry));
        submissions.map(|(id, _)| *id).collect()
    }

    fn ended(&self, scope: Option<&Expectation>, well: bool) -> usize {
        let jobs = self.ids(scope).into_iter().filter_map(|id| self.submissions.get(&id));
        jobs.filter(|job| job.terminated == well).count()
    }

    fn finished_of(&self, scope: Option<&Expectation>) -> impl Iterator<Item = &Finished> {
        self.ids(scope).into_iter().filter_map(|id| self.finished.get(&id))
    }

    /// Unordered pairs whose path is that in the end, both ways.
    fn pairs(&self, scope: Option<&Expectation>, path: PathKind) -> usize {
        self.finished_of(scope).flat_map(unordered).filter(|(_, _, it)| *it == path).count()
    }

    /// The pairs that are not what the oracle says. Where it takes a calculated port, both are right.
    fn unlike_predicted(&self, jobs: &[JobAt]) -> Vec<String> {
        let mut wrong = BTreeSet::new();
        for finished in jobs.iter().filter_map(|id| self.finished.get(id)) {
            for (a, b, path) in unordered(finished) {
                let is_right = path != PathKind::None
                    && self.prediction(a, b).is_none_or(|it| it.allows(path == PathKind::Direct));
                if !is_right {
                    let (a, b) = (&self.agents[a].name, &self.agents[b].name);
                    wrong.insert(format!("{a} and {b}: {}", path.name()));
                }
            }
        }
        wrong.into_iter().collect()
    }

    fn lan_pairs_elsewhere(&self, scope: Option<&Expectation>) -> Vec<String> {
        let mut wrong = BTreeSet::new();
        for finished in self.finished_of(scope) {
            for ((from, to), pair) in &finished.pairs {
                let (from, to) = (finished.members[*from], finished.members[*to]);
                let names = (&self.agents[from].name, &self.agents[to].name);
                let own = self.world.net.address(self.world.nodes[to].host);
                let inside = matches!(pair.via, Some(overlay_core::Path::Direct(via))
                    if via.ip() == own || via.is_ipv6());
                if self.oracle.share_a_network(names.0, names.1) && !inside {
                    wrong.insert(format!("{} to {}", names.0, names.1));
                }
            }
        }
        wrong.into_iter().collect()
    }

    fn paths_between(&self, scope: Option<&Expectation>, a: &str, b: &str) -> Vec<PathKind> {
        let named = |agent: usize, name: &str| self.agents[agent].name == name;
        let pairs = self.finished_of(scope).flat_map(unordered);
        let between = pairs
            .filter(|(x, y, _)| (named(*x, a) && named(*y, b)) || (named(*x, b) && named(*y, a)));
        between.map(|(_, _, path)| path).collect()
    }

    /// The values of a metric, seconds.
    fn values(&self, scope: Option<&Expectation>, metric: Metric) -> Vec<f64> {
        let jobs = self.ids(scope).into_iter();
        let jobs = jobs.filter_map(|id| Some((self.submissions.get(&id)?, self.finished.get(&id))));
        let span =
            |from: Option<Duration>, to: Option<Duration>| Some(seconds(to?.saturating_sub(from?)));
        let of_pairs = |finished: Option<&Finished>, value: fn(&PairEnd) -> Option<f64>| {
            let pairs = finished.into_iter().flat_map(|finished| finished.pairs.values());
            pairs.filter_map(value).collect::<Vec<f64>>()
        };
        jobs.flat_map(|(job, finished)| match metric {
            Metric::QueueTime => span(Some(job.at), job.began).into_iter().collect(),
            Metric::RunTime => span(job.began, job.ended).into_iter().collect(),
            Metric::TimeToMesh => {
                finished.and_then(|it| it.time_to_mesh).map(seconds).into_iter().collect()
            }
            Metric::Rtt => of_pairs(finished, |pair| pair.rtt_us.map(|us| us as f64 / 1e6)),
            Metric::FirstByte => of_pairs(finished, |pair| pair.first_byte.map(seconds)),
        })
        .collect()
    }
}

/// What the scenario expects and nobody looks at: no program runs in virtual time.
fn not_looked_at(resolved: &Resolved) -> Vec<String> {
    let mut said = Vec::new();
    let mut groups = BTreeSet::new();
    for job in resolved.jobs.iter().filter(|job| groups.insert(job.group.as_str())) {
        let expect = &job.expect;
        let keys = [
            ("queens", expect.queens.is_some()),
            ("output", expect.output.is_some()),
            ("exit", expect.exit != 0),
        ];
        let keys: Vec<&str> =
            keys.iter().filter(|(_, given)| *given).map(|(key, _)| *key).collect();
        if !keys.is_empty() {
            said.push(format!("{} of job {}", keys.join(", "), job.group));
        }
    }
    for gathering in &resolved.gatherings {
        said.push(format!("collect and then of job {}", gathering.group));
    }
    let is_files = |e: &&Expectation| matches!(e.that, Holds::Number(Number::CollectedFiles, _));
    said.extend(
        resolved.expectations.iter().filter(is_files).map(|_| "collected-files".to_owned()),
    );
    let sentence = |what: String| format!("not looked at, since no program runs: {what}");
    said.into_iter().map(sentence).collect()
}

/// The pairs of a launch as agents, with the worse of their two paths.
fn unordered(finished: &Finished) -> Vec<(usize, usize, PathKind)> {
    let path = |a: usize, b: usize| finished.pairs.get(&(a, b)).map(|pair| pair.path);
    let pairs = finished.pairs.keys().filter(|(a, b)| a < b);
    let with_path = pairs.map(|(a, b)| {
        let paths = path(*a, *b).into_iter().chain(path(*b, *a));
        let worst = paths.min().unwrap_or_default();
        (finished.members[*a], finished.members[*b], worst)
    });
    with_path.collect()
}

/// The value at a percentile: the smallest that so many are not above.
fn at_percentile(mut values: Vec<f64>, percentile: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let rank = (percentile / 100.0 * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied()
}

fn range<T: std::fmt::Display>(least: Option<T>, most: Option<T>) -> String {
    match (least, most) {
        (Some(least), Some(most)) => format!("{least} to {most}"),
        (Some(least), None) => format!("at least {least}"),
        (None, Some(most)) => format!("at most {most}"),
        (None, None) => "any".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values() {
        let values = vec![4.0, 1.0, 3.0, 2.0];
        let at = |percentile| at_percentile(values.clone(), percentile);
        assert_eq!([at(0.0), at(50.0), at(51.0), at(100.0)], [1.0, 2.0, 3.0, 4.0].map(Some));
        assert_eq!(at_percentile(Vec::new(), 50.0), None);
    }
}
