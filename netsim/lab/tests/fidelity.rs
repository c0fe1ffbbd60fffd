//! The simulator is held to the laboratory: the same scenario, with the real programs and in virtual time,
//! and the same pairs become direct.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use netsim_report::{Event, PathKind, What};

type Pair = (String, String);

/// What a run told of its pairs.
struct Told {
    /// The best path that there ever was, in the worse of its two directions.
    paths: BTreeMap<Pair, PathKind>,
    /// The best path, and whether it takes a calculated port.
    predicted: BTreeMap<Pair, (PathKind, bool)>,
}

/// Runs a scenario and reads the event log that it leaves.
fn told(scenario: &Path, backend: &str) -> Told {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let mut command = Command::new(env!("CARGO_BIN_EXE_netsim"));
    command.env("TMPDIR", folder.path()).stdin(Stdio::null());
    command.arg("run").arg(scenario).args(["--backend", backend, "--out"]).arg(&out);
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let name = scenario.display();
    assert!(output.status.success(), "{name} in {backend}: {}\n{said}", output.status);

    let mut best: BTreeMap<Pair, PathKind> = BTreeMap::new();
    let mut predicted = BTreeMap::new();
    for line in std::fs::read_to_string(out.join("events.jsonl")).unwrap().lines() {
        let event: Event = serde_json::from_str(line).unwrap();
        if let What::Path { from, to, path, .. } = event.what {
            let best = best.entry((from, to)).or_default();
            *best = path.max(*best);
        } else if let What::Predicted { from, to, path, by_guessing } = event.what {
            let pair = if from < to { (from, to) } else { (to, from) };
            predicted.insert(pair, (path, by_guessing));
        }
    }
    let one_way = best.iter().filter(|((from, to), _)| from < to);
    let both = one_way.map(|((from, to), path)| {
        let back = best.get(&(to.clone(), from.clone())).copied().unwrap_or_default();
        ((from.clone(), to.clone()), back.min(*path))
    });
    Told { paths: both.collect(), predicted }
}

fn both_ways(scenario: &Path) -> [Told; 2] {
    ["lab", "sim"].map(|backend| told(scenario, backend))
}

/// Runs it both ways; the pairs that became direct, and those that were relayed.
fn agreed(name: &str) -> (usize, usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let [real, simulated] =
        both_ways(&folder.join(name).with_extension("toml")).map(|told| told.paths);
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

/// A symmetric NAT that keeps the first port and takes the next free one afterwards: its pairs are those of
/// which it is left open what becomes of them.
#[test]
fn both_predict_the_same_of_nats_by_axes() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = folder.path().join("axes.toml");
    let text = r#"
[coordinator]
poll-interval = "300ms"
[[volunteers]]
nat = { mapping = "address-and-port-dependent", port = "preserving" }
[[volunteers]]
nat = { mapping = "address-and-port-dependent", port = "random" }
[[volunteers]]
nat = { like = "home", mapping = "address-dependent", filtering = "address-dependent", port = "sequential" }
[[volunteers]]
nat = { mapping = "endpoint-independent", filtering = "address-dependent", port = "random" }
[[volunteers]]
behind = "home"
[[job]]
nodes = 5
types = ["mesh", "spmd"]
command = "./nqueens 6 --exchange 16KiB"
files = ["nqueens"]
[job.expect]
relayed-as-predicted = true
"#;
    std::fs::write(&scenario, text).unwrap();
    let [real, simulated] = both_ways(&scenario).map(|told| told.predicted);
    assert_eq!(real, simulated, "the laboratory on the left, the simulator on the right");
    let kinds = [(PathKind::Direct, false), (PathKind::Direct, true), (PathKind::Relayed, false)];
    assert!(kinds.iter().all(|kind| real.values().any(|it| it == kind)), "{real:?}");
}
