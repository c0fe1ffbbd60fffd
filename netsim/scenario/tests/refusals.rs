//! What is refused, and how it is said.

use std::path::Path;
use std::time::Duration;

use netsim_scenario::{Preset, Resolved, ScenarioError, ScenarioFile};

const SMALLEST: &str = "[[volunteers]]\nbehind = \"home\"\n\n[[job]]\ncommand = \"true\"\n";

fn resolve(text: &str) -> Result<Resolved, ScenarioError> {
    ScenarioFile::parse(Path::new("dir/a.toml"), text.to_owned())?.resolve(None)
}

fn error(text: &str) -> String {
    resolve(text).expect_err("it is refused").to_string()
}

#[test]
fn the_smallest_scenario_has_the_documented_defaults() {
    let scenario = resolve(SMALLEST).unwrap();

    assert_eq!(scenario.seed, 1);
    assert_eq!(scenario.scientists[0].behind, Preset::Home);
    assert_eq!(scenario.coordinator.poll_interval, Duration::from_secs(1));
    assert_eq!(scenario.volunteers.len(), 1);
    assert_eq!(scenario.volunteers[0].preset, Some(Preset::Home));
    assert_eq!(scenario.jobs[0].expect.exit, 0);
}

#[test]
fn every_scenario_in_the_tree_is_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> =
        files.filter(|file| file.extension().is_some_and(|e| e == "toml")).collect();
    assert!(!files.is_empty());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let file = ScenarioFile::parse(&file, text).unwrap_or_else(|error| panic!("{error}"));
        file.resolve(None).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_column() {
    let message = error(&format!("{SMALLEST}  colour = \"red\"\n"));

    assert!(message.starts_with("dir/a.toml:6:3: unknown field `colour`"), "{message}");
    assert!(message.ends_with("colour = \"red\""), "{message}");
}

#[test]
fn an_unknown_preset_is_named_with_those_that_exist() {
    let message = error("[[volunteers]]\nbehind = \"hom\"\n");

    assert!(message.starts_with("dir/a.toml:2:10: unknown variant `hom`"), "{message}");
    assert!(message.contains("full-cone"), "{message}");
}

#[test]
fn a_job_for_more_nodes_than_there_are_is_refused() {
    let message = error(&format!("{SMALLEST}nodes = 2\n"));

    assert!(message.starts_with("dir/a.toml:6:9: `nodes` is 2"), "{message}");
}

#[test]
fn a_duration_without_a_unit_is_refused() {
    let message = error(&format!("{SMALLEST}walltime = \"5\"\n"));

    assert!(message.starts_with("dir/a.toml:6:12: `5` is not a duration"), "{message}");
}

#[test]
fn a_syntax_error_names_its_line() {
    let message = error("seed = 1\nseed = \n");

    assert!(message.starts_with("dir/a.toml:2:"), "{message}");
}

#[test]
fn a_board_without_a_published_count_is_refused() {
    let message = error(&format!("{SMALLEST}[job.expect]\nqueens = 28\n"));

    assert!(message.starts_with("dir/a.toml:7:10: 28 is not from 1 to 27"), "{message}");
}

#[test]
fn expectations_on_pairs_need_a_mesh() {
    let message = error(&format!("{SMALLEST}[job.expect]\npair-bytes = \"1MiB\"\n"));

    assert!(message.contains("`pair-bytes` needs the job type `mesh`"), "{message}");
}

#[test]
fn a_name_that_is_no_scenario_points_to_the_list() {
    let message = ScenarioFile::load("no-such-scenario", &[]).unwrap_err().to_string();

    assert!(message.contains("netsim list"), "{message}");
}
