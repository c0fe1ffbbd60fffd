//! The HTTP client: one method per route, typed both ways.

mod agents;
pub(crate) mod answer;
mod error;
mod jobs;
mod resources;

use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use rustls::pki_types::CertificateDer;

use crate::oar::{self, OarLogin, Plain};
use crate::pin::RootPin;
use crate::tls::pinned_tls;
use crate::token::{JoinToken, Login};
use crate::transfer::Pace;

pub use self::agents::Wanted;
pub use self::error::ClientError;
pub use self::jobs::{JobFilter, JobNode, JobOutput};

/// Time for TCP and TLS to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for a whole request with a small answer.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Idle connections are kept this long: longer than the usual poll interval (10 s), shorter than the time
/// after which home routers forget a TCP connection (5 minutes and more).
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// How long what was sent may stay unacknowledged before the connection is given up. Chosen: a machine
/// that moves to another network is silent for so long, and no line that works needs half of it.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(8);

/// A connection to one coordinator. Cheap to clone; clones share the connections.
///
/// `HTTPS_PROXY` and `NO_PROXY` are honoured.
#[derive(Clone)]
pub struct Client {
    pub(crate) http: reqwest::Client,
    base: Url,
    /// Who asks.
    identity: Option<(HeaderName, HeaderValue)>,
    pub(crate) pace: Option<Arc<dyn Pace>>,
    /// The other end is an OAR server, and no coordinator.
    pub(crate) plain: Option<Plain>,
}

impl Client {
    /// A client without identity for the API at `url`, such as `https://host:6443/oarapi`.
    ///
    /// # Errors
    ///
    /// [`ClientError::BadUrl`].
    pub fn new(url: &str, root: RootPin) -> Result<Self, ClientError> {
        Self::start(url, pinned_tls(root), &["https"])
    }

    /// An agent's client of the plain OAR server at `url`, such as `http://host/oarapi-priv`, for the node of that
    /// name. With https, its certificate must descend from one of `roots`.
    ///
    /// # Errors
    ///
    /// [`ClientError::BadUrl`]; [`ClientError::BadCredential`].
    pub fn for_oar(
        url: &str,
        node: &str,
        login: &OarLogin,
        roots: &[CertificateDer<'static>],
    ) -> Result<Self, ClientError> {
        let client = Self::start(url, oar::tls(roots), &["https", "http"])?;
        let (identity, plain) = (Some(login.header()?), Some(Plain::of(node)));
        Ok(Self { identity, plain, ..client })
    }

    fn start(
        url: &str,
        mut tls: rustls::ClientConfig,
        schemes: &[&str],
    ) -> Result<Self, ClientError> {
        let bad_url = || ClientError::BadUrl { url: url.to_owned() };
        let mut base = Url::parse(url).map_err(|_| bad_url())?;
        if !schemes.contains(&base.scheme()) || base.host_str().is_none() {
            return Err(bad_url());
        }
        base.path_segments_mut().map_err(|()| bad_url())?.pop_if_empty();

        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(base.scheme() == "https")
            .redirect(reqwest::redirect::Policy::none())
            .default_headers(headers)
            .user_agent(concat!("clouds-at-home/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .tcp_user_timeout(SILENCE_TIMEOUT)
            .build()
            .map_err(|error| ClientError::of_request(&base, error))?;
        Ok(Self { http, base, identity: None, pace: None, plain: None })
    }

    /// A client for enrolment with a join token.
    ///
    /// # Errors
    ///
    /// [`ClientError::BadUrl`].
    pub fn for_join(token: &JoinToken) -> Result<Self, ClientError> {
        Self::new(&token.url, token.root)
    }

    /// A scientist's client.
    ///
    /// # Errors
    ///
    /// [`ClientError::BadUrl`]; [`ClientError::BadCredential`].
    pub fn for_login(login: &Login) -> Result<Self, ClientError> {
        Self::new(&login.url, login.root)?.with_credential(&login.token)
    }

    /// The same client, which from now on shows a user's token or a node's credential.
    ///
    /// # Errors
    ///
    /// [`ClientError::BadCredential`]: it holds characters that cannot stand in a header.
    pub fn with_credential(mut self, credential: &str) -> Result<Self, ClientError> {
        let mut value = HeaderValue::from_str(&format!("Bearer {credential}"))
            .map_err(|_| ClientError::BadCredential)?;
        value.set_sensitive(true);
        self.identity = Some((AUTHORIZATION, value));
        Ok(self)
    }

    /// The same client, whose archives come and go as fast as that grants.
    #[must_use]
    pub fn with_pace(mut self, pace: Arc<dyn Pace>) -> Self {
        self.pace = Some(pace);
        self
    }

    /// The other end is a plain OAR server.
    pub fn is_plain_oar(&self) -> bool {
        self.plain.is_some()
    }

    /// The API's address.
    pub fn url(&self) -> &str {
        self.base.as_str()
    }

    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    pub(crate) fn unusable(&self, reason: impl Into<String>) -> ClientError {
        ClientError::bad_answer(&self.base, reason)
    }

    /// The address of a route; `segments` are escaped.
    pub(crate) fn at(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.extend(segments);
        }
        url
    }

    /// A request without timeout.
    pub(crate) fn request(&self, method: reqwest::Method, url: Url) -> reqwest::RequestBuilder {
        let request = self.http.request(method, url);
        match &self.identity {
            Some((name, value)) => request.header(name, value.clone()),
            None => request,
        }
    }

    pub(crate) fn get(&self, url: Url) -> reqwest::RequestBuilder {
        self.request(reqwest::Method::GET, url).timeout(REQUEST_TIMEOUT)
    }

    pub(crate) fn post(&self, url: Url) -> reqwest::RequestBuilder {
        self.request(reqwest::Method::POST, url).timeout(REQUEST_TIMEOUT)
    }

    pub(crate) async fn send(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, ClientError> {
        let sent = match self.plain {
            None => request.send().await,
            Some(_) => self.insist_briefly(request).await,
        };
        sent.map_err(|error| ClientError::of_request(&self.base, error))
    }

    pub(crate) async fn json<T: serde::de::DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<T, ClientError> {
        answer::json(&self.base, self.send(request).await?).await
    }
}
