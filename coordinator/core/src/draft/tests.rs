use coordinator_api::job::{OneOrMany, SubmitJob};

use super::*;
use crate::actor::Actor;
use crate::request::Request;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn request() -> Request {
    let resource = OneOrMany(vec!["core=1".to_owned()]);
    let submission = SubmitJob { command: "true".to_owned(), resource, ..SubmitJob::default() };
    Request::admit(&submission).unwrap()
}

#[test]
fn a_command_that_is_refused_after_it_did_something_leaves_no_trace() {
    let (empty, policy) = (Cluster::default(), Policy::default());
    let mut draft = Draft::new(&empty, NOW, &policy);
    let node = draft.enrol(2, 1_024);
    let kept = draft.submit("alice", request()).unwrap();
    let begun = draft.finish(&empty).0;
    let mut draft = Draft::new(&begun, NOW, &policy);
    let refused = draft.attempt(|draft| {
        draft.set_node_property(node, "place", "attic").unwrap();
        draft.enrol(4, 1_024);
        draft.delete(&Actor::user("alice"), kept).unwrap();
        draft.submit("alice", request()).unwrap();
        Err::<(), &str>("no")
    });
    assert_eq!(refused, Err("no"));
    let (after, changes) = draft.finish(&begun);
    assert_eq!(format!("{:?}", after.nodes), format!("{:?}", begun.nodes));
    assert_eq!(format!("{:?}", after.jobs), format!("{:?}", begun.jobs));
    assert_eq!((after.counters, &after.usage), (begun.counters, &begun.usage));
    assert!(!changes.iter().any(|change| matches!(change, Change::Counters(_))), "{changes:?}");
}

#[test]
fn commands_of_one_moment_see_what_those_before_them_did() {
    let (empty, policy) = (Cluster::default(), Policy::default());
    let mut draft = Draft::new(&empty, NOW, &policy);
    let node = draft.attempt(|draft| Ok::<_, ()>(draft.enrol(1, 1_024))).unwrap();
    let job = draft.attempt(|draft| draft.submit("alice", request())).unwrap();
    draft.attempt(|draft| draft.delete(&Actor::user("alice"), job)).unwrap();
    assert!(draft.attempt(|draft| draft.delete(&Actor::user("alice"), job)).is_err());
    let second = draft.attempt(|draft| draft.submit("alice", request())).unwrap();
    let (after, _) = draft.finish(&empty);
    assert!(after.job(job).is_none());
    assert_eq!(after.to_launch(node), [(second, 1)]);
}
