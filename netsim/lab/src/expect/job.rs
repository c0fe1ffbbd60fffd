//! What a scenario expects of each job.

use netsim_scenario::queens;
use netsim_scenario::resolved::Job;

use crate::report::{JobReport, PairReport};

/// The number of solutions in n-queens' output: `solutions(15) = 2279184`.
pub(super) fn solutions(output: &str) -> Option<u64> {
    let result = output.lines().find_map(|line| line.strip_prefix("solutions("))?;
    result.split_once(") = ")?.1.trim().parse().ok()
}

/// The expectations that do not hold. `output` is the first node's standard output, if it is there.
pub(super) fn failures(wanted: &Job, report: &JobReport, output: Option<&str>) -> Vec<String> {
    let expect = &wanted.expect;
    let who = format!("job {} ({})", report.id, report.name);
    if expect.may_fail && report.state == "Error" {
        return Vec::new();
    }
    if report.state != "Terminated" || report.exit != Some(i32::from(expect.exit)) {
        let exit = report.exit.map_or_else(|| "none".to_owned(), |exit| exit.to_string());
        let message = if report.message.is_empty() {
            String::new()
        } else {
            format!(" ({})", report.message)
        };
        // What else is wrong with it follows from this.
        return vec![format!(
            "{who} ended as {} with exit status {exit}{message}; expected: Terminated with {}",
            report.state, expect.exit
        )];
    }
    let mut failures = Vec::new();
    if let Some(text) = &expect.output
        && !output.unwrap_or_default().contains(text)
    {
        failures.push(format!("{who}: the output does not contain `{text}`"));
    }
    if let Some(board) = &expect.queens {
        let board = u8::try_from(board.number()).unwrap_or(u8::MAX);
        let published = queens::solutions(board);
        if report.solutions != published {
            let number = |n: Option<u64>| n.map_or_else(|| "no".to_owned(), |n| n.to_string());
            failures.push(format!(
                "{who}: the output says {} solutions; {} are published for a board of {board}",
                number(report.solutions),
                number(published),
            ));
        }
    }
    failures.extend(too_little(report, expect.pair_bytes.0));
    if expect.relayed_as_predicted {
        failures.extend(report.pairs.iter().filter_map(|pair| wrongly_relayed(report, pair)));
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
                        "rank {} {what} {count} bytes to or from rank {}; at least {least} are \
                         expected",
                        end.from, end.to
                    ));
                }
            }
        }
    }
    failures
}

/// Why a pair's path is not what was predicted, if it is not.
pub(super) fn wrongly_relayed(report: &JobReport, pair: &PairReport) -> Option<String> {
    let names = report.names(pair);
    match (pair.predicted, pair.is_relayed()) {
        ("direct", true) => Some(format!("{names} is relayed, although a direct path is possible")),
        ("relayed", false) => {
            Some(format!("{names} is not relayed, although no direct path is possible"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solutions_are_read_from_their_line() {
        let output = "hello 3\nsolutions(15) = 2279184\n0.1 s, 6 ranks\n";
        assert_eq!(solutions(output), Some(2_279_184));
        assert_eq!(solutions("error\n"), None);
    }
}
