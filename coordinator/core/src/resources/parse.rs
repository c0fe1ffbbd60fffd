//! Reads a resource request by recursive descent.

use super::{
    Alternative, Count, DEFAULT_WALLTIME_S, Group, Level, MAX_COUNT, MAX_PARTS, MAX_REQUEST,
    MAX_WALLTIME_S, NODE, RESOURCE,
};
use crate::expression::Expression;
use crate::reader::{Reader, Unreadable};

pub(super) fn alternative(text: &str) -> Result<Alternative, Unreadable> {
    let mut reader = Reader::new(text);
    if text.len() > MAX_REQUEST {
        let message = format!("a resource request has at most {MAX_REQUEST} bytes");
        return Err(reader.unreadable(0, message));
    }
    let mut groups = Vec::new();
    if !begins_walltime(&mut reader) {
        groups.push(group(&mut reader)?);
        while reader.take("+") {
            if groups.len() >= MAX_PARTS {
                return Err(
                    reader.unreadable(reader.place(), format!("at most {MAX_PARTS} groups"))
                );
            }
            groups.push(group(&mut reader)?);
        }
    } else {
        let count = Count::Exactly(1);
        let levels = vec![Level { property: RESOURCE.to_owned(), count }];
        groups.push(Group { filter: None, levels });
    }
    let mut walltime_s = DEFAULT_WALLTIME_S;
    if begins_walltime(&mut reader) || reader.take(",") {
        if !reader.take_word("walltime") || !reader.take("=") {
            return Err(reader.expected("walltime=TIME"));
        }
        walltime_s = walltime(&mut reader)?;
    }
    if !reader.is_at_end() {
        return Err(reader.expected("`/`, `+`, `,walltime=` or the end"));
    }
    Ok(Alternative { groups, walltime_s })
}

fn begins_walltime(reader: &mut Reader<'_>) -> bool {
    reader.skip_spaces();
    reader.rest().starts_with("walltime")
}

fn group(reader: &mut Reader<'_>) -> Result<Group, Unreadable> {
    let filter = if reader.take("{") { filter(reader)? } else { None };
    reader.take("/");
    let mut levels = vec![level(reader)?];
    while reader.take("/") {
        if levels.len() >= MAX_PARTS {
            return Err(reader.unreadable(reader.place(), format!("at most {MAX_PARTS} levels")));
        }
        levels.push(level(reader)?);
    }
    Ok(Group { filter, levels })
}

/// Up to the closing brace, which a quoted text may hold too.
fn filter(reader: &mut Reader<'_>) -> Result<Option<Expression>, Unreadable> {
    let start = reader.place();
    let mut quote = None;
    let text = reader.rest();
    let end = text.char_indices().find(|&(_, c)| match quote {
        Some(open) => {
            if c == open {
                quote = None;
            }
            false
        }
        None => {
            if c == '\'' || c == '"' {
                quote = Some(c);
            }
            c == '}'
        }
    });
    let Some((end, _)) = end else {
        return Err(reader.unreadable(start.saturating_sub(1), "this brace is not closed"));
    };
    let text = text.get(..end).unwrap_or_default();
    let spaces = text.len() - text.trim_start().len();
    let read = if text.trim().is_empty() { Ok(None) } else { Expression::parse(text).map(Some) };
    let read = read.map_err(|error| {
        // The column counts within the braces.
        let inner = text.get(spaces..).unwrap_or_default().char_indices();
        let inner = inner.map(|(at, _)| at).nth(error.column - 1).unwrap_or(end - spaces);
        reader.unreadable(start + spaces + inner, error.message)
    })?;
    reader.skip(text.len() + 1);
    Ok(read)
}

fn level(reader: &mut Reader<'_>) -> Result<Level, Unreadable> {
    let name = reader.name();
    if name.is_empty() {
        return Err(reader.expected("a level, as in nodes=2"));
    }
    let property = match name.to_ascii_lowercase().as_str() {
        "nodes" | "node" | "host" => NODE.to_owned(),
        name => name.to_owned(),
    };
    if !reader.take("=") {
        return Err(reader.expected("`=` and a number"));
    }
    Ok(Level { property, count: count(reader)? })
}

fn count(reader: &mut Reader<'_>) -> Result<Count, Unreadable> {
    for (word, count) in [("ALL", Count::All), ("BESTHALF", Count::BestHalf), ("BEST", Count::Best)]
    {
        if reader.take_word(word) {
            return Ok(count);
        }
    }
    reader.skip_spaces();
    let start = reader.place();
    let digits = reader.take_while(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.');
    let number = parse_digits(digits).and_then(|number| u32::try_from(number).ok());
    match number.filter(|number| (1..=MAX_COUNT).contains(number)) {
        Some(number) => Ok(Count::Exactly(number)),
        None if digits.is_empty() => Err(reader.expected("a number, ALL, BEST or BESTHALF")),
        None => {
            let message =
                format!("{digits} is no number from 1 to {MAX_COUNT}, ALL, BEST or BESTHALF");
            Err(reader.unreadable(start, message))
        }
    }
}

/// `h`, `h:m` or `h:m:s`: a bare number is hours. Minutes and seconds may pass 59, as in OAR.
fn walltime(reader: &mut Reader<'_>) -> Result<u64, Unreadable> {
    reader.skip_spaces();
    let start = reader.place();
    let text = reader.take_while(|c| c != ',' && !c.is_whitespace());
    let mut seconds = Some(0);
    let mut unit = 3600;
    for part in text.split(':') {
        let value = parse_digits(part).filter(|_| unit > 0);
        seconds = seconds.zip(value).map(|(seconds, value): (u64, u64)| seconds + value * unit);
        unit /= 60;
    }
    seconds.filter(|seconds| (1..=MAX_WALLTIME_S).contains(seconds)).ok_or_else(|| {
        let message =
            format!("{text:?} is no walltime: write h, h:m or h:m:s, at most 60 days, not 0");
        reader.unreadable(start, message)
    })
}

/// Up to 7 digits and nothing else, so that sums of products cannot overflow.
fn parse_digits(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.len() <= 7 && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}
