//! `oaraccounting`: what users asked for and used.

use std::time::{Duration, SystemTime};

use clap::Parser;
use comfy_table::{Table, presets};

use crate::failure::{EXIT_CODES, Failure};
use crate::output::plain_line;
use crate::{login, output};

/// Shows the resource-seconds that users asked for and used, by project.
#[derive(Debug, Parser)]
#[command(name = "oaraccounting", version, after_help = EXIT_CODES)]
pub(crate) struct Accounting {
    /// Only this user's
    #[arg(short = 'u', long, value_name = "USER")]
    user: Option<String>,
    /// From this day on, as in 2026-01-31 (UTC)
    #[arg(long, value_name = "DATE", value_parser = day)]
    from: Option<u64>,
    /// To the end of this day
    #[arg(long, value_name = "DATE", value_parser = day)]
    to: Option<u64>,
    /// Print JSON
    #[arg(short = 'J', long)]
    json: bool,
}

impl Accounting {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = login::client()?;
        let list = client.accounting(self.user.as_deref(), self.from, self.to).await?;
        if self.json {
            return output::print_json(&list.items);
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(["Project", "User", "Asked (s)", "Used (s)"]);
        for project in &list.items {
            for (user, asked) in &project.consumptions.asked {
                let used = project.consumptions.used.get(user).map_or("0", String::as_str);
                let (name, user) = (plain_line(&project.project), plain_line(user));
                table.add_row([&*name, &*user, asked, used]);
            }
        }
        output::print(
            &table.lines().map(|line| format!("{}\n", line.trim_end())).collect::<String>(),
        )
    }
}

/// A day's first second since the Unix epoch.
fn day(text: &str) -> Result<u64, String> {
    let time = humantime::parse_rfc3339(&format!("{text}T00:00:00Z"));
    let time = time.map_err(|_| "write a date, as in 2026-01-31".to_owned())?;
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Ok(since.as_secs())
}
