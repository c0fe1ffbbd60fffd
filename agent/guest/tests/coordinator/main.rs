//! The agent as a process, against a coordinator made for these tests (HTTPS on a real socket).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod escape;
mod fake;
mod hostile;
mod limits;
mod output;
mod owner;
mod soak;
mod trouble;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use coordinator_api::agent::{Fault, ReportedState, SetState};
use fake::{Fake, Said, archive_of};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// Long enough for a machine under load; reached only by a failure.
const LIMIT: Duration = Duration::from_secs(90);

fn agent(state: &Path, fake: &Fake) -> Child {
    agent_with(state, fake, &[])
}

fn agent_with(state: &Path, fake: &Fake, more: &[&str]) -> Child {
    agent_with_environment(state, fake, more, &[])
}

fn agent_with_environment(
    state: &Path,
    fake: &Fake,
    more: &[&str],
    environment: &[(&str, &str)],
) -> Child {
    let cores = ["--cores", "2"];
    Command::new(env!("CARGO_BIN_EXE_agent"))
        .envs(environment.iter().copied())
        .args(["run", "--bind", "127.0.0.1:0"])
        .args(cores.iter().filter(|_| !more.contains(&"--cores")))
        .arg("--join")
        .arg(fake.token())
        .args(more)
        .arg("--state")
        .arg(state)
        .env("RUST_LOG", "info")
        .stderr(fs::OpenOptions::new().create(true).append(true).open(state.join("log")).unwrap())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

fn state() -> TempDir {
    tempfile::tempdir().unwrap()
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(LIMIT, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "it takes too long until {what}");
}

fn terminate(agent: &Child) {
    let pid = nix::unistd::Pid::from_raw(agent.id().unwrap().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
}

fn final_state(said: &[Said]) -> Option<&SetState> {
    said.iter().find_map(|said| match said {
        Said::State(_, state) if state.state != ReportedState::Running => Some(state),
        Said::State(..) | Said::Stageout { .. } => None,
    })
}

/// The processes whose command line holds `word`.
fn processes_with(word: &str) -> Vec<i32> {
    let line = |pid: i32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|item| item.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| String::from_utf8_lossy(&line(*pid)).contains(word)).collect()
}

#[tokio::test]
async fn a_job_runs_from_its_list_to_its_report() {
    let fake = Fake::start().await;
    let input = archive_of(&[("input", "seven\n")]);
    fake.submit(7, 1, "cat input; cat $OAR_NODEFILE; echo made > result; exit 3", Some(input));
    let state = state();
    let _agent = agent(state.path(), &fake);
    until("the job is over", || final_state(&fake.said(7)).is_some()).await;

    let said = fake.said(7);
    assert!(matches!(&said[0], Said::State(1, state) if state.state == ReportedState::Running));
    let Said::Stageout { generation: 1, files } = &said[1] else {
        panic!("no stage-out: {said:?}")
    };
    let stdout = files.iter().find(|(name, _)| name == "OAR.7.stdout").unwrap();
    assert_eq!(stdout.1, "seven\nvol-1\nvol-1\n");
    assert!(files.iter().any(|(name, text)| name == "result" && text == "made\n"));
    assert!(!files.iter().any(|(name, _)| name == "input"), "unchanged files stay away");
    let Said::State(1, last) = &said[2] else { panic!("no report: {said:?}") };
    assert_eq!((last.state, last.exit_code), (ReportedState::Terminated, Some(768)));
    assert_eq!(said.len(), 3);

    // A stale list does not start it again, and nothing stays on the disk.
    until("the folder is gone", || !state.path().join("jobs/7.1").exists()).await;
    fake.list_again(7, 1);
    let polls = fake.polls();
    until("it was asked again", || fake.polls() > polls + 4).await;
    assert_eq!(fake.said(7).len(), 3);
}

#[tokio::test]
async fn orders_come_while_a_poll_waits_for_them() {
    let fake = Fake::start().await;
    fake.let_polls_wait();
    let state = state();
    let _agent = agent(state.path(), &fake);
    until("it works", || state.path().join("agent.sock").exists()).await;
    fake.submit(7, 1, "echo up; sleep 98774", None);
    let output = state.path().join("jobs/7.1/work/OAR.7.stdout");
    until("it runs", || fs::read_to_string(&output).is_ok_and(|text| text == "up\n")).await;
    fake.kill(7, 1);
    until("it is over", || final_state(&fake.said(7)).is_some()).await;
    // It has asked for both lists and once more for the other; without the waiting it would be tens.
    assert!(fake.polls() < 30, "{}", fake.polls());
}

#[tokio::test]
async fn two_jobs_run_at_once() {
    let fake = Fake::start().await;
    // Each waits for the kill, so both must have been running together.
    for job in [7, 8] {
        fake.submit(job, 1, "echo up; sleep 98771", None);
    }
    let state = state();
    let _agent = agent_with(state.path(), &fake, &["--cores", "4"]);
    let up = |job: u64| {
        let file = state.path().join(format!("jobs/{job}.1/work/OAR.{job}.stdout"));
        fs::read_to_string(file).is_ok_and(|text| text == "up\n")
    };
    until("both run", || up(7) && up(8)).await;
    fake.kill(7, 1);
    fake.kill(8, 1);
    until("both are over", || [7, 8].iter().all(|job| final_state(&fake.said(*job)).is_some()))
        .await;
    for job in [7, 8] {
        let said = fake.said(job);
        let last = final_state(&said).unwrap();
        assert_eq!((last.state, last.fault), (ReportedState::Error, Some(Fault::Killed)));
        // What was there came out before.
        assert!(
            matches!(&said[1], Said::Stageout { files, .. } if files[0].1 == "up\n"),
            "{said:?}"
        );
    }
}

#[tokio::test]
async fn a_job_survives_its_agent() {
    let fake = Fake::start().await;
    fake.submit(7, 1, "echo once; until test -e go; do sleep 0.05; done; echo done", None);
    let state = state();
    let work = state.path().join("jobs/7.1/work");
    let mut first = agent(state.path(), &fake);
    until("it runs", || {
        fs::read_to_string(work.join("OAR.7.stdout")).is_ok_and(|text| text == "once\n")
    })
    .await;
    first.kill().await.unwrap();

    let second = agent(state.path(), &fake);
    let polls = fake.polls();
    until("the second polls", || fake.polls() > polls + 2).await;
    // And once more, politely.
    terminate(&second);
    let mut second = second;
    assert!(second.wait().await.unwrap().success());
    let _third = agent(state.path(), &fake);
    fs::write(work.join("go"), "").unwrap();
    until("it is over", || final_state(&fake.said(7)).is_some()).await;
    let said = fake.said(7);
    assert_eq!(final_state(&said).unwrap().exit_code, Some(0));
    let Said::Stageout { files, .. } = &said[1] else { panic!("{said:?}") };
    assert_eq!(files[0], ("OAR.7.stdout".to_owned(), "once\ndone\n".to_owned()));
}

#[tokio::test]
async fn a_job_whose_shim_dies_is_given_back_with_what_it_wrote() {
    let fake = Fake::start().await;
    fake.submit(7, 1, "echo up; sleep 98773", None);
    let state = state();
    let _agent = agent(state.path(), &fake);
    let folder = state.path().join("jobs/7.1");
    let stdout = folder.join("work/OAR.7.stdout");
    until("it runs", || fs::read_to_string(&stdout).is_ok_and(|text| text == "up\n")).await;
    kill_shim_of(&folder);
    until("it is given back", || final_state(&fake.said(7)).is_some()).await;
    let said = fake.said(7);
    let last = final_state(&said).unwrap();
    assert_eq!((last.state, last.fault), (ReportedState::Error, Some(Fault::Node)));
    assert!(matches!(&said[1], Said::Stageout { files, .. } if files[0].1 == "up\n"), "{said:?}");
}

/// Kills the process whose command line is `agent shim --dir FOLDER`.
fn kill_shim_of(folder: &Path) {
    let line = format!("agent\0shim\0--dir\0{}\0", folder.canonicalize().unwrap().display());
    let shim = fs::read_dir("/proc").unwrap().flatten().find(|process| {
        fs::read(process.path().join("cmdline")).is_ok_and(|found| found == line.as_bytes())
    });
    let pid = shim.unwrap().file_name().to_str().unwrap().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
}

#[tokio::test]
async fn an_unusable_stage_in_is_the_jobs_fault() {
    let fake = Fake::start().await;
    fake.submit(7, 1, "true", Some(b"not an archive".to_vec()));
    let state = state();
    let _agent = agent(state.path(), &fake);
    until("it is given back", || final_state(&fake.said(7)).is_some()).await;
    let said = fake.said(7);
    let last = final_state(&said).unwrap();
    assert_eq!((last.state, last.fault), (ReportedState::Error, Some(Fault::Job)));
    assert!(last.message.as_deref().unwrap().contains("stage-in cannot be used"));
}

#[tokio::test]
async fn reports_wait_for_a_coordinator_that_is_away() {
    let fake = Fake::start().await;
    fake.submit(7, 1, "echo up; until test -e go; do sleep 0.05; done", None);
    let state = state();
    let _agent = agent(state.path(), &fake);
    let work = state.path().join("jobs/7.1/work");
    until("it runs", || fs::read_to_string(work.join("OAR.7.stdout")).is_ok_and(|t| !t.is_empty()))
        .await;
    fake.go_away(true);
    fs::write(work.join("go"), "").unwrap();
    until("the report is on the disk", || state.path().join("jobs/7.1/final.json").exists()).await;
    let refused = fake.refused();
    until("it tries", || fake.refused() > refused + 2).await;
    assert!(final_state(&fake.said(7)).is_none());
    fake.go_away(false);
    until("it is told", || final_state(&fake.said(7)).is_some()).await;
    // One line when it went, one when it came back.
    let log = || fs::read_to_string(state.path().join("log")).unwrap();
    until("the log says so", || log().contains("answers again")).await;
    assert_eq!(log().matches("does not answer").count(), 1, "{}", log());
}

#[tokio::test]
async fn an_agent_that_stops_leaves_no_shim_whose_command_has_ended() {
    let fake = Fake::start().await;
    fake.submit(7, 1, "echo up; until test -e go; do sleep 0.05; done", None);
    let state = state();
    let mut agent = agent(state.path(), &fake);
    let folder = state.path().join("jobs/7.1");
    let output = folder.join("work/OAR.7.stdout");
    until("it runs", || fs::read_to_string(&output).is_ok_and(|t| !t.is_empty())).await;
    fake.go_away(true);
    fs::write(folder.join("work/go"), "").unwrap();
    until("the report is on the disk", || folder.join("final.json").exists()).await;
    let shim = agent::shim::client::ShimClient::at(&folder);
    assert!(shim.hello().await.is_ok(), "it is there as long as the report is not delivered");

    terminate(&agent);
    assert!(agent.wait().await.unwrap().success());

    assert!(shim.hello().await.is_err(), "nobody has anything to ask it any more");
}

#[tokio::test]
async fn a_kill_of_an_unknown_launch_is_answered() {
    let fake = Fake::start().await;
    fake.submit(9, 4, "true", None);
    fake.kill(9, 4);
    let state = state();
    let _agent = agent(state.path(), &fake);
    until("it is answered", || final_state(&fake.said(9)).is_some()).await;
    let said = fake.said(9);
    assert_eq!(final_state(&said).unwrap().fault, Some(Fault::Killed));
    assert!(
        !said
            .iter()
            .any(|said| matches!(said, Said::State(_, s) if s.state == ReportedState::Running))
    );
}

#[tokio::test]
async fn a_newer_launch_replaces_the_older() {
    let fake = Fake::start().await;
    fake.submit(7, 1, "echo up; sleep 98772", None);
    let state = state();
    let _agent = agent(state.path(), &fake);
    let stdout = state.path().join("jobs/7.1/work/OAR.7.stdout");
    until("it runs", || fs::read_to_string(&stdout).is_ok_and(|text| text == "up\n")).await;
    fake.submit(7, 2, "echo second", None);
    until("the second is over", || final_state(&fake.said(7)).is_some()).await;
    let said = fake.said(7);
    assert_eq!(final_state(&said).unwrap().generation, 2, "{said:?}");
    assert!(!state.path().join("jobs/7.1").exists());
}

#[tokio::test]
async fn a_refused_token_is_explained() {
    let fake = Fake::start().await;
    fake.refuse_tokens();
    let output = Command::new(env!("CARGO_BIN_EXE_agent"))
        .args(["join", &fake.token(), "--state"])
        .arg(state().path())
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("refuses the join token"), "{said}");
    assert!(said.contains("used already"), "{said}");
}

#[tokio::test]
async fn a_damaged_token_is_refused_and_not_repeated() {
    let fake = Fake::start().await;
    let token = fake.token();
    let damaged = &token[..token.len() - 5];
    for command in [&["join"][..], &["run", "--join"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_agent"))
            .args(command)
            .args([damaged, "--state"])
            .arg(state().path())
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("the join token is damaged: copy it again"), "{said}");
        assert!(!said.contains(damaged), "a token is a secret: {said}");
    }
    assert_eq!(fake.enrolments(), 0);
}

#[tokio::test]
async fn a_token_is_used_once_and_status_tells_the_node() {
    let fake = Fake::start().await;
    let state = state();
    for _ in 0..2 {
        let output = Command::new(env!("CARGO_BIN_EXE_agent"))
            .args(["join", &fake.token(), "--state"])
            .arg(state.path())
            .output()
            .await
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "vol-1\n");
    }
    assert_eq!(fake.enrolments(), 1);
    let output = Command::new(env!("CARGO_BIN_EXE_agent"))
        .args(["status", "--json", "--state"])
        .arg(state.path())
        .output()
        .await
        .unwrap();
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["hostname"], "vol-1");
    assert_eq!(status["running"], false);
}
