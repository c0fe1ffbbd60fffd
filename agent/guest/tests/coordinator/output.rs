//! What a job writes, while it runs.

use super::{agent, fake::Fake, final_state, state, terminate, until};

#[tokio::test]
async fn output_is_sent_while_the_job_runs_also_after_a_loss_and_by_the_next_agent() {
    let fake = Fake::start().await;
    fake.take_outputs();
    let command = "echo one; echo oops >&2; until test -e two; do sleep 0.02; done; echo two; \
                   until test -e three; do sleep 0.02; done; echo three";
    fake.submit(7, 1, command, None);
    let state = state();
    let go =
        |name: &str| std::fs::write(state.path().join("jobs/7.1/work").join(name), "").unwrap();
    let mut first = agent(state.path(), &fake);
    until("the first lines are there", || {
        fake.output(7, "stdout") == "one\n" && fake.output(7, "stderr") == "oops\n"
    })
    .await;
    fake.lose_outputs();
    go("two");
    until("all is sent again", || fake.output(7, "stdout") == "one\ntwo\n").await;

    terminate(&first);
    first.wait().await.unwrap();
    let _second = agent(state.path(), &fake);
    go("three");
    until("the job is over", || final_state(&fake.said(7)).is_some()).await;
    assert!("one\ntwo\nthree\n".starts_with(&fake.output(7, "stdout")));
}

#[tokio::test]
async fn a_coordinator_without_the_route_is_asked_once_an_output() {
    let fake = Fake::start().await;
    fake.submit(7, 1, "echo one; until test -e two; do echo more; sleep 0.02; done", None);
    let state = state();
    let _agent = agent(state.path(), &fake);
    until("it was tried", || fake.pieces() == 1).await;
    // More than one look later.
    let polls = fake.polls();
    until("time has passed", || fake.polls() > polls + 30).await;
    std::fs::write(state.path().join("jobs/7.1/work/two"), "").unwrap();
    until("the job is over", || final_state(&fake.said(7)).is_some()).await;
    assert_eq!(fake.pieces(), 1);
}
