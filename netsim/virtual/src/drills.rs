//! Drills: what the overlay is held to, measured in virtual time on links of 40 ms there and back.
//!
//! Each is one number for one seed; [`DRILLS`] names them with their units and bounds. They are printed with
//! the laboratory's figures by `netsim run nat-matrix`, and held by this crate's tests.

use std::time::{Duration, Instant};

use netsim_sim::{Change, Link, NatProfile, PUBLIC, PortAllocation};
use overlay_core::{MeshId, NodeId, Path};

use crate::World;

const MESH: MeshId = MeshId { job: 1, generation: 1 };
const HOME: &[NatProfile] = &[NatProfile::HOME];
/// A home whose router draws another port after it has started again.
const FORGETFUL: &[NatProfile] = &[NatProfile { port: PortAllocation::Random, ..NatProfile::HOME }];
const HARD: &[NatProfile] = &[NatProfile::SYMMETRIC];

/// Two of them each way: 40 ms there and back.
const FAR: Link = Link { delay: Duration::from_millis(10), loss: 0.0 };

/// Between two numbered packets of a pair with data.
const BEAT: Duration = Duration::from_millis(20);

/// How long a drill waits for what shall happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// One thing that is measured.
#[derive(Clone, Copy, Debug)]
pub struct Drill {
    /// What, for people; unique.
    pub name: &'static str,
    /// The unit of its number.
    pub unit: &'static str,
    /// What the number may be at most.
    pub most: f64,
    /// How many seeds are enough: those that take long are measured with few.
    pub seeds: u64,
    measure: fn(u64, Instant) -> Option<f64>,
}

impl Drill {
    /// Measures it with one seed; none where what shall happen did not. Nothing depends on when `start` is.
    pub fn measure(&self, seed: u64, start: Instant) -> Option<f64> {
        (self.measure)(seed, start)
    }
}

/// All of them.
pub const DRILLS: [Drill; 9] = [
    Drill {
        name: "packets lost at promotion",
        unit: "packets",
        most: 0.0,
        seeds: 30,
        measure: lost_at_promotion,
    },
    Drill { name: "relay death to data", unit: "s", most: 3.0, seeds: 30, measure: relay_death },
    Drill { name: "roam to data", unit: "s", most: 3.0, seeds: 30, measure: roam },
    Drill { name: "NAT reboot to data", unit: "s", most: 5.0, seeds: 30, measure: nat_reboot },
    Drill {
        name: "idle pair: packets in an hour",
        unit: "packets",
        most: 0.0,
        seeds: 5,
        measure: idle_hour,
    },
    Drill {
        name: "message after an hour of silence",
        unit: "s",
        most: 1.0,
        seeds: 10,
        measure: message_after_silence,
    },
    Drill {
        name: "64 nodes all to all: every pair ready",
        unit: "s",
        most: 10.0,
        seeds: 3,
        measure: crowd_ready,
    },
    Drill {
        name: "64 nodes all to all: every pair direct",
        unit: "s",
        most: 60.0,
        seeds: 3,
        measure: crowd_direct,
    },
    Drill {
        name: "64 nodes all to all: new mappings of a node in 10 s",
        unit: "mappings",
        most: 50.0,
        seeds: 3,
        measure: crowd_mappings,
    },
];

fn pair(seed: u64, start: Instant, chain: &[NatProfile]) -> World {
    World::with_mesh(seed, start, &[chain, chain], FAR).0
}

fn is_direct(world: &World) -> bool {
    let pairs = [(0, 1), (1, 0)];
    pairs.into_iter().all(|(index, peer)| {
        let state = world.nodes[index].pairs.get(&world.key(MESH, peer));
        state.is_some_and(|state| matches!(state.path, Some(Path::Direct(_))))
    })
}

/// Both sides send a packet at every beat; the number of the next one.
fn talk(world: &mut World, mut number: u64, duration: Duration) -> u64 {
    let end = world.now() + duration;
    while world.now() < end {
        world.send_data(MESH, 0, 1, number);
        world.send_data(MESH, 1, 0, number);
        number += 1;
        world.run_for(BEAT);
    }
    number
}

/// A time that differs from seed to seed: timers shall be caught at any point.
fn moment(seed: u64) -> Duration {
    Duration::from_millis(2000 + seed * 617 % 3100)
}

/// A pair that talks over a direct path, and the number of its next packet.
fn direct_pair(seed: u64, start: Instant, chain: &[NatProfile]) -> Option<(World, u64)> {
    let mut world = pair(seed, start, chain);
    world.run_for(Duration::from_secs(5));
    let next = talk(&mut world, 0, moment(seed));
    is_direct(&world).then_some((world, next))
}

fn arrived(world: &World, from: usize, to: usize, number: u64) -> bool {
    let received = world.nodes[to].received.get(&world.key(MESH, from));
    received.is_some_and(|numbers| numbers.contains(&number))
}

/// From now until both sides hear each other again, without a gap for a second; in seconds.
fn until_data(world: &mut World, first: u64) -> Option<f64> {
    let begun = world.now();
    let mut sent_at = Vec::new();
    let mut number = first;
    while world.now() < begun + PATIENCE {
        sent_at.push(world.now());
        number = talk(world, number, BEAT);
        // The last ones may be on their way still; the second before them must be whole.
        let beats_in = |ms: u128| u64::try_from(ms / BEAT.as_millis()).unwrap_or(u64::MAX);
        let (way, whole) = (beats_in(200), beats_in(1000));
        let Some(newest) = number.checked_sub(way).filter(|newest| *newest >= first + whole) else {
            continue;
        };
        let hears = |number: u64| arrived(world, 0, 1, number) && arrived(world, 1, 0, number);
        if !(newest - whole..newest).all(hears) {
            continue;
        }
        let since = (first..newest).rev().find(|number| !hears(*number));
        let Some(last_lost) = since else { return Some(0.0) };
        let index = usize::try_from(last_lost - first + 1).ok()?;
        return Some((*sent_at.get(index)? - begun).as_secs_f64());
    }
    None
}

fn lost_at_promotion(seed: u64, start: Instant) -> Option<f64> {
    let mut world = pair(seed, start, HOME);
    let established = |world: &World| world.all_pairs(MESH, |pair| pair.established);
    if !world.run_until(PATIENCE, established) || is_direct(&world) {
        return None;
    }
    let sent = talk(&mut world, 0, Duration::from_secs(5));
    world.run_for(Duration::from_secs(1));
    let missing = |(from, to): (usize, usize)| {
        (0..sent).filter(|number| !arrived(&world, from, to, *number)).count()
    };
    let lost: usize = [(0, 1), (1, 0)].into_iter().map(missing).sum();
    is_direct(&world).then_some(lost as f64)
}

fn relay_death(seed: u64, start: Instant) -> Option<f64> {
    let mut world = World::new(seed, start);
    let relays: Vec<NodeId> = [FAR, Link { delay: Duration::from_millis(15), ..FAR }]
        .into_iter()
        .map(|link| {
            let host = world.net.add_host(PUBLIC, link);
            world.add_relay_at(host)
        })
        .collect();
    // The coordinator and its own relay are gone: nobody tells the nodes what has happened.
    world.add_node(HARD, FAR);
    world.add_node(HARD, FAR);
    world.run_for(Duration::from_secs(3));
    world.join(MESH);
    world.run_for(Duration::from_secs(5));
    world.servers[0].away = true;
    world.servers[0].relay.down = true;
    let next = talk(&mut world, 0, Duration::from_secs(20) + moment(seed));
    let Some(Path::Relayed { relay, .. }) = world.pair(MESH, 0, 1).path else { return None };
    let used = world.lone_relays.iter().find(|lone| world.net.address(lone.host) == relay.ip())?.id;
    debug_assert!(relays.contains(&used));
    world.switch_relay(used, false);
    until_data(&mut world, next)
}

fn roam(seed: u64, start: Instant) -> Option<f64> {
    let (mut world, next) = direct_pair(seed, start, HOME)?;
    let index = usize::from(seed % 2 == 1);
    let (_, realm) = world.net.add_nat(PUBLIC, NatProfile::HOME, FAR);
    world.apply(Change::Roam(world.nodes[index].host, realm));
    until_data(&mut world, next)
}

fn nat_reboot(seed: u64, start: Instant) -> Option<f64> {
    let (mut world, next) = direct_pair(seed, start, FORGETFUL)?;
    let index = usize::from(seed % 2 == 1);
    let nat = world.net.gateway(world.net.realm_of(world.nodes[index].host))?;
    world.apply(Change::NatReboot(nat));
    until_data(&mut world, next)
}

fn idle_hour(seed: u64, start: Instant) -> Option<f64> {
    let (mut world, _) = direct_pair(seed, start, HOME)?;
    // WireGuard renews the keys of what was sent once more.
    world.run_for(Duration::from_secs(300));
    let before = world.between_nodes();
    world.run_for(Duration::from_secs(3600));
    Some((world.between_nodes() - before) as f64)
}

fn message_after_silence(seed: u64, start: Instant) -> Option<f64> {
    let chain = if seed.is_multiple_of(2) { HOME } else { HARD };
    let mut world = pair(seed, start, chain);
    world.run_for(Duration::from_secs(3600));
    let (from, to) = if seed % 4 < 2 { (0, 1) } else { (1, 0) };
    let sent_at = world.now();
    world.send_data(MESH, from, to, 1);
    let is_there = world.run_until(PATIENCE, |world| arrived(world, from, to, 1));
    is_there.then(|| (world.now() - sent_at).as_secs_f64())
}

/// 2,016 pairs that begin in the same moment.
fn crowd(seed: u64, start: Instant) -> (World, Duration) {
    let mut world = World::new(seed, start);
    for _ in 0..64 {
        world.add_node(HOME, FAR);
    }
    world.run_for(Duration::from_secs(2));
    world.join(MESH);
    let begun = world.now();
    (world, begun)
}

fn crowd_ready(seed: u64, start: Instant) -> Option<f64> {
    let (mut world, begun) = crowd(seed, start);
    let ready = |world: &World| world.all_pairs(MESH, |pair| pair.established);
    world.run_until(PATIENCE, ready).then(|| (world.now() - begun).as_secs_f64())
}

fn crowd_direct(seed: u64, start: Instant) -> Option<f64> {
    let (mut world, begun) = crowd(seed, start);
    let direct =
        |world: &World| world.all_pairs(MESH, |pair| matches!(pair.path, Some(Path::Direct(_))));
    while !direct(&world) {
        if world.now() >= begun + PATIENCE {
            return None;
        }
        world.run_for(Duration::from_millis(100));
    }
    Some((world.now() - begun).as_secs_f64())
}

fn crowd_mappings(seed: u64, start: Instant) -> Option<f64> {
    let (mut world, _) = crowd(seed, start);
    let mut most = 0;
    for _ in 0..160 {
        world.run_for(Duration::from_millis(250));
        let made = world.nodes.iter().map(|node| node.node.snapshot().new_mappings);
        most = made.fold(most, usize::max);
    }
    Some(most as f64)
}
