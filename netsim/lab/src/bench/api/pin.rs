//! The load on one processor, the coordinator on the other.

use anyhow::{Context as _, bail};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;

/// Connections of the crowd, and some more.
const DESCRIPTORS: u64 = 50_000;

/// Holds this thread, and what it starts, to a processor.
///
/// # Errors
/// There is none of that number.
pub(super) fn to_processor(number: usize) -> anyhow::Result<()> {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if processors <= number {
        bail!("there is no second processor");
    }
    let mut set = CpuSet::new();
    set.set(number).context("no such processor")?;
    sched_setaffinity(Pid::from_raw(0), &set).context("cannot be held to a processor")
}

/// Lets this program, and what it starts, have as many descriptors as it may; how many that is.
///
/// # Errors
/// The system does not say.
pub(super) fn raise_descriptors() -> anyhow::Result<usize> {
    let (now, most) = getrlimit(Resource::RLIMIT_NOFILE).context("cannot read the limit")?;
    let wanted = most.min(DESCRIPTORS).max(now);
    setrlimit(Resource::RLIMIT_NOFILE, wanted, most).context("cannot raise the limit")?;
    Ok(usize::try_from(wanted).unwrap_or(usize::MAX))
}
