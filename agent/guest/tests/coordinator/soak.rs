//! The agent is killed again and again, at any moment, while it works. Nothing is lost, nothing counts twice, and
//! nothing is left.

use std::collections::BTreeSet;

use agent::confine::cage::{Cages, Group};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;

/// How many jobs; AGENT_SOAK_JOBS=500 for the long run by hand.
fn jobs() -> u64 {
    std::env::var("AGENT_SOAK_JOBS").ok().and_then(|text| text.parse().ok()).unwrap_or(24)
}

/// Says twice which run of it this is, with an input that must have been there.
const COMMAND: &str = "run=$(cat /proc/sys/kernel/random/uuid); echo $run; cat input; sleep 0.2; echo $run > made; echo $run";

#[tokio::test]
async fn an_agent_that_is_killed_at_any_moment_loses_and_leaves_nothing() {
    let fake = Fake::start().await;
    let state = state();
    let mut random = StdRng::seed_from_u64(7);
    let jobs = jobs();
    for job in 1..=jobs {
        fake.submit(job, 1, COMMAND, Some(archive_of(&[("input", "here\n")])));
    }
    let is_over = |job: u64| final_state(&fake.said(job)).is_some();
    let deadline = std::time::Instant::now() + LIMIT + Duration::from_secs(2 * jobs);
    let mut kills = 0;
    while !(1..=jobs).all(is_over) {
        let mut agent = agent_with(state.path(), &fake, &["--cores", "8"]);
        // Long enough for something to happen: most often in the middle of it.
        let life = Duration::from_millis(random.random_range(20..1500));
        let _ = tokio::time::timeout(life, agent.wait()).await;
        agent.kill().await.unwrap();
        kills += 1;
        assert!(std::time::Instant::now() < deadline, "{kills} kills, and jobs are left");
    }
    assert!(kills > 3, "{kills}");
    // What was reported may still have to be cleared away.
    let last = agent_with(state.path(), &fake, &["--cores", "8"]);
    let polls = fake.polls();
    until("it works", || fake.polls() > polls).await;
    let left = || fs::read_dir(state.path().join("jobs")).map_or(0, Iterator::count);
    until("all is cleared away", || left() == 0).await;
    terminate(&last);
    let mut last = last;
    assert!(last.wait().await.unwrap().success());

    let log = || fs::read_to_string(state.path().join("log")).unwrap();
    let mut runs = BTreeSet::new();
    for job in 1..=jobs {
        let said = fake.said(job);
        let end = final_state(&said).unwrap();
        assert_eq!(
            (end.state, end.exit_code),
            (ReportedState::Terminated, Some(0)),
            "{job} {said:?} {}",
            log()
        );
        let results: Vec<_> = said
            .iter()
            .filter_map(|said| match said {
                Said::Stageout { files, .. } => Some(files),
                Said::State(..) => None,
            })
            .collect();
        // The results came before the report, whole, and of one run alone, however often.
        let first = said.iter().position(|said| matches!(said, Said::Stageout { .. }));
        let report = said.iter().position(
            |said| matches!(said, Said::State(_, state) if state.state != ReportedState::Running),
        );
        assert!(first < report && first.is_some(), "{said:?}");
        let text = |name: &str| {
            let texts: BTreeSet<_> = results
                .iter()
                .map(|files| {
                    files.iter().find(|(file, _)| file == name).map(|(_, text)| text.clone())
                })
                .collect();
            assert_eq!(texts.len(), 1, "{texts:?}");
            texts.into_iter().next().flatten().unwrap()
        };
        let run = text("made");
        assert_eq!(text(&format!("OAR.{job}.stdout")), format!("{run}here\n{run}"));
        assert!(runs.insert(run), "two jobs of one run");
    }

    let word = state.path().to_str().unwrap();
    until("no process is left", || processes_with(word).is_empty()).await;
    assert!(!fs::read_to_string("/proc/mounts").unwrap().contains(word));
    let cages = Cages::find();
    let jobs_folder = state.path().canonicalize().unwrap().join("jobs");
    for job in 1..=jobs {
        let cage = cages.of(&jobs_folder.join(format!("{job}.1")));
        let groups: [&Option<Group>; 4] = [&cage.memory, &cage.cpu, &cage.tasks, &cage.freezer];
        for group in groups.into_iter().flatten() {
            assert!(!group.path.exists(), "{}", group.path.display());
        }
    }
}
