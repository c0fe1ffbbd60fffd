//! Reading answers: bounded, typed.

use bytes::BytesMut;
use coordinator_api::ErrorBody;
use reqwest::{Response, Url};
use serde::de::DeserializeOwned;

use super::ClientError;

/// The longest JSON answer that is read, bytes: 500 detailed jobs have about 1 MB.
const MAX_JSON: usize = 32 * 1024 * 1024;

/// The longest error body that is read, bytes.
const MAX_ERROR: usize = 64 * 1024;

/// The longest text of an error that is kept, characters.
const MAX_TEXT: usize = 2000;

/// The body of a success as `T`.
pub(super) async fn json<T: DeserializeOwned>(
    base: &Url,
    response: Response,
) -> Result<T, ClientError> {
    let response = success(base, response).await?;
    let body = read(base, response, MAX_JSON).await?;
    serde_json::from_slice(&body).map_err(|error| ClientError::bad_answer(base, error.to_string()))
}

/// The response if it is a success, or what its body says.
pub(crate) async fn success(base: &Url, response: Response) -> Result<Response, ClientError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    if !(status.is_client_error() || status.is_server_error()) {
        return Err(ClientError::bad_answer(base, format!("status {status}")));
    }
    let body = read(base, response, MAX_ERROR).await.unwrap_or_default();
    let (title, message) = match serde_json::from_slice::<ErrorBody>(&body) {
        Ok(error) => (error.title, error.message),
        // A proxy's page, or a server in trouble.
        Err(_) => (status.to_string(), String::new()),
    };
    Err(ClientError::Refused {
        status: status.as_u16(),
        title: plain(&title),
        message: plain(&message),
    })
}

/// A header that is a number.
pub(super) fn number(response: &Response, name: &str) -> Option<u64> {
    response.headers().get(name)?.to_str().ok()?.parse().ok()
}

pub(super) async fn read(
    base: &Url,
    mut response: Response,
    limit: usize,
) -> Result<BytesMut, ClientError> {
    let mut body = BytesMut::new();
    while let Some(chunk) =
        response.chunk().await.map_err(|error| ClientError::of_request(base, error))?
    {
        if body.len() + chunk.len() > limit {
            return Err(ClientError::bad_answer(base, format!("longer than {limit} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Text that can be shown on a terminal: no control characters, and not too much of it.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TEXT).collect()
}
