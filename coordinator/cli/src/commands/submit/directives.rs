//! `#OAR` lines of a script: oarsub's options, written where they are needed.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use clap::Parser;

use super::Sub;
use crate::failure::Failure;

/// The most of a script that is read, bytes: it may be any file.
const MAX_SCRIPT: u64 = 1 << 20;

/// The script that a command begins with.
pub(super) fn script_of(command: &[String]) -> Result<PathBuf, Failure> {
    let words = command.iter().flat_map(|text| text.split_whitespace());
    words.take(1).map(PathBuf::from).next().ok_or(Failure::NoScript)
}

/// The options of all its lines `#OAR …`, as one command line.
pub(super) fn read(script: &Path) -> Result<Sub, Failure> {
    let shown = script.display().to_string();
    let file = File::open(script).map_err(Failure::file(script))?;
    // clap wants a program, and oarsub a command.
    let mut arguments = vec!["oarsub".to_owned()];
    for (index, line) in BufReader::new(file.take(MAX_SCRIPT)).split(b'\n').enumerate() {
        let line = line.map_err(Failure::file(script))?;
        let line = String::from_utf8_lossy(&line);
        let Some(options) = line.strip_prefix("#OAR").filter(|rest| rest.starts_with([' ', '\t']))
        else {
            continue;
        };
        let refuse = |reason: String| {
            let path = shown.clone();
            Failure::Directive { path, line: index + 1, reason }
        };
        let more = words(options.trim()).ok_or_else(|| refuse("a quote has no end".to_owned()))?;
        arguments.extend(more);
        // Each line by itself as well: the error names the right one.
        let so_far = arguments.iter().cloned().chain(["--".to_owned(), "command".to_owned()]);
        let parsed = Sub::try_parse_from(so_far).map_err(|error| {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            refuse(first.trim_start_matches("error: ").to_owned())
        })?;
        if parsed.command != ["command"] || parsed.scanscript || parsed.resubmit.is_some() {
            return Err(refuse("only options that describe the job belong here".to_owned()));
        }
    }
    arguments.extend(["--".to_owned(), "command".to_owned()]);
    Sub::try_parse_from(arguments).map_err(|_| Failure::NoScript)
}

/// Words as a shell splits them, with '…' and "…"; none if a quote has no end.
fn words(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in text.chars() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, letter) if letter.is_whitespace() => words.extend(word.take()),
            (_, letter) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_does() {
        let split = words("-p \"mem > 1000\" -n 'a b'c ''\t-t x").unwrap();
        assert_eq!(split, ["-p", "mem > 1000", "-n", "a bc", "", "-t", "x"]);
        assert_eq!(words("-n 'a"), None);
    }
}
