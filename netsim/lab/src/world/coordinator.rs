//! The coordinator, its tokens and users.

use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::unistd::Pid;

use super::{COMMAND, STOP, World};
use crate::confine::hosts;
use crate::program::{Finished, Place, Program};
use netsim_scenario::resolved::Coordinator;

/// Its machine's name, where that has addresses of both families.
const NAME: &str = "coordinator.test";
/// Where its control channel and its relay listen, by UDP.
pub(crate) const RENDEZVOUS_PORT: u16 = 6443;
const RELAY_PORT: u16 = 6444;

/// From the start of an empty data directory to `ready`.
const READY: Duration = Duration::from_secs(20);

impl World {
    /// Starts the coordinator and waits until it is ready.
    pub fn start_coordinator(&mut self, settings: &Coordinator) -> anyhow::Result<()> {
        let place = self.coordinator_place()?;
        // With both families behind one name, as in the world outside.
        let any = if self.public.ipv6.is_some() { "[::]" } else { "0.0.0.0" };
        let seconds = |d: Duration| humantime::format_duration(d).to_string().replace(' ', "");
        let args = [
            "serve".to_owned(),
            "--data".to_owned(),
            place.dir.join("data").display().to_string(),
            "--public-address".to_owned(),
            self.coordinator_name()?,
            "--listen".to_owned(),
            format!("{any}:{}", self.api_port),
            "--rendezvous".to_owned(),
            format!("{any}:{RENDEZVOUS_PORT}"),
            "--relay".to_owned(),
            format!("{any}:{RELAY_PORT}"),
            "--poll-interval".to_owned(),
            seconds(settings.poll_interval),
            "--node-timeout".to_owned(),
            seconds(settings.node_timeout),
            "--launch-deadline".to_owned(),
            seconds(settings.launch_deadline),
        ];
        let mut program = place.start("coordinator", &self.program("coordinator"), args)?;
        program.wait_for("the word ready", READY, |program| {
            program.stdout().lines().any(|line| line == "ready").then_some(())
        })?;
        self.coordinator = Some(program);
        self.settings = settings.clone();
        Ok(())
    }

    /// The name or address by which everybody knows the coordinator.
    fn coordinator_name(&self) -> anyhow::Result<String> {
        let address = self.public.address;
        match self.public.ipv6 {
            Some(ipv6) if hosts::are_own() => {
                hosts::set(&[(NAME, address), (NAME, ipv6.into())])
                    .context("cannot give the coordinator's machine its name")?;
                Ok(NAME.to_owned())
            }
            Some(_) | None => Ok(address.to_string()),
        }
    }

    /// Starts the coordinator again on the data that it has, with the settings that it had.
    pub fn start_coordinator_again(&mut self) -> anyhow::Result<()> {
        self.start_coordinator(&self.settings.clone())
    }

    /// Kills the coordinator, as a crash would.
    pub fn kill_coordinator(&mut self) {
        if let Some(program) = self.coordinator.take() {
            program.kill();
        }
    }

    /// Whether the coordinator was started, and neither stopped nor killed since.
    pub fn has_coordinator(&self) -> bool {
        self.coordinator.is_some()
    }

    /// What the coordinator said when it started, and its log.
    pub fn coordinator_output(&self) -> (String, String) {
        let text = |program: &Program| (program.stdout(), program.log());
        self.coordinator.as_ref().map(text).unwrap_or_default()
    }

    /// The coordinator's process, if it runs.
    pub fn coordinator_pid(&self) -> Option<Pid> {
        self.coordinator.as_ref().map(Program::pid)
    }

    /// The end of the coordinator's log.
    pub fn coordinator_tail(&self) -> String {
        self.coordinator.as_ref().map(|program| program.tail().to_string()).unwrap_or_default()
    }

    /// Ends the coordinator cleanly, if it runs.
    pub fn stop_coordinator(&mut self) -> anyhow::Result<()> {
        if let Some(program) = self.coordinator.take() {
            program.stop(STOP)?;
        }
        Ok(())
    }

    /// Makes a join token.
    pub fn token(&self) -> anyhow::Result<String> {
        self.one_line(&["token", "add"])
    }

    /// Makes that many join tokens.
    pub fn tokens(&self, count: usize) -> anyhow::Result<Vec<String>> {
        let finished = self.administrate(&["token", "add", "--count", &count.to_string()])?;
        let tokens: Vec<String> = finished.stdout.lines().map(str::to_owned).collect();
        if tokens.len() != count {
            bail!("`coordinator token add --count {count}` printed {} lines", tokens.len());
        }
        Ok(tokens)
    }

    /// Makes a token for a relay.
    pub fn relay_token(&self) -> anyhow::Result<String> {
        self.one_line(&["token", "add", "--relay"])
    }

    /// Makes a join token that ends after a time such as `1s`.
    pub fn token_that_expires(&self, after: &str) -> anyhow::Result<String> {
        self.one_line(&["token", "add", "--expires", after])
    }

    /// Makes a user and returns the login string.
    pub fn add_user(&self, name: &str) -> anyhow::Result<String> {
        self.one_line(&["user", "add", name])
    }

    /// Runs an administrator's command beside the coordinator.
    pub fn administrate(&self, args: &[&str]) -> anyhow::Result<Finished> {
        let place = self.coordinator_place()?;
        let data = place.dir.join("data").display().to_string();
        let args = args.iter().copied().chain(["--data", &data]);
        Ok(place.expect("administrator", &self.program("coordinator"), args, COMMAND)?)
    }

    fn one_line(&self, args: &[&str]) -> anyhow::Result<String> {
        let finished = self.administrate(args)?;
        let line = finished.stdout.lines().find(|line| line.starts_with("cah-"));
        line.map(str::to_owned).with_context(|| {
            format!("`coordinator {}` printed no token: {}", args.join(" "), finished.stdout)
        })
    }

    fn coordinator_place(&self) -> anyhow::Result<Place> {
        super::place(&self.dir, "coordinator", &self.public.netns)
    }
}
