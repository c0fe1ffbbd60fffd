//! The prefixes that OAR's web server has: `/oarapi`, `/oarapi-priv` with a password, `/oarapi-public`
//! without a name.
//!
//! They lead to the same routes. Links in answers name the prefix that was called, as in OAR.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::answer::ApiError;
use super::identity::{IDENT_HEADERS, Identity};
use super::{PREFIX, links};
use crate::app::App;
use crate::limits::Asker;

/// What a browser asks its user with: the words of OAR's own configuration.
const BASIC: HeaderValue = HeaderValue::from_static("Basic realm=\"OAR API authentication\"");

/// The prefix that a request came by, where it is not the usual one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// Nobody without a name comes in.
    Private,
    /// Everybody is nobody.
    Public,
}

impl Door {
    fn prefix(self) -> &'static str {
        match self {
            Self::Private => "/oarapi-priv",
            Self::Public => "/oarapi-public",
        }
    }

    fn of(path: &str) -> Option<(Self, &str)> {
        let found = |door: Self| Some((door, path.strip_prefix(door.prefix())?));
        let (door, rest) = [Self::Private, Self::Public].into_iter().find_map(found)?;
        (rest.is_empty() || rest.starts_with('/')).then_some((door, rest))
    }
}

/// Leads the other prefixes to the usual one.
pub(super) async fn lead(mut request: Request, next: Next) -> Response {
    let Some((door, uri)) = through(request.uri()) else { return next.run(request).await };
    *request.uri_mut() = uri;
    request.extensions_mut().insert(door);
    if door == Door::Public {
        let names = IDENT_HEADERS.into_iter().chain([AUTHORIZATION.as_str()]);
        names.for_each(|name| drop(request.headers_mut().remove(name)));
    }
    links::under(door.prefix(), next.run(request)).await
}

fn through(uri: &Uri) -> Option<(Door, Uri)> {
    let (door, rest) = Door::of(uri.path())?;
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    Some((door, format!("{PREFIX}{rest}{query}").parse().ok()?))
}

/// Asks at the private door who it is.
pub(super) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    if request.extensions().get() != Some(&Door::Private) {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    let who = match Identity::prove(&parts, &app).await {
        Ok(Identity::Anonymous) => Err(ApiError::anonymous("using this address")),
        who => who,
    };
    match who {
        Ok(who) => {
            parts.extensions.insert(who);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(refusal) => {
            let mut answer = refusal.into_response();
            if answer.status() == StatusCode::UNAUTHORIZED {
                answer.headers_mut().insert(WWW_AUTHENTICATE, BASIC);
            }
            answer
        }
    }
}

/// Counts who shows nothing of themselves by their address; users are counted when they have proved who they are.
pub(super) async fn limit(State(app): State<App>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(at)| at.ip());
    let is_proxy = |peer: &IpAddr| app.proxies.iter().any(|it| it.contains(&peer.to_canonical()));
    let anonymous =
        peer.filter(|peer| !request.headers().contains_key(AUTHORIZATION) && !is_proxy(peer));
    match anonymous.map_or(Ok(()), |peer| app.limits.count(&Asker::at(peer))) {
        Ok(()) => next.run(request).await,
        Err(wait) => ApiError::too_many(wait).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_lead_to_the_usual_one_with_path_and_query() {
        let led = |uri: &'static str| {
            through(&Uri::from_static(uri)).map(|(door, to)| (door, to.to_string()))
        };
        let jobs = led("/oarapi-priv/jobs.json?limit=2");
        assert_eq!(jobs, Some((Door::Private, "/oarapi/jobs.json?limit=2".to_owned())));
        assert_eq!(led("/oarapi-public"), Some((Door::Public, "/oarapi".to_owned())));
        assert_eq!(led("/oarapi/jobs"), None);
        assert_eq!(led("/oarapi-private/jobs"), None);
    }
}
