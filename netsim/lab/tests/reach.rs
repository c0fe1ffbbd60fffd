//! `netsim run --runs N`: what several runs say of their pairs together.

use std::process::Command;

#[test]
fn several_runs_are_told_of_together_each_with_the_next_seed() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("runs");
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/two-symmetric.toml");
    let ran = Command::new(env!("CARGO_BIN_EXE_netsim"))
        .args(["run", scenario, "--backend", "sim", "--seed", "5", "--runs", "3", "--out"])
        .arg(&out)
        .output()
        .unwrap();
    let (told, log) =
        (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr).into_owned());
    assert!(ran.status.success(), "{told}\n{log}");
    assert!(log.contains("[3/3] seed 7: passed"), "{log}");
    // Five machines, 20 ordered pairs.
    assert!(told.contains("60 ordered pairs") && told.contains("3 of 3"), "{told}");
    assert!(told.contains("symmetric × symmetric") && told.contains("oracle: relayed"), "{told}");
    assert!(out.join("run-2/events.jsonl").exists() && !told.contains("MISSED"), "{told}");

    let refused = Command::new(env!("CARGO_BIN_EXE_netsim"))
        .args(["run", scenario, "--runs", "2", "--hold"])
        .output()
        .unwrap();
    assert!(!refused.status.success());
}
