//! A volunteer's machine: its agent is stopped and killed, it stands still, it is switched off.

use std::process::ExitStatus;

use anyhow::Context as _;
use nix::sys::signal::Signal;

use super::{STOP, Volunteer};
use crate::processes::{self, Process};

impl Volunteer {
    /// Everything that runs for it: its agent, shims, jobs.
    pub fn processes(&self) -> Vec<Process> {
        processes::of_machine(&self.machine.netns, &self.place.dir)
    }

    /// Whether its agent was started and has not been stopped, killed or switched off since.
    pub fn is_started(&self) -> bool {
        self.agent.is_some()
    }

    /// How its agent ended and the end of its log, if it has ended by itself; it does not count as
    /// started any more.
    pub fn crashed(&mut self) -> Option<(ExitStatus, String)> {
        let status = self.agent.as_mut()?.ended()?;
        let tail = self.tail();
        self.agent = None;
        Some((status, tail))
    }

    /// Asks its agent to end cleanly, if it runs, and does not wait for it.
    pub fn tell_agent_to_stop(&self) {
        if let Some(agent) = &self.agent {
            agent.signal(Signal::SIGTERM);
        }
    }

    /// Ends its agent cleanly, if it runs. Jobs go on for a minute, waiting for the next agent.
    pub fn stop_agent(&mut self) -> anyhow::Result<()> {
        if let Some(agent) = self.agent.take() {
            agent.stop(STOP).with_context(|| format!("the agent of {}", self.host))?;
        }
        Ok(())
    }

    /// Kills its agent alone, as a crash would. Jobs go on for a minute, waiting for the next agent.
    pub fn kill_agent(&mut self) {
        if let Some(agent) = self.agent.take() {
            agent.kill();
        }
    }

    /// Stops everything of it where it is, as closing a laptop would.
    pub fn suspend(&self) {
        processes::suspend(&self.machine.netns, &self.place.dir);
    }

    /// Lets everything of it go on.
    pub fn resume(&self) {
        processes::resume(&self.machine.netns, &self.place.dir);
    }

    /// Kills everything of it at once, as pulling the plug would.
    pub fn pull_the_plug(&mut self) {
        // The agent first, so that it does not see its shims die and report it.
        if let Some(agent) = self.agent.take() {
            let rest = self.processes();
            agent.kill();
            processes::signal_all(&rest, Signal::SIGKILL);
        }
        while processes::signal_all(&self.processes(), Signal::SIGKILL) > 0 {}
    }
}
