//! Relays that run alone, and what a job notices when they die.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/probes.rs"]
mod probes;
#[path = "common/shared.rs"]
mod shared;
#[path = "common/worlds.rs"]
mod worlds;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use netsim::wait;
use netsim::world::{JobNetwork, World};
use netsim_scenario::Preset;
use netsim_scenario::resolved::Coordinator;

use probes::{end, probes, submit_probe};
use shared::Shared;
use worlds::SOON;

static WORLD: Shared = Shared::new();
static WEB_WORLD: Shared = Shared::new();

/// Two that cannot meet directly.
const VOLUNTEERS: [(Preset, u16); 2] = [(Preset::Symmetric, 1), (Preset::Symmetric, 1)];

/// Two that get nothing out but TCP to the web's ports.
const WEB_ONLY: [(Preset, u16); 2] = [(Preset::WebOnly, 1), (Preset::WebOnly, 1)];

/// Between questions.
const BEAT: Duration = Duration::from_millis(50);

fn settings() -> Coordinator {
    Coordinator {
        poll_interval: Duration::from_millis(300),
        launch_deadline: Duration::from_secs(20),
        node_timeout: Duration::from_secs(60),
        ..Coordinator::default()
    }
}

/// Asks the peer's probe every [`BEAT`] from inside the job, and tells when each answer came.
fn ask_for_ever(network: &JobNetwork, peer: SocketAddr) -> mpsc::Receiver<Instant> {
    let (answers, told) = mpsc::channel();
    let asking = network.netns.spawn("asking", move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(BEAT)).unwrap();
        let mut bytes = [0; 64];
        loop {
            socket.send_to(b"?", peer).unwrap();
            let asked = Instant::now();
            let answer = socket.recv_from(&mut bytes);
            if answer.is_ok() && answers.send(Instant::now()).is_err() {
                return;
            }
            std::thread::sleep(BEAT.saturating_sub(asked.elapsed()));
        }
    });
    asking.unwrap();
    told
}

/// The relay that carries the job's one pair, as the job's first node reports it.
fn relay_of(world: &World, job: u64) -> Option<IpAddr> {
    let mesh = world.scientist().mesh(job).ok()?;
    let pair = mesh.pairs.iter().find(|pair| pair.from == 0 && pair.path == "relayed")?;
    Some(pair.via.as_ref()?.parse::<SocketAddr>().ok()?.ip())
}

#[test]
fn a_relayed_job_goes_on_over_another_relay_when_the_one_in_use_is_killed() {
    let _alone = common::alone();
    WORLD.with(&settings(), &VOLUNTEERS, |world| {
        for _ in 0..2 {
            world.add_relay().unwrap();
        }
        let id = submit_probe(world, "talker", 2, &[]);
        let networks = probes(world, "talker", 2);
        let peer = SocketAddr::new(networks[1].ipv4.unwrap().into(), netsim::probe::TOKEN_PORT);
        let answers = ask_for_ever(&networks[0], peer);
        // Until the relays are measured, and the pair has channels at those that are home.
        let settled = Instant::now() + Duration::from_secs(5);
        while Instant::now() < settled {
            answers.recv_timeout(SOON).unwrap();
        }
        let in_use = wait::until("a relay in use", SOON, || relay_of(world, id)).unwrap();
        let killed_at = Instant::now();
        match world.relay_at(in_use).map(str::to_owned) {
            Some(name) => world.kill_relay(&name).unwrap(),
            None => world.servers[0].kill(),
        }
        // The answers that were on their way have come by then, or never will.
        let (mut last, mut longest) = (killed_at, Duration::ZERO);
        while last < killed_at + Duration::from_secs(15) {
            let answer = answers.recv_timeout(SOON).expect("the pair never goes on");
            longest = longest.max(answer.saturating_duration_since(last));
            last = answer;
        }
        eprintln!("relay-failover: {longest:?} without an answer");
        if !world.servers[0].is_started() {
            world.servers[0].start().unwrap();
        }
        let other = wait::until("another relay in use", SOON, || {
            relay_of(world, id).filter(|relay| *relay != in_use)
        });
        other.unwrap();
        end(&networks, 0);
    });
}

#[test]
fn two_homes_with_tcp_443_only_go_on_over_a_relay_of_their_own_without_the_coordinator() {
    let _alone = common::alone();
    WEB_WORLD.with(&settings(), &WEB_ONLY, |world| {
        let relay = world.add_relay().unwrap();
        let id = submit_probe(world, "talker", 2, &[]);
        let networks = probes(world, "talker", 2);
        let peer = SocketAddr::new(networks[1].ipv4.unwrap().into(), netsim::probe::TOKEN_PORT);
        let answers = ask_for_ever(&networks[0], peer);
        wait::until("the pair's path", SOON, || relay_of(world, id)).unwrap();
        // Until both have a tunnel to the relay, and the pair a channel there.
        let settled = Instant::now() + Duration::from_secs(5);
        while Instant::now() < settled {
            answers.recv_timeout(SOON).unwrap();
        }
        world.servers[0].kill();
        let killed_at = Instant::now();
        let (mut last, mut longest) = (killed_at, Duration::ZERO);
        while last < killed_at + Duration::from_secs(15) {
            let answer = answers.recv_timeout(SOON).expect("the pair does not go on");
            longest = longest.max(answer.saturating_duration_since(last));
            last = answer;
        }
        eprintln!("relay-failover over TLS: {longest:?} without an answer");
        world.servers[0].start().unwrap();
        let back = wait::until("the word of the pair", SOON, || relay_of(world, id)).unwrap();
        assert!(
            back == world.servers[0].machine.address
                || world.relay_at(back) == Some(relay.as_str())
        );
        end(&networks, 0);
    });
}
