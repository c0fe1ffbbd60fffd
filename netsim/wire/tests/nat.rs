//! The NAT by axes on real packets: what probes see is what the profile says.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use common::{Netns, Pair};
use netsim_sim::conformance::{Inner, NatProbe as _, Outer, Plan, observe};
use netsim_sim::{
    Filtering, LinkProfile, Mapping, NatProfile, PortAllocation, Preset, Refresh, WhenFull,
};
use netsim_wire::asking::{Asker, Site};
use netsim_wire::{LineId, LineNat, LineSpec, Wires};

const OUTER: &str = common::NEAR;
const INSIDE: [&str; 2] = ["10.0.0.2", "10.0.0.3"];
const OUTSIDE: [&str; 2] = [common::FAR, "10.9.0.3"];

/// Two machines inside are two addresses of the near namespace, whose kernel has no routes to what
/// is outside but through the NAT.
struct Real {
    wires: Wires,
    line: LineId,
    near: Netns,
    far: Netns,
}

impl Real {
    fn asker(profile: NatProfile) -> Asker<Self> {
        let pair = Pair::new();
        let wires = Wires::new().unwrap();
        let spliced = pair.cable().splice(Some(OUTER.parse().unwrap())).unwrap();
        for address in INSIDE {
            pair.near.ip(&format!("address add {address}/32 dev lo"));
        }
        pair.far.ip(&format!("address add {}/24 dev v1", OUTSIDE[1]));
        let (outer, hardware) = (OUTER.parse().unwrap(), spliced.hardware);
        let nat = Some(LineNat { profile, outer, hardware });
        let line = wires.add(LineSpec { nat, seed: 7, ..LineSpec::default() }, spliced).unwrap();
        Asker::new(Self { wires, line, near: pair.near, far: pair.far }).unwrap()
    }
}

impl Site for Real {
    fn inside(&self, machine: u8) -> IpAddr {
        INSIDE[usize::from(machine)].parse().unwrap()
    }

    fn outside(&self, address: u8) -> IpAddr {
        OUTSIDE[usize::from(address)].parse().unwrap()
    }

    fn bind_inside(&self, at: Inner) -> io::Result<UdpSocket> {
        Ok(self.near.udp(INSIDE[usize::from(at.machine)], at.port))
    }

    fn bind_outside(&self, at: Outer) -> io::Result<UdpSocket> {
        Ok(self.far.udp(OUTSIDE[usize::from(at.address)], at.port))
    }

    /// Exact, and in no time: the NAT's clock goes forward.
    fn age(&mut self, by: Duration) -> io::Result<()> {
        self.wires.age_nat(self.line, by).map_err(io::Error::other)
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn differences(profile: NatProfile, plan: Plan) -> Vec<String> {
    let observed = observe(&mut Real::asker(profile), plan)
        .unwrap()
        .unwrap_or_else(|| panic!("nothing gets out: {profile:?}"));
    observed.differences(Some(&profile)).iter().map(ToString::to_string).collect()
}

#[test]
fn every_preset_is_seen_as_it_is() {
    let _alone = common::alone();
    let plan = Plan { longest: 320 * SECOND, resolution: 8 * SECOND };
    for preset in Preset::ALL {
        let Some(profile) = preset.profile() else { continue };
        assert_eq!(differences(profile, plan), [""; 0], "{preset:?}");
    }
}

#[test]
fn every_point_of_the_axes_is_seen_as_it_is() {
    let _alone = common::alone();
    let plan = Plan { longest: 40 * SECOND, resolution: 4 * SECOND };
    let mut points = 0;
    for mapping in
        [Mapping::EndpointIndependent, Mapping::AddressDependent, Mapping::AddressAndPortDependent]
    {
        for filtering in [
            Filtering::EndpointIndependent,
            Filtering::AddressDependent,
            Filtering::AddressAndPortDependent,
        ] {
            for port in [
                PortAllocation::Preserving,
                PortAllocation::PreservingOrRandom,
                PortAllocation::Sequential,
                PortAllocation::Random,
            ] {
                // Every value of the others with every pair of these.
                let refresh = [Refresh::Outbound, Refresh::Inbound, Refresh::Both][points % 3];
                let is_eim = mapping == Mapping::EndpointIndependent;
                let profile = NatProfile {
                    mapping,
                    filtering,
                    port,
                    refresh,
                    hairpin: is_eim && points % 2 == 0,
                    lifetime: 25 * SECOND,
                    ..NatProfile::HOME
                };
                assert_eq!(differences(profile, plan), [""; 0], "{profile:?}");
                points += 1;
            }
        }
    }
    assert_eq!(points, 36);
}

#[test]
fn small_tables_refuse_or_make_room() {
    let _alone = common::alone();
    for (when_full, first_lives) in [(WhenFull::Refuse, true), (WhenFull::EvictOldest, false)] {
        let profile = NatProfile { table_size: 4, when_full, ..NatProfile::HOME };
        let mut nat = Real::asker(profile);
        let out = Outer { address: 0, port: 3478 };
        // The sentinel's mapping is one of the four, and the one that was used last.
        let opened: Vec<_> = (0..4)
            .map(|port| nat.send_out(Inner { machine: 0, port: 5000 + port }, out).unwrap())
            .collect();
        assert_eq!(opened[3].is_some(), !first_lives, "{when_full:?}");
        let first = nat.send_in(out, opened[0].unwrap()).unwrap();
        assert_eq!(first.is_some(), first_lives, "{when_full:?}");
    }
}

#[test]
fn lifetime_is_exact_on_the_real_clock_too() {
    let _alone = common::alone();
    let profile = NatProfile { lifetime: SECOND, refresh: Refresh::Outbound, ..NatProfile::HOME };
    let mut nat = Real::asker(profile);
    let (inner, out) = (Inner { machine: 0, port: 5000 }, Outer { address: 0, port: 3478 });
    let opened = std::time::Instant::now();
    let outer = nat.send_out(inner, out).unwrap().unwrap();
    let mapped = std::time::Instant::now();
    loop {
        let asked = std::time::Instant::now();
        let gets_in = nat.send_in(out, outer).unwrap().is_some();
        if gets_in {
            // It was sent before the mapping can have ended, if that was made last of all.
            assert!(asked < mapped + SECOND, "alive after {:?}", asked - opened);
        } else {
            let answered = std::time::Instant::now();
            assert!(answered > opened + SECOND, "dead after {:?}", answered - opened);
            return;
        }
    }
}

#[test]
fn links_of_a_nat_may_be_slow_as_well() {
    let _alone = common::alone();
    let mut nat = Real::asker(NatProfile::SYMMETRIC_SEQUENTIAL);
    let slow =
        netsim_sim::OneWay { delay: Duration::from_millis(5), ..netsim_sim::OneWay::PERFECT };
    let site = nat.site();
    site.wires.set_profile(site.line, LinkProfile::symmetric(slow)).unwrap();
    let out = [0, 1].map(|address| Outer { address, port: 3478 });
    let inner = Inner { machine: 0, port: 5000 };
    let [a, b] = out.map(|out| nat.send_out(inner, out).unwrap().unwrap());
    assert_eq!(b.port(), a.port() + 1);
    assert_eq!(nat.send_in(out[0], a).unwrap(), Some(inner));
}
