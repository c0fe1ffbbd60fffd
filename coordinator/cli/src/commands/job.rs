//! `oar mesh` and `oar events`: a closer look at one job.

use std::fmt::Write;

use clap::Args;
use comfy_table::{Table, presets};
use coordinator_api::mesh::{JobMesh, MeshPair};

use crate::failure::Failure;
use crate::output::{date, plain_line};
use crate::{login, output};

#[derive(Debug, Args)]
pub(crate) struct Mesh {
    /// The job's number
    #[arg(value_name = "ID")]
    job: u64,
    /// Print JSON
    #[arg(short = 'J', long)]
    json: bool,
}

impl Mesh {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let (client, job) = (login::client()?, self.job);
        let mesh = match client.mesh(job).await {
            // 404 for both: ask which.
            Err(error) if error.status() == Some(404) => {
                client.job(job).await.map_err(Failure::of_job(job))?;
                return Err(Failure::NoNetwork { job });
            }
            mesh => mesh?,
        };
        if self.json {
            return output::print_json(&mesh);
        }
        output::print(&describe(&mesh))
    }
}

fn describe(mesh: &JobMesh) -> String {
    let mut text = format!("job {}, launch {}: ", mesh.job, mesh.generation);
    // Writing to a string does not fail.
    let _ = match mesh.open_ms {
        Some(open) => writeln!(
            text,
            "open {} ms after the nodes were assigned",
            open.saturating_sub(mesh.assigned_ms)
        ),
        None => writeln!(text, "not open"),
    };
    if mesh.pattern != "all" {
        let _ = writeln!(
            text,
            "pattern {}: it opened for these pairs; others get their path with their first packet",
            plain_line(&mesh.pattern)
        );
    }
    for member in &mesh.members {
        let _ = writeln!(
            text,
            "  {} {} {}",
            member.rank,
            plain_line(&member.name),
            plain_line(&member.ipv4)
        );
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
        .set_header(["from", "to", "path", "via", "rtt ms", "after ms", "sent", "received", "why"]);
    for pair in &mesh.pairs {
        table.add_row(row(pair));
    }
    for line in table.lines() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn row(pair: &MeshPair) -> [String; 9] {
    let milliseconds = |us: u64| format!("{}.{}", us / 1000, us % 1000 / 100);
    [
        pair.from.to_string(),
        pair.to.to_string(),
        plain_line(&pair.path),
        plain_line(pair.via.as_deref().unwrap_or("-")),
        pair.rtt_us.map_or_else(|| "-".to_owned(), milliseconds),
        pair.established_after_ms.map_or_else(|| "-".to_owned(), |ms| ms.to_string()),
        pair.sent_bytes.to_string(),
        pair.received_bytes.to_string(),
        plain_line(&pair.explain),
    ]
}

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// The job's number
    #[arg(value_name = "ID")]
    job: u64,
    /// Print JSON
    #[arg(short = 'J', long)]
    json: bool,
}

impl Events {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let events =
            login::client()?.job(self.job).await.map_err(Failure::of_job(self.job))?.events;
        if self.json {
            return output::print_json(&events);
        }
        let line = |event: &coordinator_api::job::Event| {
            let (kind, text) = (plain_line(&event.kind), plain_line(&event.description));
            format!("{} {kind}: {text}\n", date(event.date))
        };
        output::print(&events.iter().map(line).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_is_told_when_there_is_one() {
        let text = |pattern: &str| {
            describe(&JobMesh {
                job: 7,
                generation: 1,
                assigned_ms: 1_000,
                open_ms: Some(1_500),
                pattern: pattern.to_owned(),
                members: vec![],
                pairs: vec![],
            })
        };
        assert!(text("ring").contains("\npattern ring: "), "{}", text("ring"));
        assert!(!text("all").contains("pattern"), "{}", text("all"));
    }
}
