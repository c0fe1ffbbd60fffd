//! Random lives: what must hold holds after each step, and at the end no node is leaked.

use coordinator_api::agent::Fault;
use coordinator_core::{JobId, NodeNumber, Report};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::world::{CORES, World, failed};

#[derive(Clone, Debug)]
enum Step {
    Enrol,
    Submit {
        nodes: u16,
        /// Whole nodes when there is none.
        cores: Option<u16>,
        types: Vec<&'static str>,
    },
    Delete(Index),
    /// A node does what its orders say.
    Obey(Index),
    /// A node ends its current part.
    End(Index, Report),
    /// A node says something about some job and launch.
    Babble {
        node: Index,
        job: Index,
        generation: u32,
        report: Report,
    },
    OpenMesh(Index),
    /// Time passes; nodes whose bit is set poll.
    Pass {
        seconds: u64,
        polling: u64,
    },
    Heard(Index),
}

fn report() -> impl Strategy<Value = Report> {
    prop_oneof![
        Just(Report::Running),
        prop_oneof![Just(None), Just(Some(0)), Just(Some(256)), Just(Some(9))]
            .prop_map(|exit_code| Report::Terminated { exit_code }),
        prop_oneof![Just(Fault::Job), Just(Fault::Node), Just(Fault::Killed)]
            .prop_map(|fault| failed(fault, "broken")),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let types = proptest::sample::subsequence(vec!["mesh", "spmd", "idempotent"], 0..=3);
    let index = any::<Index>;
    prop_oneof![
        1 => Just(Step::Enrol),
        4 => (1..5_u16, option::of(1..6_u16), types)
            .prop_map(|(nodes, cores, types)| Step::Submit { nodes, cores, types }),
        1 => index().prop_map(Step::Delete),
        10 => index().prop_map(Step::Obey),
        5 => (index(), report()).prop_map(|(node, report)| Step::End(node, report)),
        2 => (index(), index(), 0..4_u32, report()).prop_map(|(node, job, generation, report)| {
            Step::Babble { node, job, generation, report }
        }),
        3 => index().prop_map(Step::OpenMesh),
        4 => (0..80_u64, any::<u64>()).prop_map(|(seconds, polling)| Step::Pass { seconds, polling }),
        2 => index().prop_map(Step::Heard),
    ]
}

fn take(world: &mut World, step: Step) {
    let nodes = world.cluster.nodes().len();
    let node = |index: Index| index.index(nodes) as u64 + 1;
    let job = |world: &World, index: Index| {
        JobId(index.index(world.counters.job.max(1) as usize) as u64 + 1)
    };
    match step {
        Step::Enrol if nodes < 8 => {
            world.enrol();
        }
        Step::Enrol => {}
        Step::Submit { nodes: wanted, cores, types } => {
            let levels = cores.map(|cores| format!("/core={cores}")).unwrap_or_default();
            let taken = world.try_request(&format!("nodes={wanted}{levels}"), &types);
            let exist = if cores.is_some_and(|cores| cores > CORES) { 0 } else { nodes };
            assert_eq!(taken.is_ok(), usize::from(wanted) <= exist);
        }
        Step::Delete(index) => {
            let _ = world.delete(job(world, index));
        }
        Step::Obey(index) => obey(world, node(index)),
        Step::End(index, report) => {
            let node = node(index);
            let current = world.cluster.node(NodeNumber(node)).unwrap().shares.last().cloned();
            if let Some(share) = current {
                world.report(node, share.job, report).unwrap();
            }
        }
        Step::Babble { node: index, job: which, generation, report } => {
            let _ = world.report_of(node(index), job(world, which), generation, report);
        }
        Step::OpenMesh(index) => {
            let id = job(world, index);
            if world.jobs.contains_key(&id) {
                world.open_mesh(id);
            }
        }
        Step::Pass { seconds, polling } => {
            let polling = (1..=nodes as u64).filter(|node| polling >> node & 1 == 1);
            world.pass(seconds, polling);
        }
        Step::Heard(index) => world.heard(node(index)),
    }
}

/// Takes what is to be launched; ends what is to be killed, which makes the order vanish.
fn obey(world: &mut World, node: u64) {
    for (id, generation) in world.to_kill(node) {
        world.report_of(node, id, generation, failed(Fault::Killed, "")).unwrap();
        assert!(!world.to_kill(node).contains(&(id, generation)));
    }
    while let Some((id, generation)) = world.to_launch(node) {
        world.report_of(node, id, generation, Report::Running).unwrap();
        assert_ne!(world.to_launch(node), Some((id, generation)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_history_breaks_the_rules_or_leaks_a_node(
        first in 1..6_usize,
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let mut world = World::new(first);
        for step in steps {
            take(&mut world, step);
        }
        // All nodes come back and obey; the user gives up on everything.
        let nodes = world.cluster.nodes().len() as u64;
        (1..=nodes).for_each(|node| world.heard(node));
        let jobs: Vec<JobId> = world.cluster.jobs().map(|job| job.id).collect();
        for id in jobs {
            let _ = world.delete(id);
        }
        (1..=nodes).for_each(|node| obey(&mut world, node));
        prop_assert_eq!(world.cluster.jobs().len(), 0);
        prop_assert!((1..=nodes).all(|node| world.is_free(node)));
    }
}
