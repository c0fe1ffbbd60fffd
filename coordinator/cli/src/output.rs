//! What goes to the standard output.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use crate::failure::Failure;

/// Prints a text that ends with its own line end.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(Failure::Output)
}

/// Prints a value as JSON.
pub(crate) fn print_json<T: Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Failure::Output(e.into()))?;
    print(&format!("{text}\n"))
}

/// Text of other people, fit for a terminal: no control characters but line ends and tabs.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '?' } else { c }).collect()
}

/// The same on one line.
pub(crate) fn plain_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `2026-01-31 12:00:00`, UTC; empty for 0, OAR's "not yet".
pub(crate) fn date(seconds: u64) -> String {
    // 9999-12-31: what the format can write.
    if seconds == 0 || seconds > 253_402_300_799 {
        return String::new();
    }
    let time = UNIX_EPOCH + Duration::from_secs(seconds);
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.replace('T', " ").trim_end_matches('Z').to_owned()
}

/// `    name = value`, as in oarstat's full form.
pub(crate) fn field(text: &mut String, name: &str, value: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "    {name} = {}", plain_line(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_oar_does() {
        assert_eq!(date(1_767_225_600), "2026-01-01 00:00:00");
        assert_eq!(date(0), "");
        assert_eq!(date(u64::MAX), "");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\n"), "a?[2Jb\n");
        assert_eq!(plain_line("a\nb"), "a b");
    }
}
