//! The exchange's bridge keeps its hardware address.
//!
//! A Linux bridge without an address of its own takes the lowest one of its ports, and so changes it
//! when a port with a lower one is added. Routers that had asked for the old one go on using it until
//! their neighbour entry is checked again, up to 45 s later; until then every packet is lost.

use anyhow::{Context as _, bail};

use crate::netns::Netns;

/// The address of the exchange: locally administered (bit 1 of the first octet), one recipient (bit 0 clear).
const HARDWARE_ADDRESS: &str = "02:00:c6:12:00:01";

/// Gives the only bridge in that namespace an address of its own. To be called before routers are added.
pub(super) fn pin_hardware_address(root: &Netns) -> anyhow::Result<()> {
    let listed = root
        .command("ip")
        .args(["-o", "link", "show", "type", "bridge"])
        .output()
        .context("cannot start ip: install iproute2")?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let bridge = bridge_name(&listed).context("the public network has no bridge")?;
    let set = root
        .command("ip")
        .args(["link", "set", "dev", bridge, "address", HARDWARE_ADDRESS])
        .output()?;
    if !set.status.success() {
        bail!("ip link set {bridge}: {}", String::from_utf8_lossy(&set.stderr).trim());
    }
    Ok(())
}

/// The name in the first line of `ip -o link`, such as `2: br-p1-1: <BROADCAST,...`.
fn bridge_name(listed: &str) -> Option<&str> {
    listed.lines().next()?.split(": ").nth(1)
}

#[cfg(test)]
mod tests {
    use super::bridge_name;

    #[test]
    fn finds_the_name_of_the_bridge() {
        let listed = "2: br-p1-1: <BROADCAST,MULTICAST,UP> mtu 1500 qdisc noqueue state DOWN\n";

        assert_eq!(bridge_name(listed), Some("br-p1-1"));
        assert_eq!(bridge_name(""), None);
    }
}
