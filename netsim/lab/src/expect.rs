//! Whether a job did what the scenario expects.

use std::collections::BTreeSet;

use netsim_sim::direct_path_possible;

use crate::report::{JobReport, PairReport};
use netsim_scenario::Preset;
use netsim_scenario::queens;
use netsim_scenario::resolved::Job;

/// Whether RFC 4787 lets two machines exchange packets directly.
pub fn predicted(a: Preset, b: Preset) -> &'static str {
    if direct_path_possible(&a.chain(), &b.chain()) { "direct" } else { "relayed" }
}

/// The number of solutions in n-queens' output: `solutions(15) = 2279184`.
pub fn solutions(output: &str) -> Option<u64> {
    let result = output.lines().find_map(|line| line.strip_prefix("solutions("))?;
    result.split_once(") = ")?.1.trim().parse().ok()
}

/// The expectations that do not hold. `output` is the first node's standard output.
pub fn failures(job: &Job, report: &JobReport, output: &str) -> Vec<String> {
    let mut failures = Vec::new();
    let expect = &job.expect;
    if report.state != "Terminated" || report.exit != Some(i32::from(expect.exit)) {
        let wanted = expect.exit;
        failures.push(format!(
            "job {} ended as {} with exit status {:?}; expected: Terminated with {wanted}",
            report.id, report.state, report.exit,
        ));
    }
    if let Some(text) = &expect.output
        && !output.contains(text)
    {
        failures.push(format!("job {}: the output does not contain `{text}`", report.id));
    }
    if let Some(board) = expect.queens {
        let published = u8::try_from(board.number()).ok().and_then(queens::solutions);
        if report.solutions != published {
            failures.push(format!(
                "job {}: the output says {:?} solutions; {:?} are published for a board of {}",
                report.id,
                report.solutions,
                published,
                board.number(),
            ));
        }
    }
    failures.extend(too_little(report, expect.pair_bytes.0));
    if expect.relayed_as_predicted {
        failures.extend(wrongly_relayed(report));
    }
    failures
}

/// Ordered pairs that carried less than `least`, at either end.
fn too_little(report: &JobReport, least: u64) -> Vec<String> {
    let mut failures = Vec::new();
    if least == 0 {
        return failures;
    }
    for pair in &report.pairs {
        if pair.ends().count() < 2 {
            failures.push(format!("{}: an end has not reported", report.names(pair)));
        }
        for end in pair.ends() {
            for (what, count) in [("sent", end.sent_bytes), ("received", end.received_bytes)] {
                if count < least {
                    failures.push(format!(
                        "rank {} {what} {count} bytes to or from rank {}; at least {least} are expected",
                        end.from, end.to
                    ));
                }
            }
        }
    }
    failures
}

fn wrongly_relayed(report: &JobReport) -> Vec<String> {
    let set = |holds: &dyn Fn(&&PairReport) -> bool| -> BTreeSet<String> {
        report.pairs.iter().filter(holds).map(|pair| report.names(pair)).collect()
    };
    let relayed = set(&|pair| pair.is_relayed());
    let predicted = set(&|pair| pair.predicted == "relayed");
    let needlessly = relayed
        .difference(&predicted)
        .map(|pair| format!("{pair} is relayed, although a direct path is possible"));
    let impossibly = predicted
        .difference(&relayed)
        .map(|pair| format!("{pair} is not relayed, although no direct path is possible"));
    needlessly.chain(impossibly).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prediction_is_the_oracles() {
        assert_eq!(predicted(Preset::Symmetric, Preset::Symmetric), "relayed");
        assert_eq!(predicted(Preset::Symmetric, Preset::Home), "relayed");
        assert_eq!(predicted(Preset::Symmetric, Preset::Carrier), "relayed");
        assert_eq!(predicted(Preset::Symmetric, Preset::FullCone), "direct");
        assert_eq!(predicted(Preset::Symmetric, Preset::None), "direct");
        assert_eq!(predicted(Preset::Home, Preset::Carrier), "direct");
    }

    #[test]
    fn solutions_are_read_from_their_line() {
        let output = "hello 3\nsolutions(15) = 2279184\n0.1 s, 6 ranks\n";
        assert_eq!(solutions(output), Some(2_279_184));
        assert_eq!(solutions("error\n"), None);
    }
}
