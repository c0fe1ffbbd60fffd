//! Conditions on resources: oarsub's `-p`, and the `{...}` of `-l`.
//!
//! Users write them as the WHERE of an SQL query (`mem > 1000 AND host = 'vol-1'`). Here they are read into a
//! tree and evaluated over properties: no text of a user ever reaches a database. A property that a resource
//! does not have is SQL's NULL, which is neither equal nor unequal to anything.

mod parse;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::reader::Unreadable;

/// The longest condition, bytes. Chosen: many times the longest that people write.
const MAX_EXPRESSION: usize = 4_096;

/// A condition on a resource. Stored as its text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Expression {
    text: String,
    root: Node,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Node {
    Any(Vec<Node>),
    All(Vec<Node>),
    Not(Box<Node>),
    Test { property: String, test: Test },
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Test {
    Compare(Comparison, String),
    Like(String),
    In(Vec<String>),
    Between(String, String),
    IsNull,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Expression {
    /// Reads a condition.
    pub fn parse(text: &str) -> Result<Self, Unreadable> {
        let text = text.trim();
        Ok(Self { text: text.to_owned(), root: parse::read(text)? })
    }

    /// Whether a resource with these properties is meant.
    pub fn holds<'a>(&self, property: &impl Fn(&str) -> Option<&'a str>) -> bool {
        self.root.evaluate(property) == Some(true)
    }

    /// The properties that it looks at, in the order of the text.
    pub fn properties(&self) -> Vec<&str> {
        let mut names = Vec::new();
        self.root.collect_properties(&mut names);
        names
    }
}

impl Node {
    /// SQL's three values: none is "unknown".
    fn evaluate<'a>(&self, property: &impl Fn(&str) -> Option<&'a str>) -> Option<bool> {
        match self {
            Self::Any(nodes) => {
                let mut result = Some(false);
                for node in nodes {
                    match node.evaluate(property) {
                        Some(true) => return Some(true),
                        Some(false) => {}
                        None => result = None,
                    }
                }
                result
            }
            Self::All(nodes) => {
                let mut result = Some(true);
                for node in nodes {
                    match node.evaluate(property) {
                        Some(false) => return Some(false),
                        Some(true) => {}
                        None => result = None,
                    }
                }
                result
            }
            Self::Not(node) => node.evaluate(property).map(|value| !value),
            Self::Test { property: name, test } => test.evaluate(property(name)),
        }
    }

    fn collect_properties<'n>(&'n self, names: &mut Vec<&'n str>) {
        match self {
            Self::Any(nodes) | Self::All(nodes) => {
                nodes.iter().for_each(|node| node.collect_properties(names));
            }
            Self::Not(node) => node.collect_properties(names),
            Self::Test { property, .. } => names.push(property),
        }
    }
}

impl Test {
    fn evaluate(&self, value: Option<&str>) -> Option<bool> {
        let Some(value) = value else {
            return if *self == Self::IsNull { Some(true) } else { None };
        };
        Some(match self {
            Self::IsNull => false,
            Self::Compare(comparison, wanted) => comparison.accepts(order(value, wanted)),
            Self::Like(pattern) => is_like(value, pattern),
            Self::In(wanted) => wanted.iter().any(|wanted| order(value, wanted).is_eq()),
            Self::Between(low, high) => order(value, low).is_ge() && order(value, high).is_le(),
        })
    }
}

impl Comparison {
    fn accepts(self, order: std::cmp::Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::Unequal => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

/// As numbers where both are numbers, else as texts.
fn order(left: &str, right: &str) -> std::cmp::Ordering {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    match (number(left), number(right)) {
        (Some(left), Some(right)) => left.total_cmp(&right),
        _ => left.cmp(right),
    }
}

/// SQL's LIKE: `%` is any text, `_` any character, `\` takes the next one literally.
///
/// After a mismatch only the last `%` is tried again, so that no pattern costs more than the product of the
/// lengths.
fn is_like(text: &str, pattern: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let pattern = like_pattern(pattern);
    let (mut at, mut next, mut retry) = (0, 0, None);
    while at < text.len() {
        match pattern.get(next) {
            Some(Like::Text) => {
                next += 1;
                retry = Some((at, next));
            }
            Some(Like::Character) => (at, next) = (at + 1, next + 1),
            Some(Like::Only(c)) if *c == text[at] => (at, next) = (at + 1, next + 1),
            Some(Like::Only(_)) | None => match retry {
                Some((from, after)) => {
                    retry = Some((from + 1, after));
                    (at, next) = (from + 1, after);
                }
                None => return false,
            },
        }
    }
    pattern[next.min(pattern.len())..].iter().all(|part| *part == Like::Text)
}

#[derive(PartialEq)]
enum Like {
    Text,
    Character,
    Only(char),
}

fn like_pattern(pattern: &str) -> Vec<Like> {
    let mut parts = Vec::new();
    let mut characters = pattern.chars();
    while let Some(c) = characters.next() {
        parts.push(match c {
            '%' => Like::Text,
            '_' => Like::Character,
            '\\' => Like::Only(characters.next().unwrap_or('\\')),
            c => Like::Only(c),
        });
    }
    parts
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Expression> for String {
    fn from(expression: Expression) -> Self {
        expression.text
    }
}

impl TryFrom<String> for Expression {
    type Error = Unreadable;

    fn try_from(text: String) -> Result<Self, Unreadable> {
        Self::parse(&text)
    }
}

#[cfg(test)]
mod tests;
