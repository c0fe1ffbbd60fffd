//! The combinations of a sweep.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name of a folder: file systems take 255 bytes, and `.log` is added.
const LONGEST: usize = 200;

/// A path in the scenario, and the values that it takes in turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Axis {
    pub(super) path: String,
    pub(super) values: Vec<String>,
}

/// One run of a sweep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Combination {
    /// Its folder.
    pub(super) name: String,
    /// What `--set` takes.
    pub(super) settings: Vec<String>,
    /// The values alone.
    pub(super) values: Vec<String>,
    pub(super) seed: u64,
}

/// Why an axis is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AxisError {
    /// No path or no values.
    #[error("`{0}` sets nothing: write PATH=VALUE,VALUE, such as volunteers.count=10,50")]
    Form(String),
    /// A value is there twice.
    #[error("`{0}` stands there twice")]
    Twice(String),
}

impl FromStr for Axis {
    type Err = AxisError;

    fn from_str(text: &str) -> Result<Self, AxisError> {
        let wrong = || AxisError::Form(text.to_owned());
        let (path, values) = text.split_once('=').ok_or_else(wrong)?;
        let values = split(values);
        if path.trim().is_empty() || values.iter().any(String::is_empty) {
            return Err(wrong());
        }
        for (at, value) in values.iter().enumerate() {
            if values[..at].contains(value) {
                return Err(AxisError::Twice(value.clone()));
            }
        }
        Ok(Self { path: path.trim().to_owned(), values })
    }
}

/// The parts between commas, but not those between brackets or quotes: `["a", "b"]` is one value.
fn split(text: &str) -> Vec<String> {
    let (mut parts, mut part) = (Vec::new(), String::new());
    let (mut depth, mut quote) = (0_usize, None);
    for letter in text.chars() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (None, '"' | '\'') => quote = Some(letter),
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                parts.push(std::mem::take(&mut part));
                continue;
            }
            _ => {}
        }
        part.push(letter);
    }
    parts.push(part);
    parts.into_iter().map(|part| part.trim().to_owned()).collect()
}

/// All combinations, the last axis and the seeds varying fastest.
pub(super) fn all(axes: &[Axis], seeds: &[u64]) -> Vec<Combination> {
    let mut chosen: Vec<Vec<&str>> = vec![Vec::new()];
    for axis in axes {
        let mut longer = Vec::new();
        for before in &chosen {
            for value in &axis.values {
                longer.push([before.as_slice(), &[value.as_str()]].concat());
            }
        }
        chosen = longer;
    }
    let mut all: Vec<Combination> = Vec::new();
    for values in chosen {
        let pairs = || axes.iter().zip(&values);
        let settings: Vec<String> =
            pairs().map(|(axis, value)| format!("{}={value}", axis.path)).collect();
        for seed in seeds {
            let name = format!("{},seed={seed}", settings.join(","));
            let name = folder(&name, all.len());
            let values = values.iter().map(|&value| value.to_owned()).collect();
            all.push(Combination { name, settings: settings.clone(), values, seed: *seed });
        }
    }
    all
}

/// A name that a folder can have. Where letters are lost, the run's number makes it unique.
fn folder(name: &str, number: usize) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "=,.-_".contains(letter);
    if name.len() <= LONGEST && name.chars().all(plain) && !name.starts_with('.') {
        return name.to_owned();
    }
    let kept: String = name.chars().map(|l| if plain(l) { l } else { '_' }).take(LONGEST).collect();
    format!("{number}-{kept}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(text: &str) -> Axis {
        text.parse().unwrap()
    }

    #[test]
    fn every_value_meets_every_other() {
        let axes = [axis("volunteers.count=10,50"), axis("coordinator.poll-interval=1s, 2s")];
        let all = all(&axes, &[1, 2]);
        assert_eq!(all.len(), 8);
        assert_eq!(all[0].name, "volunteers.count=10,coordinator.poll-interval=1s,seed=1");
        assert_eq!(all[7].settings, ["volunteers.count=50", "coordinator.poll-interval=2s"]);
        assert_eq!((all[7].seed, all[7].values.as_slice()), (2, &["50".into(), "2s".into()][..]));
        assert!(
            all.iter().enumerate().all(|(at, one)| all[..at].iter().all(|b| b.name != one.name))
        );
    }

    #[test]
    fn lists_and_texts_are_one_value() {
        assert_eq!(axis("a=[1, 2],[3]").values, ["[1, 2]", "[3]"]);
        assert_eq!(axis(r#"a="x,y",{ b = 1, c = 2 }"#).values, [r#""x,y""#, "{ b = 1, c = 2 }"]);
        assert_eq!(axis("a=b=c").values, ["b=c"]);
    }

    #[test]
    fn what_sets_nothing_is_refused() {
        for text in ["", "a", "a=", "=1", "a=1,,2"] {
            assert_eq!(text.parse::<Axis>(), Err(AxisError::Form(text.to_owned())), "{text}");
        }
        assert_eq!("a=1,2,1".parse::<Axis>(), Err(AxisError::Twice("1".to_owned())));
    }

    #[test]
    fn folders_cannot_lead_elsewhere_or_be_the_same() {
        let axes = [axis("a=../../etc,.._.._etc,\"x/y\"")];
        let all = all(&axes, &[1]);
        assert!(all.iter().all(|one| !one.name.contains('/') && !one.name.starts_with('.')));
        assert_ne!(all[0].name, all[1].name);
        assert!(folder(&"x".repeat(1000), 3).len() < 255);
    }
}
