//! What a volunteer can ask: what the network does, how the pairs stand, and why.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/probes.rs"]
mod probing;
#[path = "common/shared.rs"]
mod shared;
#[path = "common/worlds.rs"]
mod worlds;

use std::time::Duration;

use netsim::wait;
use netsim::world::World;
use netsim_scenario::Preset;
use netsim_scenario::resolved::Coordinator;
use serde_json::{Value, json};

use probing::{end, probes, submit_probe};
use shared::Shared;
use worlds::SOON;

static WORLD: Shared = Shared::new();

static TWO_ADDRESSES: Shared = Shared::new();

const VOLUNTEERS: [Preset; 5] =
    [Preset::None, Preset::Home, Preset::FullCone, Preset::Restricted, Preset::Symmetric];

/// What a reflector at another address tells apart.
const TOLD_APART: [(Preset, &str, &str); 5] = [
    (Preset::FullCone, "endpoint-independent", "open"),
    (Preset::Restricted, "endpoint-independent", "by-address"),
    (Preset::Home, "endpoint-independent", "by-address-and-port"),
    (Preset::AddressSymmetric, "endpoint-dependent", "by-address"),
    (Preset::SymmetricSequential, "endpoint-dependent", "by-address-and-port"),
];

fn with_world(test: impl FnOnce(&mut World)) {
    let poll_interval = Duration::from_millis(300);
    let settings = Coordinator { poll_interval, ..Coordinator::default() };
    WORLD.with(&settings, &VOLUNTEERS.map(|behind| (behind, 1)), test);
}

/// What `agent` says on a volunteer's machine.
fn ask(world: &World, volunteer: usize, args: &[&str]) -> String {
    let asked = &world.volunteers[volunteer];
    let state = asked.state_dir().display().to_string();
    let args = [args, &["--state", &state]].concat();
    asked.place.expect("asking", &world.program("agent"), args, SOON).unwrap().stdout
}

fn ask_json(world: &World, volunteer: usize, args: &[&str]) -> Value {
    serde_json::from_str(&ask(world, volunteer, &[args, &["--json"]].concat())).unwrap()
}

/// Mapping, filtering, whether ports are kept.
fn profile(behind: Preset) -> [Value; 2] {
    match behind {
        Preset::None => [json!("none"), json!("by-address")],
        Preset::FullCone | Preset::Restricted => {
            [json!("endpoint-independent"), json!("by-address")]
        }
        Preset::Home | Preset::Carrier => {
            [json!("endpoint-independent"), json!("by-address-and-port")]
        }
        Preset::Symmetric => [json!("endpoint-dependent"), json!("by-address-and-port")],
        Preset::SymmetricSequential
        | Preset::AddressSymmetric
        | Preset::CarrierGrade
        | Preset::ShortLived
        | Preset::UdpBlocked
        | Preset::WebOnly
        | Preset::ProxyOnly
        | Preset::Ipv6Only => panic!("no volunteer here is behind {}", behind.name()),
    }
}

#[test]
fn netcheck_tells_the_routers_apart_with_and_without_a_running_agent() {
    let _alone = common::alone();
    with_world(|world| {
        for (index, behind) in VOLUNTEERS.into_iter().enumerate() {
            let found = ask_json(world, index, &["netcheck"]);
            assert_eq!(
                [&found["mapping"], &found["filtering"]],
                profile(behind).each_ref(),
                "{found}"
            );
            assert_eq!((&found["udp"], &found["api"]), (&json!(true), &json!(true)), "{found}");
        }
        let symmetric = VOLUNTEERS.len() - 1;
        let agent = world.volunteers[symmetric].agent().unwrap();
        agent.signal(nix::sys::signal::Signal::SIGTERM);
        agent.wait_for_end(SOON).unwrap();
        let text = ask(world, symmetric, &["netcheck"]);
        let expected = ["a new outer port for every destination", "HTTPS: the coordinator answers"];
        for expected in expected {
            assert!(text.contains(expected), "{text}");
        }
        world.start_agent(symmetric).unwrap();
        world.wait_until_alive(VOLUNTEERS.len(), SOON).unwrap();
    });
}

/// A relay of its own is the second address; the two that say what is to be done know it.
#[test]
fn a_reflector_at_another_address_tells_cones_and_sequential_ports() {
    let _alone = common::alone();
    let poll_interval = Duration::from_millis(300);
    let settings = Coordinator { poll_interval, ..Coordinator::default() };
    let volunteers = TOLD_APART.map(|(behind, ..)| (behind, 1));
    TWO_ADDRESSES.with(&settings, &volunteers, |world| {
        let cone = ask_json(world, 0, &["netcheck"]);
        assert_eq!(
            (&cone["filtering"], &cone["second_address"]),
            (&json!("by-address"), &json!(false))
        );
        world.add_relay().unwrap();
        for (index, (behind, mapping, filtering)) in TOLD_APART.into_iter().enumerate() {
            let expected = [json!(mapping), json!(filtering), json!(true)];
            // Until the agent has heard of the relay, and asked it.
            let found = wait::until("what the router does", SOON, || {
                let found = ask_json(world, index, &["netcheck"]);
                let told = ["mapping", "filtering", "second_address"].map(|key| found[key].clone());
                (told == expected).then_some(found)
            });
            let found = found.unwrap_or_else(|error| {
                panic!("{}: {error}: {}", behind.name(), ask_json(world, index, &["netcheck"]))
            });
            if behind == Preset::SymmetricSequential {
                assert!(found["ports"]["sequential"].is_i64(), "{found}");
                let text = ask(world, index, &["netcheck"]);
                assert!(text.contains(": can be predicted"), "{text}");
            }
        }
        let text = ask(world, 0, &["netcheck"]);
        assert!(text.contains("endpoint-independent, a full cone"), "{text}");
    });
}

#[test]
fn ping_and_explain_say_how_far_a_node_is_and_why() {
    let _alone = common::alone();
    with_world(|world| {
        let job = submit_probe(world, "ask", 5, &[]);
        let networks = probes(world, "ask", 5);
        // Between a public machine and a full cone there is nothing in the way.
        wait::until("the direct path", SOON, || {
            ask(world, 0, &["explain", "vol-3"]).contains("direct, UDP to").then_some(())
        })
        .unwrap();
        let pinged = ask_json(world, 0, &["ping", "vol-3", "--count", "1"]);
        let relayed: Vec<_> =
            pinged["pings"].as_array().unwrap().iter().map(|p| &p["pong"]["relayed"]).collect();
        assert_eq!(relayed, [&json!(false), &json!(true)], "{pinged}");

        // A home router knows nothing of a port that the other side's router has not chosen yet.
        let sentence = ask(world, 1, &["explain", "vol-5"]);
        assert!(sentence.contains("relayed by"), "{sentence}");
        assert!(sentence.contains("the peer's NAT gives a new random port"), "{sentence}");
        let pinged = ask(world, 1, &["ping", "vol-5", "--count", "1", "--size", "1412"]);
        assert!(pinged.starts_with("vol-5 relay"), "{pinged}");

        let status = ask(world, 1, &["status"]);
        assert!(status.contains(&format!("network of job {job}")), "{status}");
        assert_eq!(status.matches("sent ").count(), 4, "{status}");
        end(&networks, 0);
        world.scientist().wait_for_end(job, SOON).unwrap();
    });
}
