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
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use netsim::wait;
use netsim::world::{JobNetwork, Programs, World};
use netsim_scenario::resolved::Coordinator;
use netsim_scenario::{Preset, ScenarioFile};
use nix::sys::signal::Signal;

use probes::{end, probes, submit_probe};
use serde_json::Value;
use shared::Shared;
use worlds::SOON;

static WORLD: Shared = Shared::new();
static WEB_WORLD: Shared = Shared::new();
static QUIC_WORLD: Shared = Shared::new();

/// Two that cannot meet directly.
const VOLUNTEERS: [(Preset, u16); 2] = [(Preset::Symmetric, 1), (Preset::Symmetric, 1)];

/// Two that get nothing out but TCP to the web's ports.
const WEB_ONLY: [(Preset, u16); 2] = [(Preset::WebOnly, 1), (Preset::WebOnly, 1)];

/// Two that nothing is in the way of, yet.
const OPEN: [(Preset, u16); 2] = [(Preset::None, 1), (Preset::None, 1)];

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

/// What the coordinator's death is to a pair whose relay has a way around UDP.
fn goes_on_without_the_coordinator(world: &mut World, relay: &str) {
    let id = submit_probe(world, "talker", 2, &[]);
    let networks = probes(world, "talker", 2);
    let peer = SocketAddr::new(networks[1].ipv4.unwrap().into(), netsim::probe::TOKEN_PORT);
    let answers = ask_for_ever(&networks[0], peer);
    wait::until("the pair's path", SOON, || relay_of(world, id)).unwrap();
    // Until both have a tunnel to the relay, have measured it, and the pair has a channel there.
    for index in [0, 1] {
        wait::until("the relays measured", SOON, || {
            let status = agent_says(world, index, &["status", "--json"]);
            let status: Value = serde_json::from_str(&status).ok()?;
            (status["network"]["relays"].as_array()?.len() == 2).then_some(())
        })
        .unwrap_or_else(|e| panic!("{e}: {}", agent_says(world, index, &["status"])));
    }
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
    eprintln!("relay-failover around UDP: {longest:?} without an answer");
    let told = agent_says(world, 0, &["status"]);
    assert!(told.contains("UDP: no answer"), "what each way met is told: {told}");
    world.servers[0].start().unwrap();
    let back = wait::until("the word of the pair", SOON, || relay_of(world, id)).unwrap();
    assert!(back == world.servers[0].machine.address || world.relay_at(back) == Some(relay));
    end(&networks, 0);
    world.scientist().wait_for_end(id, SOON).unwrap();
}

fn agent_says(world: &World, volunteer: usize, args: &[&str]) -> String {
    let asked = &world.volunteers[volunteer];
    let state = asked.state_dir().display().to_string();
    let args = [args, &["--state", &state]].concat();
    asked.place.expect("asking", &world.program("agent"), args, SOON).unwrap().stdout
}

#[test]
fn two_homes_with_tcp_443_only_go_on_over_a_relay_of_their_own_without_the_coordinator() {
    let _alone = common::alone();
    WEB_WORLD.with(&settings(), &WEB_ONLY, |world| {
        let relay = world.add_relay().unwrap();
        goes_on_without_the_coordinator(world, &relay);
    });
}

/// With the proxies of a scenario.
const PROXIED: &str = r#"
[coordinator]
poll-interval = "300ms"
[[volunteers]]
behind = "proxy-only"
[[volunteers]]
behind = "web-only"
[[job]]
command = "true"
"#;

#[test]
fn a_home_with_a_proxy_only_and_one_with_tcp_443_go_on_over_a_relay_of_their_own_without_the_coordinator()
 {
    let _alone = common::alone();
    rustls::crypto::ring::default_provider().install_default().ok();
    let file = ScenarioFile::parse(Path::new("proxied.toml"), PROXIED.to_owned()).unwrap();
    let resolved = file.resolve(None).unwrap();
    let mut world =
        World::build(&worlds::fresh_dir(), Programs::beside_this().unwrap(), &resolved).unwrap();
    world.servers[0].start().unwrap();
    world.enrol().unwrap();
    world.start_agent(0).unwrap();
    world.start_agent(1).unwrap();
    world.log_in().unwrap();
    world.wait_until_alive(2, SOON).unwrap_or_else(|e| panic!("{e:#}{}", world.state()));
    let relay = world.add_relay().unwrap();
    goes_on_without_the_coordinator(&mut world, &relay);
    // The worlds of other tests may stand beside it: whether anything is left is asked where a world is alone.
    drop(world);
}

/// TCP does not reach the relay, and UDP port 443 only: QUIC's datagrams are the one way to it.
#[test]
fn two_homes_whose_udp_gets_to_port_443_only_go_on_over_quic_datagrams_without_the_coordinator() {
    let _alone = common::alone();
    QUIC_WORLD.with(&settings(), &OPEN, |world| {
        let relay = world.add_relay().unwrap();
        let at = world.relay_address(&relay).unwrap();
        let nft = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"].map(Path::new);
        let nft = nft.into_iter().find(|nft| nft.is_file()).unwrap();
        for index in [0, 1] {
            let rules = format!(
                "table inet narrow {{ chain out {{ type filter hook output priority 0; \
                 ip daddr {at} tcp dport 443 reject; udp dport != 443 drop; }}; }}"
            );
            world.volunteers[index].place.expect("nft", nft, [rules], SOON).unwrap();
            // An agent that starts there finds its ways at once.
            let agent = world.volunteers[index].agent().unwrap();
            agent.signal(Signal::SIGTERM);
            agent.wait_for_end(SOON).unwrap();
            world.start_agent(index).unwrap();
            wait::until("the coordinator, over TLS", SOON, || {
                agent_says(world, index, &["status"]).contains(", over TLS since").then_some(())
            })
            .unwrap();
        }
        world.wait_until_alive(2, SOON).unwrap();
        goes_on_without_the_coordinator(world, &relay);
    });
}
