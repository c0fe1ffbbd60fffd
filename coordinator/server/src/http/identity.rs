//! Who asks: a user, a node, or nobody.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use coordinator_core::NodeNumber;
use data_encoding::BASE64;

use super::answer::ApiError;
use crate::app::App;
use crate::limits::Asker;
use crate::password::Busy;
use crate::role::{Role, User};
use crate::secret::SecretHash;

/// What a proxy names the user with: OAR's name for it, and the spelling that some of its clients use.
pub(super) const IDENT_HEADERS: [&str; 2] = ["x-remote-ident", "x_remote_ident"];

/// Who asks: by `Authorization: Bearer TOKEN` or `Basic`, or by the word of a proxy that is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// Nobody.
    Anonymous,
    /// A user.
    User(User),
    /// An agent.
    Node(NodeNumber),
}

impl Identity {
    /// A user; `before` ends the sentence that refuses others.
    pub(super) fn user(self, before: &str) -> Result<User, ApiError> {
        match self {
            Self::User(user) => Ok(user),
            Self::Anonymous => Err(ApiError::anonymous(before)),
            Self::Node(_) => Err(ApiError::forbidden("A node's credential is not a user's")),
        }
    }

    /// An operator; `before` and `only` end the sentences that refuse others.
    pub(super) fn operator(self, before: &str, only: &str) -> Result<User, ApiError> {
        let user = self.user(before)?;
        if user.role >= Role::Operator {
            return Ok(user);
        }
        // 401 for somebody who is known, as in OAR.
        let message = format!("Only the oar user can {only}");
        Err(ApiError::new(StatusCode::UNAUTHORIZED, "Permission denied", message))
    }

    /// A node; `before` ends the sentence that refuses others.
    pub(super) fn node(self, before: &str) -> Result<NodeNumber, ApiError> {
        match self {
            Self::Node(node) => Ok(node),
            Self::Anonymous => Err(ApiError::anonymous(before)),
            Self::User(_) => Err(ApiError::forbidden("Only the node itself may do this")),
        }
    }

    /// Looks for proof, and counts the request of who has one, or of the address that a wrong one comes from.
    pub(super) async fn prove(parts: &Parts, app: &App) -> Result<Self, ApiError> {
        let proved = Self::look(parts, app).await;
        let asker = match &proved {
            Ok(Self::User(user)) => Some(Asker::User(user.name.clone())),
            Ok(Self::Anonymous | Self::Node(_)) => None,
            Err(_) => {
                let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
                peer.map(|ConnectInfo(peer)| Asker::at(peer.ip()))
            }
        };
        match asker.map_or(Ok(()), |asker| app.limits.count(&asker)) {
            Ok(()) => proved,
            Err(wait) => Err(ApiError::too_many(wait)),
        }
    }

    async fn look(parts: &Parts, app: &App) -> Result<Self, ApiError> {
        if let Some(name) = vouched(parts, app) {
            let user = app.store.user_named(name).await?;
            return user.map(|(user, _)| Self::User(user)).ok_or_else(unknown_user);
        }
        match Proof::of(&parts.headers)? {
            None => Ok(Self::Anonymous),
            Some(Proof::Token(token)) => Self::by_token(token, app).await,
            Some(Proof::Password { name, password }) => {
                Self::by_password(&name, &password, app).await
            }
        }
    }

    async fn by_token(token: &str, app: &App) -> Result<Self, ApiError> {
        let hash = SecretHash::of(token).ok_or_else(unknown)?;
        if let Some(node) = app.roster.node_of_credential(&hash) {
            app.heard(node).await?;
            return Ok(Self::Node(node));
        }
        app.store.user_of(&hash).await?.map(Self::User).ok_or_else(unknown)
    }

    /// A stranger's answer takes as long as a user's with a wrong password.
    async fn by_password(name: &str, password: &str, app: &App) -> Result<Self, ApiError> {
        let (user, stored) = app.store.user_named(name).await?.unzip();
        let stored = stored.flatten();
        let is_right = app.passwords.check(stored.as_deref(), password).await;
        match is_right.map_err(|Busy| busy())? {
            true => user.map(Self::User).ok_or_else(unknown_user),
            false => Err(unknown_user()),
        }
    }
}

impl FromRequestParts<App> for Identity {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        match parts.extensions.get::<Self>() {
            Some(proved) => Ok(proved.clone()),
            None => Self::prove(parts, app).await,
        }
    }
}

/// The user whom a proxy that is trusted names.
fn vouched<'a>(parts: &'a Parts, app: &App) -> Option<&'a str> {
    let ConnectInfo(peer) = parts.extensions.get::<ConnectInfo<SocketAddr>>()?;
    let address = peer.ip().to_canonical();
    if !app.proxies.iter().any(|network| network.contains(&address)) {
        return None;
    }
    let mut values = IDENT_HEADERS.into_iter().filter_map(|name| parts.headers.get(name));
    values.next()?.to_str().ok().filter(|name| !name.is_empty())
}

/// What a client shows of itself.
enum Proof<'a> {
    Token(&'a str),
    Password { name: String, password: String },
}

impl<'a> Proof<'a> {
    fn of(headers: &'a HeaderMap) -> Result<Option<Self>, ApiError> {
        let Some(value) = headers.get(AUTHORIZATION) else { return Ok(None) };
        let text = value.to_str().map_err(|_| unknown())?;
        let (scheme, proof) = text.split_once(' ').ok_or_else(unknown)?;
        let proof = proof.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Ok(Some(Self::Token(proof)));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(unknown());
        }
        let pair =
            BASE64.decode(proof.as_bytes()).ok().and_then(|pair| String::from_utf8(pair).ok());
        let pair = pair.ok_or_else(unknown_user)?;
        let (name, password) = pair.split_once(':').ok_or_else(unknown_user)?;
        Ok(Some(Self::Password { name: name.to_owned(), password: password.to_owned() }))
    }
}

fn unknown() -> ApiError {
    let message = "The token is not known here: was it revoked, or made by another coordinator?";
    ApiError::new(StatusCode::UNAUTHORIZED, "Permission denied", message)
}

fn unknown_user() -> ApiError {
    let message = "User name or password is wrong, or the user was revoked";
    ApiError::new(StatusCode::UNAUTHORIZED, "Permission denied", message)
}

fn busy() -> ApiError {
    let message = "Too many passwords are being checked; try again";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "Oar server error", message)
}
