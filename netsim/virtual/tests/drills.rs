//! What the overlay is held to, in virtual time.

use std::time::Instant;

use netsim_virtual::drills::DRILLS;

#[test]
fn every_drill_stays_within_its_bound_for_every_seed() {
    for drill in &DRILLS {
        // Those that measure 2,016 pairs at a time are repeated by `netsim run nat-matrix --runs` only.
        let seeds = if drill.seeds < 5 { 1 } else { drill.seeds };
        let values: Vec<_> = (1..=seeds).map(|seed| drill.measure(seed, Instant::now())).collect();
        let holds = |value: &Option<f64>| value.is_some_and(|value| value <= drill.most);
        let name = drill.name;
        assert!(values.iter().all(holds), "{name}: at most {}, found {values:?}", drill.most);
    }
}
