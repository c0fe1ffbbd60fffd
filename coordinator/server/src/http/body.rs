//! Request bodies, read as their `Content-Type` says and refused in OAR's words.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use coordinator_api::body::{BodyKind, NotUnderstood};
use serde::de::DeserializeOwned;

use super::answer::ApiError;
use super::format::essence;

/// A body in JSON, YAML or as an HTML form. The suffix says nothing of it: YAML in, JSON out is fine.
pub(super) struct Sent<T>(pub T);

impl<S, T> FromRequest<S> for Sent<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = BodyKind::of(essence(kind.unwrap_or_default())).ok_or_else(no_format)?;
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            ApiError::new(rejection.status(), "Body not understood", rejection.body_text())
        })?;
        if bytes.is_empty() { Err(no_format()) } else { Ok(Self(kind.read(&bytes)?)) }
    }
}

/// OAR's words; it takes forms too and does not say so.
fn no_format() -> ApiError {
    let title = "Job description must be in YAML or JSON";
    let message = "The correct format for a job request is text/yaml or application/json. ";
    ApiError::new(StatusCode::NOT_ACCEPTABLE, title, message)
}

impl From<NotUnderstood> for ApiError {
    fn from(refusal: NotUnderstood) -> Self {
        let title = match refusal.kind {
            BodyKind::Json => "JSON data not understood",
            BodyKind::Yaml => "YAML data not understood",
            BodyKind::Form => "Form data not understood",
        };
        Self::new(StatusCode::BAD_REQUEST, title, refusal.words)
    }
}
