//! A node of a plain OAR server: where it is, and how the agent shows itself there.
//!
//! The server gave no token and no credential. Its administrator made the node (`oarnodesetting -a -h NODE -p
//! desktop_computing=YES`), and told the volunteer its name, and whose login to use.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coordinator_client::{Client, ClientError, OarLogin};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};

use crate::enrol::MEMBERSHIP_FILE;
use crate::environment::is_host_name;
use crate::retry::Reach;
use crate::state_dir::{read_json, write_private};

/// The file that says whose jobs are in the state directory.
pub const PLACE_FILE: &str = "oar.json";

/// Debian's certificates of the public authorities.
const PUBLIC_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What the volunteer was told.
pub struct OarOptions {
    /// The API, such as `http://host/oarapi-priv`.
    pub url: String,
    /// The node's name there.
    pub node: String,
    /// The login.
    pub user: String,
    /// The file with its password; none where the server trusts the name alone.
    pub password_file: Option<PathBuf>,
    /// Certificates of the authorities that the server's may descend from, PEM; none: the public ones.
    pub authorities: Option<PathBuf>,
    /// Between polls.
    pub interval: Duration,
}

/// A state directory's server and node: `oar.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OarPlace {
    /// The API.
    pub url: String,
    /// The node's name there.
    pub node: String,
}

/// Why this machine cannot work for that server.
#[derive(Debug, thiserror::Error)]
pub enum OarError {
    /// The name is none.
    #[error("{0:?} is no host name: --node is the node's name as `oarnodes` shows it")]
    BadName(String),
    /// The state directory belongs to another node.
    #[error(
        "this state directory belongs to the node {node} of {url}: use another one with --state to work for a \
         second server"
    )]
    Elsewhere {
        /// The node.
        node: String,
        /// Its server.
        url: String,
    },
    /// The server does not know the login.
    #[error(
        "{url} does not take the login {user}: check the password, and that the address is one where the server \
         asks for it (OAR's own configuration calls it /oarapi-priv)"
    )]
    Unknown {
        /// The API.
        url: String,
        /// The login.
        user: String,
    },
    /// There is none, or no OAR.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A file.
    #[error("{path} cannot be used")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> OarError {
    move |source| OarError::File { path: path.to_owned(), source }
}

impl OarOptions {
    /// A client for this node, and the state directory is the node's from now on. At the first time it waits for the
    /// server as long as need be, and makes sure that the login is known there; later, jobs may be here that need an
    /// agent, whether or not the server answers.
    ///
    /// # Errors
    /// [`OarError`].
    pub async fn client(&self, state: &Path, reach: &Reach) -> Result<Client, OarError> {
        if !is_host_name(&self.node) {
            return Err(OarError::BadName(self.node.clone()));
        }
        let client = Client::for_oar(&self.url, &self.node, &self.login()?, &self.roots()?)?;
        if self.password_file.is_some() && self.url.starts_with("http:") {
            tracing::warn!(url = %self.url, "the password goes over the network unprotected: this is no https");
        }
        let path = state.join(PLACE_FILE);
        let own = OarPlace { url: self.url.clone(), node: self.node.clone() };
        match place(state).map_err(failed(&path))? {
            Some(stored) if stored == own => return Ok(client),
            // Jobs of two servers may have the same numbers.
            Some(OarPlace { url, node }) => return Err(OarError::Elsewhere { node, url }),
            None => {}
        }
        self.introduce(&client, reach).await?;
        let text = serde_json::to_vec(&own).map_err(io::Error::from);
        text.and_then(|text| write_private(&path, &text)).map_err(failed(&path))?;
        Ok(client)
    }

    async fn introduce(&self, client: &Client, reach: &Reach) -> Result<(), OarError> {
        let unknown = || OarError::Unknown { url: self.url.clone(), user: self.user.clone() };
        loop {
            match client.whoami().await {
                Ok(name) if name == self.user => break,
                Ok(_) => return Err(unknown()),
                Err(error) if matches!(error.status(), Some(401 | 403)) => return Err(unknown()),
                Err(error) if error.is_transient() => reach.failed(&error),
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(self.interval).await;
        }
        reach.answered();
        Ok(())
    }

    fn login(&self) -> Result<OarLogin, OarError> {
        let user = self.user.clone();
        let Some(file) = &self.password_file else { return Ok(OarLogin::Trusted { user }) };
        let text = fs::read_to_string(file).map_err(failed(file))?;
        let password = text.trim_end_matches(['\n', '\r']).to_owned();
        Ok(OarLogin::Password { user, password })
    }

    fn roots(&self) -> Result<Vec<CertificateDer<'static>>, OarError> {
        if !self.url.starts_with("https:") {
            return Ok(Vec::new());
        }
        let file = self.authorities.as_deref().unwrap_or(PUBLIC_AUTHORITIES.as_ref());
        let unusable = |error| failed(file)(io::Error::other(error));
        let found = CertificateDer::pem_file_iter(file).map_err(unusable)?;
        let unusable = |error| failed(file)(io::Error::other(error));
        found.collect::<Result<Vec<_>, _>>().map_err(unusable)
    }
}

/// Whose jobs are in the state directory, if it is known: a plain OAR server's, or a coordinator's.
///
/// # Errors
/// When a file cannot be read.
pub fn place(state: &Path) -> io::Result<Option<OarPlace>> {
    #[derive(Deserialize)]
    struct Member {
        url: String,
        hostname: String,
    }
    let member: Option<Member> = read_json(&state.join(MEMBERSHIP_FILE))?;
    match member {
        Some(member) => Ok(Some(OarPlace { url: member.url, node: member.hostname })),
        None => read_json(&state.join(PLACE_FILE)),
    }
}
