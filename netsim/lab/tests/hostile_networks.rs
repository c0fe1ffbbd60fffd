//! Networks that let no UDP through, or only the web, or nothing but an HTTP proxy: a job on all of them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/probes.rs"]
mod probing;
#[path = "common/worlds.rs"]
mod worlds;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use netsim::nodes::Nodes;
use netsim::wait;
use netsim::world::{Programs, Volunteer, World};
use netsim_scenario::ScenarioFile;

use probing::{end, probes, submit_probe};
use worlds::{SOON, fresh_dir};

const SCENARIO: &str = r#"
[coordinator]
poll-interval = "300ms"
[[volunteers]]
behind = "home"
[[volunteers]]
behind = "udp-blocked"
[[volunteers]]
behind = "web-only"
[[volunteers]]
behind = "proxy-only"
[[job]]
command = "true"
"#;
const OPEN: usize = 0;
const NO_UDP: usize = 1;
const WEB: usize = 2;
const PROXIED: usize = 3;

fn agent_says(world: &World, volunteer: usize, args: &[&str]) -> String {
    let asked = &world.volunteers[volunteer];
    let state = asked.state_dir().display().to_string();
    let args = [args, &["--state", &state]].concat();
    asked.place.expect("asking", &world.program("agent"), args, SOON).unwrap().stdout
}

/// The first line that is answered to a request without a password.
fn answer(volunteer: &Volunteer, proxy: SocketAddr, target: SocketAddr) -> String {
    let ask = move || {
        let mut stream = TcpStream::connect(proxy)?;
        stream.set_read_timeout(Some(SOON))?;
        write!(stream, "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")?;
        let mut said = String::new();
        stream.read_to_string(&mut said).map(|_| said)
    };
    let said = volunteer.machine.netns.run(ask).unwrap().unwrap();
    said.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn jobs_run_behind_firewalls_that_stop_udp_and_behind_proxies() {
    let _alone = common::alone();
    rustls::crypto::ring::default_provider().install_default().ok();
    let file = ScenarioFile::parse(Path::new("hostile.toml"), SCENARIO.to_owned()).unwrap();
    let resolved = file.resolve(None).unwrap();
    let mut world =
        World::build(&fresh_dir(), Programs::beside_this().unwrap(), &resolved).unwrap();
    world.servers[0].start().unwrap();
    world.enrol().unwrap();
    for volunteer in 0..world.volunteers.len() {
        world.start_agent(volunteer).unwrap();
    }
    world.log_in().unwrap();
    world.wait_until_alive(4, SOON).unwrap_or_else(|e| panic!("{e:#}{}", world.state()));

    let job = submit_probe(&world, "hostile", 4, &[]);
    let networks = probes(&world, "hostile", 4);
    for volunteer in [NO_UDP, WEB, PROXIED] {
        let status = agent_says(&world, volunteer, &["status"]);
        assert!(status.contains("over TLS since UDP does not get through"), "{status}");
        assert_eq!(status.matches("does not get through: relayed over TLS").count(), 3, "{status}");
    }
    assert!(!agent_says(&world, OPEN, &["status"]).contains("over TLS since"));
    // Full-size packets pass, too.
    let pinged = wait::until("an answer over TLS", SOON, || {
        let args = ["ping", "vol-4", "--count", "1", "--size", "1412"];
        let pinged = agent_says(&world, NO_UDP, &args);
        pinged.contains(" ms").then_some(pinged)
    });
    assert!(pinged.unwrap().starts_with("vol-4 relay"));
    let checked = agent_says(&world, PROXIED, &["netcheck"]);
    assert!(checked.contains("UDP: blocked"), "{checked}");

    // `netsim exec proxy` and `netsim shell proxy` find it.
    let nodes = Nodes::of(&world).nodes;
    let found = nodes.iter().find(|node| node.name == "proxy").unwrap();
    assert!(found.dir.join("proxy.log").is_file());

    // The proxy is the only way out, and not everybody's.
    let [api, proxy] = [("coordinator", 443), ("proxy", 3128)]
        .map(|(name, port)| (world.topology().machine(name).unwrap().address, port).into());
    let walled = &world.volunteers[PROXIED];
    let direct = walled.machine.netns.run(move || TcpStream::connect_timeout(&api, SOON)).unwrap();
    assert!(direct.is_err(), "{direct:?}");
    assert!(answer(walled, proxy, api).contains(" 407 "), "{}", answer(walled, proxy, api));

    end(&networks, 0);
    world.scientist().wait_for_end(job, SOON).unwrap();
    world.stop().unwrap();
}
