//! What happens meanwhile.

use std::time::Duration;

use netsim_sim::Event as NetworkEvent;

use super::{Clusters, known};
use crate::fault::{Fault, at};
use crate::file::{Action, Event, Scenario};
use crate::resolved::{Happening, Resolved, Start, What, When};

/// The most events. Chosen.
const MOST_EVENTS: usize = 10_000;

/// The timeline; `resolved` has everything that comes before it.
pub(super) fn resolve(scenario: &Scenario, resolved: &Resolved) -> Result<Vec<Happening>, Fault> {
    if scenario.event.len() > MOST_EVENTS {
        return Err(Fault::new(at!["event"], format!("more than {MOST_EVENTS} events")));
    }
    let one = |(i, event): (usize, &Event)| {
        let happening = || {
            let what = what(event, resolved)?;
            Ok(Happening { when: when(event, resolved)?, what })
        };
        happening().map_err(|fault: Fault| fault.below(at!["event", i]))
    };
    scenario.event.iter().enumerate().map(one).collect()
}

fn when(event: &Event, resolved: &Resolved) -> Result<When, Fault> {
    match (&event.at, &event.when) {
        (Some(at), None) => {
            let at = at.0 + event.after.0;
            if at > resolved.duration {
                let message = "this is after the end: see the scenario's `duration`";
                return Err(Fault::new(at!["at"], message));
            }
            Ok(When::At(at))
        }
        (None, Some(trigger)) => {
            let groups = resolved.jobs.iter().map(|job| job.group.as_str());
            let wrong = |message| Fault::new(at!["when", "job"], message);
            known("job", &trigger.job, groups).map_err(wrong)?;
            let (group, state, after) = (trigger.job.clone(), trigger.state, event.after.0);
            if earliest(resolved, &group) + after > resolved.duration {
                let message = "this is after the end: see the scenario's `duration`";
                return Err(Fault::new(at!["after"], message));
            }
            Ok(When::Job { group, state, after })
        }
        (Some(_), Some(_)) => Err(Fault::new(at!["when"], "`at` and `when`: one of them only")),
        (None, None) => {
            let message =
                "when? Write at = \"20s\", or when = { job = \"...\", state = \"running\" }";
            Err(Fault::new([], message))
        }
    }
}

/// When a job is submitted at the earliest, as far as the clock decides it.
fn earliest(resolved: &Resolved, group: &str) -> Duration {
    let of_group = resolved.jobs.iter().filter(|job| job.group == group);
    let starts = of_group.map(|job| match &job.start {
        Start::At(at) => *at,
        Start::After(_) => Duration::ZERO,
    });
    starts.min().unwrap_or_default()
}

fn what(event: &Event, resolved: &Resolved) -> Result<What, Fault> {
    let named = Named { event, resolved };
    let what = match event.action {
        Action::NatReboot => What::Network(NetworkEvent::NatReboot(named.router()?)),
        Action::Roam => {
            let (host, behind) = (named.node()?, named.destination()?);
            What::Network(NetworkEvent::Roam { host, behind })
        }
        Action::LinkDown => What::Network(NetworkEvent::LinkDown(named.node()?)),
        Action::LinkUp => What::Network(NetworkEvent::LinkUp(named.node()?)),
        Action::UplinkDown => What::Network(NetworkEvent::UplinkDown(named.router()?)),
        Action::UplinkUp => What::Network(NetworkEvent::UplinkUp(named.router()?)),
        Action::Suspend => What::Network(NetworkEvent::Suspend(named.node()?)),
        Action::Resume => What::Network(NetworkEvent::Resume(named.node()?)),
        Action::Kill => What::Network(NetworkEvent::Kill(named.node()?)),
        Action::Start => What::Network(NetworkEvent::Start(named.node()?)),
        Action::CoordinatorStop => What::CoordinatorStop(named.coordinator()?),
        Action::CoordinatorKill => What::CoordinatorKill(named.coordinator()?),
        Action::CoordinatorStart => What::CoordinatorStart(named.coordinator()?),
        Action::RelayStop => What::RelayStop(named.relay()?),
        Action::RelayKill => What::RelayKill(named.relay()?),
        Action::RelayStart => What::RelayStart(named.relay()?),
    };
    named.nothing_more()?;
    Ok(what)
}

/// The names that an event gives.
struct Named<'a> {
    event: &'a Event,
    resolved: &'a Resolved,
}

impl Named<'_> {
    fn node(&self) -> Result<String, Fault> {
        let hosts = self.resolved.topology.hosts.iter().map(|host| host.name.as_str());
        let example = "node = \"vol-1\"";
        one_of("node", "machine", self.event.node.as_ref(), hosts, example)
    }

    fn router(&self) -> Result<String, Fault> {
        let routers = self.resolved.topology.routers.iter().map(|router| router.name.as_str());
        let example = "router = \"vol-1-r0\"";
        one_of("router", "router", self.event.router.as_ref(), routers, example)
    }

    fn relay(&self) -> Result<String, Fault> {
        let relays = self.resolved.relays.iter().map(|relay| relay.host.as_str());
        let example = "node = \"relay-1\"";
        one_of("node", "stand-alone relay", self.event.node.as_ref(), relays, example)
    }

    fn coordinator(&self) -> Result<String, Fault> {
        Clusters(&self.resolved.coordinators).named(self.event.coordinator.as_ref())
    }

    /// None is the public network.
    fn destination(&self) -> Result<Option<String>, Fault> {
        if self.event.to.as_deref() == Some("public") {
            return Ok(None);
        }
        let routers = self.resolved.topology.routers.iter().map(|router| router.name.as_str());
        let example = "to = \"public\", or a router's name";
        one_of("to", "router", self.event.to.as_ref(), routers, example).map(Some)
    }

    /// A name that this kind of event does not take would be ignored in silence.
    fn nothing_more(&self) -> Result<(), Fault> {
        let taken: &[&str] = match self.event.action {
            Action::NatReboot | Action::UplinkDown | Action::UplinkUp => &["router"],
            Action::Roam => &["node", "to"],
            Action::LinkDown
            | Action::LinkUp
            | Action::Suspend
            | Action::Resume
            | Action::Kill
            | Action::Start
            | Action::RelayStop
            | Action::RelayKill
            | Action::RelayStart => &["node"],
            Action::CoordinatorStop | Action::CoordinatorKill | Action::CoordinatorStart => {
                &["coordinator"]
            }
        };
        for (key, is_given) in [
            ("node", self.event.node.is_some()),
            ("router", self.event.router.is_some()),
            ("to", self.event.to.is_some()),
            ("coordinator", self.event.coordinator.is_some()),
        ] {
            if is_given && !taken.contains(&key) {
                let message = format!("this kind of event has no `{key}`: leave it out");
                return Err(Fault::new(at![key], message));
            }
        }
        Ok(())
    }
}

fn one_of<'a>(
    key: &'static str,
    kind: &str,
    given: Option<&String>,
    names: impl IntoIterator<Item = &'a str>,
    example: &str,
) -> Result<String, Fault> {
    let Some(name) = given else {
        return Err(Fault::new(at!["do"], format!("which {kind}? Write {example}")));
    };
    known(kind, name, names).map_err(|message| Fault::new(at![key], message))?;
    Ok(name.clone())
}
