//! What can go wrong between a client and the coordinator.

use std::error::Error;
use std::io;

use reqwest::Url;

use crate::proxy::{proxy_of, without_password};
use crate::tls::ForeignRoot;

/// A request that brought no usable answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The address is none of an API.
    #[error(
        "`{url}` is no address of an API: write https://HOST:PORT/oarapi (a plain OAR server may have http)"
    )]
    BadUrl {
        /// The address.
        url: String,
    },
    /// The credential cannot stand in a header.
    #[error("the credential holds characters that no credential has: log in or join again")]
    BadCredential,
    /// The coordinator answered with an error.
    #[error("{}", refused_text(*status, title, message))]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What went wrong, in a few words.
        title: String,
        /// What happened, and what to do.
        message: String,
    },
    /// No answer: the network, a proxy, a firewall, or a coordinator that does not run.
    #[error(
        "cannot reach {host}: {reason}; check the network, and HTTPS_PROXY if a proxy is needed"
    )]
    Unreachable {
        /// Host and port, and the proxy that is asked for them.
        host: String,
        /// What the system says.
        reason: String,
    },
    /// Somebody answered, but not the coordinator that the token or login names.
    #[error(
        "{host} is not the coordinator that you were given: {certificate}; ask its administrator \
         for a new token or login string if the coordinator was set up anew"
    )]
    NotTheCoordinator {
        /// Host and port.
        host: String,
        /// What is wrong with its certificate.
        certificate: String,
    },
    /// The answer is not what the route promises.
    #[error("{host} sent an unusable answer: {reason}; check that client and coordinator fit")]
    BadAnswer {
        /// Host and port.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl ClientError {
    /// Trying the same again later may help: no answer, a server in trouble, or too many requests.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => {
                matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
            }
            Self::BadUrl { .. }
            | Self::BadCredential
            | Self::NotTheCoordinator { .. }
            | Self::BadAnswer { .. } => false,
        }
    }

    /// The HTTP status of a refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::BadUrl { .. }
            | Self::BadCredential
            | Self::Unreachable { .. }
            | Self::NotTheCoordinator { .. }
            | Self::BadAnswer { .. } => None,
        }
    }

    pub(crate) fn of_request(base: &Url, error: reqwest::Error) -> Self {
        let host = host_and_port(base);
        if let Some(certificate) = certificate_fault(&error) {
            return Self::NotTheCoordinator { host, certificate };
        }
        let reason =
            if error.is_timeout() { "no answer in time".to_owned() } else { root_cause(&error) };
        // Whoever was asked to connect: the coordinator may be well.
        match proxy_of(base.as_str()).filter(|_| error.is_connect()) {
            Some(proxy) => {
                let host = format!("{host} through the proxy {}", without_password(&proxy));
                Self::Unreachable { host, reason }
            }
            None => Self::Unreachable { host, reason },
        }
    }

    pub(crate) fn unreachable(base: &Url, reason: impl Into<String>) -> Self {
        Self::Unreachable { host: host_and_port(base), reason: reason.into() }
    }

    pub(crate) fn bad_answer(base: &Url, reason: impl Into<String>) -> Self {
        Self::BadAnswer { host: host_and_port(base), reason: reason.into() }
    }
}

fn refused_text(status: u16, title: &str, message: &str) -> String {
    match (title.trim(), message.trim()) {
        ("", "") => format!("the coordinator answered with status {status}"),
        ("", text) => text.to_owned(),
        (title, "") => title.to_owned(),
        (title, message) if message.starts_with(title) => message.to_owned(),
        (title, message) => format!("{title}: {message}"),
    }
}

fn host_and_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    format!("{host}:{}", url.port_or_known_default().unwrap_or_default())
}

/// The chain of causes, including those that `io::Error` wraps without calling them a source.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

/// What is wrong with the server's certificate, if that is what ended the connection.
fn certificate_fault(error: &reqwest::Error) -> Option<String> {
    let fault = causes(error).find_map(|cause| {
        let Some(rustls::Error::InvalidCertificate(fault)) = cause.downcast_ref() else {
            return None;
        };
        Some(fault)
    })?;
    if let rustls::CertificateError::Other(other) = fault
        && other.0.is::<ForeignRoot>()
    {
        return Some(ForeignRoot.to_string());
    }
    Some(format!("its certificate is refused ({fault})"))
}

/// The innermost cause: the outer ones only repeat that a request failed.
fn root_cause(error: &reqwest::Error) -> String {
    let cause = causes(error).last().map(ToString::to_string).unwrap_or_default();
    of_proxy(&cause).map_or(cause, str::to_owned)
}

/// What a proxy's refusal means; the HTTP client's own words say it to those who know its code.
fn of_proxy(cause: &str) -> Option<&'static str> {
    Some(match cause.strip_prefix("tunnel error: ")? {
        "proxy authorization required" => {
            "the proxy wants a user name and a password: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT"
        }
        "unsuccessful" => {
            "the proxy refuses to connect: its user name or password is wrong, or it does not let through there"
        }
        _ => "the proxy's answer cannot be understood: is it a proxy?",
    })
}
