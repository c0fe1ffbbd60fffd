//! `coordinator audit`: who changed what.

use super::{date, open, print_lines};
use crate::args::Audit;
use crate::store::AuditRow;

/// Runs `coordinator audit`.
///
/// # Errors
///
/// A sentence for the operator.
pub async fn audit(arguments: Audit) -> anyhow::Result<()> {
    let store = open(&arguments.data).await?;
    let rows = store.audits(arguments.last).await?;
    store.close().await;
    if arguments.json {
        let lines: Result<Vec<String>, _> = rows.iter().map(serde_json::to_string).collect();
        return print_lines(lines?);
    }
    print_lines(rows.iter().map(line))
}

fn line(AuditRow { time, actor, action, subject }: &AuditRow) -> String {
    format!("{}  {actor}  {action}  {subject}", date(*time))
}
