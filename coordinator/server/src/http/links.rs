//! Links of OAR's objects.

use coordinator_api::Link;
use coordinator_core::{JobId, NodeNumber};

use super::PREFIX;

fn link(rel: &str, path: String, title: Option<&str>) -> Link {
    let href = format!("{PREFIX}{path}");
    Link { rel: rel.to_owned(), href, title: title.map(str::to_owned) }
}

pub(super) fn itself(path: String) -> Link {
    link("self", path, None)
}

pub(super) fn collection(path: &str, title: &str) -> Link {
    link("collection", path.to_owned(), Some(title))
}

/// The job that another one repeats.
pub(super) fn parent(id: JobId) -> Link {
    link("parent", format!("/jobs/{id}"), None)
}

pub(super) fn of_job(id: JobId) -> Vec<Link> {
    vec![
        itself(format!("/jobs/{id}")),
        collection(&format!("/jobs/{id}/resources"), "resources"),
        collection(&format!("/jobs/{id}/nodes"), "nodes"),
    ]
}

pub(super) fn of_node(node: NodeNumber) -> Vec<Link> {
    vec![itself(format!("/resources/nodes/{node}"))]
}

pub(super) fn of_resource(id: u64, node: NodeNumber) -> Vec<Link> {
    vec![
        link("member", format!("/resources/nodes/{node}"), Some("node")),
        itself(format!("/resources/{id}")),
        collection(&format!("/resources/{id}/jobs"), "jobs"),
    ]
}
