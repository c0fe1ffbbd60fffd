//! Which format an answer has, chosen as OAR chooses it.
//!
//! The path's suffix; else `Accept` as one value; else the request's `Content-Type`; else 406. One thing is
//! kinder than OAR: an `Accept` that is a list, or has a `*`, is read as HTTP means it before it is refused.
//! Without that, curl, browsers and most libraries must write a suffix.

use axum::extract::{Extension, Request};
use axum::http::header::{ACCEPT, AsHeaderName, CONTENT_TYPE};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::answer::{self, ApiError};
use super::suffix::AskedPath;
use super::{PREFIX, render};

/// The most of a client's header that an error repeats, characters.
const MAX_SHOWN: usize = 200;

/// The one structure of answers. OAR's other one, `oar`, is broken in OAR: resources become memory addresses,
/// and every job has the number 0.
const STRUCTURE: &str = "simple";

/// The format of an answer's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Yaml,
    Html,
}

/// The format of this request's answer, or the title of its refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Negotiated(Result<Format, String>);

impl Negotiated {
    fn of(path: &str, headers: &HeaderMap) -> Self {
        let (accept, kind) = (text(headers, ACCEPT), text(headers, CONTENT_TYPE));
        let format = of_suffix(path)
            .or_else(|| accept.filter(|accept| !accept.contains(',')).and_then(of_type))
            .or_else(|| kind.and_then(of_type))
            .or_else(|| accept.and_then(of_list));
        // A browser that is given the bare prefix; OAR answers this path in HTML too.
        let bare = || (accept.is_none() && path == PREFIX).then_some(Format::Html);
        let title = || {
            let required = accept.map(|accept| format!("required {accept}"));
            let wanted = required.or(kind.map(str::to_owned)).unwrap_or_default();
            let shown: String = wanted.chars().take(MAX_SHOWN).collect();
            format!("Invalid content type {shown}")
        };
        Self(format.or_else(bare).ok_or_else(title))
    }

    /// The format, or OAR's refusal.
    pub(super) fn format(&self) -> Result<Format, ApiError> {
        let refuse = |title: &String| {
            let message = "Valid types are text/yaml, application/json or text/html";
            ApiError::new(StatusCode::NOT_ACCEPTABLE, title.clone(), message)
        };
        self.0.as_ref().copied().map_err(refuse)
    }
}

/// Chooses the format, and gives the answer that format. Handlers answer in JSON.
pub(super) async fn negotiate(mut request: Request, next: Next) -> Response {
    let negotiated = Negotiated::of(request.uri().path(), request.headers());
    // What has no format is refused in JSON; archives have one of their own.
    let format = negotiated.0.as_ref().copied().unwrap_or(Format::Json);
    request.extensions_mut().insert(negotiated);
    let debug = parameter(&request, "debug").is_some_and(|value| value == "1");
    let response = next.run(request).await;
    // Of a failure there is another page than of an object, also when it is called no failure.
    let failed = response.status().as_u16() >= 400;
    let response = if debug && failed { answer::as_success(response).await } else { response };
    render::answer(response, format, failed).await
}

/// Refuses what can have no answer: no format or structure that is known, or OAR's missing HEAD.
pub(super) async fn require(
    Extension(negotiated): Extension<Negotiated>,
    Extension(path): Extension<AskedPath>,
    request: Request,
    next: Next,
) -> Response {
    if let Err(refusal) = negotiated.format() {
        return refusal.into_response();
    }
    if let Some(name) = parameter(&request, "structure").filter(|name| name != STRUCTURE) {
        return unknown_structure(&name).into_response();
    }
    if request.method() == Method::HEAD {
        return answer::no_route_to(&path).into_response();
    }
    next.run(request).await
}

/// A query parameter's first value.
fn parameter(request: &Request, name: &str) -> Option<String> {
    let mut all = form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
    all.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn unknown_structure(name: &str) -> ApiError {
    let shown: String = name.chars().take(MAX_SHOWN).collect();
    let message = format!("Unknown {shown} format for data structure");
    ApiError::new(StatusCode::NOT_ACCEPTABLE, format!("Unknown {shown} format"), message)
}

fn text(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn of_suffix(path: &str) -> Option<Format> {
    let known = [
        (".json", Format::Json),
        (".yaml", Format::Yaml),
        (".html", Format::Html),
        // The archive is no text; what is said in its place is.
        (".tgz", Format::Json),
        (".tar.gz", Format::Json),
    ];
    known.into_iter().find_map(|(suffix, format)| path.ends_with(suffix).then_some(format))
}

/// A media type without its parameters.
pub(super) fn essence(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}

/// One media type. The last three are OAR's.
fn of_type(value: &str) -> Option<Format> {
    let known = [
        ("application/json", Format::Json),
        ("text/yaml", Format::Yaml),
        ("text/html", Format::Html),
        ("application/x-gzip", Format::Json),
        ("application/octet-stream", Format::Yaml),
        ("multipart/form-data", Format::Html),
    ];
    let found = |&(name, _): &(&str, Format)| essence(value).eq_ignore_ascii_case(name);
    known.iter().find(|known| found(known)).map(|&(_, format)| format)
}

/// The best of a list (RFC 9110, 12.5.1): the highest weight, and the first of equals.
fn of_list(accept: &str) -> Option<Format> {
    let mut best: Option<(f32, Format)> = None;
    for range in accept.split(',') {
        let anything = ["*/*", "application/*"].contains(&essence(range));
        let Some(format) = anything.then_some(Format::Json).or_else(|| of_type(range)) else {
            continue;
        };
        let weight = weight(range);
        if weight > best.map_or(0.0, |(best, _)| best) {
            best = Some((weight, format));
        }
    }
    best.map(|(_, format)| format)
}

fn weight(range: &str) -> f32 {
    let mut parameters = range.split(';').skip(1);
    let weight = parameters.find_map(|parameter| parameter.trim().strip_prefix("q="));
    weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn negotiated(path: &str, accept: Option<&str>, kind: Option<&str>) -> Result<Format, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in [(ACCEPT, accept), (CONTENT_TYPE, kind)] {
            if let Some(value) = value {
                headers.insert(name, HeaderValue::from_str(value).unwrap());
            }
        }
        Negotiated::of(path, &headers).0
    }

    #[test]
    fn the_suffix_goes_before_accept_and_accept_before_the_content_type() {
        let (json, yaml, html) = (Some("application/json"), Some("text/yaml"), Some("text/html"));
        assert_eq!(negotiated("/jobs.html", json, yaml), Ok(Format::Html));
        assert_eq!(negotiated("/jobs", html, json), Ok(Format::Html));
        assert_eq!(negotiated("/jobs", Some("*/*"), yaml), Ok(Format::Yaml));
        assert_eq!(negotiated("/jobs", None, yaml), Ok(Format::Yaml));
        assert_eq!(negotiated("/jobs", Some("text/yaml;charset=utf-8"), None), Ok(Format::Yaml));
    }

    #[test]
    fn lists_are_read_by_weight_and_then_by_order() {
        for (accept, format) in [
            ("*/*", Format::Json),
            ("application/json, text/plain, */*", Format::Json),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Format::Html),
            ("text/html;q=0.3, text/yaml;q=0.7", Format::Yaml),
            ("text/html;q=0, */*;q=0.1", Format::Json),
        ] {
            assert_eq!(negotiated("/jobs", Some(accept), None), Ok(format), "{accept}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        for (accept, kind, title) in [
            (None, None, "Invalid content type "),
            (Some("application/xml"), None, "Invalid content type required application/xml"),
            (Some("image/png, a/b"), None, "Invalid content type required image/png, a/b"),
            (None, Some("text/plain"), "Invalid content type text/plain"),
        ] {
            assert_eq!(negotiated("/jobs.xml", accept, kind), Err(title.to_owned()));
        }
    }
}
