//! Bubblewrap's command line: what a job can see.
//!
//! An allow-list: the programs and libraries of the machine, read-only; the job's directory; files made
//! for the job. Nothing else of the machine exists in there. The network namespace is the shim's.

use std::ffi::OsString;
use std::fs;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use super::protocol::{LaunchSpec, Role};
use crate::confine::limits::OwnLimits;
use crate::environment::{AGENT_DIRECTORY, OAR_DIRECTORY, WORK_DIRECTORY};
use crate::ssh::SSH_DIRECTORY;

/// Bubblewrap is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the program `bwrap` is missing: install bubblewrap (Debian: `apt-get install bubblewrap`)"
)]
pub struct NoBubblewrap;

/// The place of `bwrap`, in `PATH` or the usual folders.
///
/// # Errors
/// [`NoBubblewrap`].
pub fn bubblewrap() -> Result<PathBuf, NoBubblewrap> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/bin", "/usr/local/bin", "/bin"].map(PathBuf::from))
        .map(|folder| folder.join("bwrap"))
        .find(|program| program.is_absolute() && program.is_file())
        .ok_or(NoBubblewrap)
}

/// Files of the machine's `/etc` that programs need and that say nothing about its owner.
const ETC: [&str; 6] = [
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/localtime",
    "/etc/ssl/certs",
];

/// What the machine's `/sys` says of its processors and memory, which programs need to place their threads.
const TOPOLOGY: [&str; 2] = ["/sys/devices/system/cpu", "/sys/devices/system/node"];

/// What a job finds of its devices in `/sys`, in the job's directory.
pub const DEVICES_FOLDER: &str = "net";

/// The files of [`crate::ssh`], in the job's directory.
pub const SSH_FOLDER: &str = "ssh";

/// Folders that are links into `/usr` on most machines and folders on some.
const ROOT_FOLDERS: [&str; 6] = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// What bubblewrap inherits.
pub struct Descriptors {
    /// Of `--json-status-fd`.
    pub status: RawFd,
    /// It waits for a byte from here before it runs anything.
    pub gate: RawFd,
    /// Of [`crate::confine::syscalls`].
    pub filters: Vec<RawFd>,
}

/// The whole command line after `bwrap`. `agent` is the program that has the subcommands `confined` and `inside`.
pub fn arguments(
    directory: &Path,
    spec: &LaunchSpec,
    agent: &Path,
    descriptors: &Descriptors,
) -> Vec<OsString> {
    let mut line = Line(Vec::new());
    line.add(["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]);
    line.add(["--hostname", &spec.hostname, "--uid", "1000", "--gid", "1000"]);
    line.add(["--die-with-parent", "--new-session", "--cap-drop", "ALL"]);
    line.add(["--json-status-fd", &descriptors.status.to_string()]);
    line.add(["--block-fd", &descriptors.gate.to_string()]);
    for filter in &descriptors.filters {
        line.add(["--add-seccomp-fd", &filter.to_string()]);
    }

    line.add(["--ro-bind", "/usr", "/usr"]);
    for folder in ROOT_FOLDERS {
        match (fs::read_link(folder), Path::new(folder).is_dir()) {
            (Ok(target), _) => {
                line.add(["--symlink"]);
                line.0.push(target.into());
                line.add([folder]);
            }
            (Err(_), true) => line.add(["--ro-bind", folder, folder]),
            (Err(_), false) => {}
        }
    }
    for path in ETC {
        line.add(["--ro-bind-try", path, path]);
    }
    for path in TOPOLOGY {
        line.add(["--ro-bind-try", path, path]);
    }
    // When the agent is root, so is the job to the kernel's settings in /proc/sys, although it has no
    // capability. Bubblewrap protects them only where it finds the folder itself writable.
    line.add(["--proc", "/proc", "--remount-ro", "/proc"]);
    line.add(["--dev", "/dev"]);
    // Of its own, so that /dev itself, a file system without a limit, can be closed.
    for path in ["/tmp", "/var/tmp", "/dev/shm"] {
        if let Some(bytes) = spec.limits.tmpfs_bytes() {
            line.add(["--size", &bytes.to_string()]);
        }
        line.add(["--perms", "1777", "--tmpfs", path]);
    }
    line.add(["--remount-ro", "/dev"]);
    for name in ["passwd", "group", "hosts", "nsswitch.conf"] {
        line.bind("--ro-bind", directory.join("etc").join(name), &format!("/etc/{name}"));
    }
    line.bind("--ro-bind", directory.join("oar"), OAR_DIRECTORY);
    line.bind("--bind", directory.join("work"), WORK_DIRECTORY);
    let inside = format!("{AGENT_DIRECTORY}/agent");
    if spec.role.has_sessions() {
        line.bind("--ro-bind-try", directory.join(DEVICES_FOLDER), "/sys/devices/virtual/net");
        // Links, as the kernel has them: what is none is passed over by some.
        for device in ["lo", "mesh0"] {
            let (target, name) =
                (format!("../../devices/virtual/net/{device}"), format!("/sys/class/net/{device}"));
            line.add(["--symlink", &target, &name]);
        }
        line.bind("--ro-bind", directory.join(SSH_FOLDER), SSH_DIRECTORY);
        // OAR's names for ssh and scp between a job's nodes.
        line.add(["--symlink", "/usr/bin/ssh", &format!("{AGENT_DIRECTORY}/oarsh")]);
        line.add(["--symlink", "/usr/bin/scp", &format!("{AGENT_DIRECTORY}/oarcp")]);
    }
    line.bind("--ro-bind", agent.to_owned(), &inside);
    // The root itself is a tmpfs that belongs to the job: keep it from being a second /tmp.
    line.add(["--remount-ro", "/"]);
    line.add(["--chdir", WORK_DIRECTORY, "--", &inside, "confined"]);
    let own = own_limits(spec);
    for (option, limit) in
        [("--memory", own.memory_bytes), ("--tasks", own.tasks), ("--file", own.file_bytes)]
    {
        if let Some(limit) = limit {
            line.add([option, &limit.to_string()]);
        }
    }
    line.add(["--"]);
    match spec.role {
        Role::Command => line.add(["/bin/sh", "-c", &spec.command]),
        Role::CommandAndSessions => line.add([&inside, "inside", "--", &spec.command]),
        Role::Sessions => line.add([&inside, "inside"]),
    }
    line.0
}

/// What the cage does not hold.
fn own_limits(spec: &LaunchSpec) -> OwnLimits {
    let LaunchSpec { limits, cage, .. } = spec;
    let unless = |held: bool, limit: u64| (!held && limit > 0).then_some(limit);
    OwnLimits {
        memory_bytes: unless(cage.memory.is_some(), limits.memory_bytes),
        tasks: unless(cage.tasks.is_some(), limits.tasks),
        // One file cannot pass what all may have, however fast it is written.
        file_bytes: unless(false, limits.disk_bytes),
    }
}

struct Line(Vec<OsString>);

impl Line {
    fn add<const N: usize>(&mut self, words: [&str; N]) {
        self.0.extend(words.map(OsString::from));
    }

    fn bind(&mut self, how: &str, from: PathBuf, to: &str) {
        self.0.extend([how.into(), from.into(), to.into()]);
    }
}
