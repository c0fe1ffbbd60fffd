//! Several coordinators: who belongs to which, and what is refused.

use std::path::Path;
use std::time::Duration;

use netsim_scenario::resolved::What;
use netsim_scenario::{Resolved, ScenarioError, ScenarioFile, Setting};

/// Two clusters. The volunteers of both stand mixed in the file.
const TWO: &str = r#"
[[regions]]
name = "west"
[[regions]]
name = "east"

[coordinator]
poll-interval = "1s"

[[coordinators]]
name = "other"
region = "east"
poll-interval = "2s"

[[volunteers]]
behind = "home"
count = 2

[[volunteers]]
coordinator = "other"
behind = "home"

[[volunteers]]
behind = "none"

[[volunteers]]
coordinator = "other"
behind = "none"

[[relays]]
[[relays]]
coordinator = "other"

[[job]]
nodes = 3
command = "true"

[[job]]
name = "there"
coordinator = "other"
nodes = 2
command = "true"
"#;

fn resolve(text: &str) -> Result<Resolved, ScenarioError> {
    ScenarioFile::parse(Path::new("a.toml"), text.to_owned())?.resolve(None)
}

/// What is said of [`TWO`] with more in it.
fn error(more: &str) -> String {
    resolve(&format!("{TWO}{more}")).expect_err("it is refused").to_string()
}

#[test]
fn each_has_machines_and_users_of_its_own_and_counts_its_nodes_itself() {
    let two = resolve(TWO).unwrap();

    let names: Vec<&str> = two.coordinators.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["coordinator", "other"]);
    let polls: Vec<u64> = two.coordinators.iter().map(|it| it.poll_interval.as_secs()).collect();
    assert_eq!(polls, [1, 2]);
    let region = |router: &str| two.router(router).unwrap().region.as_deref();
    assert_eq!((region("coordinator-r0"), region("other-r0")), (None, Some("east")));
    assert!(two.router("other-r0").unwrap().ipv6, "everybody reaches it");
    let volunteers = two.volunteers.iter();
    let whose: Vec<_> = volunteers.map(|v| (&*v.host, &*v.coordinator, &*v.node)).collect();
    let expected = [
        ("vol-1", "coordinator", "vol-1"),
        ("vol-2", "coordinator", "vol-2"),
        ("vol-3", "other", "vol-1"),
        ("vol-4", "coordinator", "vol-3"),
        ("vol-5", "other", "vol-2"),
    ];
    assert_eq!(whose, expected);
    let scientists = two.scientists.iter();
    let scientists: Vec<_> = scientists.map(|s| (&*s.host, &*s.coordinator, &*s.user)).collect();
    let expected = [("scientist", "coordinator", "alice"), ("scientist-2", "other", "alice")];
    assert_eq!(scientists, expected);
    let relays: Vec<_> = two.relays.iter().map(|r| (&*r.host, &*r.coordinator)).collect();
    assert_eq!(relays, [("relay-1", "coordinator"), ("relay-2", "other")]);
    let jobs: Vec<_> = two.jobs.iter().map(|job| (&*job.name, &*job.coordinator)).collect();
    assert_eq!(jobs, [("job-1", "coordinator"), ("there", "other")]);
}

#[test]
fn the_first_one_may_have_a_name_too() {
    let one = "[coordinator]\nname = \"hub\"\n[[volunteers]]\nbehind = \"home\"\n\
               [[job]]\ncommand = \"true\"\n[[event]]\nat = \"1s\"\ndo = \"coordinator-kill\"\n";
    let resolved = resolve(one).unwrap();

    assert_eq!(resolved.volunteers[0].coordinator, "hub");
    assert!(resolved.host("hub").is_some() && resolved.host("coordinator").is_none());
    assert_eq!(resolved.timeline[0].what, What::CoordinatorKill("hub".to_owned()));
}

#[test]
fn events_and_expectations_name_one() {
    let more = "[[event]]\nat = \"1s\"\ndo = \"coordinator-kill\"\ncoordinator = \"other\"\n\
                [[event]]\nat = \"2s\"\ndo = \"coordinator-start\"\n\
                [[expect]]\nthat = \"jobs-terminated\"\ncoordinator = \"other\"\nexactly = 1\n";
    let two = resolve(&format!("{TWO}{more}")).unwrap();

    assert_eq!(two.timeline[0].what, What::CoordinatorKill("other".to_owned()));
    assert_eq!(two.timeline[1].what, What::CoordinatorStart("coordinator".to_owned()));
    let expectation = &two.expectations[0];
    assert!(expectation.covers("other", "there") && !expectation.covers("coordinator", "job-1"));
    assert_eq!(expectation.scope(), Some("other"));
}

#[test]
fn one_that_there_is_not_is_refused_with_its_line_and_the_one_that_may_be_meant() {
    for (part, more) in [
        ("volunteers", "behind = \"home\"\n"),
        ("relays", ""),
        ("scientists", "name = \"bob\"\n"),
        ("job", "command = \"true\"\n"),
        ("event", "at = \"1s\"\ndo = \"coordinator-stop\"\n"),
        ("expect", "that = \"direct-pairs\"\nexactly = 1\n"),
    ] {
        let message = error(&format!("[[{part}]]\ncoordinator = \"othre\"\n{more}"));
        let line = TWO.lines().count() + 2;
        assert!(message.starts_with(&format!("a.toml:{line}:15: ")), "{part}: {message}");
        let said = "there is no coordinator `othre` (did you mean `other`?); there are: coordinator, other";
        assert!(message.contains(said), "{part}: {message}");
    }
}

#[test]
fn what_would_mix_two_clusters_is_refused() {
    for (more, said) in [
        ("[[job]]\ncommand = \"true\"\nnodes = 4\n", "must be 1 to 3"),
        ("[[job]]\ncommand = \"true\"\nnodes = 3\ncoordinator = \"other\"\n", "must be 1 to 2"),
        (
            "[[scientists]]\nname = \"bob\"\n[[job]]\ncommand = \"true\"\nscientist = \"bob\"\n\
             coordinator = \"other\"\n",
            "there is no scientist `bob`; there are: alice",
        ),
        (
            "[[expect]]\nthat = \"path\"\nbetween = [\"vol-2\", \"vol-3\"]\nis = \"direct\"\n",
            "one belongs to `coordinator`, the other to `other`: they never meet",
        ),
        (
            "[[expect]]\nthat = \"direct-pairs\"\njob = \"there\"\ncoordinator = \"coordinator\"\n\
             exactly = 1\n",
            "there is no job `there`; there are: job-1",
        ),
        (
            "[[event]]\nat = \"1s\"\ndo = \"kill\"\nnode = \"vol-1\"\ncoordinator = \"other\"\n",
            "has no `coordinator`",
        ),
        ("[[coordinators]]\n", "there are two coordinators `coordinator`: give each a `name`"),
        ("[[coordinators]]\nname = \"other\"\n", "there are two coordinators `other`"),
        ("[[coordinators]]\nname = \"vol-9\"\n", "like a machine's name"),
        ("[[coordinators]]\nname = \"Other\"\n", "is no name"),
        (
            "[[routers]]\nname = \"inn-r0\"\n[[coordinators]]\nname = \"inn\"\n",
            "a router, is named like it",
        ),
    ] {
        let message = error(more);
        assert!(message.contains(said), "{more}{message}");
    }
    let many: String = (0..16).map(|i| format!("[[coordinators]]\nname = \"c{i}\"\n")).collect();
    assert!(error(&many).contains("16 coordinators at most"));
}

#[test]
fn settings_reach_each_of_them() {
    let settings = ["coordinators.0.node-timeout=3s", "coordinator.node-timeout=4s"];
    let settings: Vec<Setting> = settings.iter().map(|text| text.parse().unwrap()).collect();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("two.toml");
    std::fs::write(&file, TWO).unwrap();

    let file = ScenarioFile::load(file.to_str().unwrap(), &settings).unwrap();

    let resolved = file.resolve(None).unwrap();
    let timeouts: Vec<Duration> = resolved.coordinators.iter().map(|it| it.node_timeout).collect();
    assert_eq!(timeouts, [Duration::from_secs(4), Duration::from_secs(3)]);
}
