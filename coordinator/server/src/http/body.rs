//! JSON bodies, refused in OAR's words.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;

use super::answer::ApiError;

/// A JSON body. The content type is not looked at: there is nothing else that is understood.
pub(super) struct JsonBody<T>(pub T);

impl<S, T> FromRequest<S> for JsonBody<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            ApiError::new(rejection.status(), "Body not understood", rejection.body_text())
        })?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| refuse(&error))
    }
}

fn refuse(error: &serde_json::Error) -> ApiError {
    // Only words of our types and places in the text: serde_json echoes at most a key or a value.
    ApiError::new(StatusCode::BAD_REQUEST, "JSON data not understood", error.to_string())
}
