//! Carrying out what the timeline and the churn say.

use anyhow::Context as _;
use netsim_report::{Recorder, What as Log, Why};
use netsim_scenario::resolved::What;
use netsim_sim::Event;

use crate::world::World;

/// Something that is done to the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// From the timeline.
    Happens(What),
    /// A volunteer's machine comes or goes.
    Comes {
        /// The machine.
        host: String,
        /// Whether it comes.
        is_on: bool,
    },
}

impl Action {
    /// For people.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Happens(what) => {
                let (name, nodes) = fault(what);
                if nodes.is_empty() {
                    name.to_owned()
                } else {
                    format!("{name} {}", nodes.join(" "))
                }
            }
            Self::Comes { host, is_on: true } => format!("{host} comes"),
            Self::Comes { host, is_on: false } => format!("{host} goes"),
        }
    }

    /// Whether it is only churn, which nobody waits for.
    pub(crate) fn is_churn(&self) -> bool {
        matches!(self, Self::Comes { .. })
    }
}

/// Does it, and writes it down.
pub(crate) fn act(world: &mut World, action: &Action, recorder: &Recorder) -> anyhow::Result<()> {
    let done = match action {
        Action::Comes { host, is_on } => {
            recorder.record(Log::Churn { node: host.clone(), available: *is_on });
            switch(world, host, *is_on, Why::Churn, recorder)
        }
        Action::Happens(what) => {
            let (name, nodes) = fault(what);
            let name = name.to_owned();
            recorder.record(Log::Fault { name, nodes, text: String::new() });
            happen(world, what, recorder)
        }
    };
    done.with_context(|| format!("this could not be done: {}", action.describe()))
}

fn happen(world: &mut World, what: &What, recorder: &Recorder) -> anyhow::Result<()> {
    match what {
        What::Network(Event::Kill(host)) => switch(world, host, false, Why::Killed, recorder),
        What::Network(Event::Start(host)) => switch(world, host, true, Why::Killed, recorder),
        What::Network(Event::Suspend(host)) => world.suspend(host),
        What::Network(Event::Resume(host)) => world.resume(host),
        What::Network(event) => world.apply(event),
        What::CoordinatorStop(name) => {
            world.server_mut(name)?.stop()?;
            recorder.record(Log::Down { node: name.clone(), why: Why::Stopped });
            Ok(())
        }
        What::CoordinatorKill(name) => {
            world.server_mut(name)?.kill();
            recorder.record(Log::Down { node: name.clone(), why: Why::Killed });
            Ok(())
        }
        What::CoordinatorStart(name) => {
            world.server_mut(name)?.start()?;
            recorder.record(Log::Up { node: name.clone() });
            Ok(())
        }
        What::RelayStop(host) => {
            world.stop_relay(host)?;
            recorder.record(Log::Down { node: host.clone(), why: Why::Stopped });
            Ok(())
        }
        What::RelayKill(host) => {
            world.kill_relay(host)?;
            recorder.record(Log::Down { node: host.clone(), why: Why::Killed });
            Ok(())
        }
        What::RelayStart(host) => {
            world.start_relay(host)?;
            recorder.record(Log::Up { node: host.clone() });
            Ok(())
        }
    }
}

/// Switches a volunteer's machine on or off, if it is not so already.
fn switch(
    world: &mut World,
    host: &str,
    is_on: bool,
    why: Why,
    recorder: &Recorder,
) -> anyhow::Result<()> {
    let index = world.volunteer_named(host)?;
    if world.volunteers[index].is_started() == is_on {
        return Ok(());
    }
    let node = host.to_owned();
    if is_on {
        world.switch_on(index)?;
        recorder.record(Log::Up { node });
    } else {
        world.switch_off(index)?;
        recorder.record(Log::Down { node, why });
    }
    Ok(())
}

/// An event's name in scenario files, and whom it happens to.
fn fault(what: &What) -> (&'static str, Vec<String>) {
    let one = |name: &str| vec![name.to_owned()];
    match what {
        What::Network(event) => match event {
            Event::Roam { host, behind } => {
                ("roam", std::iter::once(host).chain(behind).cloned().collect())
            }
            Event::NatReboot(router) => ("nat-reboot", one(router)),
            Event::LinkDown(host) => ("link-down", one(host)),
            Event::LinkUp(host) => ("link-up", one(host)),
            Event::UplinkDown(router) => ("uplink-down", one(router)),
            Event::UplinkUp(router) => ("uplink-up", one(router)),
            Event::Suspend(host) => ("suspend", one(host)),
            Event::Resume(host) => ("resume", one(host)),
            Event::Kill(host) => ("kill", one(host)),
            Event::Start(host) => ("start", one(host)),
        },
        What::CoordinatorStop(name) => ("coordinator-stop", one(name)),
        What::CoordinatorKill(name) => ("coordinator-kill", one(name)),
        What::CoordinatorStart(name) => ("coordinator-start", one(name)),
        What::RelayStop(host) => ("relay-stop", one(host)),
        What::RelayKill(host) => ("relay-kill", one(host)),
        What::RelayStart(host) => ("relay-start", one(host)),
    }
}
