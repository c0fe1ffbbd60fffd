//! The shipped scenario for virtual time only, `sim-10k`, scaled down: everything in it ends well, and the
//! same seed gives the same bytes. In full it is `netsim run sim-10k --backend sim`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Instant;

use netsim_report::Event;
use netsim_scenario::ScenarioFile;
use netsim_virtual::{Outcome, run};

const SIM_10K: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/sim-10k.toml");

/// With a twentieth of the volunteers and a tenth of the jobs.
fn scaled_down() -> (String, Outcome) {
    let settings = ["volunteers.count=500", "job.count=5"].map(|text| text.parse().unwrap());
    let file = ScenarioFile::load(SIM_10K, &settings).unwrap();
    let resolved = file.resolve(None).unwrap();
    assert_eq!(resolved.volunteers.len(), 500);
    let mut log = String::new();
    let outcome = run(&resolved, Instant::now(), &mut |at, what| {
        let event = Event { t: at.as_secs_f64(), what };
        log.push_str(&serde_json::to_string(&event).unwrap());
        log.push('\n');
    });
    (log, outcome.unwrap())
}

#[test]
fn a_crowd_with_churn_and_meshes_ends_well_and_twice_in_the_same_way() {
    let (log, outcome) = scaled_down();
    assert!(outcome.passed, "{:#?}", outcome.failures);
    assert_eq!((outcome.terminated, outcome.failed), (15, 0));
    assert!(log.contains(r#""kind":"churn""#), "nobody left");
    assert!(log == scaled_down().0, "one seed gives two logs");
}
