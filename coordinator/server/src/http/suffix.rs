//! OAR's optional suffixes: `.json`, `.yaml` and `.html` on nearly every path, `.tgz` and `.tar.gz` on archives.

use axum::extract::Request;
use axum::http::Uri;
use axum::http::uri::PathAndQuery;
use axum::middleware::Next;
use axum::response::Response;

/// The path as the client asked for it, suffix included: lists name themselves so.
#[derive(Clone, Debug)]
pub(super) struct AskedPath(pub String);

/// All mean the same to the routes: the format of an answer is none of their business.
const SUFFIXES: [&str; 5] = [".json", ".yaml", ".html", ".tgz", ".tar.gz"];

/// Takes the suffix off before the routes are matched.
pub(super) async fn strip(mut request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    request.extensions_mut().insert(AskedPath(path.clone()));
    let plain = SUFFIXES.iter().find_map(|suffix| path.strip_suffix(suffix)).map(str::to_owned);
    if let Some(uri) = plain.and_then(|plain| with_path(request.uri(), &plain)) {
        *request.uri_mut() = uri;
    }
    next.run(request).await
}

/// What `strip` has taken off: for routes where it is a part of a file's name.
pub(super) fn taken(AskedPath(path): &AskedPath) -> &'static str {
    SUFFIXES.into_iter().find(|suffix| path.ends_with(suffix)).unwrap_or_default()
}

fn with_path(uri: &Uri, path: &str) -> Option<Uri> {
    let text = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(text).ok()?);
    Uri::from_parts(parts).ok()
}
