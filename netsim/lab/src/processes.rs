//! The processes of the lab, as `/proc` shows them.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::{fs, iter};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::netns::Netns;

/// The variable that `netsim exec` gives to what it starts: the node's name.
pub(crate) const VISITOR: &str = "NETSIM_NODE";

/// A living process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its parent's number.
    pub parent: i32,
    /// Whether `SIGSTOP` has stopped it.
    pub is_stopped: bool,
    /// Its command line, for people.
    pub command: String,
}

/// Every process of the lab but this one and the namespace's first. Zombies do not count: they are
/// waiting for their parent, and run nothing.
pub fn all() -> Vec<Process> {
    let own = std::process::id().cast_signed();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != 1 && *pid != own).filter_map(read).collect()
}

/// [`all`], without what the user has started on a node.
pub(crate) fn of_lab() -> Vec<Process> {
    let variable = format!("{VISITOR}=");
    let is_visitor = |process: &Process| {
        let environment = environment(process.pid);
        environment.split(|byte| *byte == 0).any(|entry| entry.starts_with(variable.as_bytes()))
    };
    all().into_iter().filter(|process| !is_visitor(process)).collect()
}

fn read(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    let parent = fields.next()?.parse().ok()?;
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let command = String::from_utf8_lossy(&arguments).replace('\0', " ").trim().to_owned();
    Some(Process { pid, parent, is_stopped: state == "T", command })
}

/// The processes of many machines, each machine's apart, by one look at all. As [`of_machine`] finds them,
/// but each belongs to one machine.
pub(crate) fn of_machines(machines: &[(&Netns, &Path)]) -> Vec<Vec<Process>> {
    let inodes: HashMap<_, _> = (0..)
        .zip(machines)
        .filter_map(|(index, (netns, _))| Some((netns.inode().ok()?, index)))
        .collect();
    let dirs: HashMap<&Path, usize> =
        (0..).zip(machines).map(|(index, (_, dir))| (*dir, index)).collect();
    let all = all();
    let owner = |process: &Process| -> Option<usize> {
        let inode = Netns::of_process(process.pid).and_then(|netns| netns.inode()).ok();
        let by_netns = inode.and_then(|inode| inodes.get(&inode));
        let inside = |path: &Path| path.ancestors().find_map(|dir| dirs.get(dir)).copied();
        by_netns
            .copied()
            .or_else(|| process.command.split([' ', '=']).find_map(|word| inside(Path::new(word))))
            .or_else(|| open_files(process).find_map(|target| inside(&target)))
    };
    let parents: HashMap<i32, i32> = all.iter().map(|p| (p.pid, p.parent)).collect();
    let owners: HashMap<i32, usize> =
        all.iter().filter_map(|process| Some((process.pid, owner(process)?))).collect();
    let mut found = vec![Vec::new(); machines.len()];
    for process in all {
        let mut ancestry = iter::successors(Some(process.pid), |pid| parents.get(pid).copied());
        if let Some(owner) = ancestry.find_map(|pid| owners.get(&pid)) {
            found[*owner].push(process);
        }
    }
    found
}

/// The processes that belong to the machine in `dir`: they run in its namespace, name the directory
/// or have a file open in it; or one of their ancestors does.
pub fn of_machine(netns: &Netns, dir: &Path) -> Vec<Process> {
    let all = all();
    let inode = netns.inode().ok();
    let mut members: BTreeSet<i32> = all
        .iter()
        .filter(|p| Netns::of_process(p.pid).and_then(|n| n.inode()).ok() == inode || uses(p, dir))
        .map(|p| p.pid)
        .collect();
    loop {
        let children: BTreeSet<i32> =
            all.iter().filter(|p| members.contains(&p.parent)).map(|p| p.pid).collect();
        if children.is_subset(&members) {
            return all.into_iter().filter(|p| members.contains(&p.pid)).collect();
        }
        members.extend(children);
    }
}

fn uses(process: &Process, dir: &Path) -> bool {
    if process.command.contains(&*dir.to_string_lossy()) {
        return true;
    }
    open_files(process).any(|target| target.starts_with(dir))
}

/// The files that a process has open, and its working directory.
fn open_files(process: &Process) -> impl Iterator<Item = PathBuf> + use<> {
    let fds = fs::read_dir(format!("/proc/{}/fd", process.pid)).into_iter().flatten().flatten();
    let links = fds.map(|fd| fd.path()).chain([format!("/proc/{}/cwd", process.pid).into()]);
    links.filter_map(|link| fs::read_link(link).ok())
}

/// The environment that a process was started with, as `NAME=VALUE` with a zero byte after each.
/// Empty when it has ended, or is not this user's.
pub(crate) fn environment(pid: i32) -> Vec<u8> {
    fs::read(format!("/proc/{pid}/environ")).unwrap_or_default()
}

/// Sends them a signal at once; returns how many there were to send it to.
pub fn signal_all(processes: &[Process], signal: Signal) -> usize {
    for process in processes {
        let _ = kill(Pid::from_raw(process.pid), signal);
    }
    processes.len()
}

/// Stops everything on a machine where it is.
pub fn suspend(netns: &Netns, dir: &Path) {
    loop {
        let mut running = of_machine(netns, dir);
        running.retain(|process| !process.is_stopped);
        // A process may have started others before it was stopped itself.
        if signal_all(&running, Signal::SIGSTOP) == 0 {
            return;
        }
    }
}

/// Lets everything in the lab go on that was stopped.
pub(crate) fn resume_all() {
    let mut stopped = of_lab();
    stopped.retain(|process| process.is_stopped);
    signal_all(&stopped, Signal::SIGCONT);
}

/// Lets everything on a machine go on.
pub fn resume(netns: &Netns, dir: &Path) {
    signal_all(&of_machine(netns, dir), Signal::SIGCONT);
}
