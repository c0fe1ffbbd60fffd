//! The system calls that a job may not make: two seccomp filters.
//!
//! A list of what is refused, not of what is allowed: a scientist's program is any program, and the namespaces
//! hold it anyway. Refused is what no program of a cluster's ordinary user needs or gets, and what most escapes
//! of the past began with: new namespaces (with which comes everything that only root may ask of the kernel),
//! mounts, tracing, keys, BPF, io_uring, socket families other than the usual ones. AF_VSOCK is one of those: it
//! is in no network namespace, and leads from a virtual machine to its host.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::SeccompCmpArgLen::Dword;
use seccompiler::SeccompCmpOp::{Eq, MaskedEq, Ne};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

/// Programs of the other x86 number space (x32) call by these numbers; its own numbers are listed below.
const X32: i64 = 0x4000_0000;

/// `ptrace` and `kexec_load` of x32.
const X32_ONLY: [i64; 2] = [X32 | 521, X32 | 528];

/// Refused whatever their arguments are, with EPERM.
const REFUSED: &[i64] = &[
    // The file system's shape.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_quotactl,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_setns,
    // Other processes. Reading and writing their memory (process_vm_*) stays: MPI's way between ranks of a node.
    libc::SYS_ptrace,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_userfaultfd,
    // The kernel and the machine.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_kexec_file_load,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// Not there, with ENOSYS: programs then go another way, where that can be looked at (`clone`) or is none of these.
const ABSENT: &[i64] = &[
    libc::SYS_clone3,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// The kinds of namespaces, as flags of `clone` and `unshare`.
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Time namespaces; a flag of `unshare` alone, part of the signal's number in `clone`.
const NEW_TIME: u64 = 0x80;

/// The families of sockets that a job may make.
const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// The bits of a socket's type that are not flags.
const TYPE_MASK: u64 = 0xf;

/// The parts of the kernel behind netlink that only an administrator talks to.
const ADMINISTRATION: [i32; 3] = [libc::NETLINK_NETFILTER, libc::NETLINK_XFRM, libc::NETLINK_AUDIT];

/// `ioctl` that types into somebody else's terminal.
const TIOCSTI: u64 = 0x5412;

/// Both filters as the kernel takes them, for bubblewrap's `--add-seccomp-fd`.
///
/// # Errors
/// On a processor that there are no filters for.
pub fn filters() -> Result<[Vec<u8>; 2], BackendError> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = |rules, errno: i32| -> Result<Vec<u8>, BackendError> {
        let refuse = SeccompAction::Errno(errno.unsigned_abs());
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, architecture)?;
        Ok(bytes(&filter.try_into()?))
    };
    let mut refused = always(REFUSED);
    if cfg!(target_arch = "x86_64") {
        refused.extend(X32_ONLY.map(|number| (number, Vec::new())));
    }
    for (number, rules) in conditional()? {
        refused.insert(number, rules.clone());
        if cfg!(target_arch = "x86_64") {
            refused.insert(X32 | number, rules);
        }
    }
    Ok([filter(refused, libc::EPERM)?, filter(always(ABSENT), libc::ENOSYS)?])
}

fn always(numbers: &[i64]) -> BTreeMap<i64, Vec<SeccompRule>> {
    let both = |number: &i64| [*number, X32 | *number];
    let wanted = if cfg!(target_arch = "x86_64") { 2 } else { 1 };
    numbers
        .iter()
        .flat_map(|number| both(number).into_iter().take(wanted))
        .map(|n| (n, Vec::new()))
        .collect()
}

/// Refused with these arguments; any one of a call's rules is enough.
fn conditional() -> Result<Vec<(i64, Vec<SeccompRule>)>, BackendError> {
    let value = |number: i32| u64::from(number.unsigned_abs());
    let flag =
        |flag: u64| SeccompRule::new(vec![SeccompCondition::new(0, Dword, MaskedEq(flag), flag)?]);
    let namespaces = || NAMESPACES.iter().map(|kind| flag(value(*kind)));
    let strange = FAMILIES.iter().map(|known| SeccompCondition::new(0, Dword, Ne, value(*known)));
    let raw = |family: i32| {
        SeccompRule::new(vec![
            SeccompCondition::new(0, Dword, Eq, value(family))?,
            SeccompCondition::new(1, Dword, MaskedEq(TYPE_MASK), value(libc::SOCK_RAW))?,
        ])
    };
    let administration = |protocol: &i32| {
        SeccompRule::new(vec![
            SeccompCondition::new(0, Dword, Eq, value(libc::AF_NETLINK))?,
            SeccompCondition::new(2, Dword, Eq, value(*protocol))?,
        ])
    };
    let sockets = [
        SeccompRule::new(strange.collect::<Result<_, _>>()?),
        raw(libc::AF_INET),
        raw(libc::AF_INET6),
    ];
    let sockets = sockets.into_iter().chain(ADMINISTRATION.iter().map(administration));
    let types = SeccompRule::new(vec![SeccompCondition::new(1, Dword, Eq, TIOCSTI)?])?;
    Ok(vec![
        (libc::SYS_clone, namespaces().collect::<Result<_, _>>()?),
        (libc::SYS_unshare, namespaces().chain([flag(NEW_TIME)]).collect::<Result<_, _>>()?),
        (libc::SYS_socket, sockets.collect::<Result<_, _>>()?),
        (libc::SYS_ioctl, vec![types]),
    ])
}

/// `struct sock_filter[]`.
fn bytes(program: &BpfProgram) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for instruction in program {
        bytes.extend(instruction.code.to_ne_bytes());
        bytes.extend([instruction.jt, instruction.jf]);
        bytes.extend(instruction.k.to_ne_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_are_whole_instructions_and_fit_a_pipe() {
        for filter in filters().unwrap() {
            assert_eq!(filter.len() % 8, 0);
            // The kernel's bound is 4,096 instructions; a pipe holds 65,536 bytes before anybody reads.
            assert!((64..32_768).contains(&filter.len()), "{}", filter.len());
        }
    }
}
