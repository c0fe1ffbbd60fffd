//! What happens to networks while they are in use.

use anyhow::{Context as _, bail};
use netsim_sim::Event;
use netsim_sim::topology::RouterSpec;

use super::build::{nft, own_router};
use super::rules::{self, MAPPINGS, Ruled};
use super::{RouterPart, Topology, flush};

/// Every machine's interface.
pub(super) const INTERFACE: &str = "eth0";

impl Topology {
    /// Does to the network what an event says. What happens to machines themselves (suspend, resume,
    /// kill, start) is the business of whoever runs programs on them, and refused here.
    pub fn apply(&self, event: &Event) -> anyhow::Result<()> {
        match event {
            Event::Roam { host, behind } => self.roam(host, behind.as_deref()),
            Event::NatReboot(router) => self.reboot_nat(router),
            Event::LinkDown(host) => self.set_link(host, false),
            Event::LinkUp(host) => self.set_link(host, true),
            Event::UplinkDown(router) => self.set_uplink(router, false),
            Event::UplinkUp(router) => self.set_uplink(router, true),
            Event::Suspend(host) | Event::Resume(host) | Event::Kill(host) | Event::Start(host) => {
                bail!("{host}: that is nothing that happens to a network")
            }
        }
    }

    /// Plugs a machine into another router; none: the public realm. Its address becomes another one.
    pub fn roam(&self, machine: &str, behind: Option<&str>) -> anyhow::Result<()> {
        let router = behind.map_or_else(|| own_router(machine), str::to_owned);
        if behind.is_none() && !self.parts().routers.contains_key(&router) {
            let spec = RouterSpec { name: router.clone(), ipv6: true, ..RouterSpec::default() };
            self.wire_routers(&[spec])?;
        }
        let (id, device, line) = {
            let parts = self.parts();
            let part = parts.machine_part(machine)?;
            (parts.router(&router)?.handle.id(), part.device.clone(), part.line)
        };
        if let Some(line) = line {
            self.wires.remove(line)?;
        }
        let interface = device.iface(INTERFACE).context("the machine has no interface")?;
        self.runtime
            .block_on(interface.replug(id))
            .with_context(|| format!("cannot plug {machine} into {router}"))?;
        if let Some(part) = self.parts().machines.get_mut(machine) {
            part.router = router;
            part.preset = None;
            part.line = None;
        }
        self.lay_all()
    }

    /// A router starts again and has forgotten its mappings.
    pub fn reboot_nat(&self, router: &str) -> anyhow::Result<()> {
        let (handle, has_map, line) = {
            let parts = self.parts();
            let part = parts.router(router)?;
            (part.handle.clone(), part.ruled().has_map(), part.line)
        };
        if let Some(line) = line {
            self.wires.reboot_nat(line)?;
        }
        self.runtime.block_on(async {
            if has_map {
                nft(&handle, format!("flush map ip nat {MAPPINGS}\n")).await?;
            }
            let forget = async |_| flush::connections();
            handle.spawn(forget)?.await?.context("cannot empty the connection table")
        })
    }

    fn set_link(&self, machine: &str, is_up: bool) -> anyhow::Result<()> {
        let (near, far, line) = {
            let parts = self.parts();
            let part = parts.machine_part(machine)?;
            let far = parts.router(&part.router)?.gateway.netns.clone();
            (part.netns.clone(), far, part.line)
        };
        self.set_line(line, (&near, INTERFACE, &far), is_up)
            .with_context(|| format!("cannot change the link of {machine}"))
    }

    fn set_uplink(&self, router: &str, is_up: bool) -> anyhow::Result<()> {
        let (near, wan, far, line) = {
            let parts = self.parts();
            let part = parts.router(router)?;
            let far = match &part.spec.behind {
                Some(behind) => parts.router(behind)?.gateway.netns.clone(),
                None => self.root.clone(),
            };
            (part.gateway.netns.clone(), part.gateway.wan.clone(), far, part.line)
        };
        self.set_line(line, (&near, &wan, &far), is_up)
            .with_context(|| format!("cannot change the uplink of {router}"))
    }
}

impl RouterPart {
    pub(super) fn ruled(&self) -> Ruled<'_> {
        Ruled {
            wan: &self.gateway.wan,
            nat: self.gateway.nat.filter(|nat| rules::kernel_can(nat).is_ok()),
            stateful: self.spec.stateful,
            firewall: self.spec.firewall,
            proxy: None,
        }
    }
}
