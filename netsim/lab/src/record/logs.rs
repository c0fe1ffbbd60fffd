//! The programs' logs, for the run directory.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;

/// The most bytes of one log. Chosen: a day at INFO; what is more is cut at the end, and says so.
const MOST: u64 = 64 << 20;

/// What tokens and login strings begin with: they are secrets, even of a coordinator that is gone.
const SECRETS: [&str; 2] = ["cah-join-", "cah-login-"];

/// Copies what programs wrote (`NAME.log`, `NAME.out`) from each machine's directory.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut first_error = None;
    for machine in fs::read_dir(from)? {
        let machine = machine?;
        if !machine.file_type()?.is_dir() {
            continue;
        }
        for file in fs::read_dir(machine.path())? {
            let file = file?;
            let is_log = file.path().extension().is_some_and(|e| e == "log" || e == "out");
            // A link may lead anywhere, and an empty log says nothing.
            if !is_log || !file.file_type()?.is_file() || file.metadata()?.len() == 0 {
                continue;
            }
            let folder = to.join(machine.file_name());
            fs::create_dir_all(&folder)?;
            // One that does not fit must not cost the others.
            if let Err(error) = copy_one(&file.path(), &folder.join(file.file_name())) {
                let _ = fs::remove_file(folder.join(file.file_name()));
                first_error.get_or_insert(error);
            }
        }
    }
    first_error.map_or(Ok(()), Err)
}

fn copy_one(from: &Path, to: &Path) -> io::Result<()> {
    let mut lines = BufReader::new(File::open(from)?);
    let mut copy = BufWriter::new(File::create(to)?);
    let (mut line, mut length) = (Vec::new(), 0);
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        length += line.len() as u64;
        if length > MOST {
            writeln!(copy, "[cut here by netsim: the log is longer than {} MiB]", MOST >> 20)?;
            break;
        }
        let text = String::from_utf8_lossy(&line);
        if SECRETS.iter().any(|secret| text.contains(secret)) {
            copy.write_all(without_secrets(&text).as_bytes())?;
        } else {
            copy.write_all(&line)?;
        }
    }
    copy.flush()
}

/// The text with every token cut to its beginning.
fn without_secrets(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    loop {
        let next = SECRETS.iter().filter_map(|secret| Some((rest.find(secret)?, *secret))).min();
        let Some((at, secret)) = next else { break };
        out.push_str(&rest[..at]);
        out.push_str(secret);
        out.push_str("[removed]");
        let after = &rest[at + secret.len()..];
        let is_token = |letter: char| letter.is_ascii_alphanumeric() || "-_.+/=".contains(letter);
        rest = after.trim_start_matches(is_token);
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_copied_without_secrets_and_nothing_else_is() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let machine = from.path().join("vol-1");
        fs::create_dir_all(machine.join("state")).unwrap();
        let said = "join token: cah-join-1.AbC_d-9.xyz now\nlogin cah-login-1.a cah-join-1.b\n";
        fs::write(machine.join("agent.log"), said).unwrap();
        fs::write(machine.join("agent.out"), "").unwrap();
        fs::write(machine.join("state").join("credential"), "secret").unwrap();
        fs::write(machine.join("oar.json"), "secret").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", machine.join("link.log")).unwrap();

        copy(from.path(), to.path()).unwrap();

        let names: Vec<_> = fs::read_dir(to.path().join("vol-1")).unwrap().collect();
        assert_eq!(names.len(), 1);
        let copied = fs::read_to_string(to.path().join("vol-1/agent.log")).unwrap();
        let expected = "join token: cah-join-[removed] now\n\
                        login cah-login-[removed] cah-join-[removed]\n";
        assert_eq!(copied, expected);
    }
}
