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

/// Bytes that do not become fewer when they are packed.
fn noise(bytes: usize) -> String {
    use rand::distr::{Alphanumeric, SampleString as _};
    use rand::{SeedableRng as _, rngs::StdRng};
    Alphanumeric.sample_string(&mut StdRng::seed_from_u64(7), bytes)
}

async fn granted(state: &Path) -> serde_json::Value {
    let status = run(state, &["status", "--json"]).await;
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    status["network"]["granted"].clone()
}

#[tokio::test]
async fn a_day_whose_volume_is_used_up_takes_no_more_jobs() {
    let fake = Fake::start().await;
    let state = state();
    let options = ["--network-rate", "80Mbit/s", "--network-per-day", "100kB"];
    let mut first = agent_with(state.path(), &fake, &options);
    // More than the volume comes: its rest by the trickle.
    fake.submit(7, 1, "wc -c < input > size", Some(archive_of(&[("input", &noise(150_000))])));
    until("the first has ended", || final_state(&fake.said(7)).is_some()).await;
    assert_eq!(final_state(&fake.said(7)).unwrap().exit_code, Some(0));
    let now = granted(state.path()).await;
    assert_eq!(now["bytes_per_second"], 10_000_000, "{now}");
    assert_eq!((&now["bytes_per_day"], &now["used_up"]), (&100_000.into(), &true.into()), "{now}");
    let bytes = now["bytes_today"].as_u64().unwrap();
    assert!((100_000..200_000).contains(&bytes), "{bytes}");
    let words = String::from_utf8(run(state.path(), &["status"]).await.stdout).unwrap();
    assert!(words.contains("today's volume is used up"), "{words}");

    fake.submit(8, 1, "true", None);
    let is_left_alone = async || {
        let polls = fake.polls();
        until("it was asked", || fake.polls() > polls + 4).await;
        assert!(fake.said(8).is_empty());
    };
    is_left_alone().await;
    // Another start grants nothing anew, and knows the day's count.
    terminate(&first);
    assert!(first.wait().await.unwrap().success());
    let _second = agent_with(state.path(), &fake, &options);
    is_left_alone().await;
    assert_eq!(granted(state.path()).await["bytes_today"], bytes);

    let said = run(state.path(), &["limits", "--network-per-day", "1GB"]).await;
    assert!(String::from_utf8_lossy(&said.stdout).contains("network per day   1.0 GB"), "{said:?}");
    until("the second has ended", || final_state(&fake.said(8)).is_some()).await;
    let wrong = run(state.path(), &["limits", "--network-rate", "2"]).await;
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("2MB/s"), "{wrong:?}");
}

#[tokio::test]
async fn a_job_is_acknowledged_when_there_are_cores_for_it() {
    let fake = Fake::start().await;
    let state = state();
    let _agent = agent(state.path(), &fake);
    // Each wants both cores that the agent has.
    fake.submit(7, 1, "until test -e go; do sleep 0.05; done", None);
    until("the first is taken", || !fake.said(7).is_empty()).await;
    fake.submit(8, 1, "true", None);
    until("the second is looked at", || state.path().join("jobs/8.1").exists()).await;
    let polls = fake.polls();
    until("it was asked", || fake.polls() > polls + 4).await;
    assert!(fake.said(8).is_empty(), "its walltime would pass");
    fs::write(state.path().join("jobs/7.1/work/go"), "").unwrap();
    until("the second has ended", || final_state(&fake.said(8)).is_some()).await;
    assert_eq!(final_state(&fake.said(8)).unwrap().exit_code, Some(0));
}
