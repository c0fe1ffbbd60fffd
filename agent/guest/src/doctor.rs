//! `agent doctor`: tries what the agent needs, instead of guessing from versions.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Serialize;

use crate::confine::cage::Cages;
use crate::confine::{files, syscalls};
use crate::inside::SFTP_SERVERS;
use crate::shim;
use crate::shim::sandbox::bubblewrap;

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was tried.
    pub name: &'static str,
    /// It works.
    pub ok: bool,
    /// No job, or no job with a network, can run without it.
    pub needed: bool,
    /// One sentence; how to mend it when it does not work.
    pub sentence: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match (self.ok, self.needed) {
            (true, _) => "ok",
            (false, true) => "MISSING",
            (false, false) => "note",
        };
        write!(f, "{mark:8}{}: {}", self.name, self.sentence)
    }
}

/// Tries everything.
pub fn examine() -> Vec<Finding> {
    let mut all = vec![namespaces(), tun(), sandbox(), system_calls(), landlock(), ssh()];
    all.extend(limits());
    all
}

/// The part of [`examine`] that needs a process of its own: makes the namespaces.
///
/// # Errors
/// Says what is missing.
pub fn probe() -> Result<(), shim::IsolateError> {
    shim::isolate()
}

fn finding(name: &'static str, needed: bool, tried: Result<String, String>) -> Finding {
    let ok = tried.is_ok();
    let (Ok(sentence) | Err(sentence)) = tried;
    Finding { name, ok, needed, sentence }
}

fn namespaces() -> Finding {
    let tried = || {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let output = Command::new(program)
            .args(["shim", "--probe"])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok("this user can make user and network namespaces".into());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(said.trim().trim_start_matches("agent: ").to_owned())
    };
    finding("namespaces", true, tried())
}

fn tun() -> Finding {
    const PATH: &str = "/dev/net/tun";
    let tried = match OpenOptions::new().read(true).write(true).open(PATH) {
        Ok(_) => Ok(format!("{PATH} can be opened")),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Err(format!(
            "this user may not open {PATH}: `chmod 666 {PATH}` (it gives no rights over the machine's \
             own network)"
        )),
        Err(error) => Err(format!("{PATH} cannot be opened ({error}): `modprobe tun`")),
    };
    finding("network device", true, tried)
}

fn sandbox() -> Finding {
    let tried = || {
        let program = bubblewrap().map_err(|error| error.to_string())?;
        let output = Command::new(&program)
            .args(["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts"])
            .args(["--uid", "1000", "--gid", "1000", "--cap-drop", "ALL", "--ro-bind", "/", "/"])
            .args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--", "/bin/true"])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(format!("{} works", program.display()));
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!(
            "{} cannot make a sandbox ({}): allow unprivileged user namespaces, and run the agent \
             where /proc is not masked",
            program.display(),
            said.trim()
        ))
    };
    finding("sandbox", true, tried())
}

fn ssh() -> Finding {
    let lacks = |paths: &[&str]| !paths.iter().any(|path| Path::new(path).is_file());
    let tried = if lacks(&["/usr/bin/ssh"]) {
        Err("jobs find no ssh to reach their other nodes with: install openssh-client".to_owned())
    } else if lacks(&SFTP_SERVERS) {
        Err("jobs can use ssh; for scp, install openssh-sftp-server".to_owned())
    } else {
        Ok("jobs can use ssh and scp between their nodes".to_owned())
    };
    finding("ssh", false, tried)
}

fn system_calls() -> Finding {
    let known = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail");
    let tried = match (syscalls::filters(), known) {
        (Ok(_), Ok(actions)) if actions.contains("errno") => {
            Ok("jobs have the system calls of ordinary programs alone (seccomp)".into())
        }
        (Ok(_), _) => Err("the kernel has no seccomp: jobs do not run without it".into()),
        (Err(error), _) => Err(format!("there is no filter for this processor ({error})")),
    };
    finding("system calls", true, tried)
}

fn landlock() -> Finding {
    // A thread of its own: it cannot be undone.
    let tried = std::thread::spawn(|| files::restrict().map_err(|error| error.to_string()));
    let tried = match tried.join() {
        Ok(Ok(true)) => Ok("Landlock holds jobs to their files, too".into()),
        Ok(Ok(false)) => {
            Err("the kernel has no Landlock (or `lsm=` leaves it out): the mounts alone hold jobs to their files".into())
        }
        Ok(Err(error)) => Err(error),
        Err(_) => Err("trying Landlock failed".into()),
    };
    finding("landlock", false, tried)
}

/// What holds jobs to their part of the machine, one by one.
fn limits() -> Vec<Finding> {
    let without = |what: String| {
        format!(
            "no control group can be made for it here; in its place: {what}. Start the agent as a systemd service \
             with Delegate=yes, as its Debian package does"
        )
    };
    let of = |(name, told): (&'static str, Result<String, String>)| {
        finding(name, false, told.map(|by| format!("limited by {by}")).map_err(without))
    };
    Cages::find().told().into_iter().map(of).collect()
}
