//! The TUN device of a mesh, opened where the job runs.
//!
//! The process inside the job's network namespace opens the device and passes a duplicate of the
//! descriptor to the process that holds the tunnels; see [`MeshDevice::descriptor`].

mod netlink;

use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use nix::libc;
use tun_rs::{DeviceBuilder, SyncDevice};

/// The largest superpacket that the kernel gives: with MTU 1412 its segments, sealed, still fit one
/// system call of 65,000 bytes. Larger ones cost a second call (measured: throughput fell by half when
/// the kernel had to cut them in software).
const GSO_MAX_BYTES: u32 = 60_000;

/// A TUN device with segmentation offload (`IFF_VNET_HDR`, TSO and, from Linux 6.2, USO), where the kernel has
/// it.
///
/// It disappears when the last descriptor is closed.
pub struct MeshDevice {
    device: SyncDevice,
}

impl MeshDevice {
    /// Creates the device in the current network namespace, down and without addresses.
    ///
    /// `name` has at most 15 bytes; `mtu` is in bytes of IP packet.
    ///
    /// # Errors
    ///
    /// When `/dev/net/tun` is missing, the caller may not administer the namespace, or the name is
    /// taken.
    pub fn open(name: &str, mtu: u16) -> io::Result<Self> {
        let build = |offload| {
            DeviceBuilder::new().name(name).mtu(mtu).offload(offload).enable(false).build_sync()
        };
        let device = match build(true) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOTTY)) => {
                tracing::info!(%error, "the kernel's TUN devices have no offload: {name} is slow");
                build(false)?
            }
            other => other?,
        };
        device.set_nonblocking(true)?;
        if let Err(error) = netlink::set_gso_max_size(device.if_index()?, GSO_MAX_BYTES) {
            tracing::debug!(%error, "the kernel's default limits superpackets of {name}");
        }
        Ok(Self { device })
    }

    /// The nonblocking descriptor, to be duplicated or passed to another process.
    ///
    /// Every read and write carries a 10-byte virtio header in front of the IP packet, where the kernel has that.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }

    /// Gives the device its addresses with their prefix lengths and brings it up.
    ///
    /// The caller must still be in the network namespace of [`open`](Self::open).
    pub fn set_addresses(
        &self,
        v4: Ipv4Addr,
        v4_len: u8,
        v6: Ipv6Addr,
        v6_len: u8,
    ) -> io::Result<()> {
        self.device.enabled(true)?;
        self.device.add_address_v4(v4, v4_len)?;
        self.device.add_address_v6(v6, v6_len)
    }
}

/// Whether reads and writes of that device carry a virtio header. What is no TUN device is taken for one that
/// has it.
pub(crate) fn has_header(tun: BorrowedFd<'_>) -> bool {
    // SAFETY: zeros are a valid value of the structure.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    // SAFETY: the request fills in a structure of that type, which lives until it is answered.
    if unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNGETIFF, &mut request) } != 0 {
        return true;
    }
    // SAFETY: the kernel has answered with the device's name and flags.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    i32::from(flags) & libc::IFF_VNET_HDR != 0
}
