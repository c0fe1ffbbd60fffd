//! What is made of a plain OAR server's words.

use serde_json::{Value, json};

use super::*;

/// Shortened from what OAR 2.5.9 sends.
fn details(more: Value) -> Details {
    let mut body = json!({
        "id": 7, "name": null, "state": "toLaunch", "owner": "alice", "project": "default", "queue": "default",
        "types": ["desktop_computing"], "command": "true", "walltime": 600, "array_id": 7, "array_index": 1,
        "stdout_file": "OAR.7.stdout", "stderr_file": "OAR.7.stderr", "exit_code": null, "start_time": 1,
        "resources": [],
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(body).unwrap()
}

fn resource(id: u64, node: &str) -> Value {
    json!({ "id": id, "network_address": node, "cpuset": "0", "state": "Alive" })
}

#[test]
fn the_nodes_are_in_the_order_of_their_resources() {
    let resources = json!([resource(9, "a"), resource(3, "b"), resource(4, "a"), resource(5, "b")]);
    let job = details(json!({ "resources": resources })).into_job(true);
    let assignment = job.assignment.unwrap();
    let nodes: Vec<_> = assignment.nodes.iter().map(|node| (&*node.name, node.cores)).collect();
    assert_eq!(nodes, [("b", 2), ("a", 2)]);
    assert!(assignment.stagein && !assignment.mesh && !assignment.spmd);
    assert_eq!((assignment.generation, assignment.rank, assignment.walltime), (0, 0, 600));
}

#[test]
fn jobs_that_want_a_network_are_known() {
    for (kind, wants) in
        [("mesh", true), ("mesh=ring", true), ("spmd", true), ("desktop_computing", false)]
    {
        let job = details(json!({ "types": ["desktop_computing", kind] })).into_job(false);
        assert_eq!(job.assignment.unwrap().mesh, wants, "{kind}");
    }
}

#[test]
fn a_job_without_a_walltime_has_oars_own() {
    let job =
        details(json!({ "walltime": null, "command": null, "project": null })).into_job(false);
    assert_eq!(job.walltime, Some(7200));
    assert_eq!(job.command, "");
}

#[test]
fn passwords_go_where_they_belong_and_nowhere_else() {
    let (name, value) =
        OarLogin::Password { user: "al".into(), password: "p:ü".into() }.header().unwrap();
    assert_eq!(name, "authorization");
    // printf 'al:p:ü' | base64
    assert_eq!(value.to_str().unwrap(), "Basic YWw6cDrDvA==");
    assert!(value.is_sensitive());
    let (name, value) = OarLogin::Trusted { user: "al".into() }.header().unwrap();
    assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-remote-ident", "al"));
    let ambiguous = OarLogin::Password { user: "a:b".into(), password: String::new() }.header();
    assert_eq!(ambiguous.unwrap_err(), ClientError::BadCredential);
    assert!(OarLogin::Trusted { user: "a\nb".into() }.header().is_err());
}

#[test]
fn what_is_remembered_is_bounded() {
    let plain = Plain::of("vol-1");
    for job in 0..5000 {
        plain.remember(job, true);
    }
    assert_eq!(plain.known(4999), Some(true));
    assert_eq!(plain.known(0), None);
    assert_eq!(plain.own.lock().unwrap().len(), MAX_KNOWN);
}
