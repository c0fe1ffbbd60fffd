//! Answers that are not what was asked for, as OAR words them.

use std::borrow::Cow;
use std::time::Duration;

use axum::Json;
use axum::body::to_bytes;
use axum::extract::{Extension, Request};
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use coordinator_api::ErrorBody;
use coordinator_core::{
    ArrayRefusal, DeleteRefusal, DirectiveRefusal, ReportRefusal, RequestRefusal, SubmitRefusal,
};

use super::format::Negotiated;
use super::suffix::AskedPath;
use super::{PREFIX, REQUEST_TIMEOUT};
use crate::causes::Causes;
use crate::ledger::LedgerError;
use crate::store::{EnrolRefusal, StoreError};

/// The most that is taken over of the web framework's own words, bytes.
const MAX_WORDS: usize = 4_096;

/// The longest error body, bytes: the longest that repeats a client's words, several times over.
const MAX_ERROR: usize = 64 * 1024;

/// What proves who asks (RFC 6750, 3).
const BEARER: HeaderValue = HeaderValue::from_static("Bearer realm=\"OAR API\"");

/// When to try again, seconds. Chosen: longer than a burst of work, shorter than an agent's poll interval.
const SOON: HeaderValue = HeaderValue::from_static("5");

/// An error answer: status, title, message.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    title: Cow<'static, str>,
    message: String,
    /// When to try again, seconds.
    wait_s: Option<u64>,
}

impl ApiError {
    /// Makes an error answer.
    pub fn new(
        status: StatusCode,
        title: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self { status, title: title.into(), message: message.into(), wait_s: None }
    }

    pub(super) fn bad_query(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Bad query", message)
    }

    /// No identity where one is needed; `what` ends OAR's sentence.
    pub(super) fn anonymous(what: &str) -> Self {
        let message = format!("A suitable authentication must be done before {what}");
        Self::new(StatusCode::UNAUTHORIZED, "Permission denied", message)
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Permission denied", message)
    }

    /// A body without what it must have, in OAR's words.
    pub(super) fn missing_field(message: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Missing Required Field", message)
    }

    pub(super) fn no_job() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Job not found", "Job not found")
    }

    /// One request too many.
    pub(super) fn too_many(wait: Duration) -> Self {
        let message = "You ask more often than the administrator allows; slow down";
        let refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, "Too many requests", message);
        // Rounded up: 0 would be at once.
        Self { wait_s: Some(wait.as_secs() + 1), ..refusal }
    }

    /// A body of no known format, in the words of a route that takes no job.
    pub(super) fn of_format(self, what: &str, name: &str) -> Self {
        if self.status != StatusCode::NOT_ACCEPTABLE {
            return self;
        }
        let message =
            format!("The correct format for a {what} request is text/yaml or application/json. ");
        Self::new(self.status, format!("{name} description must be in YAML or JSON"), message)
    }

    pub(super) fn retry() -> Self {
        let message = "The database did not answer; try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Oar server error", message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self { status, title, message, wait_s } = self;
        let body = ErrorBody { code: status.as_u16(), title: title.into_owned(), message };
        let mut answer = (status, Json(body)).into_response();
        if status == StatusCode::UNAUTHORIZED {
            answer.headers_mut().insert(WWW_AUTHENTICATE, BEARER);
        } else if let Some(seconds) = wait_s {
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        } else if status == StatusCode::SERVICE_UNAVAILABLE {
            answer.headers_mut().insert(RETRY_AFTER, SOON);
        }
        answer
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = %Causes(&error), "request failed");
        Self::retry()
    }
}

impl From<LedgerError> for ApiError {
    /// The ledger has logged it.
    fn from(_: LedgerError) -> Self {
        Self::retry()
    }
}

impl From<RequestRefusal> for ApiError {
    fn from(refusal: RequestRefusal) -> Self {
        let title = match refusal {
            RequestRefusal::NoCommand => "Missing Required Field",
            RequestRefusal::Command
            | RequestRefusal::Script
            | RequestRefusal::Name(_)
            | RequestRefusal::Resources(_)
            | RequestRefusal::NotAllowed(_)
            | RequestRefusal::Properties(_)
            | RequestRefusal::Queue(_)
            | RequestRefusal::Date(_)
            | RequestRefusal::Dependency(_)
            | RequestRefusal::BestEffortReservation
            | RequestRefusal::TooManyTypes(_)
            | RequestRefusal::UnknownType(_)
            | RequestRefusal::UnknownPattern(_)
            | RequestRefusal::TwoPatterns(..)
            | RequestRefusal::UnsupportedType(_)
            | RequestRefusal::Stagein(_) => "Bad query",
        };
        Self::new(StatusCode::BAD_REQUEST, title, refusal.to_string())
    }
}

impl From<ArrayRefusal> for ApiError {
    fn from(refusal: ArrayRefusal) -> Self {
        Self::bad_query(refusal.to_string())
    }
}

impl From<DirectiveRefusal> for ApiError {
    fn from(refusal: DirectiveRefusal) -> Self {
        Self::bad_query(refusal.to_string())
    }
}

impl From<SubmitRefusal> for ApiError {
    fn from(refusal: SubmitRefusal) -> Self {
        Self::bad_query(refusal.to_string())
    }
}

impl From<DeleteRefusal> for ApiError {
    /// OAR answers every refused deletion with 400, and does not tell whose the job is.
    fn from(refusal: DeleteRefusal) -> Self {
        let (DeleteRefusal::NotYours(job) | DeleteRefusal::AlreadyKilled(job)) = refusal;
        let message = format!("Deleting the job = {job} ...ERROR.\n{refusal}\n");
        Self::new(StatusCode::BAD_REQUEST, "Oardel error", message)
    }
}

impl From<ReportRefusal> for ApiError {
    fn from(refusal: ReportRefusal) -> Self {
        match refusal {
            ReportRefusal::UnknownJob => Self::no_job(),
            ReportRefusal::NotAssigned => Self::forbidden(refusal.to_string()),
            ReportRefusal::Stale { .. } | ReportRefusal::Differs => {
                Self::new(StatusCode::CONFLICT, "Conflict", refusal.to_string())
            }
        }
    }
}

impl From<EnrolRefusal> for ApiError {
    fn from(refusal: EnrolRefusal) -> Self {
        Self::forbidden(refusal.to_string())
    }
}

/// OAR's answer to an unknown route, and to a wrong method on a known one. It looks for a format first.
pub(super) async fn no_route(
    Extension(negotiated): Extension<Negotiated>,
    Extension(path): Extension<AskedPath>,
) -> ApiError {
    negotiated.format().err().unwrap_or_else(|| no_route_to(&path))
}

pub(super) fn no_route_to(AskedPath(path): &AskedPath) -> ApiError {
    let path = path.strip_prefix(PREFIX).unwrap_or(path);
    let shown: String = path.chars().take(200).collect();
    let message = format!("No way to handle your request {shown}");
    ApiError::new(StatusCode::NOT_FOUND, "Not found", message)
}

/// Ends requests that take too long.
pub(super) async fn time_limit(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let message = "The request took too long; try again";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "Timeout", message).into_response()
        }
    }
}

/// Gives every error answer OAR's body, also those that the web framework words itself.
pub(super) async fn dress(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if status.as_u16() < 400 || kind == Some("application/json") {
        return response;
    }
    let (parts, body) = response.into_parts();
    let text = to_bytes(body, MAX_WORDS).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let title = status.canonical_reason().unwrap_or("Error");
    let message = if text.is_empty() { title } else { &*text };
    let mut dressed = ApiError::new(status, title, message).into_response();
    // What the answer says beside its words: where to go on with an upload, say.
    for (name, value) in &parts.headers {
        if name != CONTENT_TYPE && name != CONTENT_LENGTH {
            dressed.headers_mut().insert(name, value.clone());
        }
    }
    dressed
}

/// OAR's `?debug=1`: an error sent as a success, for clients that show no body of an error.
pub(super) async fn as_success(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let text = to_bytes(body, MAX_ERROR).await.unwrap_or_default();
    let Ok(mut error) = serde_json::from_slice::<ErrorBody>(&text) else {
        return Response::from_parts(parts, text.into());
    };
    error.title = format!("ERROR {} - {}", parts.status.as_u16(), error.title);
    error.code = StatusCode::OK.as_u16();
    parts.headers.remove(CONTENT_LENGTH);
    let mut answer = (StatusCode::OK, Json(error)).into_response();
    answer.headers_mut().extend(parts.headers);
    answer
}
