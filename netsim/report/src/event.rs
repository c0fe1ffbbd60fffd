//! The event log: what happened in a run, one JSON object a line.
//!
//! ```text
//! {"t":0.0,"kind":"run-start","format":1,"title":"...","scenario":"nqueens.toml","seed":1,"backend":"lab"}
//! {"t":3.214077,"kind":"path","job":1,"from":"vol-1","to":"vol-2","path":"direct","via":"198.18.0.3:40001","rtt_ms":24.1}
//! ```
//!
//! Readers pass over kinds and fields that they do not know; a new meaning of an old one is a new
//! [`FORMAT`]. Every kind has its paragraph in docs/run-directory.md.

use serde::{Deserialize, Serialize};

use crate::job::JobKey;

/// The version of the event log and of the run directory around it.
pub const FORMAT: u32 = 1;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When: seconds since the start of the run, of the back end's clock.
    pub t: f64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened. Names are those of the scenario's machines (`vol-1`) and routers (`vol-1-r0`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum What {
    /// The run begins: the first event, at 0.
    RunStart {
        /// [`FORMAT`] of the writer.
        format: u32,
        /// The scenario's title.
        title: String,
        /// The scenario's file or name.
        scenario: String,
        /// The seed that decided everything that is left to chance.
        seed: u64,
        /// What ran it.
        backend: Backend,
    },
    /// The run has ended by itself: the last event. A run without it was killed.
    RunEnd {
        /// All that the scenario expects holds.
        passed: bool,
        /// Why the run could not go on, where that is so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// A step of the run begins, and with it the one before ends.
    Step {
        /// What is done.
        name: String,
    },
    /// A machine or router exists from here on.
    Node {
        /// Its name.
        node: String,
        /// What it is.
        role: Role,
        /// The kind of network that it is behind, or the kind of router that it is.
        #[serde(default)]
        behind: String,
        /// The router that it stands behind, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        router: Option<String>,
        /// Its region, where there are several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        region: Option<String>,
        /// The coordinator that it belongs to, where that is not the only one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        coordinator: Option<String>,
        /// Cores that it gives, if it is a volunteer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cores: Option<u16>,
    },
    /// An agent (or the coordinator, or a relay) works from here on.
    Up {
        /// Where.
        node: String,
    },
    /// It does not any more.
    Down {
        /// Where.
        node: String,
        /// Why.
        why: Why,
    },
    /// What the coordinator says about a node.
    NodeState {
        /// The node.
        node: String,
        /// OAR's word: `Alive`, `Suspected`, `Absent`, `Dead`.
        state: String,
    },
    /// The owner's machine comes or goes, by the scenario's churn.
    Churn {
        /// The machine.
        node: String,
        /// Whether it is there from here on.
        available: bool,
    },
    /// Something from the scenario's timeline.
    Fault {
        /// Its name in a scenario file, as `nat-reboot`.
        name: String,
        /// The machines or routers that it happens to.
        #[serde(default)]
        nodes: Vec<String>,
        /// More about it, for people.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        text: String,
    },
    /// A job was submitted.
    JobSubmitted {
        /// Which.
        #[serde(flatten)]
        job: JobKey,
        /// Its command.
        command: String,
        /// Nodes that it wants.
        nodes: u32,
        /// Its types, such as `mesh`.
        #[serde(default)]
        types: Vec<String>,
        /// Longest run, seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        walltime_s: Option<u64>,
    },
    /// A job changed its state.
    JobState {
        /// Which.
        #[serde(flatten)]
        job: JobKey,
        /// OAR's word: `Waiting`, `toLaunch`, `Launching`, `Running`, `Terminated`, `Error`.
        state: String,
        /// Its command's exit status, where it has ended by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit: Option<i32>,
        /// Why, for people.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        message: String,
    },
    /// One rank of a job changed its state, or was given to a node.
    RankState {
        /// The job.
        #[serde(flatten)]
        job: JobKey,
        /// The launch.
        generation: u32,
        /// The rank.
        rank: u32,
        /// Its node.
        node: String,
        /// `Running` from the start of its command, then `Terminated`, or `Error` if it did not end by
        /// itself; otherwise as for [`What::JobState`].
        state: String,
        /// Its command's exit status, where it has ended by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit: Option<i32>,
    },
    /// Every pair of a job has a path, and its commands may start.
    MeshOpen {
        /// The job.
        #[serde(flatten)]
        job: JobKey,
        /// The launch.
        generation: u32,
        /// Since the scheduler assigned the nodes, seconds.
        after_s: f64,
        /// Its members in the order of their ranks.
        members: Vec<String>,
    },
    /// What `from` sends to `to` takes this path from here on.
    Path {
        /// The job.
        #[serde(flatten)]
        job: JobKey,
        /// The sender.
        from: String,
        /// The receiver.
        to: String,
        /// The path.
        path: PathKind,
        /// The peer's endpoint, or the relay's, where known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        via: Option<String>,
        /// Round trip time, milliseconds, where known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rtt_ms: Option<f64>,
        /// Why it is relayed.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        explain: String,
    },
    /// What RFC 4787 says about a pair, as the simulator's oracle derives it.
    Predicted {
        /// One end.
        from: String,
        /// The other.
        to: String,
        /// The best path that can be.
        path: PathKind,
        /// A direct one can be only between nodes that calculate each other's next port: without that, it
        /// is relayed, and both are as predicted.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        by_guessing: bool,
    },
    /// A reading. It goes to samples.csv in place of the event log.
    Sample(Sample),
    /// Something that the scenario expects was looked at.
    Expectation {
        /// What is expected, for people.
        text: String,
        /// Whether it holds.
        met: bool,
        /// What was found in its place, where it does not.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        found: String,
    },
    /// Something failed that no expectation speaks of.
    Failure {
        /// What, to what, and what to do.
        text: String,
    },
    /// Anything else that is worth a line.
    Note {
        /// The line.
        text: String,
    },
}

/// A reading of something that changes all the time. Of equal ones in a row only the first and the last
/// are there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "metric", rename_all = "kebab-case")]
pub enum Sample {
    /// Bytes that a job sent over a pair since the job's start, counted at `from`'s `mesh0`.
    PairBytes {
        /// The job.
        #[serde(flatten)]
        job: JobKey,
        /// The sender.
        from: String,
        /// The receiver.
        to: String,
        /// Bytes of IP packets so far.
        sent: u64,
    },
    /// Round trip time of a pair.
    Rtt {
        /// The job.
        #[serde(flatten)]
        job: JobKey,
        /// Who measured it.
        from: String,
        /// The other.
        to: String,
        /// Milliseconds.
        rtt_ms: f64,
    },
    /// Bytes at a machine's network interface since the start of the run.
    NodeBytes {
        /// The machine.
        node: String,
        /// Bytes sent so far.
        sent: u64,
        /// Bytes received so far.
        received: u64,
    },
    /// Anything else that can be counted, such as `relay-packets`.
    Gauge {
        /// Its name.
        name: String,
        /// Where.
        node: String,
        /// The reading.
        value: f64,
    },
}

/// What ran a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// Kernel namespaces with the real programs; the clock is the machine's.
    Lab,
    /// The overlay's core on the simulator; the clock is virtual.
    Sim,
}

/// What a machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It runs the coordinator.
    Coordinator,
    /// It runs a relay of its own.
    Relay,
    /// Jobs are submitted there.
    Scientist,
    /// It runs an agent.
    Volunteer,
    /// It forwards for others.
    Router,
    /// None of these.
    Machine,
}

/// Why something does not work any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// It was asked to end.
    Stopped,
    /// It was killed, as by pulling the plug.
    Killed,
    /// It ended by itself.
    Crashed,
    /// Its owner's machine went away, by the scenario's churn.
    Churn,
}

/// How packets go from one node to another.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum PathKind {
    /// Not at all.
    #[default]
    None,
    /// Over a relay.
    Relayed,
    /// Straight.
    Direct,
}

impl Backend {
    /// As in the event log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lab => "lab",
            Self::Sim => "sim",
        }
    }
}

impl Role {
    /// As in the event log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Relay => "relay",
            Self::Scientist => "scientist",
            Self::Volunteer => "volunteer",
            Self::Router => "router",
            Self::Machine => "machine",
        }
    }
}

impl PathKind {
    /// As in the event log.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Relayed => "relayed",
            Self::Direct => "direct",
        }
    }

    /// The kind of that name; what is unknown is no path.
    pub fn of(name: &str) -> Self {
        match name {
            "direct" => Self::Direct,
            "relayed" => Self::Relayed,
            _ => Self::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_flat_object() {
        let event = Event {
            t: 3.25,
            what: What::Path {
                job: 1.into(),
                from: "vol-1".into(),
                to: "vol-2".into(),
                path: PathKind::Direct,
                via: None,
                rtt_ms: Some(24.5),
                explain: String::new(),
            },
        };
        let line = serde_json::to_string(&event).unwrap();
        assert_eq!(
            line,
            r#"{"t":3.25,"kind":"path","job":1,"from":"vol-1","to":"vol-2","path":"direct","rtt_ms":24.5}"#
        );
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
    }

    #[test]
    fn a_job_of_another_coordinator_names_it() {
        let (job, members) = (JobKey::new("north", 1), vec!["vol-4".to_owned()]);
        let what = What::MeshOpen { job, generation: 1, after_s: 2.5, members };
        let event = Event { t: 3.0, what };
        let line = serde_json::to_string(&event).unwrap();
        assert_eq!(
            line,
            r#"{"t":3.0,"kind":"mesh-open","coordinator":"north","job":1,"generation":1,"after_s":2.5,"members":["vol-4"]}"#
        );
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
    }

    #[test]
    fn a_reading_names_its_metric() {
        let sample = Sample::NodeBytes { node: "vol-1".into(), sent: u64::MAX, received: 2 };
        let event = Event { t: 1.0, what: What::Sample(sample) };
        let line = serde_json::to_string(&event).unwrap();
        assert!(line.contains(r#""kind":"sample","metric":"node-bytes""#), "{line}");
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
    }

    #[test]
    fn fields_of_a_later_writer_are_passed_over() {
        let line = r#"{"t":1,"kind":"up","node":"vol-1","colour":"red"}"#;
        let event: Event = serde_json::from_str(line).unwrap();
        assert_eq!(event.what, What::Up { node: "vol-1".into() });
    }
}
