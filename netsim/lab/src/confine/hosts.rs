//! Names of machines, for all programs of the lab: an `/etc/hosts` of its own.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::mount::{MsFlags, mount as mount_file};

/// The system's file.
const SYSTEM: &str = "/etc/hosts";
/// The lab's, in its run directory.
const NAME: &str = "hosts";
/// What every machine knows.
const LOCAL: &str = "127.0.0.1 localhost\n::1 localhost\n";

/// The lab's file, once it lies over the system's.
static OWN: OnceLock<PathBuf> = OnceLock::new();

/// Lays a file of the run directory over the system's, in this process's own mount namespace.
pub(super) fn mount(run_dir: &Path) -> io::Result<()> {
    if !Path::new(SYSTEM).exists() {
        return Ok(());
    }
    let own = run_dir.join(NAME);
    fs::write(&own, LOCAL)?;
    mount_file(Some(&own), SYSTEM, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    let _ = OWN.set(own);
    Ok(())
}

/// Whether names can be given.
pub(crate) fn are_own() -> bool {
    OWN.get().is_some()
}

/// From now on that name is a machine's, which has these addresses; what it was before is forgotten.
pub(crate) fn set(name: &str, addresses: &[IpAddr]) -> io::Result<()> {
    let own = OWN.get().ok_or_else(|| io::Error::other("this is not the lab"))?;
    let known = fs::read_to_string(own)?;
    let others = known.lines().filter(|line| line.split_whitespace().nth(1) != Some(name));
    let others = others.map(|line| format!("{line}\n"));
    let lines = addresses.iter().map(|address| format!("{address} {name}\n"));
    // In its place: a new file would not lie over the system's.
    fs::write(own, others.chain(lines).collect::<String>())
}
