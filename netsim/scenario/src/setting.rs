//! Values that are set from outside, as `--set volunteers.count=50`.
//!
//! A path's parts are keys. Where a key holds several (`[[volunteers]]`), a number chooses one, from 0:
//! `volunteers.1.count`; without a number all of them are set. The value is TOML (`50`, `true`,
//! `"5s"`, `{ home = 1 }`), and text where it is not (`5s`, `symmetric`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use toml_edit::{DocumentMut, Item, TableLike, Value};

use crate::fault::did_you_mean;

/// A value that is set from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    path: Vec<String>,
    value: String,
}

/// Why a value cannot be set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// There is no `=`, or nothing before it.
    #[error("`{0}` sets nothing: write PATH=VALUE, such as volunteers.count=50")]
    Form(String),
    /// The path ends at a part of a list, which is no value.
    #[error("`{path}`: name one of its keys, as in `{of}.count`")]
    Whole {
        /// All of it.
        path: String,
        /// The part of the list.
        of: String,
    },
    /// A list is shorter.
    #[error("`{path}`: the scenario has {count} of `{list}`, counted from 0")]
    Few {
        /// All of it.
        path: String,
        /// The list.
        list: String,
        /// How many there are.
        count: usize,
    },
    /// The path leads nowhere.
    #[error("`{path}`: the scenario has no `{part}`{hint}")]
    Nowhere {
        /// All of it.
        path: String,
        /// The part that is not there.
        part: String,
        /// What may have been meant.
        hint: String,
    },
    /// The file is not TOML.
    #[error("the scenario cannot be changed: {0}")]
    Text(String),
}

impl FromStr for Setting {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        let wrong = || SettingError::Form(text.to_owned());
        let (path, value) = text.split_once('=').ok_or_else(wrong)?;
        let path: Vec<String> = path.split('.').map(|part| part.trim().to_owned()).collect();
        if path.iter().any(String::is_empty) {
            return Err(wrong());
        }
        Ok(Self { path, value: value.trim().to_owned() })
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.path.join("."), self.value)
    }
}

impl Setting {
    /// The setting of that path to a value.
    pub fn new(path: &str, value: &str) -> Result<Self, SettingError> {
        format!("{path}={value}").parse()
    }

    /// The path.
    pub fn path(&self) -> String {
        self.path.join(".")
    }

    /// The value.
    pub fn value(&self) -> &str {
        &self.value
    }

    fn toml(&self) -> Value {
        self.value.parse().unwrap_or_else(|_| Value::from(self.value.as_str()))
    }

    fn nowhere<'a>(&self, part: &str, known: impl IntoIterator<Item = &'a str>) -> SettingError {
        let hint = did_you_mean(part, known);
        SettingError::Nowhere { path: self.path(), part: part.to_owned(), hint }
    }
}

/// The text of a scenario with those values set.
pub(crate) fn apply(text: &str, settings: &[Setting]) -> Result<String, SettingError> {
    let mut document: DocumentMut = text
        .parse()
        .map_err(|error: toml_edit::TomlError| SettingError::Text(error.to_string()))?;
    for setting in settings {
        set(document.as_table_mut(), setting, &setting.path)?;
    }
    Ok(document.to_string())
}

fn set(table: &mut dyn TableLike, setting: &Setting, path: &[String]) -> Result<(), SettingError> {
    let [key, rest @ ..] = path else { return Ok(()) };
    let Some(next) = rest.first() else {
        table.insert(key, Item::Value(setting.toml()));
        return Ok(());
    };
    if !table.contains_key(key) {
        let known: Vec<String> = table.iter().map(|(key, _)| key.to_owned()).collect();
        let is_list = next.parse::<usize>().is_ok();
        // A table that the file leaves out is made; what has a number must be there.
        let similar = setting.nowhere(key, known.iter().map(String::as_str));
        let has_hint = matches!(&similar, SettingError::Nowhere { hint, .. } if !hint.is_empty());
        if is_list || has_hint {
            return Err(similar);
        }
        table.insert(key, Item::Table(toml_edit::Table::new()));
    }
    let Some(item) = table.get_mut(key) else { return Ok(()) };
    let index = next.parse::<usize>().ok();
    if let Some(tables) = item.as_array_of_tables_mut() {
        let count = tables.len();
        return match index {
            None => tables.iter_mut().try_for_each(|table| set(table, setting, rest)),
            Some(index) => match tables.get_mut(index) {
                Some(_) if rest.len() == 1 => {
                    Err(SettingError::Whole { path: setting.path(), of: format!("{key}.{index}") })
                }
                Some(table) => set(table, setting, &rest[1..]),
                None => Err(SettingError::Few { path: setting.path(), list: key.clone(), count }),
            },
        };
    }
    match item.as_table_like_mut() {
        Some(table) => set(table, setting, rest),
        None => Err(setting.nowhere(next, [])),
    }
}
