//! The simulator is held to the laboratory: the same scenario, with the real programs and in virtual time,
//! and the same pairs become direct.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use netsim_report::{Event, PathKind, What};

/// The best path that was ever told of each pair, in the worse of its two directions.
type Paths = BTreeMap<(String, String), PathKind>;

/// Runs a shipped scenario and reads the event log that it leaves.
fn paths(name: &str, backend: &str) -> Paths {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(name);
    let mut command = Command::new(env!("CARGO_BIN_EXE_netsim"));
    command.env("TMPDIR", folder.path()).stdin(Stdio::null());
    command.arg("run").arg(scenario.with_extension("toml"));
    command.args(["--backend", backend, "--out"]).arg(&out);
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{name} in {backend}: {}\n{said}", output.status);

    let mut best: Paths = BTreeMap::new();
    for line in std::fs::read_to_string(out.join("events.jsonl")).unwrap().lines() {
        let event: Event = serde_json::from_str(line).unwrap();
        if let What::Path { from, to, path, .. } = event.what {
            let best = best.entry((from, to)).or_default();
            *best = path.max(*best);
        }
    }
    let one_way = best.iter().filter(|((from, to), _)| from < to);
    let both = one_way.map(|((from, to), path)| {
        let back = best.get(&(to.clone(), from.clone())).copied().unwrap_or_default();
        ((from.clone(), to.clone()), back.min(*path))
    });
    both.collect()
}

/// Runs it both ways; the pairs that became direct, and those that were relayed.
fn agreed(name: &str) -> (usize, usize) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let [real, simulated] = ["lab", "sim"].map(|backend| paths(name, backend));
    assert_eq!(real, simulated, "{name}: the laboratory on the left, the simulator on the right");
    let count = |kind| real.values().filter(|path| **path == kind).count();
    (count(PathKind::Direct), count(PathKind::Relayed))
}

/// Fifteen pairs: the symmetric NAT meets neither the homes nor the one behind a carrier.
#[test]
fn the_main_job_has_the_same_direct_pairs_in_the_simulator_as_in_the_laboratory() {
    assert_eq!(agreed("nqueens-small"), (12, 3));
}

/// Ten pairs: each symmetric NAT misses the home, and the other.
#[test]
fn two_symmetric_nats_have_the_same_direct_pairs_in_the_simulator_as_in_the_laboratory() {
    assert_eq!(agreed("two-symmetric"), (7, 3));
}
