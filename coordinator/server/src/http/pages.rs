//! OAR's paged lists.

use axum::Json;
use axum::extract::{Extension, FromRequestParts};
use axum::http::request::Parts;
use coordinator_api::{Link, List};
use coordinator_core::UnixMillis;

use super::answer::ApiError;
use super::suffix::AskedPath;
use super::{PREFIX, links};

/// Items of a page when the client does not say (`API_DEFAULT_MAX_ITEMS_NUMBER`).
pub(super) const DEFAULT_LIMIT: usize = 500;

/// The most items of a page, whatever the client says.
const MAX_LIMIT: usize = 5_000;

/// The most query parameters that are looked at.
const MAX_PARAMETERS: usize = 32;

/// The largest number in a query: the largest that all readers of JSON have exactly.
pub(super) const MAX_NUMBER: u64 = (1 << 53) - 1;

/// A list's address: the path as asked, the filters, and which page.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    path: String,
    parameters: Vec<(String, String)>,
    pub(super) limit: usize,
    pub(super) offset: usize,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let asked = Option::<Extension<AskedPath>>::from_request_parts(parts, state).await;
        let path = asked.ok().flatten().map(|Extension(AskedPath(path))| path).unwrap_or_default();
        let query = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        let query = query.map_err(|error| ApiError::bad_query(error.body_text()))?;
        let path = path.strip_prefix(PREFIX).map(links::href).unwrap_or(path);
        let mut asked = Self { path, parameters: query.0, limit: DEFAULT_LIMIT, offset: 0 };
        asked.parameters.truncate(MAX_PARAMETERS);
        let (limit, offset) = (asked.number("limit")?, asked.number("offset")?);
        asked.limit = limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT);
        asked.offset = offset.unwrap_or(0);
        Ok(asked)
    }
}

impl Asked {
    /// A query parameter's first value.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A query parameter that is a number.
    pub(super) fn number(&self, name: &str) -> Result<Option<usize>, ApiError> {
        let Some(text) = self.parameter(name) else { return Ok(None) };
        let bad = || ApiError::bad_query(format!("{name} must be a whole number below 2^53"));
        let number = text.parse::<u64>().ok().filter(|number| *number <= MAX_NUMBER);
        let number = number.and_then(|number| usize::try_from(number).ok());
        number.map(Some).ok_or_else(bad)
    }

    /// One page out of all items.
    pub(super) fn page<T>(&self, items: Vec<T>, now: UnixMillis) -> Json<List<T>> {
        let total = items.len();
        let items = items.into_iter().skip(self.offset).take(self.limit).collect();
        self.list(items, total, now)
    }

    /// A list around the items of this page.
    pub(super) fn list<T>(&self, items: Vec<T>, total: usize, now: UnixMillis) -> Json<List<T>> {
        if items.is_empty() {
            let offset = self.offset.min(total);
            return Json(List { items, total, offset, links: Vec::new(), api_timestamp: None });
        }
        let mut links = vec![self.link("self", self.offset)];
        if self.offset + self.limit < total {
            links.push(self.link("next", self.offset + self.limit));
        }
        if self.offset >= self.limit {
            links.push(self.link("previous", self.offset - self.limit));
        }
        let api_timestamp = Some(now.seconds());
        Json(List { items, total, offset: self.offset, links, api_timestamp })
    }

    /// A list that has no pages: its link is the path alone.
    pub(super) fn whole<T>(&self, items: Vec<T>, now: UnixMillis) -> Json<List<T>> {
        let total = items.len();
        let filled = !items.is_empty();
        let links = if filled { vec![self.itself()] } else { Vec::new() };
        let api_timestamp = filled.then(|| now.seconds());
        Json(List { items, total, offset: 0, links, api_timestamp })
    }

    /// The path as it was asked for.
    pub(super) fn itself(&self) -> Link {
        Link { rel: "self".into(), href: self.path.clone(), title: None }
    }

    /// A list that has no pages, and names itself with its filters.
    pub(super) fn filtered<T>(&self, items: Vec<T>, now: UnixMillis) -> Json<List<T>> {
        let Json(mut list) = self.whole(items, now);
        let pairs = self.parameters.iter();
        let query: Vec<String> =
            pairs.map(|(key, value)| format!("{}={}", escape(key), escape(value))).collect();
        if !query.is_empty() {
            list.links.iter_mut().for_each(|link| link.href += &format!("?{}", query.join("&")));
        }
        Json(list)
    }

    fn link(&self, rel: &'static str, offset: usize) -> Link {
        let mut href = format!("{}?", self.path);
        for (key, value) in self.parameters.iter().filter(|(key, _)| key != "offset") {
            href += &format!("{}={}&", escape(key), escape(value));
        }
        href += &format!("offset={offset}");
        Link { rel: rel.into(), href, title: None }
    }
}

/// Percent-encodes what cannot stand in a query; OAR encodes commas and colons too.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped += &format!("%{byte:02X}");
        }
    }
    escaped
}
