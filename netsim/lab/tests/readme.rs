//! README.md's commands, taken from README.md itself, each typed where its reader would type it.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod common;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coordinator_client::{JoinToken, Login};
use netsim::processes::{self, Process};
use netsim::program::{Finished, Place, Program};
use netsim::wait;
use netsim::world::{Programs, World};
use netsim_scenario::Preset;
use netsim_scenario::resolved::Coordinator;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The programs that `make install` copies, and OAR's names for the last of them.
const PROGRAMS: [&str; 5] = ["agent", "coordinator", "netsim", "nqueens", "oar"];
const OAR_NAMES: [&str; 6] = ["oarsub", "oarstat", "oardel", "oarhold", "oarresume", "oarnodes"];

/// How long the commands of one block may take: a job of six nodes, or four runs of the laboratory.
const BLOCK: Duration = Duration::from_secs(240);

/// How long anything else may take where nothing is in its way.
const SOON: Duration = Duration::from_secs(40);

/// Volunteers behind routers of every kind: as many as the scientist's job wants.
const VOLUNTEERS: [Preset; 6] = [
    Preset::Home,
    Preset::Restricted,
    Preset::FullCone,
    Preset::Carrier,
    Preset::Symmetric,
    Preset::None,
];

/// The published number of solutions on the board of 15 (OEIS A000170), and on that of 12.
const SOLUTIONS_15: &str = "2279184";
const SOLUTIONS_12: &str = "14200";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The fenced blocks of README.md by their names, and those without one.
fn blocks() -> (BTreeMap<String, String>, Vec<String>) {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let (mut named, mut nameless) = (BTreeMap::new(), Vec::new());
    // Every second part lies between fences.
    for block in text.split("```").skip(1).step_by(2) {
        let (fence, commands) = block.split_once('\n').unwrap();
        match fence.strip_prefix("sh test=") {
            Some(name) => {
                let before = named.insert(name.to_owned(), commands.to_owned());
                assert_eq!(before, None, "two blocks are called {name}");
            }
            None => nameless.push(commands.to_owned()),
        }
    }
    (named, nameless)
}

#[test]
fn every_role_has_less_than_fifteen_lines_to_type() {
    let (named, nameless) = blocks();

    let roles = ["scientist", "volunteer", "coordinator", "administrator", "researcher"];
    for role in roles {
        let belongs = |name: &str| name == role || name.starts_with(&format!("{role}-"));
        let of_role = named.iter().filter(|(name, _)| belongs(name));
        let lines: usize = of_role.map(|(_, commands)| commands.lines().count()).sum();
        assert!((1..15).contains(&lines), "{role} has {lines} lines");
    }
    // What carries no name is not run, so it may only be what started this test.
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    for line in nameless.iter().flat_map(|commands| commands.lines()) {
        let target = line.strip_prefix("make ").and_then(|rest| rest.split(' ').next());
        let target =
            target.unwrap_or_else(|| panic!("no test runs `{line}`: give its block a name"));
        assert!(makefile.contains(&format!("\n{target}:")), "there is no `make {target}`");
    }
}

#[test]
fn every_command_does_what_it_says() {
    let _alone = common::alone();
    let (mut named, _) = blocks();
    let mut take = |name: &str| {
        named.remove(name).unwrap_or_else(|| panic!("README.md has no block `sh test={name}`"))
    };
    let (dir, settings) = (fresh_dir("world-"), Coordinator::default());
    let programs = Programs::beside_this().unwrap();
    let world = World::new(&dir, programs, &settings, Preset::Home).unwrap();
    let desk = Desk { path: installed(&world) };

    let place = world.dir.join("coordinator");
    let public =
        Place { netns: world.servers[0].machine.netns.clone(), dir: place, env: Vec::new() };
    let public = desk.at(public, "ADDRESS", &world.servers[0].machine.address.to_string());
    let mut coordinator = serve(&public, "coordinator", &take("coordinator"));
    let (tokens, login) = administrate(&public, &take("administrator"));
    let token = relay_token(&public, &take("administrator-relay"));
    let (_, place) = world.add_machine("relay", Preset::None).unwrap();
    let mut relay = serve(&desk.at(place, "TOKEN", &token), "relay", &take("relay"));
    let metrics = relay.stdout();
    assert!(metrics.contains("metrics: http://127.0.0.1:6445/metrics"), "{metrics}");

    let block = take("volunteer");
    let mut agents = Vec::new();
    for (index, (behind, token)) in VOLUNTEERS.into_iter().zip(&tokens).enumerate() {
        let (_, place) = world.add_machine(&format!("volunteer-{index}"), behind).unwrap();
        agents.push(volunteer(&desk.at(place, "TOKEN", token), &block, index + 1));
    }

    let scientist = desk.at(world.scientist().place.clone(), "LOGIN", &login);
    wait_until_alive(&scientist, VOLUNTEERS.len());
    compute(&scientist, &take("scientist"));
    cancel(&scientist, &take("scientist-cancel"));

    // An agent works until it is stopped, and so does the coordinator.
    stop(&agents);
    let finished = type_in(&public, "administrator-users", &take("administrator-users"));
    assert_shows(
        &finished,
        &["user's password set  olga", "user revoked  olga", "node revoked  vol-1"],
    );
    for (name, program) in [("relay", &mut relay), ("serve", &mut coordinator)] {
        stop(&running(&format!("coordinator {name}")));
        let status = program.wait_for_end(SOON).unwrap();
        assert!(status.success(), "coordinator {name}: {status}{}", program.tail());
    }

    let (_, place) = world.add_machine("researcher", Preset::None).unwrap();
    research(&desk.at(place, "LANG", "C.UTF-8"), &take("researcher"));

    // It is typed to a real server of that kind, which takes a while to make: `.ci/run oar`.
    let plain = take("volunteer-oar");
    let typed = fs::read_to_string(root().join("agent/guest/tests/oar/check")).unwrap();
    assert!(plain.starts_with("agent run --oar ") && typed.contains("test=volunteer-oar"));

    world.stop().unwrap();
    assert_eq!(named, BTreeMap::new(), "blocks of README.md that nothing runs");
}

/// A new directory in this program's run directory.
fn fresh_dir(prefix: &str) -> PathBuf {
    tempfile::Builder::new().prefix(prefix).tempdir().unwrap().keep()
}

/// A folder with the programs as `make install` leaves them.
fn installed(world: &World) -> PathBuf {
    let bin = fresh_dir("bin-");
    for name in PROGRAMS {
        let program = world.program(name);
        assert!(program.is_file(), "{} is missing: `make build`", program.display());
        symlink(program, bin.join(name)).unwrap();
    }
    for name in OAR_NAMES {
        symlink("oar", bin.join(name)).unwrap();
    }
    bin
}

/// What every reader has: the programs in `PATH`, and an empty home.
struct Desk {
    path: PathBuf,
}

impl Desk {
    /// A machine's directory as somebody's home, with what they were given in a variable.
    fn at(&self, place: Place, name: &str, value: &str) -> Place {
        fs::create_dir_all(&place.dir).unwrap();
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let paths = std::iter::once(self.path.clone()).chain(std::env::split_paths(&paths));
        let path: OsString = std::env::join_paths(paths).unwrap();
        // Otherwise only what README.md mentions. The machines share one file system, where every
        // agent that runs as root would take the same directory.
        let state = place.dir.join("state").into_os_string();
        let env = [("PATH", path), ("AGENT_STATE", state), (name, value.into())];
        Place { env: env.map(|(name, value)| (name.into(), value)).to_vec(), ..place }
    }
}

/// Types a block; every command in it must succeed.
fn type_in(place: &Place, name: &str, commands: &str) -> Finished {
    let finished = place.expect(name, Path::new("/bin/sh"), ["-e", "-c", commands], BLOCK);
    finished.unwrap_or_else(|error| panic!("README.md's block {name}: {error}"))
}

fn assert_shows(finished: &Finished, words: &[&str]) {
    for word in words {
        assert!(finished.stdout.contains(word), "`{word}` is not in: {}", finished.stdout);
    }
}

/// Makes a relay's token.
fn relay_token(place: &Place, commands: &str) -> String {
    let finished = type_in(place, "administrator-relay", commands);
    let token = finished.stdout.trim().to_owned();
    token.parse::<JoinToken>().unwrap();
    token
}

/// Starts what works until it is stopped.
fn serve(place: &Place, name: &str, commands: &str) -> Program {
    let shell = Path::new("/bin/sh");
    let mut program = place.start(name, shell, ["-e", "-c", commands]).unwrap();
    let ready = |program: &Program| program.stdout().lines().any(|l| l == "ready").then_some(());
    program.wait_for("`ready`", SOON, ready).unwrap();
    program
}

/// Makes join tokens and a login string, and returns them.
fn administrate(place: &Place, commands: &str) -> (Vec<String>, String) {
    let finished = type_in(place, "administrator", commands);
    let beginning = |start: &str| -> Vec<String> {
        finished.stdout.lines().filter(|l| l.starts_with(start)).map(str::to_owned).collect()
    };
    let (tokens, logins) = (beginning("cah-join-1."), beginning("cah-login-1."));
    assert_eq!((tokens.len(), logins.len()), (VOLUNTEERS.len(), 1), "{}", finished.stdout);
    let address = place.env.iter().find(|(name, _)| name == "ADDRESS").unwrap();
    let url = format!("https://{}:6443/oarapi", address.1.display());
    for token in &tokens {
        assert_eq!(token.parse::<JoinToken>().unwrap().url, url);
    }
    let login: Login = logins[0].parse().unwrap();
    assert_eq!((login.url, login.user.as_str()), (url, "alice"));
    let listed = finished.stdout.lines().last().unwrap_or_default();
    assert!(listed.contains("alice"), "`coordinator user list` ends with: {listed}");
    (tokens, logins[0].clone())
}

/// Makes a machine a node, and returns its agent's process.
fn volunteer(place: &Place, commands: &str, number: usize) -> Process {
    let before = running("agent run");
    let finished = type_in(place, "volunteer", commands);
    assert_shows(&finished, &[&format!("vol-{number}")]);
    // What the block started in the background need not have begun when the block ends.
    wait::until("the agent's start", SOON, || {
        running("agent run").into_iter().find(|agent| !before.contains(agent))
    })
    .unwrap()
}

/// Waits with a login of its own, so that the scientist's block has to log in itself.
fn wait_until_alive(place: &Place, count: usize) {
    let mut place = place.clone();
    place.env.push(("OAR_CONFIG".into(), place.dir.join("waiting.json").into()));
    type_in(&place, "waiting", r#"oar login "$LOGIN""#);
    let mut seen = String::new();
    let alive = wait::until_every(Duration::from_millis(300), "all nodes alive", SOON, || {
        seen = type_in(&place, "waiting", "oarnodes -s").stdout;
        let is_alive = |line: &str| line.starts_with("vol-") || line.ends_with(": Alive");
        (seen.matches("vol-").count() == count && seen.lines().all(is_alive)).then_some(())
    });
    alive.unwrap_or_else(|late| panic!("{late}: {seen}"));
}

/// The main job.
fn compute(place: &Place, commands: &str) {
    let finished = type_in(place, "scientist", commands);
    assert_shows(&finished, &[SOLUTIONS_15, "vol-1", "vol-6", "relay", "direct"]);
}

/// A job that is deleted: it ends without having slept its ten minutes.
fn cancel(place: &Place, commands: &str) {
    let finished = type_in(place, "scientist-cancel", commands);
    assert_shows(&finished, &["sleeper", "sleep 600"]);
    let every = Duration::from_millis(300);
    wait::until_every(every, "the end of the deleted job", SOON, || {
        let shown = type_in(place, "deleted", "oarstat -j 2 -f").stdout;
        shown.contains("Error").then_some(())
    })
    .unwrap();
}

/// The laboratory in the laboratory, from a folder that looks like this tree.
fn research(place: &Place, commands: &str) {
    let tree = place.dir.join("netsim");
    fs::create_dir(&tree).unwrap();
    symlink(root().join("netsim/scenarios"), tree.join("scenarios")).unwrap();

    let finished = type_in(place, "researcher", commands);

    assert_shows(&finished, &["nqueens-small", "nqueens.toml: right", "PASSED", SOLUTIONS_12]);
    assert_eq!(finished.stdout.matches("PASSED").count(), 2, "{}", finished.stdout);
    let report = fs::read(place.dir.join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["seed"], 7);
    assert_eq!(report["jobs"][0]["solutions"].to_string(), SOLUTIONS_15);
    assert!(place.dir.join("run/coordinator/coordinator.log").is_file(), "--keep keeps the logs");
    for file in ["results/report.html", "results/captures/vol-1.pcapng", "sweep/sweep.html"] {
        assert!(place.dir.join(file).is_file(), "{file}");
    }
    assert_shows(&finished, &["results/report.html", "2 of 2 runs passed"]);
    assert_shows(&finished, &["passed: ", "times real time", "7 direct, 3 relayed"]);
}

/// The processes whose command line begins like that.
fn running(command: &str) -> Vec<Process> {
    processes::all().into_iter().filter(|process| process.command.starts_with(command)).collect()
}

/// Asks processes to end, and waits until they have.
fn stop(processes: &[Process]) {
    assert!(!processes.is_empty());
    for process in processes {
        kill(Pid::from_raw(process.pid), Signal::SIGTERM).unwrap();
    }
    wait::until("the end of what was stopped", SOON, || {
        let left = processes::all();
        (!left.iter().any(|p| processes.iter().any(|q| p.pid == q.pid))).then_some(())
    })
    .unwrap();
}
