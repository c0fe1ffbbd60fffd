//! Who asks: a scientist, a node, or nobody.

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use coordinator_core::NodeNumber;

use super::answer::ApiError;
use crate::app::App;
use crate::secret::SecretHash;

/// Who asks, by `Authorization: Bearer TOKEN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// No token.
    Anonymous,
    /// A scientist.
    User(String),
    /// An agent.
    Node(NodeNumber),
}

impl Identity {
    /// A scientist's name; `before` ends the sentence that refuses others.
    pub(super) fn user(self, before: &str) -> Result<String, ApiError> {
        match self {
            Self::User(name) => Ok(name),
            Self::Anonymous => Err(ApiError::anonymous(before)),
            Self::Node(_) => Err(ApiError::forbidden("A node's credential is not a user's")),
        }
    }

    /// A node; `before` ends the sentence that refuses others.
    pub(super) fn node(self, before: &str) -> Result<NodeNumber, ApiError> {
        match self {
            Self::Node(node) => Ok(node),
            Self::Anonymous => Err(ApiError::anonymous(before)),
            Self::User(_) => Err(ApiError::forbidden("Only the node itself may do this")),
        }
    }
}

impl FromRequestParts<App> for Identity {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let Some(token) = bearer(&parts.headers)? else { return Ok(Self::Anonymous) };
        let hash = SecretHash::of(token).ok_or_else(unknown)?;
        if let Some(node) = app.roster.node_of_credential(&hash) {
            app.heard(node).await?;
            return Ok(Self::Node(node));
        }
        app.store.user_of(&hash).await?.map(Self::User).ok_or_else(unknown)
    }
}

fn bearer(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let Some(value) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let text = value.to_str().map_err(|_| unknown())?;
    let (scheme, token) = text.split_once(' ').ok_or_else(unknown)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(Some(token.trim())) } else { Err(unknown()) }
}

fn unknown() -> ApiError {
    let message = "The token is not known here: was it revoked, or made by another coordinator?";
    ApiError::new(StatusCode::UNAUTHORIZED, "Permission denied", message)
}
