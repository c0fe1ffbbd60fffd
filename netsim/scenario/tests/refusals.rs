//! What is refused, and how it is said.

use std::path::Path;
use std::time::Duration;

use netsim_scenario::{Folder, Preset, Resolved, ScenarioError, ScenarioFile, Setting};

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
    assert_eq!(scenario.coordinators[0].poll_interval, Duration::from_secs(1));
    assert_eq!(scenario.volunteers.len(), 1);
    assert_eq!(scenario.volunteers[0].preset, Some(Preset::Home));
    assert_eq!(scenario.jobs[0].expect.exit, 0);
}

/// The scheduler would let it wait for ever.
#[test]
fn a_mesh_of_more_nodes_than_the_coordinator_gives_is_refused() {
    let crowd = |nodes: u32| {
        format!(
            "[[volunteers]]\nbehind = \"home\"\ncount = 1025\n\n\
             [[job]]\ncommand = \"true\"\ntypes = [\"mesh\"]\nnodes = {nodes}\n"
        )
    };
    assert_eq!(resolve(&crowd(1024)).unwrap().jobs[0].nodes, 1024);

    let message = error(&crowd(1025));

    assert!(message.starts_with("dir/a.toml:8:9: `nodes` is 1025"), "{message}");
    assert!(message.contains("1024 at most"), "{message}");
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

/// A scenario that is wrong in one place, where that is, and a part of what is said.
const WRONG: [(&str, &str, &str); 36] = [
    ("[[volunteer]]\nbehind = \"home\"", "1:3", "did you mean `volunteers`?"),
    ("[[volunteers]]\nbehnd = \"home\"", "2:1", "did you mean `behind`?"),
    ("[[volunteers]]\nbehind = \"hom\"", "2:10", "did you mean `home`?"),
    ("[[volunteers]]\ncount = 2", "1:1", "what are they behind?"),
    ("[[volunteers]]\nbehind = \"home\"\nmix = { home = 1 }", "2:10", "one of them only"),
    ("[[volunteers]]\nbehind = \"home\"\ncount = 0", "3:9", "0 is not from 1 to 100000"),
    ("[[volunteers]]\nbehind = \"home\"\nlink = \"adls\"", "3:8", "did you mean `adsl`?"),
    (
        "[[volunteers]]\nbehind = \"home\"\nlink = { rat = \"1bit/s\" }",
        "3:10",
        "did you mean `rate`?",
    ),
    ("[[volunteers]]\nbehind = \"home\"\nlink = { rate = \"fast\" }", "3:17", "is not a rate"),
    (
        "[[volunteers]]\nbehind = \"home\"\nlink = { queue = \"1KiB\" }",
        "3:8",
        "`queue` needs `rate`",
    ),
    ("[[volunteers]]\nbehind = \"home\"\nregion = \"mars\"", "3:10", "no region `mars`"),
    ("[[volunteers]]\nbehind = \"home\"\nvia = \"cgn\"", "3:7", "no router `cgn`"),
    ("[[volunteers]]\nrouter = \"lab\"", "2:10", "no router `lab`"),
    ("[[volunteers]]\nmix = { home = 1, hme = 2 }", "2:19", "did you mean `home`?"),
    ("[[volunteers]]\nnat = { lifetime = \"1500ms\" }", "2:20", "whole seconds"),
    ("[[volunteers]]\nbehind = \"home\"\nchurn = { on = \"5s\" }", "3:9", "`on` and `off`"),
    (
        "[[volunteers]]\nbehind = \"home\"\nchurn = { on = \"5s\", off = \"1s\", shape = 0.5 }",
        "3:42",
        "no shape",
    ),
    ("[[volunteers]]\nbehind = \"home\"\nchurn = { trace = \"no.csv\" }", "3:19", "cannot read"),
    ("[[routers]]\nname = \"vol-1\"", "2:8", "like a machine's name"),
    ("[[routers]]\nname = \"Lab\"", "2:8", "is no name"),
    ("[[routers]]\nname = \"a\"\n[[routers]]\nname = \"a\"", "4:8", "two routers `a`"),
    ("[[routers]]\nname = \"a\"\nbehind = \"b\"", "3:10", "no router `b`"),
    ("[[ways]]\nbetween = [\"x\", \"y\"]", "2:12", "there are no regions"),
    ("[[event]]\ndo = \"kill\"\nnode = \"vol-1\"", "1:1", "when? Write at ="),
    ("[[event]]\nat = \"1s\"\ndo = \"kill\"\nnode = \"vol-2\"", "4:8", "did you mean `vol-1`?"),
    ("[[event]]\nat = \"1s\"\ndo = \"kill\"", "3:6", "which machine?"),
    (
        "[[event]]\nat = \"1s\"\ndo = \"kill\"\nnode = \"vol-1\"\nto = \"public\"",
        "5:6",
        "has no `to`",
    ),
    ("[[event]]\nat = \"1h\"\ndo = \"coordinator-stop\"", "2:6", "after the end"),
    ("[[expect]]\nthat = \"rtt\"\nat-most = 5", "3:11", "is a time"),
    ("[[expect]]\nthat = \"jobs-terminated\"", "1:1", "this always holds"),
    (
        "[[event]]\nwhen = { job = \"job-1\", state = \"ended\" }\nafter = \"2h\"\n\
         do = \"coordinator-kill\"",
        "3:9",
        "after the end",
    ),
    ("[scientist]\nname = \"a b\"", "2:8", "is no user's name"),
    ("[scientist]\nbehind = \"proxy-only\"", "2:10", "without a proxy"),
    ("[[volunteers]]\nbehind = \"none\"\ncount = 100000", "1:1", "in the public network"),
    ("[[relays]]\ncount = 16", "1:1", "at most 15 are possible"),
    ("[[relays]]\nregion = \"mars\"", "2:10", "there is no region `mars`"),
];

/// What is wrong with a job, and a part of what is said.
const WRONG_JOBS: [(&str, &str); 7] = [
    ("name = \"a/b\"\ncommand = \"true\"", "cannot use \"a/b\" as a name"),
    ("command = \"true \\u0000\"", "holds a NUL"),
    ("command = \"true\"\ntypes = [\"mush\"]", "unknown job type: mush"),
    ("command = \"true\"\nfiles = [\"./no-such.pov\"]", "no file `./no-such.pov`"),
    ("command = \"true\"\nfiles = [\"a\\u0000\"]", "there is no file"),
    ("command = \"true\"\ncollect = [\"a\"]\nthen = \"\\u0000\"", "cannot hold a NUL"),
    ("command = \"true\"\ncount = 2\ncollect = [\"r{i}.txt\"]", "write `*` for `{i}`"),
];

#[test]
fn jobs_that_the_coordinator_or_the_laboratory_would_refuse_are_wrong() {
    for (job, said) in WRONG_JOBS {
        let message = error(&format!("[[volunteers]]\nbehind = \"home\"\n[[job]]\n{job}\n"));
        assert!(message.contains(said), "{job}\n{message}");
    }
}

/// The most that there can be, and both say so: whoever resolves it and whoever builds it.
#[test]
fn a_hundred_thousand_homes_are_right_and_can_be_built() {
    let text = SMALLEST.replace("\"home\"", "\"home\"\ncount = 100000");
    let resolved = resolve(&text).unwrap();
    let built = resolved.topology.build::<()>(1, Duration::ZERO).unwrap();
    assert_eq!(built.hosts.len(), 100_002);
}

#[test]
fn events_that_nobody_can_feel_are_warned_of() {
    let late = "[[event]]\nat = \"50m\"\ndo = \"coordinator-kill\"\n";
    let text = format!("{SMALLEST}walltime = \"1m\"\n{late}");
    let text = format!("duration = \"1h\"\n{text}");
    let warnings = resolve(&text).unwrap().warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("event 1"), "{warnings:?}");
    let in_time = text.replace("50m", "59s");
    assert_eq!(resolve(&in_time).unwrap().warnings(), [""; 0]);
}

#[test]
fn shipped_scenarios_are_known_by_name_everywhere() {
    for name in netsim_scenario::names() {
        let file = ScenarioFile::load(name, &[]).unwrap();
        assert_eq!(file.folder, Folder::Shipped, "{name}");
        file.resolve(None).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn whatever_is_wrong_is_named_with_its_place_and_its_line() {
    for (text, place, said) in WRONG {
        // After the text under test, so that its lines are the first.
        let volunteers =
            if text.contains("volunteer") { "" } else { "\n[[volunteers]]\nbehind = \"home\"" };
        let text = format!("{text}{volunteers}\n[[job]]\ncommand = \"true\"\n");
        let message = error(&text);

        assert!(message.starts_with(&format!("dir/a.toml:{place}: ")), "{text}\n{message}");
        assert!(message.contains(said), "{text}\n{message}");
        let line: usize = place.split_once(':').unwrap().0.parse().unwrap();
        let line = text.lines().nth(line - 1).unwrap();
        assert!(message.ends_with(&format!("\n    {line}")), "{text}\n{message}");
    }
}

#[test]
fn values_are_set_from_outside() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.toml");
    std::fs::write(&file, format!("{SMALLEST}[[volunteers]]\nbehind = \"none\"\n")).unwrap();
    let load = |settings: &[&str]| {
        let settings: Result<Vec<Setting>, _> = settings.iter().map(|s| s.parse()).collect();
        let file =
            ScenarioFile::load(file.to_str().unwrap(), &settings.map_err(|e| e.to_string())?);
        let file = file.map_err(|error| error.to_string())?;
        file.resolve(None).map_err(|error| error.to_string())
    };
    let behind = |resolved: &Resolved| -> Vec<String> {
        resolved.volunteers.iter().map(|volunteer| volunteer.behind.clone()).collect()
    };

    assert_eq!(behind(&load(&["volunteers.count=2"]).unwrap()), ["home", "home", "none", "none"]);
    assert_eq!(behind(&load(&["volunteers.1.count=2"]).unwrap()), ["home", "none", "none"]);
    let set = load(&["volunteers.0.behind=symmetric", "seed = 7", "coordinator.node-timeout=3s"]);
    let set = set.unwrap();
    assert_eq!((behind(&set)[0].as_str(), set.seed), ("symmetric", 7));
    assert_eq!(set.coordinators[0].node_timeout, Duration::from_secs(3));
    let set = load(&["volunteers.0.link={ rate = \"1Mbit/s\" }"]).unwrap();
    assert!(set.routers_of("vol-1")[0].uplink.profile().up.rate.is_some());

    for (setting, said) in [
        ("volunteers", "write PATH=VALUE"),
        ("volunteer.count=2", "did you mean `volunteers`?"),
        ("volunteers.7.count=2", "the scenario has 2 of `volunteers`"),
        ("volunteers.0=3", "as in `volunteers.0.count`"),
        ("volunteers.cuont=2", "did you mean `count`?"),
        ("seed.x=2", "expected u64"),
        ("volunteers.count=many", "invalid type"),
    ] {
        let message = load(&[setting]).unwrap_err();
        assert!(message.contains(said), "{setting}: {message}");
    }
}
