//! `coordinator node`: the machines that have joined.

use anyhow::bail;

use super::{date, note, open, print_lines};
use crate::args::Node;
use crate::clock::Clock;
use crate::store::EnrolledNode;

/// Runs `coordinator node`.
///
/// # Errors
///
/// A sentence for the operator.
pub async fn node(command: Node) -> anyhow::Result<()> {
    let now = Clock::default().now();
    match command {
        Node::List { data } => {
            let store = open(&data).await?;
            let nodes = store.enrolled_nodes().await?;
            store.close().await;
            print_lines(nodes.iter().map(line))
        }
        Node::Revoke { nodes, data } => {
            let store = open(&data).await?;
            for node in nodes {
                if !store.revoke_node(node, now).await? {
                    bail!("there is no node {node}, or it is revoked: see `coordinator node list`");
                }
                note(&store, now, "node revoked", &node.to_string()).await?;
            }
            store.close().await;
            Ok(())
        }
    }
}

fn line(node: &EnrolledNode) -> String {
    let line = format!("{}  joined {}  {}", node.number, date(node.enrolled), node.software);
    match node.revoked {
        Some(revoked) => format!("{line}  revoked {}", date(revoked)),
        None => line,
    }
}
