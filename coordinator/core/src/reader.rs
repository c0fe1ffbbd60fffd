//! Reads a text from left to right and remembers where it is: what cannot be read has a column.

/// Where a text cannot be read, and what was expected there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column} of {text:?}: {message}")]
pub struct Unreadable {
    /// The character, from 1.
    pub column: usize,
    /// The whole text, or as much of it as a message can hold.
    pub text: String,
    /// What was expected, or what is wrong.
    pub message: String,
}

/// The most of a text that a message repeats, characters.
const MAX_SHOWN: usize = 200;

/// A text and a place in it.
pub(crate) struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    /// What has not been read.
    pub(crate) fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The place, to return to or to complain about.
    pub(crate) fn place(&self) -> usize {
        self.at
    }

    /// Goes on by so many bytes, which were looked at in [`rest`](Self::rest).
    pub(crate) fn skip(&mut self, bytes: usize) {
        self.at += bytes;
    }

    pub(crate) fn skip_spaces(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    pub(crate) fn is_at_end(&mut self) -> bool {
        self.skip_spaces();
        self.rest().is_empty()
    }

    /// Reads a sign if it is next.
    pub(crate) fn take(&mut self, sign: &str) -> bool {
        self.skip_spaces();
        let found = self.rest().starts_with(sign);
        if found {
            self.at += sign.len();
        }
        found
    }

    /// Reads a keyword, in any case, if it is next and ends there.
    pub(crate) fn take_word(&mut self, word: &str) -> bool {
        self.skip_spaces();
        let found = name_of(self.rest()).eq_ignore_ascii_case(word);
        if found {
            self.at += word.len();
        }
        found
    }

    /// Reads a name: letters, digits and underscores, not beginning with a digit. Empty if there is none.
    pub(crate) fn name(&mut self) -> &'t str {
        self.skip_spaces();
        let name = name_of(self.rest());
        self.at += name.len();
        name
    }

    /// Reads as long as the characters are such.
    pub(crate) fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    /// Reads up to the closing quote, which is doubled where it belongs to the text.
    pub(crate) fn quoted(&mut self, quote: char) -> Result<String, Unreadable> {
        let start = self.at;
        let mut text = String::new();
        loop {
            text += self.take_while(|c| c != quote);
            if !self.rest().starts_with(quote) {
                return Err(self.unreadable(start.saturating_sub(1), "this quote is not closed"));
            }
            self.at += quote.len_utf8();
            if !self.rest().starts_with(quote) {
                return Ok(text);
            }
            text.push(quote);
            self.at += quote.len_utf8();
        }
    }

    /// What is wrong at a place.
    pub(crate) fn unreadable(&self, place: usize, message: impl Into<String>) -> Unreadable {
        let before = self.text.get(..place).unwrap_or(self.text);
        Unreadable {
            column: before.chars().count() + 1,
            text: self.text.chars().take(MAX_SHOWN).collect(),
            message: message.into(),
        }
    }

    /// Something else was expected at the next character.
    pub(crate) fn expected(&mut self, what: &str) -> Unreadable {
        self.skip_spaces();
        let found = match self.rest().chars().next() {
            Some(found) => format!("expected {what}, found {found:?}"),
            None => format!("expected {what}, found the end"),
        };
        self.unreadable(self.at, found)
    }
}

fn name_of(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let name = text.get(..end).unwrap_or_default();
    if name.starts_with(|c: char| c.is_ascii_digit()) { "" } else { name }
}
