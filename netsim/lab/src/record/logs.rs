//! The programs' logs, in the run directory from the start: what they write is copied after them, line
//! by line and without tokens, so that a run which is killed leaves them too.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{
    self, BufRead as _, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _,
};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use netsim_report::Recorder;

/// The most bytes of one log. Chosen: a day at INFO; what is more is cut at the end, and says so.
const MOST: u64 = 64 << 20;

/// How often is looked for new lines. A run that is killed loses no more than this of its logs.
const EVERY: Duration = Duration::from_millis(250);

/// How many bytes before the end of what was copied are compared: a file that was begun anew differs there.
const COMPARED: usize = 256;

/// What tokens and login strings begin with: they are secrets, even of a coordinator that is gone.
const SECRETS: [&str; 2] = ["cah-join-", "cah-login-"];

/// The endings of the files that are copied.
const ENDINGS: [&str; 3] = ["log", "out", "events"];

/// Copying under way, on a thread of its own.
pub(super) struct Following {
    /// Dropping it ends the thread.
    end: Sender<()>,
    thread: JoinHandle<Logs>,
}

impl Following {
    /// Follows the logs of the machines whose directories are in `from`. What was recorded gets to the
    /// disk at the same pace.
    pub(super) fn start(from: &Path, to: &Path, recorder: Recorder) -> io::Result<Self> {
        let mut logs = Logs::new(from, to);
        let (end, ended) = channel::<()>();
        let thread = thread::Builder::new().name("logs".to_owned()).spawn(move || {
            while ended.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                logs.copy_new(false);
                recorder.flush();
            }
            logs
        })?;
        Ok(Self { end, thread })
    }

    /// Copies the rest; everything must have been written.
    pub(super) fn finish(self) -> io::Result<()> {
        drop(self.end);
        let mut logs = self.thread.join().map_err(|_| io::Error::other("copying has failed"))?;
        logs.copy_new(true);
        logs.first_error.map_or(Ok(()), Err)
    }
}

/// Copies the logs of a run that is over, as a whole.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut logs = Logs::new(from, to);
    logs.copy_new(true);
    logs.first_error.map_or(Ok(()), Err)
}

/// Logs and how far they have been copied.
struct Logs {
    from: PathBuf,
    to: PathBuf,
    copied: BTreeMap<PathBuf, Copied>,
    /// Why something could not be copied: one that does not fit must not cost the others.
    first_error: Option<io::Error>,
}

/// How far a log has been copied.
#[derive(Default)]
struct Copied {
    /// Its length and change when it was looked at last.
    seen: Option<(u64, SystemTime)>,
    /// Bytes of it that were copied, or left out for their number.
    bytes: u64,
    /// The last of them.
    end: Vec<u8>,
    /// It could not be copied.
    given_up: bool,
}

impl Logs {
    fn new(from: &Path, to: &Path) -> Self {
        let (from, to) = (from.to_owned(), to.to_owned());
        Self { from, to, copied: BTreeMap::new(), first_error: None }
    }

    /// Copies what is new of each machine's logs (`NAME.log`, `NAME.out`, `agent.events`): whole lines, or everything.
    fn copy_new(&mut self, everything: bool) {
        for file in self.logs().unwrap_or_default() {
            let Ok(relative) = file.strip_prefix(&self.from) else { continue };
            let to = self.to.join(relative);
            let copied = self.copied.entry(file.clone()).or_default();
            if copied.given_up {
                continue;
            }
            if let Err(error) = copied.copy_new(&file, &to, everything) {
                copied.given_up = true;
                let _ = fs::remove_file(&to);
                self.first_error.get_or_insert(error);
            }
        }
    }

    fn logs(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for machine in fs::read_dir(&self.from)?.flatten() {
            if !machine.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            for file in fs::read_dir(machine.path()).into_iter().flatten().flatten() {
                let path = file.path();
                let is_log = path.extension().and_then(OsStr::to_str);
                // A link may lead anywhere.
                let is_file = file.file_type().is_ok_and(|kind| kind.is_file());
                if is_file && is_log.is_some_and(|ending| ENDINGS.contains(&ending)) {
                    found.push(path);
                }
            }
        }
        Ok(found)
    }
}

impl Copied {
    fn copy_new(&mut self, from: &Path, to: &Path, everything: bool) -> io::Result<()> {
        let file = match File::open(from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file?,
        };
        let metadata = file.metadata()?;
        let seen = Some((metadata.len(), metadata.modified()?));
        // An empty log says nothing.
        if metadata.len() == 0 || (seen == self.seen && !everything) {
            return Ok(());
        }
        self.seen = seen;
        let mut lines = BufReader::new(file);
        if !self.goes_on(&mut lines)? {
            *self = Self { seen, ..Self::default() };
            lines.seek(SeekFrom::Start(0))?;
        }
        fs::create_dir_all(to.parent().unwrap_or(to))?;
        let mut options = File::options();
        options.write(true).create(true).append(self.bytes > 0).truncate(self.bytes == 0);
        let mut copy = BufWriter::new(options.open(to)?);
        let mut line = Vec::new();
        while self.bytes <= MOST {
            line.clear();
            let length = lines.read_until(b'\n', &mut line)?;
            if length == 0 || (line.last() != Some(&b'\n') && !everything) {
                break;
            }
            self.bytes += length as u64;
            if self.bytes > MOST {
                writeln!(copy, "[cut here by netsim: the log is longer than {} MiB]", MOST >> 20)?;
                break;
            }
            self.end.extend_from_slice(&line);
            self.end.drain(..self.end.len().saturating_sub(COMPARED));
            let text = String::from_utf8_lossy(&line);
            if SECRETS.iter().any(|secret| text.contains(secret)) {
                copy.write_all(without_secrets(&text).as_bytes())?;
            } else {
                copy.write_all(&line)?;
            }
        }
        copy.flush()
    }

    /// Whether the file still begins with what was copied; then the rest is to be read.
    fn goes_on(&self, file: &mut BufReader<File>) -> io::Result<bool> {
        let start = self.bytes.saturating_sub(self.end.len() as u64);
        file.seek(SeekFrom::Start(start))?;
        let mut end = vec![0; self.end.len()];
        match file.read_exact(&mut end) {
            Ok(()) => Ok(end == self.end),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }
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

    #[test]
    fn a_log_that_grows_is_followed_and_one_that_begins_anew_is_too() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (log, copy) = (from.path().join("vol-1/agent.log"), to.path().join("vol-1/agent.log"));
        fs::create_dir(from.path().join("vol-1")).unwrap();
        let mut logs = Logs::new(from.path(), to.path());
        let copied = || fs::read_to_string(&copy).unwrap();

        fs::write(&log, "one\ntoken cah-jo").unwrap();
        logs.copy_new(false);
        assert_eq!(copied(), "one\n");
        // A token that is written in two pieces.
        fs::write(&log, "one\ntoken cah-join-1.secret\n").unwrap();
        logs.copy_new(false);
        logs.copy_new(false);
        assert_eq!(copied(), "one\ntoken cah-join-[removed]\n");
        fs::write(&log, "another one, which is longer than what was there before\nend").unwrap();
        logs.copy_new(false);
        assert_eq!(copied(), "another one, which is longer than what was there before\n");
        logs.copy_new(true);
        logs.copy_new(true);
        assert_eq!(copied(), "another one, which is longer than what was there before\nend");
        assert!(logs.first_error.is_none());
    }
}
