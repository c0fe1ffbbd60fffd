//! Links that do something to packets, and NATs that the kernel cannot be.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::Context as _;
use netsim_sim::{LinkProfile, OneWay};
use netsim_wire::{Cable, LineId, LineNat, LineSpec, Region, netem};

use super::change::INTERFACE;
use super::{Emulation, Parts, Topology, rules};
use crate::netns::Netns;

/// Links that are laid at once.
const AT_ONCE: usize = 8;

/// How one link is emulated.
#[derive(Clone, Debug, PartialEq, Eq)]
enum How {
    /// Not at all: it is a cable.
    Cable,
    /// By the kernel: commands for each end.
    Netem { near: Vec<Vec<String>>, far: Vec<Vec<String>> },
    /// In user space.
    Wire,
}

/// What a cable is to become.
struct Laid {
    near: Netns,
    interface: String,
    far: Netns,
    spec: LineSpec,
}

impl Topology {
    /// Gives all links what their profiles say, several at a time.
    pub(super) fn lay_all(&self) -> anyhow::Result<()> {
        let (routers, machines) = {
            let parts = self.parts();
            let routers: Vec<String> = parts
                .routers
                .iter()
                .filter(|(_, part)| part.line.is_none() && part.needs_line())
                .map(|(name, _)| name.clone())
                .collect();
            let is_more = |part: &super::MachinePart| {
                part.line.is_none() && part.link != LinkProfile::PERFECT
            };
            let machines = parts.machines.iter().filter(|(_, part)| is_more(part));
            (routers, machines.map(|(name, _)| name.clone()).collect::<Vec<_>>())
        };
        at_once(&routers, |router| self.lay_uplink(router))?;
        at_once(&machines, |machine| self.lay_link(machine))
    }

    /// Gives a machine's link what its profile says.
    pub(super) fn lay_link(&self, machine: &str) -> anyhow::Result<()> {
        let laid = {
            let parts = self.parts();
            let part = parts.machine_part(machine)?;
            Laid {
                near: part.netns.clone(),
                interface: INTERFACE.to_owned(),
                far: parts.router(&part.router)?.gateway.netns.clone(),
                spec: LineSpec {
                    profile: part.link,
                    seed: self.seed_of(machine),
                    ..LineSpec::default()
                },
            }
        };
        let line = self.lay(laid).with_context(|| format!("cannot lay the link of {machine}"))?;
        if let Some(part) = self.parts().machines.get_mut(machine) {
            part.line = line;
        }
        Ok(())
    }

    /// Gives a router's uplink what its profile says, and the router its NAT where the kernel cannot
    /// be it.
    pub(super) fn lay_uplink(&self, router: &str) -> anyhow::Result<()> {
        let laid = {
            let parts = self.parts();
            let part = parts.router(router)?;
            let nat = part.gateway.nat.filter(|nat| rules::kernel_can(nat).is_err());
            Laid {
                near: part.gateway.netns.clone(),
                interface: part.gateway.wan.clone(),
                far: match &part.spec.behind {
                    Some(behind) => parts.router(behind)?.gateway.netns.clone(),
                    None => self.root.clone(),
                },
                spec: LineSpec {
                    profile: part.spec.uplink.profile(),
                    nat: nat.zip(part.handle.uplink_ip()).map(|(profile, outer)| LineNat {
                        profile,
                        outer,
                        // Known when it is spliced.
                        hardware: [0; 6],
                    }),
                    region: if part.spec.behind.is_none() { part.region } else { None },
                    seed: self.seed_of(router),
                },
            }
        };
        let line = self.lay(laid).with_context(|| format!("cannot lay the uplink of {router}"))?;
        if let Some(part) = self.parts().routers.get_mut(router) {
            part.line = line;
        }
        Ok(())
    }

    fn lay(&self, laid: Laid) -> io::Result<Option<LineId>> {
        let Laid { near, interface, far, mut spec } = laid;
        let cable = Cable { near: near.borrowed(), name: &interface, far: far.borrowed() };
        match self.how(&spec, &interface, cable)? {
            How::Cable => Ok(None),
            How::Netem { near: up, far: down } => {
                netem::apply(near.borrowed(), &up)?;
                netem::apply(far.borrowed(), &down)?;
                Ok(None)
            }
            How::Wire => {
                let spliced = cable.splice(spec.nat.map(|nat| nat.outer))?;
                if let Some(nat) = &mut spec.nat {
                    nat.hardware = spliced.hardware;
                }
                self.wires.add(spec, spliced).map(Some)
            }
        }
    }

    fn how(&self, spec: &LineSpec, interface: &str, cable: Cable<'_>) -> io::Result<How> {
        if spec.nat.is_some() || spec.region.is_some() {
            return Ok(How::Wire);
        }
        if spec.profile == LinkProfile::PERFECT {
            return Ok(How::Cable);
        }
        if self.emulation == Emulation::UserSpace {
            return Ok(How::Wire);
        }
        let other = cable.other_end()?;
        let (up, down) = (spec.profile.up, spec.profile.down);
        let said = netem::commands(interface, &up)
            .and_then(|near| Ok(How::Netem { near, far: netem::commands(&other, &down)? }));
        Ok(said.unwrap_or(How::Wire))
    }

    /// Tells where regions are, when there are ways between any.
    pub(super) fn lay_ways(&self, topology: &netsim_sim::Topology) -> anyhow::Result<()> {
        let ways: Vec<_> =
            topology.ways.iter().filter(|spec| spec.way != OneWay::PERFECT).collect();
        if ways.is_empty() {
            return Ok(());
        }
        let number = |name: &str| {
            let index = topology.regions.iter().position(|region| region == name);
            index.and_then(|index| u16::try_from(index).ok()).map(Region)
        };
        let mut between = Vec::new();
        for spec in ways {
            let [a, b] = &spec.between;
            let (Some(a), Some(b)) = (number(a), number(b)) else { continue };
            between.extend([(a, b, spec.way), (b, a, spec.way)]);
        }
        let mut addresses: Vec<(IpAddr, Region)> = Vec::new();
        let mut networks: Vec<(IpAddr, Region)> = Vec::new();
        {
            let mut parts = self.parts();
            let mut regions = Vec::new();
            for (name, part) in &parts.routers {
                let place =
                    parts.outermost(name).and_then(|outermost| outermost.spec.region.as_deref());
                let region = place.map_or(Some(Region(0)), number).unwrap_or(Region(0));
                regions.push((name.clone(), region));
                networks.extend(part.handle.downstream_gw().map(|v4| (v4.into(), region)));
                networks.extend(part.handle.downstream_gw_v6().map(|v6| (v6.into(), region)));
                if part.spec.behind.is_none() {
                    addresses.extend(part.handle.uplink_ip().map(|v4| (v4.into(), region)));
                    addresses.extend(part.handle.uplink_ip_v6().map(|v6| (v6.into(), region)));
                }
            }
            for (name, region) in regions {
                if let Some(part) = parts.routers.get_mut(&name) {
                    part.region = Some(region);
                }
            }
        }
        self.wires.set_ways(move |all| {
            for (from, to, way) in between {
                all.set(from, to, way);
            }
            for (address, region) in addresses {
                all.place(address, region);
            }
            for (address, region) in networks {
                all.place_network(address, region);
            }
        })?;
        Ok(())
    }

    /// Plugs a cable in or pulls it; a wire breaks in the middle.
    pub(super) fn set_line(
        &self,
        line: Option<LineId>,
        cable: (&Netns, &str, &Netns),
        is_up: bool,
    ) -> anyhow::Result<()> {
        match line {
            Some(line) => Ok(self.wires.set_down(line, !is_up)?),
            None => {
                let (near, name, far) = cable;
                let cable = Cable { near: near.borrowed(), name, far: far.borrowed() };
                Ok(cable.set_plugged(is_up)?)
            }
        }
    }

    /// A seed of its own for everybody, whatever else is there (FNV-1a over the name).
    fn seed_of(&self, name: &str) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325 ^ self.seed;
        for byte in name.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hash
    }
}

/// Does something for each, on several threads: removing a cable is mostly waiting for the kernel.
fn at_once(
    names: &[String],
    each: impl Fn(&str) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<()> {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
            each(name)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE.min(names.len())).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })
}

impl super::RouterPart {
    fn needs_line(&self) -> bool {
        let is_beyond = self.gateway.nat.is_some_and(|nat| rules::kernel_can(&nat).is_err());
        let is_placed = self.region.is_some() && self.spec.behind.is_none();
        is_beyond || is_placed || self.spec.uplink.profile() != LinkProfile::PERFECT
    }
}

impl Parts {
    /// The router at the exchange that a router is behind, or itself.
    fn outermost(&self, router: &str) -> Option<&super::RouterPart> {
        let mut part = self.routers.get(router)?;
        while let Some(behind) = &part.spec.behind {
            part = self.routers.get(behind)?;
        }
        Some(part)
    }
}
