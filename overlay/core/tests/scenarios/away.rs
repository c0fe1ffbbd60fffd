//! The coordinator is away for hours: whatever happens meanwhile, running meshes go on.

use std::time::Duration;

use netsim_sim::{Change, NatId, NatProfile, PUBLIC, RealmId};
use netsim_virtual::{LINK, World};
use overlay_core::{MeshId, Path};

use crate::world;

const MESH: MeshId = MeshId { job: 1, generation: 1 };
const NODES: usize = 4;

/// What no pair is silent for longer than, whatever has happened.
const PATIENCE: Duration = Duration::from_secs(6);

struct Life {
    world: World,
    /// The number of the next message of each pair.
    number: u64,
    /// The two homes of node 0.
    homes: [RealmId; 2],
    router: NatId,
}

fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..NODES).flat_map(|a| (0..NODES).map(move |b| (a, b))).filter(|(a, b)| a != b)
}

impl Life {
    /// Two homes, a random symmetric NAT and a public machine; the coordinator goes, and its relay with it. One
    /// relay stays, which no pair with a choice would take: it is far.
    fn new(seed: u64) -> Self {
        let mut world = world(seed);
        let far = netsim_sim::Link { delay: Duration::from_millis(30), ..LINK };
        let host = world.net.add_host(PUBLIC, far);
        world.add_relay_at(host);
        let (_, first) = world.net.add_nat(PUBLIC, NatProfile::HOME, LINK);
        let (_, second) = world.net.add_nat(PUBLIC, NatProfile::HOME, LINK);
        let (router, other) = world.net.add_nat(PUBLIC, NatProfile::HOME, LINK);
        for realm in [first, other] {
            let host = world.net.add_host(realm, LINK);
            world.add_node_at(host);
        }
        world.add_node(&[NatProfile::SYMMETRIC], LINK);
        world.add_node(&[], LINK);
        world.run_for(Duration::from_secs(3));
        world.join(MESH);
        world.run_for(Duration::from_secs(10));
        let mut life = Self { world, number: 0, homes: [first, second], router };
        life.talk(Duration::from_secs(5), Duration::from_millis(100));
        life.world.servers[0].away = true;
        life.world.servers[0].relay.down = true;
        life
    }

    /// Every pair sends a message at that interval for so long; the number of the first.
    fn talk(&mut self, duration: Duration, interval: Duration) -> u64 {
        let first = self.number;
        let end = self.world.now() + duration;
        while self.world.now() < end {
            for (from, to) in pairs() {
                self.world.send_data(MESH, from, to, self.number);
            }
            self.number += 1;
            self.world.run_for(interval);
        }
        first
    }

    /// An hour of a message each half minute, of which none is lost.
    fn quiet_hour(&mut self, when: &str) {
        let first = self.talk(Duration::from_secs(3600), Duration::from_secs(30));
        self.world.run_for(Duration::from_secs(2));
        for (from, to) in pairs() {
            let received = &self.world.nodes[to].received[&self.world.key(MESH, from)];
            let lost = (first..self.number).filter(|number| !received.contains(number)).count();
            assert_eq!(lost, 0, "{when}: {from} to {to}: {:?}", self.world.pair(MESH, from, to));
        }
    }

    /// Something has happened just now: soon everybody hears everybody again.
    fn recovers(&mut self, what: &str) {
        self.talk(PATIENCE, Duration::from_millis(100));
        let first = self.talk(Duration::from_secs(2), Duration::from_millis(100));
        self.world.run_for(Duration::from_secs(2));
        for (from, to) in pairs() {
            let received = &self.world.nodes[to].received[&self.world.key(MESH, from)];
            let lost = (first..self.number).filter(|number| !received.contains(number)).count();
            assert_eq!(lost, 0, "{what}: {from} to {to}: {:?}", self.world.pair(MESH, from, to));
        }
    }

    fn roam(&mut self, home: usize) {
        let host = self.world.nodes[0].host;
        self.world.apply(Change::Roam(host, self.homes[home]));
    }
}

#[test]
fn mesh_lives_for_six_hours_without_its_coordinator() {
    for seed in 0..2 {
        let mut life = Life::new(seed);
        life.recovers("the coordinator went, and its relay");
        life.quiet_hour("nothing happened");
        life.roam(1);
        life.recovers("node 0 moved to another home");
        life.quiet_hour("node 0 had moved");
        life.world.apply(Change::NatReboot(life.router));
        life.recovers("node 1's router started again");
        life.quiet_hour("node 1's router had started again");
        life.roam(0);
        life.recovers("node 0 moved back");
        life.quiet_hour("node 0 had moved back");
        life.world.lone_relays[0].relay.restart();
        life.recovers("the last relay started again");
        life.quiet_hour("the last relay had started again");
        life.world.suspend(3);
        life.world.run_for(Duration::from_secs(600));
        life.world.resume(3);
        life.recovers("node 3 woke up");
        life.quiet_hour("node 3 had slept");
        // Keys live for three minutes: they were renewed some 120 times in each session.
        assert!(life.world.now() >= Duration::from_secs(6 * 3600));
        let lone = life.world.net.address(life.world.lone_relays[0].host);
        for (from, to) in pairs() {
            let path = life.world.pair(MESH, from, to).path;
            let expected_direct = from.min(to) != 2 && from.max(to) != 2 || from.max(to) == 3;
            let is_right = match path {
                Some(Path::Direct(_)) => expected_direct,
                Some(Path::Relayed { relay, .. }) => !expected_direct && relay.ip() == lone,
                None => false,
            };
            assert!(is_right, "seed {seed}: {from} to {to}: {path:?}");
        }
    }
}
