//! `netsim exec` and `netsim shell`: commands of the user's on a node of a running lab.
//!
//! The command enters the lab's user, process and mount namespaces and the node's network namespace.
//! It ends with the lab, and with the `netsim` that started it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::os::linux::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::confine;
use crate::mark::{self, Mark, Run};
use crate::nodes::{Node, Nodes};
use crate::processes::{self, VISITOR};

/// Exit statuses of a command that cannot be started, by the shells' convention.
const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;

/// A running lab.
#[derive(Debug)]
pub struct Lab {
    dir: PathBuf,
    mark: Mark,
    nodes: Nodes,
}

impl Lab {
    /// The lab in `dir`, or the only one that runs with a directory of its own naming.
    pub fn find(dir: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(dir) = dir {
            let Some(Run::Alive(mark)) = mark::look(dir) else {
                bail!("no run of yours is at work in {}", dir.display());
            };
            let nodes = Nodes::read(dir).with_context(|| {
                format!("the networks in {} are not ready yet: try again soon", dir.display())
            })?;
            return Ok(Self { dir: dir.to_owned(), mark, nodes });
        }
        let dirs = confine::default_run_dirs().context("cannot look for running labs")?;
        let mut labs: Vec<Self> =
            dirs.iter().filter_map(|dir| Self::find(Some(dir)).ok()).collect();
        match (labs.pop(), labs.as_slice()) {
            (Some(only), []) => Ok(only),
            (None, _) => bail!(
                "no lab is running: start one with `netsim run SCENARIO --hold`, or name the \
                 directory of one that was started with --keep by `--run DIR`"
            ),
            (Some(last), others) => {
                let name = |lab: &Self| format!("\n  --run {}", lab.dir.display());
                let names: String = others.iter().chain([&last]).map(name).collect();
                bail!("several labs are running; choose one:{names}")
            }
        }
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> anyhow::Result<&Node> {
        let found = self.nodes.nodes.iter().find(|node| node.name == name);
        found.with_context(|| {
            let names: Vec<&str> = self.nodes.nodes.iter().map(|node| &*node.name).collect();
            format!("there is no node {name}; there are: {}", names.join(", "))
        })
    }

    /// Runs a command on a node with this process's terminal, and returns its exit status.
    ///
    /// # Safety
    ///
    /// The process must have a single thread: it moves into other namespaces.
    pub unsafe fn run(&self, node: &Node, command: &[OsString]) -> anyhow::Result<i32> {
        let (program, args) = command.split_first().context("there is no command")?;
        // Before the lab's `/proc`, which does not know this process.
        let environment = self.environment(node)?;
        self.enter(node).with_context(|| format!("cannot enter {}", node.name))?;
        let mut command = Command::new(program);
        command.args(args).current_dir(&node.dir).envs(environment);
        // SAFETY: between fork and exec only a system call is made.
        unsafe { command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGHUP)?)) };
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                eprintln!("netsim: cannot run {} on {}: {error}", program.display(), node.name);
                let missing = error.kind() == io::ErrorKind::NotFound;
                return Ok(if missing { NOT_FOUND } else { NOT_EXECUTABLE });
            }
        };
        // A terminal's keys reach the command without help.
        let keys: &[Signal] =
            if io::stdin().is_terminal() { &[Signal::SIGINT, Signal::SIGQUIT] } else { &[] };
        Ok(confine::accompany(Pid::from_raw(child.id().cast_signed()), keys))
    }

    fn enter(&self, node: &Node) -> anyhow::Result<()> {
        if mark::process_namespace()? != self.mark.namespace {
            bail!("the lab was started in another process namespace: enter it from there");
        }
        let owner = self.mark.owner.cast_signed();
        let mut all = processes::all().into_iter();
        let init = all.find(|p| p.parent == owner).context("the lab has just ended")?.pid;
        let of = |pid: &str, kind: &str| File::open(format!("/proc/{pid}/ns/{kind}"));
        let kinds = [
            ("user", CloneFlags::CLONE_NEWUSER),
            ("pid", CloneFlags::CLONE_NEWPID),
            ("mnt", CloneFlags::CLONE_NEWNS),
        ];
        // All are opened before the first is entered: then this process sees another `/proc`.
        let mut targets = Vec::new();
        for (kind, flag) in kinds {
            let (own, target) = (of("self", kind)?, of(&init.to_string(), kind)?);
            // A user namespace cannot be entered twice; root's labs have none of their own.
            if own.metadata()?.st_ino() != target.metadata()?.st_ino() {
                targets.push((target, flag));
            }
        }
        for (target, flag) in targets {
            setns(target, flag)?;
        }
        let netns = File::open(format!("/proc/{}/fd/{}", self.nodes.lab, node.netns))?;
        setns(netns, CloneFlags::CLONE_NEWNET)?;
        Ok(())
    }

    fn environment(&self, node: &Node) -> anyhow::Result<Vec<(OsString, OsString)>> {
        let mut variables: Vec<(OsString, OsString)> = vec![
            ("HOME".into(), node.dir.clone().into()),
            ("TMPDIR".into(), self.dir.clone().into()),
            (VISITOR.into(), node.name.clone().into()),
            // Shells show where they are; Debian's bash reads the second.
            ("PS1".into(), format!("{}$ ", node.name).into()),
            ("debian_chroot".into(), node.name.clone().into()),
        ];
        // The system's programs first, as `oar` on the scientist's machine.
        let own = std::env::current_exe().context("cannot find this program's own file")?;
        let found = std::env::var_os("PATH").unwrap_or_default();
        let folders = own.parent().map(Path::to_owned).into_iter();
        let path = std::env::join_paths(folders.chain(std::env::split_paths(&found)))?;
        variables.push(("PATH".into(), path));
        variables.extend(node.env.iter().map(|(name, value)| (name.into(), value.into())));
        Ok(variables)
    }
}

/// The user's shell.
pub fn shell() -> OsString {
    let shell = std::env::var_os("SHELL").filter(|shell| Path::new(shell).is_file());
    shell.unwrap_or_else(|| "/bin/sh".into())
}
