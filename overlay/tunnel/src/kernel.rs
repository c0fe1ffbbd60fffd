//! What is known of kernels' faults.

/// How many datagrams of one size one call may send.
#[derive(Clone, Copy, Debug)]
pub struct Batches {
    single: bool,
}

impl Batches {
    /// Of the running kernel.
    pub fn here() -> Self {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self::of(release.trim())
    }

    /// Of the kernel of that release.
    pub fn of(release: &str) -> Self {
        let single = mangles_batches(release);
        if single {
            tracing::warn!(
                "this kernel damages batches of datagrams (Linux 7.0 to 7.1.4): they go one by one"
            );
        }
        Self { single }
    }

    /// The most that may go at a time, of what the socket offers.
    pub fn limit(self, offered: usize) -> usize {
        if self.single { 1 } else { offered.max(1) }
    }
}

/// Whether a kernel of that release (as `uname -r` gives it) is known to damage batches of UDP datagrams of
/// equal length (`UDP_SEGMENT`): Linux 7.0 to 7.1.4 write wrong UDP lengths and checksums, depending on the
/// network device. Single datagrams are safe, and slower.
///
/// Distributions carry the repair in some releases by these numbers, which cannot be told from here. Lengthening
/// each batch by a tail, the other way around the fault, has brought network cards to a halt.
pub fn mangles_batches(release: &str) -> bool {
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse::<u32>());
    let mut next = || numbers.next().and_then(Result::ok);
    // What follows a release candidate's number is no third one.
    let (major, minor) = (next(), next());
    let patch = if release.contains("-rc") { Some(0) } else { next() };
    match (major, minor) {
        (Some(7), Some(0)) => true,
        (Some(7), Some(1)) => patch.unwrap_or(0) <= 4,
        (_, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faulty_releases_are_known_by_their_numbers() {
        let faulty = ["7.0", "7.0.0", "7.0.0-rc1", "7.0.0-22-generic", "7.0.14-pve", "7.0.31"];
        let faulty_too =
            ["7.1.0-rc4", "7.1", "7.1.4", "7.1.4-arch1-1", "7.1.0-9-generic", "7.1-rc7"];
        for release in faulty.into_iter().chain(faulty_too) {
            assert!(mangles_batches(release), "{release}");
        }
        let sound =
            ["7.1.5", "7.1.5-generic", "7.1.14", "7.2.0", "7.10.2", "6.18.44", "6.17.0-41-generic"];
        for release in
            sound.into_iter().chain(["70.1.2", "17.0", "8.0.0", "4.18", "", "x", "7", "7.", "-7.0"])
        {
            assert!(!mangles_batches(release), "{release}");
        }
    }
}
