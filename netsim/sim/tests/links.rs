//! Every link of the simulator behaves as its profile says.

use netsim_sim::conformance::link::{Aspect, SimulatedLink, examine_link};

#[test]
fn every_aspect_is_seen_as_it_is() {
    for seed in 0..20 {
        let Ok(report) = examine_link(&mut SimulatedLink { seed });
        assert_eq!(report.asked, Aspect::ALL);
        assert_eq!(report.differences, [], "seed {seed}");
    }
}
