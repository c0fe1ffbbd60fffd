//! How many datagrams one call may send on this kernel.

use overlay_tunnel::mangles_batches;
use quinn_udp::UdpSocketState;

/// What this kernel may be given at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batches {
    single: bool,
}

impl Batches {
    /// Of the running kernel.
    pub(crate) fn here() -> Self {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self::of(release.trim())
    }

    /// Of the kernel of that release.
    pub(crate) fn of(release: &str) -> Self {
        let single = mangles_batches(release);
        if single {
            tracing::warn!(
                "this kernel damages batches of datagrams (Linux 7.0 to 7.1.4): they go one by one"
            );
        }
        Self { single }
    }

    /// The most datagrams of one size that one call takes.
    pub(crate) fn max_segments(self, udp: &UdpSocketState) -> usize {
        if self.single { 1 } else { udp.max_gso_segments().max(1) }
    }
}
