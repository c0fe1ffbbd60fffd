use super::*;

fn id(job: u64, generation: u32) -> LaunchId {
    LaunchId { job, generation }
}

fn lists(to_launch: &[LaunchId], to_kill: &[LaunchId]) -> Desired {
    Desired { to_launch: to_launch.to_vec(), to_kill: to_kill.to_vec() }
}

fn decide(desired: &Desired, local: &[(LaunchId, Local)], finished: &[LaunchId]) -> Vec<Action> {
    reconcile(desired, &local.iter().copied().collect(), &finished.iter().copied().collect())
}

#[test]
fn a_new_launch_starts_once() {
    let desired = lists(&[id(7, 1)], &[]);
    assert_eq!(decide(&desired, &[], &[]), [Action::Start(id(7, 1))]);
    assert_eq!(decide(&desired, &[(id(7, 1), Local::Active)], &[]), []);
}

#[test]
fn a_stale_list_does_not_start_a_finished_launch_again() {
    assert_eq!(decide(&lists(&[id(7, 1)], &[]), &[], &[id(7, 1)]), []);
}

#[test]
fn a_kill_is_answered_although_the_launch_has_ended_here() {
    // As after a restart: the launch was dropped without a report, and the coordinator waits for one.
    let action = [Action::ReportUnknown(id(7, 1))];
    assert_eq!(decide(&lists(&[], &[id(7, 1)]), &[], &[id(7, 1)]), action);
}

#[test]
fn two_jobs_start_side_by_side() {
    let desired = lists(&[id(8, 1), id(7, 3)], &[]);
    let want = [Action::Start(id(7, 3)), Action::Start(id(8, 1))];
    assert_eq!(decide(&desired, &[(id(6, 1), Local::Active)], &[]), want);
}

#[test]
fn an_older_launch_goes_before_the_newer_starts() {
    let desired = lists(&[id(7, 2)], &[]);
    let older = id(7, 1);
    assert_eq!(decide(&desired, &[(older, Local::Active)], &[]), [Action::Abandon(older)]);
    assert_eq!(decide(&desired, &[(older, Local::Killing)], &[]), [Action::Abandon(older)]);
    assert_eq!(decide(&desired, &[(older, Local::Abandoning)], &[]), []);
    assert_eq!(decide(&desired, &[], &[older]), [Action::Start(id(7, 2))]);
}

#[test]
fn an_older_launch_in_a_stale_list_leaves_the_newer_alone() {
    assert_eq!(decide(&lists(&[id(7, 1)], &[]), &[(id(7, 2), Local::Active)], &[]), []);
}

#[test]
fn only_the_newest_of_two_listed_launches_starts() {
    let desired = lists(&[id(7, 2), id(7, 1)], &[]);
    assert_eq!(decide(&desired, &[], &[]), [Action::Start(id(7, 2))]);
}

#[test]
fn a_kill_is_ordered_once() {
    let desired = lists(&[], &[id(7, 1)]);
    assert_eq!(decide(&desired, &[(id(7, 1), Local::Active)], &[]), [Action::Kill(id(7, 1))]);
    assert_eq!(decide(&desired, &[(id(7, 1), Local::Killing)], &[]), []);
    assert_eq!(decide(&desired, &[(id(7, 1), Local::Abandoning)], &[]), []);
}

#[test]
fn a_kill_of_an_unknown_launch_is_answered() {
    let desired = lists(&[], &[id(7, 1)]);
    assert_eq!(decide(&desired, &[], &[]), [Action::ReportUnknown(id(7, 1))]);
    let newer_runs = [(id(7, 2), Local::Active)];
    assert_eq!(decide(&desired, &newer_runs, &[]), [Action::ReportUnknown(id(7, 1))]);
}

#[test]
fn a_launch_in_both_lists_is_not_started() {
    let both = lists(&[id(7, 1)], &[id(7, 1)]);
    assert_eq!(decide(&both, &[], &[]), [Action::ReportUnknown(id(7, 1))]);
}
