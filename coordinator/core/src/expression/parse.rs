//! Reads a condition by recursive descent.
//!
//! ```text
//! any  := all (OR all)*
//! all  := not (AND not)*
//! not  := NOT not | '(' any ')' | test
//! test := NAME ( SIGN value | [NOT] LIKE value | [NOT] IN '(' value, ... ')' | [NOT] BETWEEN value AND value
//!              | IS [NOT] NULL )
//! ```

use super::{Comparison, MAX_EXPRESSION, Node, Test};
use crate::reader::{Reader, Unreadable};

/// How deep brackets and NOT may go: the stack is finite. Chosen: nobody reads that either.
const MAX_DEPTH: usize = 50;

/// Longer signs first: `<` begins `<=`.
const SIGNS: [(&str, Comparison); 8] = [
    ("<=", Comparison::LessOrEqual),
    (">=", Comparison::GreaterOrEqual),
    ("<>", Comparison::Unequal),
    ("!=", Comparison::Unequal),
    ("==", Comparison::Equal),
    ("=", Comparison::Equal),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

/// Reads the whole text.
pub(super) fn read(text: &str) -> Result<Node, Unreadable> {
    let mut reader = Reader::new(text);
    if text.len() > MAX_EXPRESSION {
        let message = format!("a condition has at most {MAX_EXPRESSION} bytes");
        return Err(reader.unreadable(0, message));
    }
    let node = any(&mut reader, 0)?;
    if reader.is_at_end() { Ok(node) } else { Err(reader.expected("AND, OR or the end")) }
}

fn any(reader: &mut Reader<'_>, depth: usize) -> Result<Node, Unreadable> {
    let mut nodes = vec![all(reader, depth)?];
    while reader.take_word("OR") {
        nodes.push(all(reader, depth)?);
    }
    Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::Any(nodes) })
}

fn all(reader: &mut Reader<'_>, depth: usize) -> Result<Node, Unreadable> {
    let mut nodes = vec![not(reader, depth)?];
    while reader.take_word("AND") {
        nodes.push(not(reader, depth)?);
    }
    Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::All(nodes) })
}

fn not(reader: &mut Reader<'_>, depth: usize) -> Result<Node, Unreadable> {
    if depth > MAX_DEPTH {
        let message = format!("brackets and NOT go at most {MAX_DEPTH} deep");
        return Err(reader.unreadable(reader.place(), message));
    }
    if reader.take_word("NOT") {
        return Ok(Node::Not(Box::new(not(reader, depth + 1)?)));
    }
    if reader.take("(") {
        let node = any(reader, depth + 1)?;
        return if reader.take(")") { Ok(node) } else { Err(reader.expected("AND, OR or `)`")) };
    }
    test(reader)
}

fn test(reader: &mut Reader<'_>) -> Result<Node, Unreadable> {
    let property = property(reader)?;
    if reader.take_word("IS") {
        let negated = reader.take_word("NOT");
        if !reader.take_word("NULL") {
            return Err(reader.expected("NULL"));
        }
        return Ok(node(property, Test::IsNull, negated));
    }
    let negated = reader.take_word("NOT");
    let test = if reader.take_word("LIKE") {
        Test::Like(value(reader)?)
    } else if reader.take_word("IN") {
        Test::In(list(reader)?)
    } else if reader.take_word("BETWEEN") {
        let low = value(reader)?;
        if !reader.take_word("AND") {
            return Err(reader.expected("AND"));
        }
        Test::Between(low, value(reader)?)
    } else if negated {
        return Err(reader.expected("LIKE, IN or BETWEEN"));
    } else {
        let sign = SIGNS.iter().find(|(sign, _)| reader.take(sign));
        let (_, comparison) = sign.ok_or_else(|| {
            reader.expected("a comparison (=, <>, <, <=, >, >=, LIKE, IN, BETWEEN or IS NULL)")
        })?;
        Test::Compare(*comparison, value(reader)?)
    };
    Ok(node(property, test, negated))
}

fn node(property: String, test: Test, negated: bool) -> Node {
    let test = Node::Test { property, test };
    if negated { Node::Not(Box::new(test)) } else { test }
}

/// A column's name, bare or between double quotes. SQL's columns have no case.
fn property(reader: &mut Reader<'_>) -> Result<String, Unreadable> {
    if reader.take("\"") {
        return Ok(reader.quoted('"')?.to_ascii_lowercase());
    }
    let name = reader.name();
    match name.to_ascii_uppercase().as_str() {
        "" => Err(reader.expected("a property's name")),
        "AND" | "OR" | "NOT" | "IN" | "LIKE" | "IS" | "NULL" | "BETWEEN" => {
            let message = format!("expected a property's name, found {name}");
            Err(reader.unreadable(reader.place() - name.len(), message))
        }
        _ => Ok(name.to_ascii_lowercase()),
    }
}

fn list(reader: &mut Reader<'_>) -> Result<Vec<String>, Unreadable> {
    if !reader.take("(") {
        return Err(reader.expected("`(`"));
    }
    let mut values = vec![value(reader)?];
    while reader.take(",") {
        values.push(value(reader)?);
    }
    if reader.take(")") { Ok(values) } else { Err(reader.expected("`,` or `)`")) }
}

/// A number, or a text between quotes.
fn value(reader: &mut Reader<'_>) -> Result<String, Unreadable> {
    for quote in ['\'', '"'] {
        if reader.take(quote.encode_utf8(&mut [0; 4])) {
            return reader.quoted(quote);
        }
    }
    reader.skip_spaces();
    let start = reader.place();
    let text = reader.take_while(|c| c.is_ascii_alphanumeric() || "+-._".contains(c));
    let digits = text.trim_start_matches(['+', '-']);
    if digits.starts_with(|c: char| c.is_ascii_digit()) && text.parse::<f64>().is_ok() {
        return Ok(text.to_owned());
    }
    if text.is_empty() {
        return Err(reader.expected("a number or a 'text'"));
    }
    Err(reader.unreadable(start, format!("a text stands between quotes: '{text}'")))
}
