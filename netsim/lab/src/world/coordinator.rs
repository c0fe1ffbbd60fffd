//! The coordinators, their tokens and users.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::unistd::Pid;

use super::{COMMAND, STOP, World};
use crate::confine::hosts;
use crate::program::{Finished, Place, Program};
use crate::topology::Machine;
use netsim_scenario::resolved::Coordinator;

/// What its machine's name ends in, where that has addresses of both families.
const DOMAIN: &str = "test";
/// Where its control channel and its relay listen, by UDP.
pub(crate) const RENDEZVOUS_PORT: u16 = 6443;
const RELAY_PORT: u16 = 6444;

/// From the start of an empty data directory to `ready`.
const READY: Duration = Duration::from_secs(20);

/// A coordinator on a machine of its own.
pub struct Server {
    /// Its machine, whose name it has.
    pub machine: Machine,
    /// Where it runs, and its administrator's commands.
    pub place: Place,
    /// The settings that it is started with.
    pub settings: Coordinator,
    program: Option<Program>,
    /// The program's file.
    file: PathBuf,
    pub(super) api_port: u16,
}

impl Server {
    pub(super) fn new(
        machine: Machine,
        place: Place,
        settings: Coordinator,
        file: PathBuf,
        api_port: u16,
    ) -> Self {
        Self { machine, place, settings, program: None, file, api_port }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.machine.name
    }

    /// Starts it on the data that it has, if it has any, and waits until it is ready.
    pub fn start(&mut self) -> anyhow::Result<()> {
        // With both families behind one name, as in the world outside.
        let any = if self.machine.ipv6.is_some() { "[::]" } else { "0.0.0.0" };
        let seconds = |d: Duration| humantime::format_duration(d).to_string().replace(' ', "");
        let args = [
            "serve".to_owned(),
            "--data".to_owned(),
            self.data(),
            "--public-address".to_owned(),
            self.public_address()?,
            "--listen".to_owned(),
            format!("{any}:{}", self.api_port),
            "--rendezvous".to_owned(),
            format!("{any}:{RENDEZVOUS_PORT}"),
            "--relay".to_owned(),
            format!("{any}:{RELAY_PORT}"),
            "--poll-interval".to_owned(),
            seconds(self.settings.poll_interval),
            "--node-timeout".to_owned(),
            seconds(self.settings.node_timeout),
            "--launch-deadline".to_owned(),
            seconds(self.settings.launch_deadline),
        ];
        let mut program = self.place.start("coordinator", &self.file, args)?;
        program.wait_for("the word ready", READY, |program| {
            program.stdout().lines().any(|line| line == "ready").then_some(())
        })?;
        self.program = Some(program);
        Ok(())
    }

    fn data(&self) -> String {
        self.place.dir.join("data").display().to_string()
    }

    /// The name or address by which everybody knows it.
    fn public_address(&self) -> anyhow::Result<String> {
        let address = self.machine.address;
        match self.machine.ipv6 {
            Some(ipv6) if hosts::are_own() => {
                let name = format!("{}.{DOMAIN}", self.name());
                hosts::set(&name, &[address, ipv6.into()])
                    .with_context(|| format!("cannot give {} its name", self.name()))?;
                Ok(name)
            }
            Some(_) | None => Ok(address.to_string()),
        }
    }

    /// Kills it, as a crash would.
    pub fn kill(&mut self) {
        if let Some(program) = self.program.take() {
            program.kill();
        }
    }

    /// Whether it was started, and neither stopped nor killed since.
    pub fn is_started(&self) -> bool {
        self.program.is_some()
    }

    /// What it said when it started, and its log.
    pub fn output(&self) -> (String, String) {
        let text = |program: &Program| (program.stdout(), program.log());
        self.program.as_ref().map(text).unwrap_or_default()
    }

    /// Its process, if it runs.
    pub fn pid(&self) -> Option<Pid> {
        self.program.as_ref().map(Program::pid)
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        self.program.as_ref().map(|program| program.tail().to_string()).unwrap_or_default()
    }

    /// Ends it cleanly, if it runs.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(program) = self.program.take() {
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

    /// Runs an administrator's command beside it.
    pub fn administrate(&self, args: &[&str]) -> anyhow::Result<Finished> {
        let data = self.data();
        let args = args.iter().copied().chain(["--data", &data]);
        Ok(self.place.expect("administrator", &self.file, args, COMMAND)?)
    }

    fn one_line(&self, args: &[&str]) -> anyhow::Result<String> {
        let finished = self.administrate(args)?;
        let line = finished.stdout.lines().find(|line| line.starts_with("cah-"));
        line.map(str::to_owned).with_context(|| {
            format!("`coordinator {}` printed no token: {}", args.join(" "), finished.stdout)
        })
    }
}

impl World {
    /// The coordinator of that name.
    pub fn server(&self, name: &str) -> anyhow::Result<&Server> {
        let found = self.servers.iter().find(|server| server.name() == name);
        found.with_context(|| format!("there is no coordinator {name}"))
    }

    /// The coordinator of that name.
    pub fn server_mut(&mut self, name: &str) -> anyhow::Result<&mut Server> {
        let found = self.servers.iter_mut().find(|server| server.name() == name);
        found.with_context(|| format!("there is no coordinator {name}"))
    }
}
