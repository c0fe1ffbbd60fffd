//! Random lives of a small mesh: machines roam, lose their power, stand still; routers start again, paths
//! are cut. Whatever happens, the invariants hold; and when it has been quiet for a while, every pair
//! that can has a path, direct where the oracle says so.
//!
//! A seed that fails is printed with its steps; `SEEDS=42..43 cargo test -p netsim-virtual --test model`
//! runs it alone, and `STEPS=3` only its first steps.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use netsim_sim::{
    Change, Gate, HostState, Link, NatId, NatProfile, PUBLIC, Reach, RealmId, verdict,
};
use netsim_virtual::World;
use overlay_core::{Input, MeshId, Path};
use rand::seq::IndexedRandom as _;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const MESH: MeshId = MeshId { job: 1, generation: 1 };

/// Seeds of an ordinary run in release; a tenth of them otherwise.
const SEEDS: u64 = if cfg!(debug_assertions) { 100 } else { 1_000 };

/// How long it is quiet in the end. Above all back-offs of the overlay's searches and handshakes.
const QUIET: Duration = Duration::from_secs(400);

/// What may happen.
#[derive(Clone, Copy, Debug)]
enum Step {
    Roam(usize, usize),
    NatReboot(usize),
    Suspend(usize),
    Resume(usize),
    Partition(usize, usize),
    Mend,
    LinkDown(usize),
    LinkUp(usize),
    RelayRestarts,
    LosesKeys(usize),
    Loss(usize),
    Talk(usize, usize),
    Wait(u16),
}

/// A home: a router, and the network behind it.
struct Home {
    nat: Option<(NatId, NatProfile)>,
    realm: RealmId,
}

struct Life {
    world: World,
    homes: Vec<Home>,
    /// Which home each node is in.
    at: Vec<usize>,
    cut: Vec<(usize, usize)>,
    removed: Option<usize>,
}

const PROFILES: [NatProfile; 6] = [
    NatProfile::HOME,
    NatProfile::FULL_CONE,
    NatProfile::RESTRICTED,
    NatProfile::SYMMETRIC,
    NatProfile::HOME,
    NatProfile::ADDRESS_SYMMETRIC,
];

impl Life {
    fn new(rng: &mut ChaCha8Rng, seed: u64) -> Self {
        let mut world = World::new(seed, Instant::now());
        let link = Link { delay: Duration::from_millis(rng.random_range(1..80)), loss: 0.0 };
        let mut homes = vec![Home { nat: None, realm: PUBLIC }];
        for _ in 0..4 {
            let profile = *PROFILES.choose(rng).unwrap();
            let (nat, realm) = world.net.add_nat(PUBLIC, profile, link);
            homes.push(Home { nat: Some((nat, profile)), realm });
        }
        let mut at = Vec::new();
        for _ in 0..rng.random_range(2..5) {
            let home = rng.random_range(0..homes.len());
            let host = world.net.add_host(homes[home].realm, link);
            world.add_node_at(host);
            at.push(home);
        }
        world.run_for(Duration::from_secs(2));
        world.join(MESH);
        Self { world, homes, at, cut: Vec::new(), removed: None }
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> Step {
        let node = rng.random_range(0..self.at.len());
        let other = (node + rng.random_range(1..self.at.len())) % self.at.len();
        let home = rng.random_range(0..self.homes.len());
        match rng.random_range(0..16) {
            0 => Step::Roam(node, home),
            1 => Step::NatReboot(home),
            2 => Step::Suspend(node),
            3 | 4 => Step::Resume(node),
            5 => Step::Partition(node, other),
            6 => Step::Mend,
            7 => Step::LinkDown(node),
            8 => Step::LinkUp(node),
            9 => Step::RelayRestarts,
            10 => Step::LosesKeys(node),
            11 => Step::Loss(node),
            12 | 13 => Step::Talk(node, other),
            _ => Step::Wait(rng.random_range(1..20_000)),
        }
    }

    fn host(&self, node: usize) -> netsim_sim::HostId {
        self.world.nodes[node].host
    }

    fn carry_out(&mut self, step: Step) {
        match step {
            Step::Roam(node, home) => {
                if self.at[node] != home {
                    self.mend();
                    self.at[node] = home;
                    self.world.apply(Change::Roam(self.host(node), self.homes[home].realm));
                }
            }
            Step::NatReboot(home) => {
                if let Some((nat, _)) = self.homes[home].nat {
                    self.world.apply(Change::NatReboot(nat));
                }
            }
            Step::Suspend(node) => {
                self.world.apply(Change::Suspend(self.host(node)));
            }
            Step::Resume(node) => {
                self.world.apply(Change::Resume(self.host(node)));
            }
            Step::Partition(a, b) => {
                self.cut.push((a, b));
                let [a, b] = [a, b].map(|node| self.world.net.public_address(self.host(node)));
                self.world.net.block(a, b);
            }
            Step::Mend => self.mend(),
            Step::LinkDown(node) => {
                self.world.apply(Change::LinkDown(self.host(node)));
            }
            Step::LinkUp(node) => {
                self.world.apply(Change::LinkUp(self.host(node)));
            }
            Step::RelayRestarts => self.world.servers[0].relay.restart(),
            Step::LosesKeys(node) => self.world.forget_keys(node),
            Step::Loss(node) => {
                let link = Link { delay: Duration::from_millis(20), loss: 0.05 };
                self.world.net.set_link(self.host(node), link);
            }
            Step::Talk(from, to) => {
                for number in 0..20 {
                    self.world.send_data(MESH, from, to, number);
                    self.world.run_for(Duration::from_millis(50));
                }
            }
            Step::Wait(ms) => self.world.run_for(Duration::from_millis(ms.into())),
        }
        self.world.run_for(Duration::from_millis(10));
    }

    fn mend(&mut self) {
        for (a, b) in std::mem::take(&mut self.cut) {
            let [a, b] = [a, b].map(|node| self.world.net.public_address(self.host(node)));
            self.world.net.unblock(a, b);
        }
    }

    /// What holds after each step. The world itself sees to it that wakeups make progress and that no
    /// timer stays due.
    fn check(&self) -> Result<(), String> {
        if self.world.net.in_flight() > 5_000 {
            return Err(format!("{} packets in flight", self.world.net.in_flight()));
        }
        for (index, node) in self.world.nodes.iter().enumerate() {
            let stats = node.node.stats();
            if stats.stalled_timers > 0 {
                return Err(format!("node {index}: {stats:?}"));
            }
            if self.removed == Some(index) && !node.pairs.is_empty() {
                return Err(format!("node {index} was removed and has pairs"));
            }
            if let Some(removed) = self.removed
                && node.pairs.contains_key(&self.world.key(MESH, removed))
            {
                return Err(format!("node {index} has a pair with {removed}, which was removed"));
            }
        }
        Ok(())
    }

    /// Nothing is in the way any more.
    fn calm_down(&mut self) {
        self.mend();
        for node in 0..self.at.len() {
            let host = self.host(node);
            self.world.apply(Change::Resume(host));
            self.world.apply(Change::LinkUp(host));
            let link = Link { delay: Duration::from_millis(20), loss: 0.0 };
            self.world.net.set_link(host, link);
            assert_eq!(self.world.net.state(host), HostState::Running);
        }
    }

    /// Every pair talks, so that nothing rests, and in the end has the path that it can have.
    fn settle(&mut self) -> Result<(), String> {
        let end = self.world.now() + QUIET;
        let nodes = self.at.len();
        let mut number = 1_000;
        while self.world.now() < end {
            for (from, to) in pairs(nodes) {
                self.world.send_data(MESH, from, to, number);
            }
            number += 1;
            self.world.run_for(Duration::from_secs(1));
        }
        self.world.run_for(Duration::from_secs(2));
        for (from, to) in pairs(nodes) {
            let key = self.world.key(MESH, from);
            let arrived = self.world.nodes[to].received.get(&key);
            if !arrived.is_some_and(|numbers| numbers.contains(&(number - 1))) {
                return Err(format!("{from} does not reach {to}: {:?}", self.state(from, to)));
            }
            let can = self.reach(from, to) == Reach::Plain;
            let is = matches!(self.world.pair(MESH, from, to).path, Some(Path::Direct(_)));
            if can && !is {
                return Err(format!("{from} to {to} is not direct: {:?}", self.state(from, to)));
            }
        }
        Ok(())
    }

    fn state(&self, from: usize, to: usize) -> Option<&overlay_core::PairState> {
        self.world.nodes[from].pairs.get(&self.world.key(MESH, to))
    }

    fn reach(&self, a: usize, b: usize) -> Reach {
        let gates = |node: usize| -> Vec<Gate> {
            let home = self.at[node];
            let nat = self.homes[home].nat.map(|(_, profile)| profile);
            let gate = |nat| Gate {
                router: home,
                nat: Some(nat),
                stateful: None,
                ipv4: true,
                ipv6: false,
                firewall: Default::default(),
            };
            nat.map(gate).into_iter().collect()
        };
        verdict(&gates(a), &gates(b)).reach
    }

    /// A member leaves: nothing is sent to it any more.
    fn remove_one(&mut self) -> Result<(), String> {
        let leaving = self.at.len() - 1;
        let members: Vec<usize> = (0..leaving).collect();
        self.world.send_netmap(MESH, 2, &members);
        self.world.run_for(Duration::from_secs(2));
        self.removed = Some(leaving);
        self.check()?;
        let before: u64 =
            self.world.nodes[leaving].received.values().map(|all| all.len() as u64).sum();
        for from in 0..leaving {
            self.world.send_data(MESH, from, leaving, 9_999);
        }
        self.world.run_for(Duration::from_secs(30));
        let after: u64 =
            self.world.nodes[leaving].received.values().map(|all| all.len() as u64).sum();
        if after != before {
            return Err(format!("{} packets reached a removed member", after - before));
        }
        self.world.input(leaving, Input::LeaveMesh(MESH));
        self.check()
    }
}

fn pairs(nodes: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..nodes).flat_map(move |a| (0..nodes).map(move |b| (a, b))).filter(|(a, b)| a != b)
}

fn live(seed: u64, most_steps: usize) -> Result<(), String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut life = Life::new(&mut rng, seed);
    let mut told = format!("homes {:?}", life.at);
    let steps = rng.random_range(5..25).min(most_steps);
    let mut lived = || -> Result<(), String> {
        for _ in 0..steps {
            let step = life.draw(&mut rng);
            let _ = write!(told, ", {step:?}");
            life.carry_out(step);
            life.check()?;
        }
        life.calm_down();
        life.settle()?;
        life.remove_one()
    };
    lived().map_err(|why| format!("seed {seed}: {why}\n  {told}"))
}

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn whatever_happens_pairs_find_the_paths_that_there_are() {
    let range = std::env::var("SEEDS").ok().and_then(|text| {
        let (from, to) = text.split_once("..")?;
        Some(from.parse().ok()?..to.parse().ok()?)
    });
    let most_steps = setting("STEPS").unwrap_or(usize::MAX);
    let seeds: std::ops::Range<u64> = range.unwrap_or(0..SEEDS);
    let count = seeds.end - seeds.start;
    // The lives are many and independent: every processor takes the next one.
    let next = AtomicU64::new(seeds.start);
    let failed = Mutex::new(BTreeMap::new());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            if let Err(why) = live(seed, most_steps) {
                failed.lock().unwrap().insert(seed, why);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let failed: Vec<String> = failed.into_inner().unwrap().into_values().collect();
    assert!(failed.is_empty(), "{} of {count} lives:\n{}", failed.len(), failed.join("\n"));
}
