//! Addresses come and go while a node runs: in a network namespace of its own, a plain program
//! therefore (see `device.rs`). Needs iproute2.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod support;

use std::net::SocketAddr;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use overlay_driver::Overlay;
use support::{Coordinator, wait_for};

fn main() {
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    let mut flags = CloneFlags::CLONE_NEWNET;
    if !uid.is_root() {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(flags).expect("enter a network namespace");
    if !uid.is_root() {
        std::fs::write("/proc/self/setgroups", "deny").unwrap();
        std::fs::write("/proc/self/uid_map", format!("0 {uid} 1")).unwrap();
        std::fs::write("/proc/self/gid_map", format!("0 {gid} 1")).unwrap();
    }
    ip("link set lo up");
    ip("link add lan0 type veth peer name lan1");
    ip("link set lan1 up");
    ip("link set lan0 up");
    ip("addr add 192.0.2.1/24 dev lan0");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(changes_are_told_by_the_kernel());
    runtime.block_on(a_control_session_that_cannot_come_along_is_left_behind());
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

async fn hosts(overlay: &Overlay) -> Vec<SocketAddr> {
    let candidates = overlay.view().await.unwrap().node.candidates;
    candidates.into_iter().flat_map(|own| own.candidates).map(|c| c.endpoint).collect()
}

/// The addresses are looked at once a minute without being told: more than `wait_for` waits.
async fn changes_are_told_by_the_kernel() {
    let coordinator = Coordinator::new();
    let overlay = coordinator.node_at(1, "0.0.0.0:0").await;
    let port = overlay.local_addr().port();
    let at = |last: u8| SocketAddr::from(([192, 0, 2, last], port));
    wait_for("the first address", async || hosts(&overlay).await == [at(1)]).await;

    ip("addr add 192.0.2.2/24 dev lan0");
    wait_for("a second address", async || hosts(&overlay).await == [at(1), at(2)]).await;
    ip("link add wg7 type veth peer name wg8");
    ip("link set wg8 up");
    ip("link set wg7 up");
    ip("addr add 198.51.100.1/24 dev wg7");
    ip("addr del 192.0.2.2/24 dev lan0");
    ip("addr del 192.0.2.1/24 dev lan0");
    ip("addr add 192.0.2.3/24 dev lan0");
    wait_for("others", async || hosts(&overlay).await == [at(3)]).await;
    overlay.shutdown().await;
}

/// QUIC itself would wait for 30 s, which is more than `wait_for` does.
async fn a_control_session_that_cannot_come_along_is_left_behind() {
    let coordinator = Coordinator::new();
    let _server = coordinator.serve().await;
    let overlay = coordinator.node_at(2, "0.0.0.0:0").await;
    wait_for("the session", async || overlay.connected()).await;
    assert_eq!(coordinator.sessions(), 1);

    // The move to another network takes the way to the coordinator along.
    ip("link set lo down");
    ip("addr add 192.0.2.4/24 dev lan0");
    wait_for("the session is given up", async || !overlay.connected()).await;
    ip("link set lo up");
    wait_for("a new session", async || overlay.connected()).await;
    assert_eq!(coordinator.sessions(), 2);
    overlay.shutdown().await;
}
