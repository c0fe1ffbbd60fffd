//! Bodies as OAR's clients write them: JSON, YAML, or an HTML form.

use std::fmt::Display;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The most of a reader's own words that is repeated, characters: they may quote a key of any length.
const MAX_WORDS: usize = 500;

/// The most fields of a form. Chosen: far more than a submission has options.
const MAX_FIELDS: usize = 1_000;

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// `application/json`.
    Json,
    /// `text/yaml`.
    Yaml,
    /// `application/x-www-form-urlencoded`.
    Form,
}

/// A body cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{words}")]
pub struct NotUnderstood {
    /// How it should have been written.
    pub kind: BodyKind,
    /// What is wrong, in at most 500 characters.
    pub words: String,
}

impl BodyKind {
    /// Of a media type without parameters.
    pub fn of(essence: &str) -> Option<Self> {
        match essence.to_ascii_lowercase().as_str() {
            "application/json" => Some(Self::Json),
            "text/yaml" => Some(Self::Yaml),
            "application/x-www-form-urlencoded" => Some(Self::Form),
            _ => None,
        }
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`NotUnderstood`].
    pub fn read<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, NotUnderstood> {
        match self {
            Self::Json => serde_json::from_slice(bytes).map_err(|error| self.refuse(&error)),
            Self::Yaml => serde_norway::from_slice(bytes).map_err(|error| self.refuse(&error)),
            Self::Form => form(bytes)
                .and_then(|fields| serde_json::from_value(fields).map_err(|e| self.refuse(&e))),
        }
    }

    fn refuse(self, error: &dyn Display) -> NotUnderstood {
        let words = error.to_string().chars().take(MAX_WORDS).collect();
        NotUnderstood { kind: self, words }
    }
}

/// A field that was left empty was not filled in; one that stands there several times is a list.
fn form(bytes: &[u8]) -> Result<Value, NotUnderstood> {
    let refuse = |words: &str| BodyKind::Form.refuse(&words);
    let mut fields = Map::new();
    for (count, (key, value)) in form_urlencoded::parse(bytes).enumerate() {
        if count >= MAX_FIELDS {
            return Err(refuse(&format!("a form has at most {MAX_FIELDS} fields")));
        }
        if key.contains(char::REPLACEMENT_CHARACTER) || value.contains(char::REPLACEMENT_CHARACTER)
        {
            return Err(refuse("a field is not UTF-8"));
        }
        if value.is_empty() {
            continue;
        }
        let value = Value::String(value.into_owned());
        match fields.get_mut(&*key) {
            None => drop(fields.insert(key.into_owned(), value)),
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    Ok(Value::Object(fields))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::SubmitJob;

    #[test]
    fn a_job_is_the_same_in_all_three() {
        let text = r#"{"command":"true","type":["mesh","spmd"],"resource":"nodes=2"}"#;
        let job: SubmitJob = BodyKind::Json.read(text.as_bytes()).unwrap();
        // `true` is a word here, as it is for OAR's Perl.
        let text = "---\ncommand: true\ntype:\n  - mesh\n  - spmd\nresource: nodes=2\n";
        assert_eq!(BodyKind::Yaml.read::<SubmitJob>(text.as_bytes()).unwrap(), job);
        let text = "command=true&type=mesh&name=&type=spmd&resource=nodes%3D2";
        assert_eq!(BodyKind::Form.read::<SubmitJob>(text.as_bytes()).unwrap(), job);
    }

    #[test]
    fn aliases_and_depth_do_not_multiply() {
        let mut laughs = "a0: &a0 [x]\n".to_owned();
        for level in 1..20 {
            let alias = format!("*a{},", level - 1).repeat(9);
            laughs += &format!("a{level}: &a{level} [{alias}]\n");
        }
        assert!(BodyKind::Yaml.read::<Value>(laughs.as_bytes()).is_err());
        assert!(BodyKind::Yaml.read::<Value>("[".repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn what_cannot_be_read_is_said_shortly() {
        let long = format!("command=x&{}=1", "k".repeat(100_000));
        for (kind, text) in [
            (BodyKind::Yaml, "command: [".to_owned()),
            (BodyKind::Yaml, "--- \ncommand: a\n--- \ncommand: b\n".to_owned()),
            (BodyKind::Form, "command=%ff".to_owned()),
            (BodyKind::Form, "a=1&".repeat(1_001)),
            (BodyKind::Form, long),
            (BodyKind::Json, "{".to_owned()),
        ] {
            let refusal = kind.read::<SubmitJob>(text.as_bytes()).unwrap_err();
            assert!(refusal.kind == kind && refusal.words.len() < 1_000, "{refusal:?}");
        }
    }
}
