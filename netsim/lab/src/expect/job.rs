//! What a scenario expects of each job.

use netsim_scenario::queens;
use netsim_scenario::resolved::Job;

use crate::report::{JobReport, PairReport};

/// The number of solutions in n-queens' output: `solutions(15) = 2279184`.
pub(super) fn solutions(output: &str) -> Option<u64> {
    let result = output.lines().find_map(|line| line.strip_prefix("solutions("))?;
    result.split_once(") = ")?.1.trim().parse().ok()
}

/// Something that is expected of a job, looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Looked {
    /// What is expected, without the job's name.
    pub(super) text: String,
    /// What is wrong, as sentences; none: it holds.
    pub(super) wrong: Vec<String>,
}

/// Looks at all that is expected of a job. `output` is the first node's standard output, if it is there.
pub(super) fn look(wanted: &Job, report: &JobReport, output: Option<&str>) -> Vec<Looked> {
    let expect = &wanted.expect;
    let who = format!("job {} ({})", report.key(), report.name);
    if expect.may_fail && report.state == "Error" {
        let text = "ends, well or not".to_owned();
        return vec![Looked { text, wrong: Vec::new() }];
    }
    let text = format!("ends well, with exit status {}", expect.exit);
    if report.state != "Terminated" || report.exit != Some(i32::from(expect.exit)) {
        let exit = report.exit.map_or_else(|| "none".to_owned(), |exit| exit.to_string());
        let message = if report.message.is_empty() {
            String::new()
        } else {
            format!(" ({})", report.message)
        };
        // What else is wrong with it follows from this.
        let wrong = vec![format!(
            "{who} ended as {} with exit status {exit}{message}; expected: Terminated with {}",
            report.state, expect.exit
        )];
        return vec![Looked { text, wrong }];
    }
    let mut looked = vec![Looked { text, wrong: Vec::new() }];
    let mut add = |text: String, wrong: Vec<String>| looked.push(Looked { text, wrong });
    if let Some(text) = &expect.output {
        let is_there = output.unwrap_or_default().contains(text);
        let wrong = (!is_there).then(|| format!("{who}: the output does not contain {text:?}"));
        add(format!("the output contains {text:?}"), wrong.into_iter().collect());
    }
    if let Some(board) = &expect.queens {
        let board = u8::try_from(board.number()).unwrap_or(u8::MAX);
        let published = queens::solutions(board);
        let number = |n: Option<u64>| n.map_or_else(|| "no".to_owned(), |n| n.to_string());
        let wrong = (report.solutions != published).then(|| {
            format!(
                "{who}: the output says {} solutions; {} are published for a board of {board}",
                number(report.solutions),
                number(published),
            )
        });
        let text = format!("finds the {} solutions of a board of {board}", number(published));
        add(text, wrong.into_iter().collect());
    }
    if expect.pair_bytes.0 > 0 {
        let text = format!("every ordered pair carries at least {} bytes", expect.pair_bytes.0);
        add(text, too_little(report, expect.pair_bytes.0));
    }
    if expect.relayed_as_predicted {
        let wrong = report.pairs.iter().filter_map(|pair| wrongly_relayed(report, pair)).collect();
        add("the relayed pairs are those that RFC 4787 makes impossible".to_owned(), wrong);
    }
    looked
}

/// Ordered pairs that carried less than `least`, at either end.
fn too_little(report: &JobReport, least: u64) -> Vec<String> {
    let mut failures = Vec::new();
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
    let is_relayed = pair.is_relayed();
    match (pair.predicted.allows(!is_relayed), is_relayed) {
        (true, _) => None,
        // It was silent for so long that its relay holds it: its path says nothing.
        (false, true) if pair.is_idle() => None,
        (false, true) => Some(format!("{names} is relayed, although a direct path is possible")),
        (false, false) => {
            Some(format!("{names} is not relayed, although no direct path is possible"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use netsim_scenario::ScenarioFile;

    use super::*;

    #[test]
    fn solutions_are_read_from_their_line() {
        let output = "hello 3\nsolutions(15) = 2279184\n0.1 s, 6 ranks\n";
        assert_eq!(solutions(output), Some(2_279_184));
        assert_eq!(solutions("error\n"), None);
    }

    #[test]
    fn what_holds_is_said_as_well_as_what_does_not() {
        let text = "[[volunteers]]\nbehind = \"none\"\n[[job]]\ncommand = \"true\"\n\
                    [job.expect]\noutput = \"hello\"\n";
        let file = ScenarioFile::parse(Path::new("test.toml"), text.to_owned()).unwrap();
        let wanted = &file.resolve(None).unwrap().jobs[0];
        let mut report =
            JobReport { state: "Terminated".to_owned(), exit: Some(0), ..JobReport::default() };

        let holds = |looked: Vec<Looked>| -> Vec<(String, bool)> {
            looked.into_iter().map(|one| (one.text, one.wrong.is_empty())).collect()
        };
        let well = ("ends well, with exit status 0".to_owned(), true);
        let said = |is_there| ("the output contains \"hello\"".to_owned(), is_there);
        assert_eq!(holds(look(wanted, &report, Some("hello"))), [well.clone(), said(true)]);
        assert_eq!(holds(look(wanted, &report, Some("no"))), [well.clone(), said(false)]);
        report.exit = Some(3);
        assert_eq!(holds(look(wanted, &report, Some("hello"))), [(well.0, false)]);
    }
}
