//! What happens meanwhile: the scenario's events.

use std::time::Duration;

use coordinator_api::job::JobState;
use netsim_report::What;
use netsim_scenario::Resolved;
use netsim_scenario::file::JobState as Stage;
use netsim_scenario::resolved::{Start, What as Event, When};
use netsim_sim::topology::Built;
use netsim_sim::{Change, HostState};

use super::{Run, RunError, Task, WARM_UP};

/// The scenario's events, and how far they are.
#[derive(Debug)]
pub(super) struct Timeline {
    /// What each one does to the network; none: to a program.
    changes: Vec<Option<Change>>,
    waiting: Vec<bool>,
    left: usize,
}

impl Timeline {
    pub(super) fn new<P: Clone>(resolved: &Resolved, built: &Built<P>) -> Result<Self, RunError> {
        let mut changes = Vec::new();
        for happening in &resolved.timeline {
            changes.push(match &happening.what {
                Event::Network(event) => Some(built.change(event)?),
                Event::CoordinatorStop(_)
                | Event::CoordinatorKill(_)
                | Event::CoordinatorStart(_)
                | Event::RelayStop(_)
                | Event::RelayKill(_)
                | Event::RelayStart(_) => None,
            });
        }
        let left = changes.len();
        Ok(Self { waiting: vec![true; left], changes, left })
    }

    /// The events that still wait for a job.
    pub(super) fn never_due(&self) -> Vec<usize> {
        (0..self.waiting.len()).filter(|index| self.waiting[*index]).collect()
    }

    pub(super) fn is_over(&self) -> bool {
        self.left == 0
    }
}

impl Run<'_> {
    pub(super) fn plan_timeline(&mut self) {
        for (index, happening) in self.resolved.timeline.iter().enumerate() {
            if let When::At(at) = happening.when {
                self.timeline.waiting[index] = false;
                self.at(WARM_UP + at, Task::Timeline(index));
            }
        }
    }

    /// A job of that entry has got so far: events and jobs may wait for it.
    pub(super) fn happened_to(&mut self, entry: usize, state: JobState) {
        let stage = match state {
            JobState::Waiting => Some(Stage::Submitted),
            JobState::ToLaunch | JobState::Launching => Some(Stage::Launching),
            JobState::Running => Some(Stage::Running),
            JobState::Terminated | JobState::Error => Some(Stage::Ended),
            JobState::Hold
            | JobState::ToError
            | JobState::ToAckReservation
            | JobState::Suspended
            | JobState::Resuming
            | JobState::Finishing => None,
        };
        let group = &self.resolved.jobs[entry].group;
        for (index, happening) in self.resolved.timeline.iter().enumerate() {
            let When::Job { group: of, state, after } = &happening.when else { continue };
            // A job that has its nodes at once was submitted too.
            let reached = stage.is_some_and(|stage| stage >= *state && *state != Stage::Ended)
                || stage == Some(*state);
            if of == group && reached && std::mem::take(&mut self.timeline.waiting[index]) {
                self.later(*after, Task::Timeline(index));
            }
        }
        if stage == Some(Stage::Ended) && self.has_ended(group) {
            for (index, job) in self.resolved.jobs.iter().enumerate() {
                if job.start == Start::After(group.clone()) && self.jobs[index].is_empty() {
                    self.later(Duration::ZERO, Task::Submit(index));
                }
            }
        }
    }

    fn has_ended(&self, group: &str) -> bool {
        let entries = self.resolved.jobs.iter().zip(&self.jobs);
        let of_group = entries.filter(|(job, _)| job.group == group);
        let ended = |id| self.submissions.get(id).is_none_or(|job| job.ended.is_some());
        of_group.into_iter().all(|(_, ids)| !ids.is_empty() && ids.iter().all(ended))
    }

    /// One of the events happens.
    pub(super) fn act(&mut self, index: usize) {
        self.timeline.left = self.timeline.left.saturating_sub(1);
        let event = &self.resolved.timeline[index].what;
        let (name, node) = name(event);
        if self.has_all_ended() {
            let at = self.world.now().saturating_sub(WARM_UP).as_secs_f64();
            self.warnings.push(format!(
                "{name} {node} happened at {at} s, when all jobs had ended: nobody felt it"
            ));
        }
        let nodes = vec![node.to_owned()];
        self.tell(What::Fault { name: name.to_owned(), nodes, text: String::new() });
        if let Event::Network(event) = event {
            self.oracle.happened(event);
        }
        match (self.timeline.changes[index], event) {
            (Some(change), _) => {
                self.world.apply(change);
            }
            (None, Event::CoordinatorStart(name)) => {
                self.start_coordinator(self.resolved.place_of(name));
            }
            (None, Event::CoordinatorStop(name) | Event::CoordinatorKill(name)) => {
                let server = &mut self.world.servers[self.resolved.place_of(name)];
                server.away = true;
                server.relay.down = true;
            }
            (None, Event::RelayStart(relay)) => self.switch_relay(relay, true),
            (None, Event::RelayStop(relay) | Event::RelayKill(relay)) => {
                self.switch_relay(relay, false);
            }
            // It has a change.
            (None, Event::Network(_)) => {}
        }
    }

    fn switch_relay(&mut self, name: &str, is_on: bool) {
        if let Some(relay) = self.relays.get(name) {
            self.world.switch_relay(*relay, is_on);
        }
    }

    fn start_coordinator(&mut self, server: usize) {
        if !std::mem::take(&mut self.world.servers[server].away) {
            return;
        }
        self.world.servers[server].relay.restart();
        self.reload(server);
        for agent in self.coordinators[server].agents.clone() {
            if self.world.net.state(self.world.nodes[agent].host) == HostState::Running {
                self.world.connect(agent);
                self.poll_soon(agent);
            }
        }
    }
}

/// The event's name in scenario files, and whom it is about.
fn name(event: &Event) -> (&'static str, &str) {
    use netsim_sim::Event as Net;
    match event {
        Event::Network(event) => match event {
            Net::Roam { host, .. } => ("roam", host),
            Net::NatReboot(router) => ("nat-reboot", router),
            Net::LinkDown(host) => ("link-down", host),
            Net::LinkUp(host) => ("link-up", host),
            Net::UplinkDown(router) => ("uplink-down", router),
            Net::UplinkUp(router) => ("uplink-up", router),
            Net::Suspend(host) => ("suspend", host),
            Net::Resume(host) => ("resume", host),
            Net::Kill(host) => ("kill", host),
            Net::Start(host) => ("start", host),
        },
        Event::CoordinatorStop(name) => ("coordinator-stop", name),
        Event::CoordinatorKill(name) => ("coordinator-kill", name),
        Event::CoordinatorStart(name) => ("coordinator-start", name),
        Event::RelayStop(relay) => ("relay-stop", relay),
        Event::RelayKill(relay) => ("relay-kill", relay),
        Event::RelayStart(relay) => ("relay-start", relay),
    }
}
