//! `netsim clean`: what a killed run leaves is found and removed, and nothing else.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/program.rs"]
mod program;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use netsim::wait;
use nix::sys::signal::Signal;
use program::{end, netsim, said};

const SOON: Duration = Duration::from_secs(40);

/// The exit status and what was said.
fn clean(temp: &Path, args: &[&str]) -> (i32, String) {
    let (status, said) = said(&mut netsim(temp, &[&["clean"], args].concat()));
    (status.unwrap(), said)
}

/// A run that is at work, and its directory.
fn start(temp: &Path) -> (Child, PathBuf) {
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/nqueens-small.toml");
    let mut run = netsim(temp, &["run", scenario]).stderr(Stdio::null()).spawn().unwrap();
    let dir = temp.join(format!("netsim-{}", run.id()));
    wait::until("the start of the coordinator", SOON, || {
        assert_eq!(run.try_wait().unwrap(), None, "the run has ended");
        dir.join("coordinator/coordinator.log").exists().then_some(())
    })
    .unwrap();
    (run, dir)
}

#[test]
fn a_shipped_name_is_no_file_that_lies_here() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("nqueens"), [0x7f; 100]).unwrap();
    let here = |name: &str| said(netsim(temp.path(), &["check", name]).current_dir(temp.path()));
    let (status, text) = here("nqueens");
    assert_eq!(status, Some(0), "{text}");
    let (status, _) = here("./nqueens");
    assert_ne!(status, Some(0), "that path is the file");
}

/// Made for a run, it would be left behind by it.
#[test]
fn a_temporary_directory_that_is_not_there_is_not_made() {
    let temp = tempfile::tempdir().unwrap();
    let absent = temp.path().join("absent");

    let (status, said) = said(&mut netsim(&absent, &["run", "nqueens-small"]));

    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("TMPDIR") && said.contains("No such file or directory"), "{said}");
    assert!(!absent.exists());
}

#[test]
fn a_killed_run_is_cleaned_up_and_a_living_one_is_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    let temp = temp.path();
    assert_eq!(clean(temp, &[]), (0, "no killed run has left anything\n".to_owned()));
    let (mut killed, left) = start(temp);
    // A job may leave what even its owner cannot remove without more ado.
    let locked = left.join("locked");
    fs::create_dir_all(locked.join("inner")).unwrap();
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    fs::set_permissions(&locked, mode(0o500)).unwrap();

    let (status, said) = clean(temp, &[]);
    assert!(status == 0 && said.contains(&format!("in use      {}", left.display())), "{said}");

    end(&killed, Signal::SIGKILL);
    killed.wait().unwrap();
    // A process that has got away: none of a run can, since they end with their namespace.
    let mut command = Command::new("sleep");
    command.arg("60").env("TMPDIR", &left).stdout(Stdio::null()).stderr(Stdio::null());
    let mut stray = command.spawn().unwrap();
    // A process that has just been started shows its environment a moment later.
    let process = format!("process {} sleep 60", stray.id());
    let found = wait::until("the end of the killed run", SOON, || {
        let (status, said) = clean(temp, &["--dry-run"]);
        (status == 1 && said.contains(&process)).then_some(said)
    });
    let found = found.unwrap();
    assert!(found.contains(&format!("found       {}", left.display())), "{found}");
    assert!(left.is_dir() && stray.try_wait().unwrap().is_none(), "--dry-run has done something");

    let (mut living, used) = start(temp);
    let (status, said) = clean(temp, &[]);

    assert!(status == 0 && said.contains(&format!("removed     {}", left.display())), "{said}");
    assert!(!stray.wait().unwrap().success());
    assert!(!left.exists() && used.is_dir());
    assert_eq!(living.try_wait().unwrap(), None, "a living run was ended");
    end(&living, Signal::SIGKILL);
    living.wait().unwrap();
    wait::until("an empty directory", SOON, || {
        assert_eq!(clean(temp, &[]).0, 0);
        fs::read_dir(temp).unwrap().next().is_none().then_some(())
    })
    .unwrap();
}

#[test]
fn what_a_failed_run_keeps_is_removed_when_that_is_asked_for() {
    let temp = tempfile::tempdir().unwrap();
    let runs = temp.path().join("runs");
    fs::create_dir(&runs).unwrap();
    let scenario = temp.path().join("fails.toml");
    fs::write(&scenario, "[[volunteers]]\nbehind = \"none\"\n[[job]]\ncommand = \"false\"\n")
        .unwrap();

    let ended = netsim(&runs, &["run", scenario.to_str().unwrap()]).output().unwrap();

    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    let kept = fs::read_dir(&runs).unwrap().next().unwrap().unwrap().path();
    let last = said.lines().last().unwrap();
    let shown = kept.display();
    assert_eq!(last, format!("{shown} is kept for its logs: `netsim clean --kept` removes it"));
    assert!(kept.join("vol-1/agent.log").is_file());

    let (status, said) = clean(&runs, &[]);
    assert!(status == 0 && said.contains(&format!("kept        {shown}")), "{said}");
    let (status, said) = clean(&runs, &["--kept", "--dry-run"]);
    assert!(status == 1 && said.contains(&format!("found       {shown}")), "{said}");
    assert!(kept.is_dir());
    let (status, said) = clean(&runs, &["--kept"]);
    assert!(status == 0 && said.contains(&format!("removed     {shown}")), "{said}");
    assert_eq!(fs::read_dir(&runs).unwrap().count(), 0);
}

#[test]
fn what_only_looks_like_a_run_is_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let (temp, elsewhere) = (temp.path(), elsewhere.path());
    let marked = |keep| format!(r#"{{"keep":{keep},"owner":1,"namespace":"pid:[1]"}}"#);
    let mark = &marked(false);
    let make = |path: PathBuf, name: &str, text: &str| {
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join(name), text).unwrap();
    };
    make(temp.join("netsim-1"), "file", "");
    make(temp.join("netsim-2"), ".netsim-run", "no mark");
    make(temp.join("netsim-3"), ".netsim-run", &marked(true));
    make(temp.join("netsim-notes"), ".netsim-run", mark);
    make(temp.join("other-4"), ".netsim-run", mark);
    make(elsewhere.join("dir"), ".netsim-run", mark);
    symlink(elsewhere.join("dir"), temp.join("netsim-5")).unwrap();
    fs::create_dir(temp.join("netsim-6")).unwrap();
    symlink(elsewhere.join("dir/.netsim-run"), temp.join("netsim-6/.netsim-run")).unwrap();

    let (status, said) = clean(temp, &[]);

    assert_eq!(status, 0, "{said}");
    assert!(!said.contains("removed"), "{said}");
    assert_eq!(fs::read_dir(temp).unwrap().count(), 7);
    assert!(elsewhere.join("dir/.netsim-run").is_file());

    // The same beside a mark that is right.
    make(temp.join("netsim-7-2"), ".netsim-run", mark);
    let (status, said) = clean(temp, &[]);
    assert!(status == 0 && said.contains("netsim-7-2"), "{said}");
    assert_eq!(fs::read_dir(temp).unwrap().count(), 7);
}
