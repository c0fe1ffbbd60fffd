//! What scenarios resolve to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use netsim_scenario::resolved::{Bounds, Holds, Number, Start, What, When};
use netsim_scenario::{Metric, Preset, Resolved, ScenarioError, ScenarioFile};
use netsim_sim::topology::NatSpec;
use netsim_sim::{Churn, Event, Firewall, LinkPreset, Loss, Reach, verdict_of_nats};
use proptest::prelude::*;

const JOB: &str = "\n[[job]]\ncommand = \"true\"\n";

fn with_seed(text: &str, seed: u64) -> Result<Resolved, ScenarioError> {
    let text = format!("{text}{JOB}");
    ScenarioFile::parse(Path::new("a.toml"), text)?.resolve(Some(seed))
}

fn resolve(text: &str) -> Resolved {
    with_seed(text, 1).expect("the scenario is right")
}

fn presets(resolved: &Resolved) -> Vec<Preset> {
    resolved.volunteers.iter().filter_map(|volunteer| volunteer.preset).collect()
}

fn counts(resolved: &Resolved) -> BTreeMap<Preset, usize> {
    let mut counts = BTreeMap::new();
    for preset in presets(resolved) {
        *counts.entry(preset).or_default() += 1;
    }
    counts
}

proptest! {
    #[test]
    fn a_mix_is_shared_out_exactly(
        count in 1u32..300,
        weights in prop::array::uniform4(1u32..50),
        seed in any::<u64>(),
    ) {
        let names = [Preset::Home, Preset::Symmetric, Preset::None, Preset::Carrier];
        let mix: Vec<String> =
            names.iter().zip(weights).map(|(p, w)| format!("{} = {w}", p.name())).collect();
        let text = format!("[[volunteers]]\ncount = {count}\nmix = {{ {} }}", mix.join(", "));
        let resolved = with_seed(&text, seed).unwrap();

        prop_assert_eq!(presets(&resolved).len(), count as usize);
        let sum: u32 = weights.iter().sum();
        for (preset, weight) in names.iter().zip(weights) {
            let got = counts(&resolved).get(preset).copied().unwrap_or(0) as f64;
            let share = f64::from(count) * f64::from(weight) / f64::from(sum);
            prop_assert!((got - share).abs() < 1.0, "{}: {got} of {share}", preset.name());
        }
        prop_assert_eq!(&resolved, &with_seed(&text, seed).unwrap());
        // Another seed gives the same numbers to others.
        prop_assert_eq!(counts(&resolved), counts(&with_seed(&text, seed ^ 1).unwrap()));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[\\[\\]a-z=\"{}., 0-9\n-]{0,200}") {
        let text = format!("{text}\n[[volunteers]]\nbehind = \"home\"{JOB}");
        if let Err(error) = ScenarioFile::parse(Path::new("a.toml"), text) {
            prop_assert!(error.place.is_some(), "{error}");
        }
    }
}

#[test]
fn another_seed_is_another_order() {
    let text = "[[volunteers]]\ncount = 40\nmix = { home = 1, symmetric = 1 }";
    let orders: Vec<_> = (0..4).map(|seed| presets(&with_seed(text, seed).unwrap())).collect();
    assert!(orders.iter().skip(1).any(|order| *order != orders[0]));
}

#[test]
fn each_machine_has_routers_of_its_own_with_the_names_of_the_laboratory() {
    let resolved = resolve("[[volunteers]]\nbehind = \"carrier\"\nlink = \"adsl\"\ncount = 2");

    let hosts: Vec<&str> = resolved.topology.hosts.iter().map(|h| h.name.as_str()).collect();
    assert_eq!(hosts, ["coordinator", "scientist", "vol-1", "vol-2"]);
    let chain: Vec<&str> = resolved.routers_of("vol-2").iter().map(|r| r.name.as_str()).collect();
    assert_eq!(chain, ["vol-2-r0", "vol-2-r1"]);
    // The line is the home's: between its router and the carrier's.
    let [own, carriers] = resolved.routers_of("vol-2")[..] else { panic!("two routers") };
    assert_eq!(own.uplink.profile(), LinkPreset::Adsl.profile());
    assert_eq!(carriers.uplink.profile(), Default::default());
    resolved.topology.build::<()>(1, Duration::ZERO).unwrap();
    assert!(resolved.oracle().unwrap().between("vol-1", "vol-2").unwrap().reach == Reach::Plain);
}

#[test]
fn a_lan_is_behind_one_router_and_a_carrier_is_in_front_of_many() {
    let resolved = resolve(
        "[[routers]]\nname = \"cgn\"\nnat = \"carrier-grade\"\n\
         [[routers]]\nname = \"campus\"\nbehind = \"cgn\"\nuplink = \"fibre\"\nfirewall = \"udp-blocked\"\n\
         [[volunteers]]\nrouter = \"campus\"\ncount = 2\nlink = \"lan\"\n\
         [[volunteers]]\nbehind = \"home\"\nvia = \"cgn\"\n\
         [[volunteers]]\nnat = { like = \"home\", lifetime = \"30s\", hairpin = true }\n",
    );

    let chain = |host: &str| -> Vec<String> {
        resolved.routers_of(host).iter().map(|router| router.name.clone()).collect()
    };
    assert_eq!(chain("vol-1"), ["campus", "cgn"]);
    assert_eq!(chain("vol-3"), ["vol-3-r0", "cgn"]);
    assert!(resolved.share_a_network("vol-1", "vol-2"));
    assert!(!resolved.share_a_network("vol-1", "vol-3"));
    let lan = resolved.host("vol-1").unwrap();
    assert_eq!(lan.link.profile(), LinkPreset::Lan.profile());
    assert_eq!(resolved.router("campus").unwrap().firewall, Firewall::UdpBlocked);
    let NatSpec::Axes(nat) = resolved.router("vol-4-r0").unwrap().nat else { panic!("axes") };
    assert_eq!((nat.lifetime, nat.hairpin), (Duration::from_secs(30), true));
    assert_eq!(resolved.volunteers[0].behind, "campus");
    assert_eq!(resolved.volunteers[3].behind, "axes");
    resolved.topology.build::<()>(1, Duration::ZERO).unwrap();
}

#[test]
fn links_in_full_have_human_units() {
    let link = "link = { like = \"adsl\", loss = \"1%\", burst = 5, rate = \"8Mbit/s\", \
                up = { rate = \"500kbit/s\", queue = \"32KiB\", delay = \"45ms\" } }";
    let resolved = resolve(&format!("[[volunteers]]\nbehind = \"home\"\n{link}"));

    let profile = resolved.routers_of("vol-1")[0].uplink.profile();
    let adsl = LinkPreset::Adsl.profile();
    assert_eq!(
        (profile.up.delay, profile.down.delay),
        (Duration::from_millis(45), adsl.down.delay)
    );
    let (up, down) = (profile.up.rate.unwrap(), profile.down.rate.unwrap());
    assert_eq!((up.bits_per_s, up.queue_bytes), (500_000, 32 * 1024));
    // 100 ms at 8 Mbit/s.
    assert_eq!((down.bits_per_s, down.queue_bytes), (8_000_000, 100_000));
    assert!((profile.up.loss.mean() - 0.01).abs() < 1e-9);
    let Loss::Bursty(chain) = profile.down.loss else { panic!("bursts") };
    assert!((1.0 / chain.leave - 5.0).abs() < 1e-9);
}

#[test]
fn regions_are_for_what_stands_in_the_public_network() {
    let resolved = resolve(
        "[[regions]]\nname = \"europe\"\n[[regions]]\nname = \"asia\"\n\
         [[ways]]\nbetween = [\"europe\", \"asia\"]\ndelay = \"90ms\"\nrate = \"1Gbit/s\"\n\
         [coordinator]\nregion = \"asia\"\n\
         [[volunteers]]\nbehind = \"carrier\"\nregion = \"asia\"\n",
    );

    assert_eq!(resolved.router("vol-1-r1").unwrap().region.as_deref(), Some("asia"));
    assert_eq!(resolved.router("vol-1-r0").unwrap().region, None);
    assert_eq!(resolved.router("coordinator-r0").unwrap().region.as_deref(), Some("asia"));
    assert_eq!(resolved.topology.ways[0].way.delay, Duration::from_millis(90));
    resolved.topology.build::<()>(1, Duration::ZERO).unwrap();
}

#[test]
fn a_campaign_is_many_jobs_and_an_array_is_one() {
    let resolved = resolve(
        "[[volunteers]]\nbehind = \"home\"\n\
         [[job]]\nname = \"frames\"\ncommand = \"render {i} ${HOME}\"\nfiles = [\"part-{i}\"]\n\
         count = 3\ncollect = [\"*.png\"]\nthen = \"ls\"\n\
         [[job]]\nname = \"rest\"\ncommand = \"true\"\nafter = \"frames\"\narray = 4\n",
    );

    let names: Vec<&str> = resolved.jobs.iter().map(|job| job.name.as_str()).collect();
    assert_eq!(names, ["frames-1", "frames-2", "frames-3", "rest", "job-3"]);
    assert_eq!(resolved.jobs[2].command, "render 3 ${HOME}");
    assert_eq!(resolved.jobs[2].files, [Path::new("part-3")]);
    assert_eq!(resolved.jobs[3].start, Start::After("frames".to_owned()));
    assert_eq!(resolved.jobs[3].array, Some(4));
    assert_eq!(resolved.gatherings.len(), 1);
    assert_eq!(resolved.gatherings[0].then.as_deref(), Some("ls"));
}

#[test]
fn the_timeline_is_of_times_and_of_jobs() {
    let resolved = resolve(
        "[[volunteers]]\nbehind = \"home\"\n\
         [[event]]\nat = \"20s\"\ndo = \"nat-reboot\"\nrouter = \"vol-1-r0\"\n\
         [[event]]\nwhen = { job = \"job-1\", state = \"running\" }\nafter = \"2s\"\n\
         do = \"roam\"\nnode = \"vol-1\"\nto = \"public\"\n\
         [[event]]\nat = \"1m\"\ndo = \"coordinator-kill\"\n",
    );

    let reboot = Event::NatReboot("vol-1-r0".to_owned());
    assert_eq!(resolved.timeline[0].when, When::At(Duration::from_secs(20)));
    assert_eq!(resolved.timeline[0].what, What::Network(reboot.clone()));
    let roam = Event::Roam { host: "vol-1".to_owned(), behind: None };
    assert_eq!(resolved.timeline[1].what, What::Network(roam));
    assert_eq!(resolved.timeline[2].what, What::CoordinatorKill("coordinator".to_owned()));
    // The simulator schedules what has a time and is its own.
    let simulated = resolved.topology_with_events();
    assert_eq!(simulated.events.len(), 1);
    assert_eq!(simulated.events[0].event, reboot);
    assert!(resolved.topology.events.is_empty());
}

#[test]
fn expectations_have_bounds() {
    let resolved = resolve(
        "[[volunteers]]\nbehind = \"home\"\n\
         [[expect]]\nthat = \"jobs-terminated\"\nexactly = 1\n\
         [[expect]]\nthat = \"time-to-mesh\"\npercentile = 95\nat-most = \"1500ms\"\n\
         [[expect]]\nthat = \"relayed-as-predicted\"\n",
    );

    let [jobs, time, relayed] = &resolved.expectations[..] else { panic!("three") };
    let one = Bounds { least: Some(1), most: Some(1) };
    assert_eq!(jobs.that, Holds::Number(Number::JobsTerminated, one));
    assert!(one.hold(&1) && !one.hold(&0) && !one.hold(&2));
    let bounds = Bounds { least: None, most: Some(1.5) };
    let metric = Metric::TimeToMesh;
    assert_eq!(time.that, Holds::Metric { metric, percentile: 95.0, bounds });
    assert_eq!(relayed.that, Holds::RelayedAsPredicted);
}

#[test]
fn a_trace_gives_each_machine_its_times() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("on.csv"),
        "# machine, from, to\n1,0,3600\n2,1800,7200\n1,7200,9000\n",
    )
    .unwrap();
    let load = |count: u32| {
        let text = format!(
            "[[volunteers]]\nbehind = \"home\"\ncount = {count}\n\
             churn = {{ trace = \"on.csv\", speed = 3600 }}{JOB}"
        );
        ScenarioFile::parse(&dir.path().join("a.toml"), text).unwrap().resolve(None)
    };
    let resolved = load(2).unwrap();

    let Some(Churn::Intervals(times)) = &resolved.host("vol-1").unwrap().churn else {
        panic!("intervals")
    };
    assert_eq!(times.len(), 2);
    assert_eq!(times[0].to, Duration::from_secs(1));
    let presences = resolved.presences();
    assert_eq!(presences[1].0, "vol-2");
    assert!(!presences[1].1.starts_on);
    assert_eq!(presences[1].1.changes[0], Duration::from_millis(500));
    let error = load(3).unwrap_err().to_string();
    assert!(error.contains("on.csv has no machine 3"), "{error}");
}

#[test]
fn what_is_resolved_is_written_and_read_again() {
    let resolved = resolve(
        "[[volunteers]]\ncount = 5\nmix = { home = 1, ipv6-only = 1, proxy-only = 1 }\nlink = \"4g\"\n\
         churn = { model = \"weibull\", on = \"20s\", off = \"5s\", shape = 0.6 }\n\
         [[event]]\nat = \"3s\"\ndo = \"suspend\"\nnode = \"vol-2\"\n\
         [[expect]]\nthat = \"rtt\"\nat-most = \"1s\"\n",
    );
    let text = serde_json::to_string_pretty(&resolved).unwrap();
    let read: Resolved = serde_json::from_str(&text).unwrap();
    assert_eq!(read, resolved);
}

/// Both back ends ask [`Resolved::oracle`] and nobody else. It says of NATs by axes, alone and behind a
/// carrier, what the axes say.
#[test]
fn every_nat_by_axes_is_predicted_from_its_axes() {
    let mappings = ["endpoint-independent", "address-dependent", "address-and-port-dependent"];
    let ports = ["preserving", "preserving-or-random", "sequential", "random"];
    let mut kinds = Vec::new();
    for mapping in mappings {
        for filtering in mappings {
            for port in ports {
                kinds.push(format!(
                    "nat = {{ mapping = \"{mapping}\", filtering = \"{filtering}\", port = \"{port}\" }}"
                ));
            }
        }
    }
    let groups: String = kinds.iter().map(|nat| format!("[[volunteers]]\n{nat}\n")).collect();
    let resolved = resolve(&groups);
    let oracle = resolved.oracle().unwrap();
    let nat = |host: &str| resolved.routers_of(host)[0].nat.profile().unwrap();
    let mut seen = BTreeSet::new();
    for a in &resolved.volunteers {
        for b in resolved.volunteers.iter().filter(|b| b.host != a.host) {
            let expected = verdict_of_nats(&[nat(&a.host)], &[nat(&b.host)]).reach;
            let predicted = oracle.predict(&a.host, &b.host).unwrap();
            assert_eq!(predicted, expected.into(), "{} and {}", a.behind, b.behind);
            seen.insert(predicted.name());
        }
    }
    assert_eq!(seen, BTreeSet::from(["direct", "either", "relayed"]));
}
