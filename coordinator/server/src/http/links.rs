//! Links of OAR's objects.

use coordinator_api::Link;
use coordinator_core::{JobId, NodeNumber};

use super::PREFIX;

tokio::task_local! {
    /// The prefix that the request under way was sent to.
    static CALLED: &'static str;
}

/// Answers a request that came by this prefix: links lead there as well.
pub(super) async fn under<F: Future>(prefix: &'static str, answering: F) -> F::Output {
    CALLED.scope(prefix, answering).await
}

/// Where a link to this path of a route leads.
pub(super) fn href(path: &str) -> String {
    let prefix = CALLED.try_with(|prefix| *prefix).unwrap_or(PREFIX);
    format!("{prefix}{path}")
}

fn link(rel: &str, path: String, title: Option<&str>) -> Link {
    let href = href(&path);
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
