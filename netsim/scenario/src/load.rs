//! Finding, reading and parsing scenario files.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::fault::{Fault, did_you_mean};
use crate::file::Scenario;
use crate::folder::{self, Folder};
use crate::resolve;
use crate::resolved::Resolved;
use crate::setting::{self, Setting, SettingError};

/// A scenario file that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct ScenarioFile {
    /// Where it is, for people; of one that is shipped, its name.
    pub path: PathBuf,
    /// Where the files are that it names.
    pub folder: Folder,
    /// Its text, with what was set.
    pub text: String,
    /// What is written there.
    pub scenario: Scenario,
}

/// A scenario file that cannot be used, and where it is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioError {
    /// The file.
    pub file: PathBuf,
    /// Line and column, from 1, where a place is to blame.
    pub place: Option<(usize, usize)>,
    /// What is wrong, and what would be right.
    pub message: String,
    /// The line itself.
    pub excerpt: Option<String>,
}

impl std::error::Error for ScenarioError {}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(excerpt) = &self.excerpt {
            write!(f, "\n    {}", excerpt.trim_end())?;
        }
        Ok(())
    }
}

/// A scenario cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is neither such a file nor a scenario of that name.
    #[error("there is no file `{name}` and no scenario of that name{hint}: see `netsim list`")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What may have been meant.
        hint: String,
    },
    /// It cannot be read.
    #[error("cannot read {}", .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is larger than any scenario.
    #[error("{} is larger than {} KiB: this is no scenario", .0.display(), LARGEST >> 10)]
    Large(PathBuf),
    /// It is wrong.
    #[error(transparent)]
    Wrong(#[from] ScenarioError),
    /// What shall be set cannot be.
    #[error(transparent)]
    Setting(#[from] SettingError),
}

/// The largest file that is read. Chosen.
const LARGEST: u64 = 1 << 20;

impl ScenarioFile {
    /// Loads a scenario by its file's path, or by the name of one that is shipped, with some values set
    /// to others.
    pub fn load(file_or_name: &str, settings: &[Setting]) -> Result<Self, LoadError> {
        let path = PathBuf::from(file_or_name);
        // A name is a name, whatever lies in this folder: a file of one's own is named by its path.
        let is_name = !file_or_name.contains('/');
        let shipped = if is_name { folder::scenario(file_or_name) } else { None };
        let (folder, text) = if let Some(shipped) = shipped {
            (Folder::Shipped, shipped.to_owned())
        } else if path.is_file() {
            let read = |source| LoadError::Read { file: path.clone(), source };
            if std::fs::metadata(&path).map_err(read)?.len() > LARGEST {
                return Err(LoadError::Large(path));
            }
            let text = std::fs::read_to_string(&path).map_err(read)?;
            // Programs have folders of their own later.
            let whole = std::path::absolute(&path).map_err(read)?;
            (Folder::At(parent(&whole).to_owned()), text)
        } else {
            return Err(unknown(file_or_name));
        };
        // What the file says must be right by itself, so that its errors have their own places.
        let loaded = Self::parse_in(folder, &path, text)?;
        if settings.is_empty() {
            return Ok(loaded);
        }
        let text = setting::apply(&loaded.text, settings)?;
        Ok(Self::parse_in(loaded.folder, &path, text)?)
    }

    /// Parses the text of a scenario; `path` is where it is said to be.
    pub fn parse(path: &Path, text: String) -> Result<Self, ScenarioError> {
        Self::parse_in(Folder::At(parent(path).to_owned()), path, text)
    }

    fn parse_in(folder: Folder, path: &Path, text: String) -> Result<Self, ScenarioError> {
        match toml::from_str(&text) {
            Ok(scenario) => Ok(Self { path: path.to_owned(), folder, text, scenario }),
            Err(error) => {
                let message = with_hint(error.message());
                Err(wrong(path, &text, error.span(), message))
            }
        }
    }

    /// Decides everything that is left open, with this seed instead of the file's if one is given.
    pub fn resolve(&self, seed: Option<u64>) -> Result<Resolved, ScenarioError> {
        resolve::resolve(self, seed).map_err(|fault| self.wrong(fault))
    }

    fn wrong(&self, fault: Fault) -> ScenarioError {
        wrong(&self.path, &self.text, fault.span(&self.text), fault.message)
    }
}

fn unknown(name: &str) -> LoadError {
    LoadError::Unknown { name: name.to_owned(), hint: did_you_mean(name, folder::names()) }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// Serde's message about an unknown name, with the known one that is most like it.
fn with_hint(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let is_unknown = message.starts_with("unknown field") || message.starts_with("unknown variant");
    match quoted.next() {
        Some(wrong) if is_unknown => {
            let hint = did_you_mean(wrong, quoted);
            let (head, tail) = message.split_once(", ").unwrap_or((message, ""));
            if tail.is_empty() { format!("{head}{hint}") } else { format!("{head}{hint}, {tail}") }
        }
        Some(_) | None => message.to_owned(),
    }
}

fn wrong(file: &Path, text: &str, span: Option<Range<usize>>, message: String) -> ScenarioError {
    let start = span.map(|span| span.start.min(text.len()));
    let place = start.map(|start| {
        let before = text.get(..start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        let column = before.get(line_start..).unwrap_or("").chars().count() + 1;
        (before.matches('\n').count() + 1, column)
    });
    let excerpt = place.and_then(|(line, _)| text.lines().nth(line - 1)).map(str::to_owned);
    ScenarioError { file: file.to_owned(), place, message, excerpt }
}
