//! Coordinators that lie, and disks that fail.

use std::fs;

use coordinator_api::agent::{Fault, ReportedState};
use serde_json::json;

use crate::fake::Fake;
use crate::{agent, final_state, kill_shim_of, state, until};

#[tokio::test]
async fn an_end_that_cannot_be_written_down_is_told() {
    let fake = Fake::start().await;
    fake.submit(7, 1, "echo up; until test -e go; do sleep 0.05; done", None);
    let state = state();
    let _agent = agent(state.path(), &fake);
    let folder = state.path().join("jobs/7.1");
    let stdout = folder.join("work/OAR.7.stdout");
    until("it runs", || fs::read_to_string(&stdout).is_ok_and(|text| text == "up\n")).await;
    // In the way of the files, for root as well.
    fs::create_dir(folder.join("final.new")).unwrap();
    fs::create_dir(folder.join("stageout.tgz")).unwrap();
    fs::write(folder.join("work/go"), "").unwrap();
    until("it is told", || final_state(&fake.said(7)).is_some()).await;
    let said = fake.said(7);
    let last = final_state(&said).unwrap();
    assert_eq!((last.state, last.fault), (ReportedState::Error, Some(Fault::Node)));
    assert!(last.message.as_deref().unwrap().contains("results could not be packed"), "{last:?}");
    until("the folder is gone", || !folder.exists()).await;
}

#[tokio::test]
async fn a_list_without_end_does_not_drown_the_node() {
    let fake = Fake::start().await;
    for job in 1..=2_000 {
        fake.submit(job, 1, "sleep 98774", None);
    }
    let state = state();
    let mut agent = agent(state.path(), &fake);
    let jobs = state.path().join("jobs");
    let folders = || fs::read_dir(&jobs).map_or(0, Iterator::count);
    until("some are taken", || folders() >= 32).await;
    let polls = fake.polls();
    until("it was asked again", || fake.polls() > polls + 6).await;
    assert_eq!(folders(), 32);
    agent.kill().await.unwrap();
    for folder in fs::read_dir(&jobs).unwrap() {
        let folder = folder.unwrap().path();
        if folder.join("shim.sock").exists() {
            kill_shim_of(&folder);
        }
    }
}

#[tokio::test]
async fn a_walltime_beyond_all_time_is_no_end() {
    let fake = Fake::start().await;
    fake.submit(7, 1, "echo up", None);
    fake.lie(7, |job| job["assignment"]["walltime"] = json!(u64::MAX));
    let state = state();
    let _agent = agent(state.path(), &fake);
    until("it is over", || final_state(&fake.said(7)).is_some()).await;
    assert_eq!(final_state(&fake.said(7)).unwrap().exit_code, Some(0));
}

#[tokio::test]
async fn senseless_jobs_are_given_back_and_leave_nothing() {
    let fake = Fake::start().await;
    for job in 1..=4 {
        fake.submit(job, 1, "echo up", None);
    }
    fake.lie(1, |job| job["assignment"]["nodes"][0]["name"] = json!("../../etc/cron.d/x"));
    fake.lie(2, |job| job["assignment"]["nodes"] = json!([]));
    fake.lie(3, |job| job["assignment"]["rank"] = json!(9));
    fake.lie(4, |job| job["command"] = json!("x".repeat(200_000)));
    let state = state();
    let _agent = agent(state.path(), &fake);
    for job in 1..=4 {
        until("it is given back", || final_state(&fake.said(job)).is_some()).await;
        let said = fake.said(job);
        let last = final_state(&said).unwrap();
        assert_eq!((last.state, last.fault), (ReportedState::Error, Some(Fault::Job)), "{said:?}");
    }
    let jobs = state.path().join("jobs");
    until("nothing is left", || fs::read_dir(&jobs).unwrap().count() == 0).await;
}

#[tokio::test]
async fn a_job_that_cannot_be_understood_keeps_no_other_waiting() {
    let fake = Fake::start().await;
    fake.submit(7, 1, "echo up", None);
    fake.submit(8, 1, "echo up", None);
    fake.lie(7, |job| *job = json!("what?"));
    let state = state();
    let _agent = agent(state.path(), &fake);
    until("the other is over", || final_state(&fake.said(8)).is_some()).await;
    assert!(fake.said(7).is_empty());
    // Until the coordinator finds its words again.
    fake.lie(7, |_| {});
    until("it is over", || final_state(&fake.said(7)).is_some()).await;
}
