//! Join tokens and login strings: where the coordinator is, whom to trust, and a secret.
//!
//! Both are one word that survives copy and paste: a versioned prefix and base64url of a JSON object.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

use crate::pin::RootPin;

/// Prefix of a join token, version 1.
pub const JOIN_PREFIX: &str = "cah-join-1.";

/// Prefix of a login string, version 1.
pub const LOGIN_PREFIX: &str = "cah-login-1.";

/// The longest text that is looked at, bytes. A real one has about 250.
const MAX_TEXT: usize = 4096;

/// What a volunteer gets to add a node, once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinToken {
    /// The API, such as `https://coordinator.example:6443/oarapi`.
    pub url: String,
    /// The coordinator's root certificate.
    pub root: RootPin,
    /// The secret that [`Enrol`](coordinator_api::enrolment::Enrol) carries.
    pub token: String,
}

/// What a scientist gets to submit jobs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The API, such as `https://coordinator.example:6443/oarapi`.
    pub url: String,
    /// The coordinator's root certificate.
    pub root: RootPin,
    /// The user's name.
    pub user: String,
    /// The bearer token of the user's requests.
    pub token: String,
}

/// The text is not a join token or not a login string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseTokenError {
    /// Another kind of text.
    #[error("this is no {wanted}: it should begin with `{prefix}`")]
    WrongPrefix {
        /// What was asked for.
        wanted: &'static str,
        /// How it begins.
        prefix: &'static str,
    },
    /// The other of the two kinds.
    #[error("this is a {found}; a {wanted} is needed here")]
    WrongKind {
        /// What was asked for.
        wanted: &'static str,
        /// What was given.
        found: &'static str,
    },
    /// A part is missing or changed.
    #[error("the {wanted} is damaged: copy it again, as one word and to its end")]
    Garbled {
        /// What was asked for.
        wanted: &'static str,
    },
    /// The address inside is no https address.
    #[error("the {wanted} holds no https address of a coordinator")]
    BadUrl {
        /// What was asked for.
        wanted: &'static str,
    },
}

const JOIN: &str = "join token";
const LOGIN: &str = "login string";

impl JoinToken {
    /// The coordinator's host name or address, without port and brackets.
    pub fn host(&self) -> Option<String> {
        host_of(&self.url)
    }
}

impl fmt::Display for JoinToken {
    /// Writes the secret: this is the text to hand over.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        encode(f, JOIN_PREFIX, self)
    }
}

impl fmt::Display for Login {
    /// Writes the secret: this is the text to hand over.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        encode(f, LOGIN_PREFIX, self)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("url", &self.url)
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("url", &self.url)
            .field("root", &self.root)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl FromStr for JoinToken {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, ParseTokenError> {
        let token: Self = decode(text, JOIN, JOIN_PREFIX, LOGIN, LOGIN_PREFIX)?;
        host_of(&token.url).map(|_| token).ok_or(ParseTokenError::BadUrl { wanted: JOIN })
    }
}

impl FromStr for Login {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, ParseTokenError> {
        let login: Self = decode(text, LOGIN, LOGIN_PREFIX, JOIN, JOIN_PREFIX)?;
        host_of(&login.url).map(|_| login).ok_or(ParseTokenError::BadUrl { wanted: LOGIN })
    }
}

/// The host of an https address, without port and brackets.
pub fn host_of(url: &str) -> Option<String> {
    let url = reqwest::Url::parse(url).ok().filter(|url| url.scheme() == "https")?;
    let host = url.host_str()?;
    Some(host.trim_start_matches('[').trim_end_matches(']').to_owned())
}

/// Host and port of the control channel that a coordinator tells as `rendezvous`: without a host, as in `:6443`, it
/// means its API's.
pub fn rendezvous_of(url: &str, rendezvous: &str) -> String {
    match (rendezvous.starts_with(':'), host_of(url)) {
        (true, Some(host)) if host.contains(':') => format!("[{host}]{rendezvous}"),
        (true, Some(host)) => format!("{host}{rendezvous}"),
        _ => rendezvous.to_owned(),
    }
}

fn encode<T: Serialize>(f: &mut fmt::Formatter<'_>, prefix: &str, value: &T) -> fmt::Result {
    let json = serde_json::to_vec(value).map_err(|_| fmt::Error)?;
    write!(f, "{prefix}{}", BASE64URL_NOPAD.encode(&json))
}

fn decode<T: for<'de> Deserialize<'de>>(
    text: &str,
    wanted: &'static str,
    prefix: &'static str,
    other: &'static str,
    other_prefix: &str,
) -> Result<T, ParseTokenError> {
    let text = text.trim();
    let Some(body) = text.strip_prefix(prefix) else {
        return Err(if text.starts_with(other_prefix) {
            ParseTokenError::WrongKind { wanted, found: other }
        } else {
            ParseTokenError::WrongPrefix { wanted, prefix }
        });
    };
    let garbled = ParseTokenError::Garbled { wanted };
    if body.len() > MAX_TEXT {
        return Err(garbled);
    }
    let json = BASE64URL_NOPAD.decode(body.as_bytes()).map_err(|_| garbled)?;
    serde_json::from_slice(&json).map_err(|_| garbled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> Login {
        Login {
            url: "https://[2001:db8::1]:6443/oarapi".to_owned(),
            root: RootPin([7; 32]),
            user: "alice".to_owned(),
            token: "s3cret-word".to_owned(),
        }
    }

    #[test]
    fn an_empty_host_means_the_apis() {
        let of = rendezvous_of;
        assert_eq!(of("https://c.example:6443/oarapi", ":6443"), "c.example:6443");
        assert_eq!(of("https://[2001:db8::1]:6443/oarapi", ":7000"), "[2001:db8::1]:7000");
        assert_eq!(of("https://c.example:6443/oarapi", "r.example:1"), "r.example:1");
    }

    #[test]
    fn login_is_read_back() {
        let text = login().to_string();
        assert!(text.starts_with(LOGIN_PREFIX));
        assert_eq!(format!("  {text}\n").parse(), Ok(login()));
        assert_eq!(host_of(&login().url).as_deref(), Some("2001:db8::1"));
    }

    #[test]
    fn every_truncation_is_refused() {
        let text = login().to_string();
        for end in 0..text.len() {
            assert!(text[..end].parse::<Login>().is_err(), "cut at {end}");
        }
    }

    #[test]
    fn the_two_kinds_are_not_confused() {
        let error = login().to_string().parse::<JoinToken>().expect_err("a login is no join token");
        assert_eq!(error.to_string(), "this is a login string; a join token is needed here");
        let error = "hello".parse::<JoinToken>().expect_err("not a token");
        assert_eq!(error.to_string(), "this is no join token: it should begin with `cah-join-1.`");
    }

    #[test]
    fn plain_http_is_refused() {
        let text = Login { url: "http://localhost/oarapi".to_owned(), ..login() }.to_string();
        assert_eq!(text.parse::<Login>(), Err(ParseTokenError::BadUrl { wanted: LOGIN }));
    }

    #[test]
    fn debug_keeps_the_secret() {
        assert!(!format!("{:?}", login()).contains("s3cret"));
    }
}
