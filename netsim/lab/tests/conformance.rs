//! Each NAT of the laboratory behaves as its profile says: the kernel's where it can be one, and the
//! one in user space where it cannot. What the kernel really does otherwise is in one table.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use netsim::topology::{Machine, Topology, rules};
use netsim_sim::conformance::{Inner, NatProbe, Observed, Outer, Plan, observe};
use netsim_sim::topology::{HostSpec, NatSpec, RouterSpec};
use netsim_sim::{NatProfile, Preset};

/// How long a packet may take that certainly arrives.
const SURE: Duration = Duration::from_secs(20);
/// The ports of packets that tell when to stop waiting for another one.
const SENTINELS: [u16; 2] = [60_000, 60_001];

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
    by_inner: BTreeMap<Inner, UdpSocket>,
    by_outer: BTreeMap<Outer, UdpSocket>,
    sentinels: u32,
}

impl<'a> Real<'a> {
    fn new(net: &'a Topology, router: &str) -> Self {
        let machine = |name: String| net.machine(&name).unwrap();
        let mut real = Self {
            net,
            router: router.to_owned(),
            inside: [1, 2].map(|index| machine(format!("{router}-in-{index}"))),
            outside: [1, 2].map(|index| machine(format!("out-{index}"))),
            by_inner: BTreeMap::new(),
            by_outer: BTreeMap::new(),
            sentinels: 0,
        };
        for address in [1, 0] {
            real.settle(address).unwrap();
        }
        real
    }

    fn inner(&mut self, inner: Inner) -> UdpSocket {
        let machine = &self.inside[usize::from(inner.machine % 2)];
        let bind = || machine.udp(inner.port).unwrap();
        self.by_inner.entry(inner).or_insert_with(bind).try_clone().unwrap()
    }

    fn outer(&mut self, outer: Outer) -> (UdpSocket, SocketAddr) {
        let machine = &self.outside[usize::from(outer.address % 2)];
        let bind = || machine.udp(outer.port).unwrap();
        let socket = self.by_outer.entry(outer).or_insert_with(bind).try_clone().unwrap();
        (socket, SocketAddr::new(machine.address, outer.port))
    }

    /// Waits until whatever was sent has arrived or never will: a packet that certainly gets out, and
    /// its answer, go the same way in the same order.
    fn settle(&mut self, address: u8) -> io::Result<()> {
        self.sentinels += 1;
        let token = self.sentinels.to_be_bytes();
        let inner = self.inner(Inner { machine: 0, port: SENTINELS[0] });
        let (outer, to) = self.outer(Outer { address, port: SENTINELS[1] });
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
        inner.send_to(&token, to)?;
        let from = receive(&outer)?;
        outer.send_to(&token, from)?;
        receive(&inner).map(drop)
    }

    fn arrived_inside(&self) -> io::Result<Option<(Inner, SocketAddr)>> {
        for (inner, socket) in &self.by_inner {
            if let Some(from) = waiting(socket)? {
                return Ok(Some((*inner, from)));
            }
        }
        Ok(None)
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

impl NatProbe for Real<'_> {
    type Error = io::Error;

    fn endpoint(&self, inner: Inner) -> SocketAddr {
        SocketAddr::new(self.inside[usize::from(inner.machine % 2)].address, inner.port)
    }

    fn send_out(&mut self, from: Inner, to: Outer) -> io::Result<Option<SocketAddr>> {
        let (sender, (receiver, address)) = (self.inner(from), self.outer(to));
        sender.send_to(b"out", address)?;
        self.settle(to.address)?;
        waiting(&receiver)
    }

    fn send_in(&mut self, from: Outer, to: SocketAddr) -> io::Result<Option<Inner>> {
        self.outer(from).0.send_to(b"in", to)?;
        self.settle(from.address)?;
        Ok(self.arrived_inside()?.map(|(inner, _)| inner))
    }

    fn send_round(
        &mut self,
        from: Inner,
        to: SocketAddr,
    ) -> io::Result<Option<(Inner, SocketAddr)>> {
        self.inner(from).send_to(b"round", to)?;
        self.settle(0)?;
        self.arrived_inside()
    }

    /// The kernel's clock is everybody's; the one of a NAT in user space can be set.
    fn wait(&mut self, time: Duration) -> io::Result<()> {
        let is_done = self.net.age_nat(&self.router, time).map_err(io::Error::other)?;
        if !is_done {
            thread::sleep(time);
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
    let spec = netsim_sim::Topology {
        routers: routers.collect(),
        hosts: inside.chain([two("out".to_owned(), None)]).collect(),
        ..netsim_sim::Topology::default()
    };
    let net = Topology::build(&spec, 1).unwrap();

    // One after the other for the ports of the machines outside; those of the kernel mostly wait.
    let mut differences = Vec::new();
    let mut by_kernel = 0;
    let mut known: Vec<(Preset, &str, &str)> = Vec::new();
    for preset in translating() {
        let profile = profile(preset).unwrap();
        let is_kernel = rules::kernel_can(&profile).is_ok();
        by_kernel += usize::from(is_kernel);
        let longest = if is_kernel { SHORT + Duration::from_secs(2) } else { profile.lifetime * 2 };
        let plan = Plan { longest, resolution: longest / 7 };
        let mut real = Real::new(&net, &name(preset));
        let observed: Observed = observe(&mut real, plan).unwrap().expect("packets get out");
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
