//! JSON answers put into YAML, and into HTML as OAR has it: the YAML text on a page, its links to click on.

use axum::body::{Body, to_bytes};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use coordinator_api::ErrorBody;
use serde_json::Value;

use super::answer::ApiError;
use super::format::Format;
use super::links;

/// The longest answer that is put into another format, bytes. Chosen: the longest list (5,000 jobs) with
/// commands that are long, not all of the longest.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// The answer in that format; `failed` makes OAR's error page. What is not JSON stays as it is.
pub(super) async fn answer(response: Response, format: Format, failed: bool) -> Response {
    let kind = response.headers().get(CONTENT_TYPE);
    if format == Format::Json || kind.is_none_or(|kind| kind != "application/json") {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, MAX_ANSWER).await else {
        let message = "The answer is too long for this format: ask for JSON, or for fewer items";
        let refusal = ApiError::new(StatusCode::NOT_ACCEPTABLE, "Answer too long", message);
        return refusal.into_response();
    };
    // The answer to a HEAD.
    if bytes.is_empty() {
        return Response::from_parts(parts, Body::empty());
    }
    let Some((kind, text)) = convert(&bytes, format, failed) else {
        tracing::error!(status = %parts.status, "an answer is no value that YAML has");
        let message = "The answer cannot be written in this format: ask for JSON";
        return ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "Oar server error", message)
            .into_response();
    };
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Response::from_parts(parts, Body::from(text))
}

/// A page with this text, which is escaped.
pub(super) fn page(text: &str) -> Response {
    Html(around(&escape(text))).into_response()
}

/// A page with a form of ours.
pub(super) fn form(markup: &str) -> Response {
    Html(around(markup)).into_response()
}

/// The content type and the text; none for what is not the JSON of this API.
fn convert(json: &[u8], format: Format, failed: bool) -> Option<(&'static str, String)> {
    if failed && format == Format::Html {
        let error: ErrorBody = serde_json::from_slice(json).ok()?;
        return Some(("text/html; charset=utf-8", error_page(&error)));
    }
    let value: Value = serde_json::from_slice(json).ok()?;
    let yaml = format!("---\n{}", serde_norway::to_string(&value).ok()?);
    Some(match format {
        Format::Html => {
            let shown = format!("<PRE>\n{}\n</PRE>\n", clickable(&yaml));
            ("text/html; charset=utf-8", around(&shown))
        }
        Format::Json | Format::Yaml => ("text/yaml; charset=utf-8", yaml),
    })
}

/// OAR's page, with a menu of the lists that there are.
fn around(content: &str) -> String {
    let menu = [("resources", "RESOURCES"), ("jobs", "JOBS"), ("form", "JOB SUBMISSION")].map(
        |(path, title)| {
            format!(
                "<A HREF=\"{}\">{title}</A>&nbsp;&nbsp;&nbsp;\n",
                links::href(format_args!("/{path}.html"))
            )
        },
    );
    let menu = menu.concat();
    format!(
        "<HTML>\n<HEAD>\n<TITLE>OAR REST API</TITLE>\n</HEAD>\n<BODY>\n<HR>\n{menu}<HR>\n{content}\n</BODY>\n</HTML>\n"
    )
}

fn error_page(error: &ErrorBody) -> String {
    let (title, message) = (escape(&error.title), escape(&error.message));
    format!("<title>{title}</title>\n<h1>{title}</h1>\n<p><PRE>\n{message}\n</PRE></p>\n")
}

/// YAML text for a page: escaped, and the API's own links made links.
fn clickable(yaml: &str) -> String {
    let line = |line: &str| match line.split_once("href: ") {
        // Only what can be nothing but a path of ours: a job's command may look like such a line too.
        Some((before, href)) if before.trim_matches([' ', '-']).is_empty() && is_ours(href) => {
            let href = escape(&with_suffix(href));
            format!("{before}href: '<A HREF=\"{href}\">{href}</A>'")
        }
        Some(_) | None => escape(line),
    };
    yaml.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn is_ours(href: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%?=&".contains(&byte);
    href.strip_prefix(&links::href("")).is_some_and(|path| path.starts_with('/'))
        && href.bytes().all(plain)
}

/// Who follows a link of a page wants a page.
fn with_suffix(href: &str) -> String {
    let (path, query) = href.split_once('?').unwrap_or((href, ""));
    let path = path.strip_suffix(".html").unwrap_or(path);
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{path}.html{mark}{query}")
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_begins_as_oars_and_sorts_its_keys() {
        let (kind, text) = convert(br#"{"b":1,"a":null}"#, Format::Yaml, false).unwrap();
        assert_eq!((kind, &*text), ("text/yaml; charset=utf-8", "---\na: null\nb: 1\n"));
    }

    #[test]
    fn links_of_ours_can_be_clicked_and_nothing_else() {
        let yaml = "links:\n- href: /oarapi/jobs?limit=1&offset=0\n  rel: self\n";
        let link = "/oarapi/jobs.html?limit=1&amp;offset=0";
        let expected = format!("links:\n- href: '<A HREF=\"{link}\">{link}</A>'\n  rel: self");
        assert_eq!(clickable(yaml), expected);
        for line in ["  href: javascript:alert(1)", "  href: /oarapi/\"x", "  x href: /oarapi/a"] {
            assert_eq!(clickable(line), escape(line));
        }
    }

    #[test]
    fn what_users_wrote_is_text_on_a_page() {
        let json = br#"{"command":"<script>alert('1')</script>"}"#;
        let (_, page) = convert(json, Format::Html, false).unwrap();
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script>"), "{page}");
        let json = br#"{"code":404,"title":"<b>","message":"<i>"}"#;
        let (_, page) = convert(json, Format::Html, true).unwrap();
        assert!(page.starts_with("<title>&lt;b&gt;</title>\n<h1>"), "{page}");
    }
}
