//! What is wrong with a scenario, and where in the file.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// A step on the way to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A key of a table.
    Key(&'static str),
    /// An element of an array.
    Index(usize),
}

impl From<&'static str> for Step {
    fn from(key: &'static str) -> Self {
        Self::Key(key)
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// Something that is wrong at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    path: Vec<Step>,
    /// What is wrong, and what would be right.
    pub(crate) message: String,
}

/// The place `volunteers[1].count` is `at!["volunteers", 1, "count"]`.
macro_rules! at {
    ($($step:expr),* $(,)?) => { [$($crate::fault::Step::from($step)),*] };
}
pub(crate) use at;

impl Fault {
    pub(crate) fn new<const N: usize>(path: [Step; N], message: impl Into<String>) -> Self {
        Self { path: path.to_vec(), message: message.into() }
    }

    /// The same fault of a value that lies further down.
    pub(crate) fn below<const N: usize>(self, path: [Step; N]) -> Self {
        Self { path: [&path, self.path.as_slice()].concat(), ..self }
    }

    /// Where it is in the text: the value, or as much of the way to it as is written.
    pub(crate) fn span(&self, text: &str) -> Option<Range<usize>> {
        let document = DeTable::parse(text).ok()?;
        let mut steps = self.path.iter();
        let Some(Step::Key(first)) = steps.next() else { return None };
        let mut value = document.get_ref().get(*first)?;
        let mut span = value.span();
        for step in steps {
            let next = match (step, value.get_ref()) {
                (Step::Key(key), DeValue::Table(table)) => table.get(*key),
                (Step::Index(index), DeValue::Array(array)) => array.get(*index),
                (Step::Key(_) | Step::Index(_), _) => None,
            };
            let Some(next) = next else { break };
            (value, span) = (next, next.span());
        }
        Some(span)
    }
}

/// The name among `known` that is most like `wrong`, as an end to a message.
pub(crate) fn did_you_mean<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let likeness = |name: &&str| strsim::jaro_winkler(wrong, name);
    let near = known.into_iter().map(|name| (likeness(&name), name)).filter(|(l, _)| *l > 0.75);
    match near.max_by(|(a, _), (b, _)| a.total_cmp(b)) {
        Some((_, name)) => format!(" (did you mean `{name}`?)"),
        None => String::new(),
    }
}
