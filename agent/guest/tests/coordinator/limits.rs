//! The owner's word, while jobs run.

use super::*;
use crate::owner::run;

/// Counts for ever.
const COUNT: &str = "i=0; while :; do i=$((i+1)); echo $i > new; mv new count; sleep 0.01; done";

fn count(state: &Path) -> u64 {
    let text = fs::read_to_string(state.join("jobs/7.1/work/count")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn log(state: &Path) -> String {
    fs::read_to_string(state.join("log")).unwrap()
}

/// What the agent has logged of the job so often.
async fn logged(state: &Path, word: &str, times: usize) {
    until(word, || log(state).lines().filter(|line| line.contains(word)).count() >= times).await;
}

/// The job stands still while the agent goes on.
async fn stands_still(fake: &Fake, state: &Path) {
    let (before, polls) = (count(state), fake.polls());
    until("the agent polls", || fake.polls() > polls + 8).await;
    assert_eq!(count(state), before);
}

async fn goes_on(state: &Path) {
    let before = count(state);
    until("it counts", || count(state) > before + 3).await;
}

#[tokio::test]
async fn a_paused_job_stands_still_and_goes_on() {
    let fake = Fake::start().await;
    fake.submit(7, 1, COUNT, None);
    let state = state();
    let mut first = agent(state.path(), &fake);
    goes_on(state.path()).await;
    assert!(run(state.path(), &["pause"]).await.status.success());
    logged(state.path(), "paused", 1).await;
    stands_still(&fake, state.path()).await;

    // Also for the next agent; and nothing new begins.
    first.kill().await.unwrap();
    let _second = agent(state.path(), &fake);
    logged(state.path(), "paused", 2).await;
    fake.submit(8, 1, "true", None);
    stands_still(&fake, state.path()).await;
    assert!(fake.said(8).is_empty());

    assert!(run(state.path(), &["continue"]).await.status.success());
    goes_on(state.path()).await;
    // And a job that is paused can be killed.
    assert!(run(state.path(), &["pause"]).await.status.success());
    logged(state.path(), "paused", 3).await;
    fake.kill(7, 1);
    until("it is over", || final_state(&fake.said(7)).is_some()).await;
    assert_eq!(final_state(&fake.said(7)).unwrap().fault, Some(Fault::Killed));
}

#[tokio::test]
async fn a_drained_node_ends_what_it_has_and_takes_nothing() {
    let fake = Fake::start().await;
    fake.submit(7, 1, "echo up; until test -e go; do sleep 0.05; done", None);
    let state = state();
    let _agent = agent(state.path(), &fake);
    let work = state.path().join("jobs/7.1/work");
    until("it runs", || fs::read_to_string(work.join("OAR.7.stdout")).is_ok_and(|t| !t.is_empty()))
        .await;
    let mut draining = Box::pin(run(state.path(), &["drain", "--wait"]));
    let drained = |owner: &str| owner.contains("\"draining\":true");
    let owner = state.path().join("owner.json");
    tokio::select! {
        done = &mut draining => panic!("a job runs: {done:?}"),
        () = until("it is said", || fs::read_to_string(&owner).is_ok_and(|o| drained(&o))) => {}
    }
    fake.submit(8, 1, "true", None);
    let polls = fake.polls();
    until("it was asked", || fake.polls() > polls + 4).await;
    assert!(fake.said(8).is_empty());
    fs::write(work.join("go"), "").unwrap();
    assert!(draining.await.status.success());
    assert_eq!(final_state(&fake.said(7)).unwrap().exit_code, Some(0));

    assert!(run(state.path(), &["continue"]).await.status.success());
    until("the other runs", || final_state(&fake.said(8)).is_some()).await;
}

#[tokio::test]
async fn jobs_keep_the_owners_hours() {
    let fake = Fake::start().await;
    fake.submit(7, 1, COUNT, None);
    let state = state();
    let _agent = agent(state.path(), &fake);
    goes_on(state.path()).await;
    // From two hours on to three: not now, whatever the clock shows.
    let now = jiff::Zoned::now().hour();
    let hour = |more: i8| (now + more) % 24;
    let hours = format!("{:02}:00-{:02}:00", hour(2), hour(3));
    let said = run(state.path(), &["limits", "--hours", &hours]).await;
    assert!(String::from_utf8_lossy(&said.stdout).contains(&hours), "{said:?}");
    logged(state.path(), "paused", 1).await;
    stands_still(&fake, state.path()).await;
    assert!(run(state.path(), &["limits", "--hours", "all"]).await.status.success());
    goes_on(state.path()).await;

    let wrong = run(state.path(), &["limits", "--hours", "9-17"]).await;
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("22:00-07:00"), "{wrong:?}");
}
