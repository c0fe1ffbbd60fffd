//! What a node's owner lets its jobs do, as its peers are told.

use std::time::Duration;

use netsim_sim::NatProfile;
use netsim_virtual::{LINK, World};
use overlay_core::netmap::Activity;
use overlay_core::{Input, MeshId, Path};

use crate::with_mesh;

const SOON: Duration = Duration::from_secs(1);

fn explained(world: &World, mesh: MeshId, from: usize, to: usize) -> String {
    world.pair(mesh, from, to).explain.clone()
}

#[test]
fn peers_are_told_of_a_pause_and_of_its_end_and_keep_their_paths() {
    let (mut world, mesh) = with_mesh(1, &[&[NatProfile::HOME], &[]], LINK);
    let is_direct =
        |world: &World| world.all_pairs(mesh, |pair| matches!(pair.path, Some(Path::Direct(_))));
    assert!(world.run_until(Duration::from_secs(10), is_direct));
    world.run_for(Duration::from_secs(10));
    assert_eq!(explained(&world, mesh, 1, 0), "");
    let before = *world.nodes[1].node.stats();

    world.input(0, Input::Activity(Activity::Paused));
    let is_told =
        |world: &World| explained(world, mesh, 1, 0).contains("owner has paused its jobs");
    assert!(world.run_until(SOON, is_told));
    assert_eq!(explained(&world, mesh, 0, 1), "", "it is the other that stands still");
    world.input(0, Input::Activity(Activity::Throttled));
    assert!(world.run_until(SOON, |world| explained(world, mesh, 1, 0).contains("trickle")));
    world.input(0, Input::Activity(Activity::Working));
    assert!(world.run_until(SOON, |world| explained(world, mesh, 1, 0).is_empty()));

    assert!(is_direct(&world));
    let after = *world.nodes[1].node.stats();
    assert_eq!((after.promotions, after.demotions), (before.promotions, before.demotions));
}

#[test]
fn whoever_joins_later_is_told_too() {
    let mut world = crate::world(2);
    world.add_node(&[NatProfile::SYMMETRIC], LINK);
    world.add_node(&[NatProfile::SYMMETRIC], LINK);
    world.run_for(Duration::from_secs(2));
    world.input(0, Input::Activity(Activity::Paused));
    world.run_for(SOON);
    let mesh = MeshId { job: 1, generation: 1 };
    world.join(mesh);
    assert!(
        world.run_until(Duration::from_secs(5), |world| world.all_pairs(mesh, |p| p.established))
    );
    let told = explained(&world, mesh, 1, 0);
    assert!(told.starts_with("the peer's owner has paused its jobs; both NATs"), "{told}");
}

#[test]
fn words_of_later_versions_mean_work() {
    let read = |text: &str| serde_json::from_str::<Activity>(text).unwrap();
    assert_eq!(read(r#""paused""#), Activity::Paused);
    assert_eq!(read(r#""throttled""#), Activity::Throttled);
    assert_eq!(read(r#""on-the-moon""#), Activity::Working);
}
