//! How a node's part of a job ended, and what the coordinator is told.

use coordinator_api::agent::{Fault, ReportedState, SetState};
use serde::{Deserialize, Serialize};

use crate::shim::protocol::{Ending, ExitReport};

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The shim says how.
    Ended(ExitReport),
    /// The node had no command to run, and has been released.
    Released,
    /// It was killed before there was a shim.
    Killed,
    /// It could not be run.
    Unusable {
        /// Whose fault it is.
        fault: Fault,
        /// What happened.
        message: String,
    },
    /// The coordinator does not want to hear of this launch any more.
    Dropped,
}

/// The longest message, bytes: 4 KiB, as the route says.
const MAX_MESSAGE: usize = 4096;

/// What has to reach the coordinator, in this order. On the disk until it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalReport {
    /// There is a stage-out to send first.
    pub stageout: bool,
    /// Then this.
    pub state: SetState,
}

impl Outcome {
    /// The report of the launch with that generation; none when nobody wants it.
    pub fn report(&self, generation: u32) -> Option<SetState> {
        let error = |fault, message: &str| SetState {
            state: ReportedState::Error,
            generation,
            exit_code: None,
            fault: Some(fault),
            message: Some(shortened(message)),
        };
        let terminated = |exit_code, message: Option<&str>| SetState {
            state: ReportedState::Terminated,
            generation,
            exit_code,
            fault: None,
            message: message.map(str::to_owned),
        };
        let cut = "an output was cut: it reached its limit, or the node's disk was full";
        let memory = "processes of the job were ended: it needed more than its memory on this node";
        Some(match self {
            Self::Ended(report) => match &report.ending {
                Ending::Exited { wait_status } => {
                    let notes = [(report.output_cut, cut), (report.out_of_memory, memory)];
                    let notes: Vec<_> =
                        notes.into_iter().filter_map(|(is, note)| is.then_some(note)).collect();
                    let notes = (!notes.is_empty()).then(|| notes.join("; "));
                    terminated(Some(*wait_status), notes.as_deref())
                }
                Ending::Killed => error(Fault::Killed, "the job was killed"),
                Ending::Walltime => error(Fault::Killed, "the walltime has passed"),
                Ending::Alone => error(Fault::Node, "the agent had stopped and did not come back"),
                Ending::OverLimit { reason } => error(Fault::Job, reason),
                Ending::Unusable { reason } => error(Fault::Node, reason),
            },
            Self::Released => terminated(None, None),
            Self::Killed => error(Fault::Killed, "the job was killed before its command started"),
            Self::Unusable { fault, message } => error(*fault, message),
            Self::Dropped => return None,
        })
    }
}

fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_MESSAGE)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(ending: Ending) -> Outcome {
        let (started, output_cut, out_of_memory) = (true, false, false);
        Outcome::Ended(ExitReport { ending, started, output_cut, out_of_memory })
    }

    #[test]
    fn any_exit_code_is_a_termination() {
        let report = ended(Ending::Exited { wait_status: 768 }).report(2).unwrap();
        assert_eq!(report.state, ReportedState::Terminated);
        assert_eq!((report.exit_code, report.generation, report.fault), (Some(768), 2, None));
    }

    #[test]
    fn kills_are_nobodys_fault() {
        for outcome in [ended(Ending::Killed), ended(Ending::Walltime), Outcome::Killed] {
            let report = outcome.report(1).unwrap();
            assert_eq!((report.state, report.fault), (ReportedState::Error, Some(Fault::Killed)));
            assert_eq!(report.exit_code, None);
        }
    }

    #[test]
    fn a_broken_sandbox_is_the_nodes_fault() {
        let report = ended(Ending::Unusable { reason: "x".into() }).report(1).unwrap();
        assert_eq!((report.state, report.fault), (ReportedState::Error, Some(Fault::Node)));
    }

    #[test]
    fn messages_are_cut_between_characters() {
        let outcome = Outcome::Unusable { fault: Fault::Job, message: "é".repeat(4000) };
        let message = outcome.report(1).unwrap().message.unwrap();
        assert_eq!(message.len(), 4096);
    }
}
