//! Each NAT of the laboratory behaves as its profile says: the kernel's where it can be one, and the
//! one in user space where it cannot. What the kernel really does otherwise is in one table.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use netsim::topology::{Machine, Topology, rules};
use netsim_sim::conformance::{Inner, Observed, Outer, Plan, observe};
use netsim_sim::topology::{HostSpec, NatSpec, RouterSpec};
use netsim_sim::{NatProfile, Preset};
use netsim_wire::asking::{Asker, Site};

/// What the kernel does otherwise than its profile says, by axis, and why.
const KERNEL_DIFFERS: [(Preset, &str, &str); 3] = [
    (Preset::FullCone, "port conflict", CONFLICT),
    (Preset::Restricted, "port conflict", CONFLICT),
    (Preset::Home, "port conflict", CONFLICT),
];
const CONFLICT: &str = "nf_nat keeps a port where it is free, and otherwise takes a random one";

/// Two machines behind a router, and two outside.
struct Real<'a> {
    net: &'a Topology,
    router: String,
    inside: [Machine; 2],
    outside: [Machine; 2],
}

impl<'a> Real<'a> {
    fn asker(net: &'a Topology, router: &str) -> Asker<Self> {
        let machine = |name: String| net.machine(&name).unwrap();
        let site = Self {
            net,
            router: router.to_owned(),
            inside: [1, 2].map(|index| machine(format!("{router}-in-{index}"))),
            outside: [1, 2].map(|index| machine(format!("{router}-out-{index}"))),
        };
        Asker::new(site).unwrap()
    }
}

impl Site for Real<'_> {
    fn inside(&self, machine: u8) -> IpAddr {
        self.inside[usize::from(machine)].address
    }

    fn outside(&self, address: u8) -> IpAddr {
        self.outside[usize::from(address)].address
    }

    fn bind_inside(&self, at: Inner) -> io::Result<UdpSocket> {
        self.inside[usize::from(at.machine)].udp(at.port)
    }

    fn bind_outside(&self, at: Outer) -> io::Result<UdpSocket> {
        self.outside[usize::from(at.address)].udp(at.port)
    }

    /// The kernel's clock is everybody's; the one of a NAT in user space can be set.
    fn age(&mut self, by: Duration) -> io::Result<()> {
        let is_done = self.net.age_nat(&self.router, by).map_err(io::Error::other)?;
        if !is_done {
            thread::sleep(by);
        }
        Ok(())
    }
}

/// The kernel's presets live as long as this in the test, in whole seconds as its settings are.
const SHORT: Duration = Duration::from_secs(5);

fn profile(preset: Preset) -> Option<NatProfile> {
    let profile = preset.profile()?;
    if rules::kernel_can(&profile).is_err() {
        return Some(profile);
    }
    Some(NatProfile { lifetime: SHORT, ..profile })
}

#[test]
fn every_preset_is_seen_as_it_is_but_for_what_the_kernel_really_does() {
    let _alone = common::alone();
    let name = |preset: Preset| format!("{preset:?}").to_lowercase();
    let translating = || Preset::ALL.into_iter().filter(|preset| preset.profile().is_some());
    let routers = translating().map(|preset| RouterSpec {
        name: name(preset),
        nat: NatSpec::Axes(profile(preset).unwrap()),
        ..RouterSpec::default()
    });
    let two = |name: String, behind| HostSpec { name, behind, count: 2, ..HostSpec::default() };
    let inside =
        translating().map(|preset| two(format!("{}-in", name(preset)), Some(name(preset))));
    let outside = translating().map(|preset| two(format!("{}-out", name(preset)), None));
    let spec = netsim_sim::Topology {
        routers: routers.collect(),
        hosts: inside.chain(outside).collect(),
        ..netsim_sim::Topology::default()
    };
    let net = Topology::build(&spec, 1).unwrap();

    // All at once: those of the kernel mostly wait.
    let look = &|preset: Preset| {
        let profile = profile(preset).unwrap();
        let is_kernel = rules::kernel_can(&profile).is_ok();
        let longest = if is_kernel { SHORT + Duration::from_secs(2) } else { profile.lifetime * 2 };
        let plan = Plan { longest, resolution: longest / 7 };
        let mut real = Real::asker(&net, &name(preset));
        let observed: Observed = observe(&mut real, plan).unwrap().expect("packets get out");
        (preset, profile, is_kernel, observed)
    };
    let seen: Vec<_> = thread::scope(|scope| {
        let looks: Vec<_> = translating().map(|preset| scope.spawn(move || look(preset))).collect();
        looks.into_iter().map(|look| look.join().unwrap()).collect()
    });
    let mut differences = Vec::new();
    let mut by_kernel = 0;
    let mut known: Vec<(Preset, &str, &str)> = Vec::new();
    for (preset, profile, is_kernel, observed) in seen {
        by_kernel += usize::from(is_kernel);
        for difference in observed.differences(Some(&profile)) {
            let mut listed = KERNEL_DIFFERS.iter().filter(|_| is_kernel);
            match listed.find(|(of, axis, _)| *of == preset && *axis == difference.axis) {
                Some(entry) => known.push(*entry),
                None => differences.push(format!("{preset:?}: {difference}")),
            }
        }
    }
    assert_eq!(differences, [""; 0]);
    assert_eq!(known, KERNEL_DIFFERS, "an entry that is no longer true");
    assert_eq!(by_kernel, 4, "presets that the kernel is the NAT of");
}
