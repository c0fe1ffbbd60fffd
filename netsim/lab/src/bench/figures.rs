//! Figures with targets: the table for people, the file for programs.
//!
//! `bench/results/NAME.json` is a list. Its first entry is the header: the machine and the versions of
//! what was compared. Every other entry is one figure: `{name, value, unit, target, met}`, and more
//! fields where there is more to say.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use comfy_table::{Cell, CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};

/// Which side of a target is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Better {
    /// The value must be the target at least.
    Higher,
    /// The value must be the target at most.
    Lower,
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What was measured, unique in its file.
    pub name: String,
    /// The median of the rounds. None: it could not be measured, and `note` says why.
    pub value: Option<f64>,
    /// Its unit; `x` for ratios.
    pub unit: String,
    /// What is required. None: the figure is for information.
    pub target: Option<f64>,
    /// What is hoped for beyond that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aim: Option<f64>,
    /// Whether the required value was reached. None without a target.
    pub met: Option<bool>,
    /// Which side of the target is good.
    pub better: Better,
    /// The single rounds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rounds: Vec<f64>,
    /// What a reader must know about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// The machine and the programs of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// What was run, such as `net`.
    pub bench: String,
    /// Processor, number of cores, kernel.
    pub machine: BTreeMap<String, String>,
    /// The versions of what was compared.
    pub versions: BTreeMap<String, String>,
    /// Whether it was the short form, whose figures are coarser.
    pub short: bool,
}

/// All figures of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Results {
    /// Where and with what they were measured.
    pub header: Header,
    /// The figures, in the order of the table.
    pub figures: Vec<Figure>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Entry {
    Figure(Box<Figure>),
    Header { header: Header },
}

/// Results cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// The file.
    #[error("cannot use {}", .file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The text in it.
    #[error("{} is not a list of figures: remove it, and measure again", .file.display())]
    Content {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
}

impl Figure {
    /// A figure from its rounds; the value is their median.
    pub fn new(name: impl Into<String>, unit: &str, better: Better, rounds: Vec<f64>) -> Self {
        Self {
            name: name.into(),
            value: median(&rounds),
            unit: unit.to_owned(),
            target: None,
            aim: None,
            met: None,
            better,
            rounds,
            note: String::new(),
        }
    }

    /// A figure that has one value and no rounds.
    pub fn once(name: impl Into<String>, unit: &str, better: Better, value: Option<f64>) -> Self {
        Self { value, ..Self::new(name, unit, better, Vec::new()) }
    }

    /// The same with what is required, and what is hoped for. A figure without a value misses it.
    pub fn require(self, target: f64, aim: f64) -> Self {
        Self { aim: Some(aim), ..self.hold(target) }
    }

    /// The same with what is required, and nothing beyond that.
    pub fn hold(mut self, target: f64) -> Self {
        self.target = Some(target);
        self.met = Some(self.value.is_some_and(|value| match self.better {
            Better::Higher => value >= target,
            Better::Lower => value <= target,
        }));
        self
    }

    /// The same with a remark.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }
}

impl Results {
    /// Reads a results file; none where there is no file.
    pub fn read(file: &Path) -> Result<Option<Self>, ResultsError> {
        let text = match fs::read(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ResultsError::File { file: file.to_owned(), source }),
        };
        let entries: Vec<Entry> = serde_json::from_slice(&text)
            .map_err(|source| ResultsError::Content { file: file.to_owned(), source })?;
        let mut results = Self { header: Header::default(), figures: Vec::new() };
        for entry in entries {
            match entry {
                Entry::Header { header } => results.header = header,
                Entry::Figure(figure) => results.figures.push(*figure),
            }
        }
        Ok(Some(results))
    }

    /// Writes the file; readers see all of it or the one before.
    pub fn write(&self, file: &Path) -> Result<(), ResultsError> {
        let failed = |source| ResultsError::File { file: file.to_owned(), source };
        let header = Entry::Header { header: self.header.clone() };
        let figures = self.figures.iter().map(|f| Entry::Figure(Box::new(f.clone())));
        let entries: Vec<Entry> = std::iter::once(header).chain(figures).collect();
        let mut text = serde_json::to_string_pretty(&entries)
            .map_err(|source| ResultsError::Content { file: file.to_owned(), source })?;
        text.push('\n');
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let unfinished = file.with_extension("json.tmp");
        fs::write(&unfinished, text).map_err(failed)?;
        fs::rename(&unfinished, file).map_err(failed)
    }

    /// Takes figures over: each in the place of the one of its name, new ones before those of pairs of networks.
    pub fn take(&mut self, figures: Vec<Figure>) {
        for figure in figures {
            let known = self.figures.iter_mut().find(|known| known.name == figure.name);
            if let Some(known) = known {
                *known = figure;
                continue;
            }
            let many = self.figures.iter().position(|known| known.name.contains(" × "));
            self.figures.insert(many.unwrap_or(self.figures.len()), figure);
        }
    }

    /// The figures that `before` had reached and this run has not.
    pub fn lost_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a Figure> {
        let was_met = |figure: &&Figure| {
            before.figures.iter().any(|old| old.name == figure.name && old.met == Some(true))
        };
        self.figures.iter().filter(|figure| figure.met == Some(false)).filter(was_met)
    }

    /// The page of docs/benchmarks.md for these results.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        for (name, value) in self.header.machine.iter().chain(&self.header.versions) {
            text += &format!("- {name}: {value}\n");
        }
        text += "\n| figure | measured | required | aim | |\n|---|---:|---:|---:|---|\n";
        for figure in &self.figures {
            let [value, target, aim, verdict] = figure.cells();
            let note =
                if figure.note.is_empty() { verdict } else { format!("{verdict} {}", figure.note) };
            text +=
                &format!("| {} | {value} | {target} | {aim} | {} |\n", figure.name, note.trim());
        }
        text
    }
}

impl Figure {
    fn cells(&self) -> [String; 4] {
        let unit = &self.unit;
        let number = |value: f64| {
            let is_count = matches!(unit.as_str(), "packets" | "mappings");
            let digits = if value.abs() >= 100.0 || is_count {
                0
            } else if value.abs() >= 1.0 {
                2
            } else {
                3
            };
            if unit == "x" {
                format!("{value:.digits$}x")
            } else {
                format!("{value:.digits$} {unit}")
            }
        };
        let sign = match self.better {
            Better::Higher => "≥",
            Better::Lower => "≤",
        };
        let bound = |value: Option<f64>| {
            value.map_or_else(String::new, |value| format!("{sign} {}", number(value)))
        };
        let verdict = match self.met {
            Some(true) => "met",
            Some(false) if self.value.is_none() => "not measured",
            Some(false) => "MISSED",
            None => "",
        };
        let value = self.value.map_or_else(|| "–".to_owned(), number);
        [value, bound(self.target), bound(self.aim), verdict.to_owned()]
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY);
        table.set_header(["figure", "measured", "required", "aim", "", "note"]);
        for figure in &self.figures {
            let [value, target, aim, verdict] = figure.cells();
            let right = |text| Cell::new(text).set_alignment(CellAlignment::Right);
            table.add_row([
                Cell::new(&figure.name),
                right(value),
                right(target),
                right(aim),
                Cell::new(verdict),
                Cell::new(&figure.note),
            ]);
        }
        write!(f, "{table}")
    }
}

/// The median; the lower one of an even number.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(value: f64) -> Results {
        let figure = Figure::new("ratio", "x", Better::Higher, vec![value, 1.0, 9.0]);
        Results { header: Header::default(), figures: vec![figure.require(3.0, 4.0)] }
    }

    #[test]
    fn a_figure_is_the_median_and_held_to_its_target() {
        assert_eq!(results(3.5).figures[0].value, Some(3.5));
        assert_eq!(results(3.5).figures[0].met, Some(true));
        assert_eq!(results(2.5).figures[0].met, Some(false));
        let none = Figure::new("x", "s", Better::Lower, vec![]).require(1.0, 0.5);
        assert_eq!((none.value, none.met), (None, Some(false)));
    }

    #[test]
    fn figures_that_are_taken_over_replace_those_of_their_names() {
        let of = |name: &str, value| Figure::new(name, "s", Better::Lower, vec![value]);
        let mut all = results(1.0);
        all.figures = vec![of("a", 1.0), of("lab: b", 2.0), of("home × none", 3.0)];
        all.take(vec![of("lab: b", 5.0), of("lab: c", 6.0)]);
        let names: Vec<_> = all.figures.iter().map(|f| (f.name.as_str(), f.value)).collect();
        let expected = [("a", 1.0), ("lab: b", 5.0), ("lab: c", 6.0), ("home × none", 3.0)];
        assert_eq!(names, expected.map(|(name, value)| (name, Some(value))));
    }

    #[test]
    fn a_file_gives_back_what_was_written_and_tells_what_was_lost() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("results/net.json");
        assert_eq!(Results::read(&file).unwrap(), None);
        results(3.5).write(&file).unwrap();
        let before = Results::read(&file).unwrap().unwrap();
        assert_eq!(before, results(3.5));
        let lost: Vec<_> =
            results(2.0).lost_since(&before).map(|figure| figure.name.clone()).collect();
        assert_eq!(lost, ["ratio"]);
        assert_eq!(results(4.0).lost_since(&before).count(), 0);
        fs::write(&file, "{").unwrap();
        assert!(matches!(Results::read(&file), Err(ResultsError::Content { .. })));
    }
}
