//! The NAT by axes on real packets: what probes see is what the profile says.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use common::{Netns, Pair};
use netsim_sim::conformance::{Inner, NatProbe, Outer, Plan, observe};
use netsim_sim::{
    Filtering, LinkProfile, Mapping, NatProfile, PortAllocation, Preset, Refresh, WhenFull,
};
use netsim_wire::{LineId, LineNat, LineSpec, Wires};

/// How long a packet may take that certainly arrives.
const SURE: Duration = Duration::from_secs(10);

const OUTER: &str = common::NEAR;
const INSIDE: [&str; 2] = ["10.0.0.2", "10.0.0.3"];
const OUTSIDE: [&str; 2] = [common::FAR, "10.9.0.3"];
/// The ports of packets that tell when to stop waiting for another one.
const SENTINELS: [u16; 2] = [60_000, 60_001];

/// Two machines inside are two addresses of the near namespace, whose kernel has no routes to what
/// is outside but through the NAT.
struct Real {
    wires: Wires,
    line: LineId,
    near: Netns,
    far: Netns,
    inside: BTreeMap<Inner, UdpSocket>,
    outside: BTreeMap<Outer, UdpSocket>,
    sentinels: u32,
}

impl Real {
    fn new(profile: NatProfile) -> Self {
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
        let (inside, outside) = (BTreeMap::new(), BTreeMap::new());
        let mut real =
            Self { wires, line, near: pair.near, far: pair.far, inside, outside, sentinels: 0 };
        // Before anything is asked: a mapping that is made in between would take a port, and a
        // neighbour that has to be found first would let others overtake.
        for address in [1, 0] {
            real.settle_with(address).unwrap();
        }
        real
    }

    fn inner(&mut self, inner: Inner) -> UdpSocket {
        let near = &self.near;
        let bind = || near.udp(INSIDE[usize::from(inner.machine % 2)], inner.port);
        self.inside.entry(inner).or_insert_with(bind).try_clone().unwrap()
    }

    fn outer(&mut self, outer: Outer) -> UdpSocket {
        let far = &self.far;
        let bind = || far.udp(OUTSIDE[usize::from(outer.address % 2)], outer.port);
        self.outside.entry(outer).or_insert_with(bind).try_clone().unwrap()
    }

    /// Waits until whatever was sent has arrived or never will: a packet that certainly gets out, and
    /// its answer, go the same way in the same order.
    fn settle(&mut self) -> io::Result<()> {
        self.settle_with(0)
    }

    fn settle_with(&mut self, address: u8) -> io::Result<()> {
        self.sentinels += 1;
        let token = self.sentinels.to_be_bytes();
        let inner = self.inner(Inner { machine: 0, port: SENTINELS[0] });
        let outer = self.outer(Outer { address, port: SENTINELS[1] });
        let receive = |socket: &UdpSocket| {
            socket.set_read_timeout(Some(SURE))?;
            loop {
                let mut bytes = [0; 16];
                let (length, from) = socket.recv_from(&mut bytes)?;
                if bytes[..length] == token {
                    return io::Result::Ok(from);
                }
            }
        };
        inner.send_to(&token, outer.local_addr()?)?;
        let from = receive(&outer)?;
        outer.send_to(&token, from)?;
        receive(&inner).map(drop)
    }
}

/// What has come to a socket and has not been taken yet.
fn waiting(socket: &UdpSocket) -> io::Result<Option<SocketAddr>> {
    socket.set_nonblocking(true)?;
    let taken = socket.recv_from(&mut [0; 16]);
    socket.set_nonblocking(false)?;
    match taken {
        Ok((_, from)) => Ok(Some(from)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

impl NatProbe for Real {
    type Error = io::Error;

    fn endpoint(&self, inner: Inner) -> SocketAddr {
        SocketAddr::new(INSIDE[usize::from(inner.machine % 2)].parse().unwrap(), inner.port)
    }

    fn send_out(&mut self, from: Inner, to: Outer) -> io::Result<Option<SocketAddr>> {
        let (sender, receiver) = (self.inner(from), self.outer(to));
        sender.send_to(b"out", receiver.local_addr()?)?;
        self.settle()?;
        waiting(&receiver)
    }

    fn send_in(&mut self, from: Outer, to: SocketAddr) -> io::Result<Option<Inner>> {
        self.outer(from).send_to(b"in", to)?;
        self.settle()?;
        for (inner, socket) in &self.inside {
            if waiting(socket)?.is_some() {
                return Ok(Some(*inner));
            }
        }
        Ok(None)
    }

    fn send_round(
        &mut self,
        from: Inner,
        to: SocketAddr,
    ) -> io::Result<Option<(Inner, SocketAddr)>> {
        self.inner(from).send_to(b"round", to)?;
        self.settle()?;
        for (inner, socket) in &self.inside {
            if let Some(from) = waiting(socket)? {
                return Ok(Some((*inner, from)));
            }
        }
        Ok(None)
    }

    /// Exact, and in no time: the NAT's clock goes forward.
    fn wait(&mut self, time: Duration) -> io::Result<()> {
        self.wires.age_nat(self.line, time).map_err(io::Error::other)
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn differences(profile: NatProfile, plan: Plan) -> Vec<String> {
    let observed = observe(&mut Real::new(profile), plan)
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
        let mut nat = Real::new(profile);
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
    let mut nat = Real::new(profile);
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
    let mut nat = Real::new(NatProfile::SYMMETRIC_SEQUENTIAL);
    let slow =
        netsim_sim::OneWay { delay: Duration::from_millis(5), ..netsim_sim::OneWay::PERFECT };
    nat.wires.set_profile(nat.line, LinkProfile::symmetric(slow)).unwrap();
    let out = [0, 1].map(|address| Outer { address, port: 3478 });
    let inner = Inner { machine: 0, port: 5000 };
    let [a, b] = out.map(|out| nat.send_out(inner, out).unwrap().unwrap());
    assert_eq!(b.port(), a.port() + 1);
    assert_eq!(nat.send_in(out[0], a).unwrap(), Some(inner));
}
