//! How long a large network takes to build and to take down, until nothing of it is left:
//! `cargo run --release -p netsim --example speed -- 100`
//!
//! Every volunteer is behind a home router of its own.

#![expect(clippy::print_stdout, reason = "a measurement, by hand")]

use std::time::{Duration, Instant};

use anyhow::Context as _;
use netsim::confine::{self, Keep};
use netsim::topology::{Emulation, Topology};
use netsim::wait;
use netsim_sim::topology::{HostSpec, LinkSpec, NatSpec, RouterSpec};
use netsim_sim::{LinkPreset, NatProfile};

fn main() -> anyhow::Result<()> {
    // SAFETY: the process has a single thread.
    unsafe { confine::enter(&confine::default_run_dir(), Keep::OnFailure) }?;
    let count = std::env::args().nth(1).context("how many volunteers?")?.parse()?;
    for (what, uplink) in [
        ("cables", LinkSpec::default()),
        ("uplinks in user space", LinkSpec::Preset(LinkPreset::Adsl)),
    ] {
        let spec = homes(count, &uplink);
        let begun = Instant::now();
        let net = Topology::build_with(&spec, Emulation::UserSpace, 1)?;
        let built = begun.elapsed();
        let namespaces: Vec<u64> =
            net.machines().iter().map(|m| m.netns.inode()).collect::<Result<_, _>>()?;
        let begun = Instant::now();
        drop(net);
        let dropped = begun.elapsed();
        wait::until("the end of all threads", Duration::from_secs(60), || {
            let threads = std::fs::read_dir("/proc/self/task").ok()?;
            (threads.count() <= 2).then_some(())
        })?;
        println!(
            "{} volunteers, {what}: built in {built:.2?}, taken down in {dropped:.2?} (threads gone \
             after {:.2?})",
            namespaces.len(),
            begun.elapsed(),
        );
    }
    Ok(())
}

fn homes(count: u32, uplink: &LinkSpec) -> netsim_sim::Topology {
    let routers = (1..=count).map(|index| RouterSpec {
        name: format!("home-{index}"),
        nat: NatSpec::Axes(NatProfile::HOME),
        uplink: uplink.clone(),
        ..RouterSpec::default()
    });
    let hosts = (1..=count).map(|index| HostSpec {
        name: format!("vol-{index}"),
        behind: Some(format!("home-{index}")),
        ..HostSpec::default()
    });
    netsim_sim::Topology {
        routers: routers.collect(),
        hosts: hosts.collect(),
        ..netsim_sim::Topology::default()
    }
}
