use std::num::NonZeroU64;

use coordinator_api::agent::AssignedNode;
use futures_util::FutureExt as _;

use super::*;

const OFFER: Offer = Offer { cores: 4, memory_mib: 8 << 10 };

fn assignment(cores: u16) -> Assignment {
    Assignment {
        generation: 1,
        rank: 0,
        nodes: vec![AssignedNode { name: "vol-1".into(), cores }],
        mesh: false,
        spmd: false,
        stagein: false,
        stagein_sha256: None,
        walltime: 60,
    }
}

#[test]
fn hours_may_go_over_midnight() {
    let night: Hours = "22:00-07:30".parse().unwrap();
    let held = [22 * 60, 23 * 60 + 59, 0, 7 * 60 + 29].map(|minute| night.hold(minute));
    assert_eq!(held, [true; 4]);
    assert!(!night.hold(7 * 60 + 30) && !night.hold(22 * 60 - 1));
    let day: Hours = "9:00-17:00".parse().unwrap();
    assert!(day.hold(9 * 60) && !day.hold(17 * 60) && !day.hold(8 * 60 + 59));
    assert_eq!(day.to_string(), "09:00-17:00");
    let evening: Hours = "18:00-24:00".parse().unwrap();
    assert!(evening.hold(23 * 60 + 59) && !evening.hold(0));
    for bad in
        ["", "9-17", "9:00", "9:00-9:00", "25:00-1:00", "9:60-10:00", "24:00-0:00", "1:0a-2:00"]
    {
        assert_eq!(bad.parse::<Hours>(), Err(BadHours), "{bad}");
    }
}

#[test]
fn what_was_said_is_kept_and_taken_back() {
    let state = tempfile::tempdir().unwrap();
    let owner = Owner::load(state.path(), OFFER, NetworkGrant::default()).unwrap();
    let said =
        Change { cores: Some(1), memory_mib: Some(100), paused: Some(true), ..Change::default() };
    owner.change(&said).unwrap();
    let again = Owner::load(state.path(), OFFER, NetworkGrant::default()).unwrap();
    assert!(again.will().is_paused() && !again.will().takes_jobs());
    assert_eq!(again.limits_of(&assignment(2)).cores, 1);
    let back = Change { cores: Some(0), paused: Some(false), ..Change::default() };
    let wishes = again.change(&back).unwrap();
    assert_eq!((wishes.cores, wishes.memory_mib), (None, Some(100)));
    assert!(again.will().takes_jobs());
}

#[test]
fn a_job_gets_its_part_of_everything() {
    let state = tempfile::tempdir().unwrap();
    let owner = Owner::load(state.path(), OFFER, NetworkGrant::default()).unwrap();
    owner.change(&Change { disk_mib: Some(400), ..Change::default() }).unwrap();
    let limits = owner.limits_of(&assignment(3));
    assert_eq!((limits.cores, limits.memory_bytes >> 20, limits.disk_bytes >> 20), (3, 6144, 300));
}

#[tokio::test]
async fn launches_wait_for_cores_and_one_is_always_taken() {
    let state = tempfile::tempdir().unwrap();
    let owner = Owner::load(state.path(), OFFER, NetworkGrant::default()).unwrap();
    let large = owner.admit(&assignment(9)).await;
    let (small, other) = (assignment(1), assignment(3));
    let mut waiting = std::pin::pin!(owner.admit(&small));
    assert!((&mut waiting).now_or_never().is_none());
    drop(large);
    let _first = waiting.await;
    let _second = owner.admit(&other).now_or_never().expect("four of four");
    assert!(owner.admit(&small).now_or_never().is_none());
    // The owner gives more.
    let mut third = std::pin::pin!(owner.admit(&small));
    assert!((&mut third).now_or_never().is_none());
    owner.change(&Change { cores: Some(5), ..Change::default() }).unwrap();
    let _third = third.await;
}

#[test]
fn the_network_gets_what_was_said_or_else_what_was_offered() {
    let state = tempfile::tempdir().unwrap();
    let offered = NetworkGrant {
        bytes_per_second: NonZeroU64::new(1000),
        bytes_per_day: NonZeroU64::new(5000),
    };
    let owner = Owner::load(state.path(), OFFER, offered).unwrap();
    let granted = |owner: &Owner| {
        let NetworkUse { bytes_per_second, bytes_per_day, .. } = owner.network_use();
        NetworkGrant { bytes_per_second, bytes_per_day }
    };
    assert_eq!(granted(&owner), offered);
    owner.limit().take(6000);
    assert!(!owner.will().takes_jobs(), "today's volume is used up");

    let said = Change { network_per_day: Some(7000), ..Change::default() };
    owner.change(&said).unwrap();
    assert!(owner.will().takes_jobs());
    owner.close();
    let again = Owner::load(state.path(), OFFER, offered).unwrap();
    assert_eq!(granted(&again).bytes_per_day, NonZeroU64::new(7000));
    assert_eq!(again.network_use().bytes_today, 6000);
    let back = Change { network_per_day: Some(0), ..Change::default() };
    again.change(&back).unwrap();
    assert_eq!(granted(&again), offered);
    assert!(!again.will().takes_jobs());
}
