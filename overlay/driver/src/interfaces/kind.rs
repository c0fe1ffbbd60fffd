//! Which interfaces lead nowhere for others: by what the kernel says of them, and by their names.

use std::fs;
use std::path::Path;

/// Names that container engines, virtual machines and other overlays give to what looks ordinary.
const FOREIGN_PREFIXES: [&str; 16] = [
    "br-",
    "cali",
    "cni",
    "docker",
    "flannel",
    "ham",
    "lxc",
    "lxd",
    "mesh",
    "podman",
    "tailscale",
    "utun",
    "veth-",
    "virbr",
    "wg",
    "zt",
];

/// Kinds of the kernel (`DEVTYPE` in sysfs) that are other overlays.
const FOREIGN_TYPES: [&str; 5] = ["wireguard", "vxlan", "geneve", "gre", "ovpn"];

/// Where the kernel describes its interfaces.
pub(super) const SYSFS: &str = "/sys/class/net";

/// Whether the interface belongs to containers, virtual machines or another overlay.
///
/// Where `sysfs` does not know it (a namespace without one of its own) its name decides.
pub(super) fn is_foreign(sysfs: &Path, name: &str) -> bool {
    if FOREIGN_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return true;
    }
    let interface = sysfs.join(name);
    let described = fs::read_to_string(interface.join("uevent")).unwrap_or_default();
    let kind = described.lines().find_map(|line| line.strip_prefix("DEVTYPE="));
    // Only TUN and TAP devices have flags of that name.
    let is_tunnel = interface.join("tun_flags").exists();
    is_tunnel
        || kind.is_some_and(|kind| FOREIGN_TYPES.contains(&kind))
        || is_inner_bridge(&interface)
}

/// A bridge that no hardware is part of: it joins containers or virtual machines. One with a network
/// card is how some machines are on their LAN.
fn is_inner_bridge(interface: &Path) -> bool {
    if !interface.join("bridge").exists() {
        return false;
    }
    let ports = fs::read_dir(interface.join("brif")).into_iter().flatten().flatten();
    let has_hardware =
        |port: fs::DirEntry| interface.with_file_name(port.file_name()).join("device").exists();
    !ports.into_iter().any(has_hardware)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_tell_tunnels_and_inner_bridges_from_networks() {
        let sysfs = tempfile::tempdir().unwrap();
        let file = |path: &str, text: &str| {
            let path = sysfs.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        file("eth0/uevent", "INTERFACE=eth0\n");
        file("eth0/device/vendor", "");
        file("wlan0/uevent", "DEVTYPE=wlan\nINTERFACE=wlan0\n");
        file("corp/uevent", "DEVTYPE=wireguard\n");
        file("vpn0/tun_flags", "0x1001");
        file("lan/bridge/bridge_id", "");
        file("lan/brif/eth0/port_no", "");
        file("vms/bridge/bridge_id", "");
        file("vms/brif/tap7/port_no", "");
        for (name, expected) in [
            ("eth0", false),
            ("wlan0", false),
            ("lan", false),
            ("unknown", false),
            ("corp", true),
            ("vpn0", true),
            ("vms", true),
            ("docker0", true),
            ("wg0", true),
        ] {
            assert_eq!(is_foreign(sysfs.path(), name), expected, "{name}");
        }
    }
}
