//! How this machine becomes a node: a join token, once, for a name and a credential.

use std::io;
use std::path::Path;

use coordinator_api::enrolment::{Enrol, Enrolled, signed_text};
use coordinator_client::token::rendezvous_of;
use coordinator_client::{Client, ClientError, JoinToken, RootPin};
use serde::{Deserialize, Serialize};

use crate::identity::Identity;
use crate::oar::OarPlace;
use crate::retry::Reach;
use crate::state_dir::{read_json, write_private};

/// The file of the membership.
pub const MEMBERSHIP_FILE: &str = "membership.json";

/// What the volunteer gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Cores.
    pub cores: u16,
    /// Memory, MiB.
    pub memory_mib: u64,
}

impl Offer {
    /// The whole machine, where nothing else is said.
    pub fn of_machine(cores: Option<u16>, memory_mib: Option<u64>) -> Self {
        let all_cores = || {
            let count = std::thread::available_parallelism().map_or(1, |count| count.get());
            u16::try_from(count).unwrap_or(u16::MAX)
        };
        Self {
            cores: cores.unwrap_or_else(all_cores).max(1),
            memory_mib: memory_mib.or_else(memory_of_machine).unwrap_or(0),
        }
    }
}

fn memory_of_machine() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024)
}

/// The node's place at its coordinator: kept on the disk (0600). There is no `Debug`.
#[derive(Clone, Serialize, Deserialize)]
pub struct Membership {
    /// The API.
    pub url: String,
    /// The coordinator's root certificate.
    pub root: RootPin,
    /// The node's OAR host name.
    pub hostname: String,
    /// Bearer token of the node's requests.
    pub credential: String,
    /// UDP endpoint of the control protocol, `host:port`.
    pub rendezvous: String,
    /// How often to poll, milliseconds.
    pub poll_interval_ms: u64,
}

/// Why this machine is no node.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// There is no token, and none was used before.
    #[error("this machine is not a node yet: give the join token with --join TOKEN")]
    NoToken,
    /// The coordinator refuses the token.
    #[error(
        "the coordinator refuses the join token ({reason}): it works once and only for a time; \
         ask its administrator for a new one"
    )]
    Refused {
        /// What the coordinator said.
        reason: ClientError,
    },
    /// The state directory belongs to another coordinator.
    #[error(
        "this state directory belongs to the node {hostname} of {url}: use another one with --state \
         to work for a second server"
    )]
    Elsewhere {
        /// The node.
        hostname: String,
        /// Its coordinator.
        url: String,
    },
    /// The request could not be made, or the answer is unusable.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The coordinator gave a name that is no host name.
    #[error("the coordinator gave this node the name {0:?}, which is no host name")]
    BadName(String),
    /// The disk.
    #[error("the file {MEMBERSHIP_FILE} cannot be used")]
    Io(#[from] io::Error),
}

/// The stored membership, or a new one by `token`. Waits for the coordinator as long as need be.
///
/// # Errors
/// [`EnrolError`].
pub async fn membership(
    state: &Path,
    identity: &Identity,
    token: Option<&JoinToken>,
    offer: Offer,
    reach: &Reach,
) -> Result<Membership, EnrolError> {
    let path = state.join(MEMBERSHIP_FILE);
    if let Some(stored) = read_json::<Membership>(&path)? {
        return match token {
            // The administrator may have given the same coordinator another address.
            Some(token) if token.root != stored.root => {
                Err(EnrolError::Elsewhere { hostname: stored.hostname, url: stored.url })
            }
            Some(_) => {
                let hostname = &stored.hostname;
                tracing::info!(hostname, "this machine is a node already; the token was not used");
                Ok(stored)
            }
            None => Ok(stored),
        };
    }
    if let Some(OarPlace { url, node }) = crate::oar::place(state)? {
        return Err(EnrolError::Elsewhere { hostname: node, url });
    }
    let token = token.ok_or(EnrolError::NoToken)?;
    let enrolled = enrol(identity, token, offer, reach).await?;
    if !crate::environment::is_host_name(&enrolled.hostname) {
        return Err(EnrolError::BadName(enrolled.hostname));
    }
    let membership = Membership {
        url: token.url.clone(),
        root: token.root,
        hostname: enrolled.hostname,
        credential: enrolled.credential,
        rendezvous: rendezvous_of(&token.url, &enrolled.rendezvous),
        poll_interval_ms: enrolled.poll_interval_ms,
    };
    write_private(&path, &serde_json::to_vec(&membership).map_err(io::Error::from)?)?;
    tracing::info!(hostname = %membership.hostname, "this machine is a node now");
    Ok(membership)
}

async fn enrol(
    identity: &Identity,
    token: &JoinToken,
    offer: Offer,
    reach: &Reach,
) -> Result<Enrolled, EnrolError> {
    let client = Client::for_join(token)?;
    let node = identity.node().to_string();
    let request = Enrol {
        signature: identity.sign(&signed_text(&token.token, &node)),
        token: token.token.clone(),
        node,
        cores: offer.cores,
        memory_mib: offer.memory_mib,
        software: concat!("agent ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let mut pauses = crate::retry::pauses();
    loop {
        match client.enrol(&request).await {
            Ok(enrolled) => {
                reach.answered();
                return Ok(enrolled);
            }
            Err(error) if error.is_transient() => reach.failed(&error),
            Err(reason) if reason.status().is_some() => return Err(EnrolError::Refused { reason }),
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(pauses.next().unwrap_or_default()).await;
    }
}
