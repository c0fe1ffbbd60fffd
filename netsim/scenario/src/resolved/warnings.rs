//! What a scenario says in vain.

use std::time::Duration;

use super::{Resolved, Start, When};

impl Resolved {
    /// What is allowed, and cannot be meant: events at a time when no job can be there any more.
    pub fn warnings(&self) -> Vec<String> {
        let last = self.last_end();
        let mut warnings = Vec::new();
        for (index, happening) in self.timeline.iter().enumerate() {
            let When::At(at) = happening.when else { continue };
            if at > last {
                warnings.push(format!(
                    "event {} happens at {} s, and every job has ended by {} s, also if they run one \
                     after the other for their whole walltimes: it shows nothing",
                    index + 1,
                    at.as_secs_f64(),
                    last.as_secs_f64(),
                ));
            }
        }
        warnings
    }

    /// No job can run any more then: even if all wait for each other.
    fn last_end(&self) -> Duration {
        let mut last = Duration::ZERO;
        let mut in_a_row = Duration::ZERO;
        for job in &self.jobs {
            if let Start::At(at) = job.start {
                last = last.max(at);
            }
            let all = job.walltime.saturating_mul(job.array.unwrap_or(1));
            in_a_row = in_a_row.saturating_add(all);
        }
        last.saturating_add(in_a_row)
    }
}
