//! Links of OAR's objects.

use std::borrow::Cow;
use std::fmt;

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
pub(super) fn href(path: impl fmt::Display) -> String {
    let prefix = CALLED.try_with(|prefix| *prefix).unwrap_or(PREFIX);
    format!("{prefix}{path}")
}

fn link(rel: &'static str, path: impl fmt::Display, title: Option<&'static str>) -> Link {
    Link { rel: rel.into(), href: href(path), title: title.map(Cow::from) }
}

pub(super) fn itself(path: impl fmt::Display) -> Link {
    link("self", path, None)
}

pub(super) fn collection(path: impl fmt::Display, title: &'static str) -> Link {
    link("collection", path, Some(title))
}

/// The job that another one repeats.
pub(super) fn parent(id: JobId) -> Link {
    link("parent", format_args!("/jobs/{id}"), None)
}

pub(super) fn of_job(id: JobId) -> Vec<Link> {
    vec![
        itself(format_args!("/jobs/{id}")),
        collection(format_args!("/jobs/{id}/resources"), "resources"),
        collection(format_args!("/jobs/{id}/nodes"), "nodes"),
    ]
}

pub(super) fn of_node(node: NodeNumber) -> Vec<Link> {
    vec![itself(format_args!("/resources/nodes/{node}"))]
}

pub(super) fn of_resource(id: u64, node: NodeNumber) -> Vec<Link> {
    vec![
        link("member", format_args!("/resources/nodes/{node}"), Some("node")),
        itself(format_args!("/resources/{id}")),
        collection(format_args!("/resources/{id}/jobs"), "jobs"),
    ]
}
