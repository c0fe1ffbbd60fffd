//! `netsim doctor`: what this machine lacks, by trying.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::libc;
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use crate::confine;
use crate::world::proxies;

/// What a kernel without netem refuses.
const NETEM: [&str; 8] = ["qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"];
const BY_NETEM: &str = "links with delay, loss and rate: by the kernel (tc netem)";
const IN_USER_SPACE: &str =
    "links with delay, loss and rate: in user space (this kernel has no tc netem)";

/// What only some scenarios need.
const WITH_PROXY: &str = "networks with nothing but an HTTP proxy: by tinyproxy";
const WITHOUT_PROXY: &str = "networks with nothing but an HTTP proxy: not here (some scenarios \
                             need it: `sudo apt-get install tinyproxy-bin`)";

/// One thing that the lab needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was tried.
    pub what: &'static str,
    /// What to do when it does not work.
    pub mend: Option<String>,
}

/// Tries everything that the lab needs.
///
/// # Safety
///
/// The process must have a single thread: it forks, and the children go on.
pub unsafe fn examine() -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut finding = |what, mend| findings.push(Finding { what, mend });
    // SAFETY: single-threaded by this function's contract, here and below.
    let namespaces = unsafe { in_child(|| isolated().is_ok()) };
    finding("user, mount, process and network namespaces", (!namespaces).then(namespace_mend));
    finding("/dev/net/tun", tun_mend().or_else(|| {
        // SAFETY: as above.
        let works = unsafe { in_child(|| isolated().and_then(|()| make_tun()).is_ok()) };
        let mend = "/dev/net/tun opens, but gives no device in a new network namespace: load the \
                    kernel module with `modprobe tun`";
        (namespaces && !works).then(|| mend.to_owned())
    }));
    finding("nft", missing("nft", "nftables").or_else(|| {
        // SAFETY: as above.
        let works = unsafe { in_child(|| isolated().is_ok() && runs("nft", &["add", "table", "ip", "t"])) };
        let mend = "nft cannot add a table in a new network namespace: load the kernel module with \
                    `modprobe nf_tables`";
        (namespaces && !works).then(|| mend.to_owned())
    }));
    finding("ip", missing("ip", "iproute2"));
    // SAFETY: as above.
    let netem = unsafe { in_child(|| isolated().is_ok() && runs("tc", &NETEM)) };
    finding(if netem { BY_NETEM } else { IN_USER_SPACE }, None);
    finding("bwrap", missing("bwrap", "bubblewrap").or_else(|| {
        let args = "--ro-bind / / --proc /proc --dev /dev --unshare-all --die-with-parent true";
        let works = runs("bwrap", &args.split(' ').collect::<Vec<_>>());
        let mend = "bwrap cannot make a sandbox: where user namespaces are restricted, allow them \
                    (see the first line)";
        (!works).then(|| mend.to_owned())
    }));
    finding(if proxies::installed().is_ok() { WITH_PROXY } else { WITHOUT_PROXY }, None);
    findings
}

fn namespace_mend() -> String {
    let read = |name: &str| std::fs::read_to_string(Path::new("/proc/sys").join(name));
    let is = |name, value| read(name).is_ok_and(|text| text.trim() == value);
    let command = if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        "AppArmor keeps ordinary users from using user namespaces (Ubuntu 24.04 and later): \
         `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`"
    } else if is("kernel/unprivileged_userns_clone", "0") {
        "user namespaces are off: `sudo sysctl -w kernel.unprivileged_userns_clone=1`"
    } else if is("user/max_user_namespaces", "0") {
        "no user namespaces are allowed: `sudo sysctl -w user.max_user_namespaces=15000`"
    } else {
        "this container or user may make no namespaces: run as root, or start the container with \
         the capability SYS_ADMIN"
    };
    command.to_owned()
}

fn tun_mend() -> Option<String> {
    let error = File::options().read(true).write(true).open("/dev/net/tun").err()?;
    Some(match error.raw_os_error() {
        Some(libc::ENOENT) => "there is no /dev/net/tun: `sudo modprobe tun`, or give the \
                               container the device"
            .to_owned(),
        Some(libc::EACCES | libc::EPERM) => {
            "you may not open /dev/net/tun: `sudo chmod 0666 /dev/net/tun`, Debian's usual mode"
                .to_owned()
        }
        _ => format!("/dev/net/tun does not open ({error}): `sudo modprobe tun`"),
    })
}

fn missing(program: &str, package: &str) -> Option<String> {
    let found = runs(program, &["--version"]) || runs(program, &["-V"]);
    (!found).then(|| format!("{program} is not installed: `sudo apt-get install {package}`"))
}

fn runs(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn isolated() -> io::Result<()> {
    confine::unshare_namespaces().map_err(io::Error::other)?;
    unshare(CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
}

fn make_tun() -> io::Result<()> {
    let tun = File::options().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: all zeroes is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let name = CString::new("doctor0")?;
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the descriptor is open, and the request lives through the call.
    if unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// Whether `works` says so in a child process, whose changes end with it.
///
/// # Safety
///
/// The process must have a single thread.
unsafe fn in_child(works: impl FnOnce() -> bool) -> bool {
    // SAFETY: by this function's contract.
    match unsafe { fork() } {
        Ok(ForkResult::Parent { child }) => {
            matches!(waitpid(child, None), Ok(WaitStatus::Exited(_, 0)))
        }
        Ok(ForkResult::Child) => std::process::exit(i32::from(!works())),
        Err(_) => false,
    }
}
