//! Bad input: each ends in a clear message on the right side.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/shared.rs"]
mod shared;
#[path = "common/worlds.rs"]
mod worlds;

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use coordinator_api::job::{Job, JobState};
use coordinator_client::{JoinToken, Login, RootPin};
use flate2::Compression;
use flate2::write::GzEncoder;
use netsim::program::Finished;
use netsim::wait;
use netsim::world::{Submission, World};
use netsim_scenario::Preset;
use netsim_scenario::resolved::Coordinator;
use tar::{Builder, EntryType, Header};

use shared::Shared;
use worlds::{SOON, fresh_dir};

static WORLD: Shared = Shared::new();

fn with_world(test: impl FnOnce(&mut World)) {
    let poll_interval = Duration::from_millis(300);
    let settings = Coordinator { poll_interval, ..Coordinator::default() };
    WORLD.with(&settings, &[(Preset::None, 1), (Preset::Home, 1)], test);
}

/// Runs a job on one node to its end.
fn run(world: &World, command: &str, stagein: Option<&Path>) -> Job {
    let mut submission = Submission::new(command, 1, &["desktop_computing"]);
    submission.stagein = stagein.map(Path::to_owned);
    let id = world.scientist().submit(&submission).unwrap();
    world.scientist().wait_for_end(id, SOON).unwrap()
}

/// The standard error that the job's first node left, as the scientist gets it.
fn fetched_stderr(world: &World, job: &Job) -> String {
    let dir = world.scientist().fetch(job.id).unwrap();
    fs::read_to_string(dir.join("rank-0").join(&job.stderr_file)).unwrap()
}

/// `agent join` with a token, on a fresh machine.
fn join(world: &World, name: &str, token: &str) -> Finished {
    let (_, place) = world.add_machine(name, Preset::None).unwrap();
    let state = place.dir.join("state").display().to_string();
    let args = ["join", token, "--state", &state];
    place.run("join", &world.program("agent"), args, SOON).unwrap()
}

fn assert_refused(finished: &Finished, words: &[&str]) {
    assert!(!finished.status.success(), "it succeeded: {}", finished.stdout);
    let text = finished.stderr.to_lowercase();
    for word in words {
        assert!(text.contains(word), "`{word}` is missing from: {}", finished.stderr);
    }
}

#[test]
fn a_program_that_exits_non_zero_tells_so() {
    let _alone = common::alone();
    with_world(|world| {
        let job = run(world, "echo sorry >&2; exit 3", None);

        assert_eq!((job.state, job.exit_code), (JobState::Terminated, Some(3 << 8)));
        assert_eq!(fetched_stderr(world, &job), "sorry\n");
        let waited = world.scientist().try_oar(&["wait", &job.id.to_string()]).unwrap();
        assert_eq!(waited.status.code(), Some(3));
    });
}

#[test]
fn a_program_that_is_not_executable_tells_so() {
    let _alone = common::alone();
    with_world(|world| {
        let dir = fresh_dir();
        fs::write(dir.join("tool"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(dir.join("tool"), fs::Permissions::from_mode(0o644)).unwrap();

        let job = run(world, "./tool", Some(&dir));

        assert_eq!((job.state, job.exit_code), (JobState::Terminated, Some(126 << 8)));
        let stderr = fetched_stderr(world, &job);
        assert!(stderr.to_lowercase().contains("permission denied"), "{stderr}");
    });
}

#[test]
fn a_job_for_more_nodes_than_exist_is_refused() {
    let _alone = common::alone();
    with_world(|world| {
        let refused =
            world.scientist().try_submit(&Submission::new("true", 99, &["mesh"])).unwrap();

        assert_refused(&refused, &["99"]);
    });
}

#[test]
fn a_token_works_once_and_not_after_its_end() {
    let _alone = common::alone();
    with_world(|world| {
        let token = world.servers[0].token().unwrap();
        let first = join(world, "first", &token);
        assert!(first.status.success(), "{}", first.stderr);
        assert_refused(&join(world, "second", &token), &["token"]);

        let mut unknown: JoinToken = token.parse().unwrap();
        unknown.token = unknown.token.chars().rev().collect();
        assert_refused(&join(world, "third", &unknown.to_string()), &["token"]);

        let expired = world.servers[0].token_that_expires("1s").unwrap();
        let made = SystemTime::now();
        let limit = Duration::from_secs(10);
        wait::until("the token's end", limit, || {
            (made.elapsed().unwrap() > Duration::from_millis(2100)).then_some(())
        })
        .unwrap();
        assert_refused(&join(world, "fourth", &expired), &["expired"]);
        assert_refused(&join(world, "fifth", "nonsense"), &["token"]);
    });
}

#[test]
fn a_coordinator_with_another_certificate_is_not_spoken_to() {
    let _alone = common::alone();
    with_world(|world| {
        let another = RootPin::of_certificate(b"another root");
        let mut token: JoinToken = world.servers[0].token().unwrap().parse().unwrap();
        token.root = another;
        assert_refused(&join(world, "deceived", &token.to_string()), &["certificate"]);

        let mut login: Login = world.servers[0].add_user("bob").unwrap().parse().unwrap();
        login.root = another;
        let (_, mut place) = world.add_machine("bobs", Preset::None).unwrap();
        place.env.push(("OAR_CONFIG".into(), place.dir.join("oar.json").into()));
        let oar = |args: &[&str]| place.run("oar", &world.program("oar"), args, SOON).unwrap();
        let logged_in = oar(&["login", &login.to_string()]);
        let asked = if logged_in.status.success() { oar(&["nodes"]) } else { logged_in };
        assert_refused(&asked, &["certificate"]);
    });
}

/// A gzip tar archive that `fill` fills.
fn archive(name: &str, fill: impl FnOnce(&mut Builder<GzEncoder<File>>)) -> PathBuf {
    let path = fresh_dir().join(format!("{name}.tgz"));
    let encoder = GzEncoder::new(File::create(&path).unwrap(), Compression::fast());
    let mut builder = Builder::new(encoder);
    fill(&mut builder);
    builder.into_inner().unwrap().finish().unwrap();
    path
}

/// An entry whose name is written as it is: the library would refuse it.
fn entry(builder: &mut Builder<GzEncoder<File>>, name: &str, kind: EntryType, target: &str) {
    let mut header = Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_gnu_mut().unwrap().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(0);
    header.set_cksum();
    builder.append(&header, std::io::empty()).unwrap();
}

/// Whoever looks first refuses a bad archive: the tool, the coordinator or the agent. The scientist
/// reads why, either way.
fn assert_refused_or_failed(world: &World, name: &str, answer: &Finished) {
    let said = if answer.status.success() {
        let id = answer.stdout.trim().rsplit('=').next().unwrap().parse().unwrap();
        let job = world.scientist().wait_for_end(id, SOON).unwrap();
        assert_eq!(job.state, JobState::Error, "{name}: {job:?}");
        let said = job.events.iter().map(|e| e.description.as_str()).chain([&*job.message]);
        said.collect::<Vec<_>>().join("\n")
    } else {
        answer.stderr.clone()
    };
    assert!(said.contains("archive") || said.contains("stage-in"), "{name}: {said}");
}

#[test]
fn malicious_archives_are_refused_with_the_reason() {
    let _alone = common::alone();
    with_world(|world| {
        let archives = [
            archive("absolute", |b| entry(b, "/tmp/netsim-evil", EntryType::Regular, "")),
            archive("parent", |b| entry(b, "../../evil", EntryType::Regular, "")),
            archive("link", |b| {
                entry(b, "out", EntryType::Symlink, "/etc");
                entry(b, "out/evil", EntryType::Regular, "");
            }),
            archive("hard-link", |b| entry(b, "out", EntryType::Link, "/etc/passwd")),
            archive("device", |b| entry(b, "null", EntryType::Char, "")),
        ];
        for path in archives {
            let submission = Submission::new("true", 1, &["desktop_computing"]).with_stagein(&path);
            let answer = world.scientist().try_submit(&submission).unwrap();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            assert_refused_or_failed(world, &name, &answer);
        }
        assert!(!Path::new("/tmp/netsim-evil").exists());
        let after = run(world, "true", None);
        assert_eq!((after.state, after.exit_code), (JobState::Terminated, Some(0)), "{after:?}");
    });
}

#[test]
fn a_bomb_is_refused_before_it_fills_the_disk() {
    let _alone = common::alone();
    with_world(|world| {
        // 20 GiB of zeroes in an entry that says so: no reader needs to see them all.
        let path = archive("bomb", |builder| {
            let mut header = Header::new_gnu();
            header.set_path("zeroes").unwrap();
            header.set_mode(0o644);
            header.set_size(20 << 30);
            header.set_cksum();
            let zeroes = std::io::Read::take(std::io::repeat(0), 64 << 20);
            // Cut short: what counts is what it announces.
            let _ = builder.append(&header, zeroes);
        });

        let submission = Submission::new("true", 1, &["desktop_computing"]).with_stagein(&path);
        let answer = world.scientist().try_submit(&submission).unwrap();

        assert_refused_or_failed(world, "bomb", &answer);
    });
}
