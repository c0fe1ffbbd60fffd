//! Finding, reading and parsing scenario files.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::Scenario;
use super::check::check;

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
    #[error("there is no file `{0}` and no scenario of that name: see `netsim list`")]
    Unknown(String),
    /// It cannot be read.
    #[error("cannot read {}", .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is wrong.
    #[error(transparent)]
    Wrong(#[from] ScenarioError),
}

/// Loads a scenario by its file's path or by its name, and returns the file's path too.
pub fn load(file_or_name: &str) -> Result<(PathBuf, Scenario), LoadError> {
    let file = find(file_or_name).ok_or_else(|| LoadError::Unknown(file_or_name.to_owned()))?;
    let text = std::fs::read_to_string(&file)
        .map_err(|source| LoadError::Read { file: file.clone(), source })?;
    let scenario = parse(&file, &text)?;
    Ok((file, scenario))
}

/// Parses the text of a scenario; `file` is for the error only.
pub fn parse(file: &Path, text: &str) -> Result<Scenario, ScenarioError> {
    let scenario: Scenario = toml::from_str(text)
        .map_err(|error| wrong(file, text, error.span(), error.message().to_owned()))?;
    check(&scenario).map_err(|(span, message)| wrong(file, text, span, message))?;
    Ok(scenario)
}

/// The scenarios that have a name: file name without `.toml`, and path.
pub fn list() -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for folder in folders() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = path.file_stem().and_then(|s| s.to_str()).map(str::to_owned);
            if let Some(name) = name
                && path.extension().is_some_and(|e| e == "toml")
                && !found.iter().any(|(n, _)| *n == name)
            {
                found.push((name, path));
            }
        }
    }
    found.sort();
    found
}

fn find(file_or_name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(file_or_name);
    if path.is_file() {
        return Some(path);
    }
    list().into_iter().find_map(|(name, path)| (name == file_or_name).then_some(path))
}

/// Where scenarios are: below the current directory, and in the tree that this program was built in.
fn folders() -> [PathBuf; 2] {
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    [PathBuf::from("netsim/scenarios"), built_in]
}

fn wrong(file: &Path, text: &str, span: Option<Range<usize>>, message: String) -> ScenarioError {
    let start = span.filter(|span| *span != (0..0)).map(|span| span.start.min(text.len()));
    let place = start.map(|start| {
        let before = text.get(..start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        let column = before.get(line_start..).unwrap_or("").chars().count() + 1;
        (before.matches('\n').count() + 1, column)
    });
    let excerpt = place.and_then(|(line, _)| text.lines().nth(line - 1)).map(str::to_owned);
    ScenarioError { file: file.to_owned(), place, message, excerpt }
}

#[cfg(test)]
mod tests;
