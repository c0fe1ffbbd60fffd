//! Commands on the database, whether the server runs or not; `coordinator token` is here.

mod audit;
mod backup;
mod node;
mod user;

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use coordinator_client::JoinToken;
use coordinator_core::UnixMillis;

pub use self::audit::audit;
pub use self::backup::{backup, doctor};
pub use self::node::node;
pub use self::user::user;
use crate::args::Token;
use crate::clock::Clock;
use crate::pki::Pki;
use crate::secret::make_secret;
use crate::store::{DATABASE, Store, StoreError, TokenMakes};

/// The setting that keeps the API's URL for tokens made while the server is down.
pub(crate) const PUBLIC_URL: &str = "public_url";

/// The folder of the root key in the data directory.
pub(crate) const PKI_FOLDER: &str = "pki";

/// Runs `coordinator openapi`.
///
/// # Errors
///
/// Standard output is closed.
pub fn openapi() -> anyhow::Result<()> {
    print_lines([serde_json::to_string_pretty(crate::http::description())?])
}

/// Runs `coordinator token`.
///
/// # Errors
///
/// A sentence for the operator.
pub async fn token(command: Token) -> anyhow::Result<()> {
    let now = Clock::default().now();
    match command {
        Token::Add { data, relay, count, expires, json } => {
            let makes = if relay { TokenMakes::Relay } else { TokenMakes::Node };
            let store = open(&data).await?;
            let mut texts = Vec::new();
            for _ in 0..count {
                texts.push(add_token(&store, &data, makes, now, expires).await?.to_string());
            }
            let what = if relay { "relays" } else { "nodes" };
            note(&store, now, "join tokens made", &format!("{count} for {what}")).await?;
            store.close().await;
            if json { print_lines([serde_json::to_string(&texts)?]) } else { print_lines(texts) }
        }
        Token::Revoke { ids, data } => {
            let store = open(&data).await?;
            for id in ids {
                note(&store, now, "join token revoked", &revoke(&store, &id, now).await?).await?;
            }
            store.close().await;
            Ok(())
        }
        Token::List { data } => {
            let store = open(&data).await?;
            let tokens = store.tokens(now).await?;
            store.close().await;
            print_lines(tokens.iter().map(|token| {
                let kind = match token.makes {
                    TokenMakes::Node => "",
                    TokenMakes::Relay => "  relay",
                };
                format!("{}  expires {}  {}{kind}", token.id, date(token.expires), token.state)
            }))
        }
    }
}

/// Takes a token back, and with it the relay or the node that it made. Answers what was revoked.
async fn revoke(store: &Store, id: &str, now: UnixMillis) -> anyhow::Result<String> {
    if store.revoke_token(id, now).await? {
        return Ok(id.to_owned());
    }
    if store.revoke_relay(id, now).await? {
        return Ok(format!("{id} and its relay"));
    }
    match store.revoke_node_of_token(id, now).await? {
        Some(node) => Ok(format!("{id} and its {node}")),
        None => bail!(
            "no join token that is worth anything has the id {id}: see `coordinator token list`"
        ),
    }
}

/// Makes a join token.
pub(crate) async fn add_token(
    store: &Store,
    data: &Path,
    makes: TokenMakes,
    now: UnixMillis,
    lifetime: Duration,
) -> anyhow::Result<JoinToken> {
    let (url, root) = address(store, data).await?;
    let (token, hash) = make_secret().context("the system has no randomness")?;
    store.add_token(hash, makes, now, lifetime).await?;
    Ok(JoinToken { url, root, token })
}

/// Where the coordinator is, and whom to trust.
async fn address(
    store: &Store,
    data: &Path,
) -> anyhow::Result<(String, coordinator_client::RootPin)> {
    let Some(url) = store.setting(PUBLIC_URL).await? else {
        bail!("the public address is not known yet: run `coordinator serve` once first");
    };
    let root = Pki::open(&data.join(PKI_FOLDER), &[])?.root_pin();
    Ok((url, root))
}

async fn open(data: &Path) -> anyhow::Result<Store> {
    // Opening makes what is missing, in a mistyped folder too.
    if !data.join(DATABASE).try_exists().unwrap_or(true) {
        bail!(
            "{} is no coordinator's data directory: run `coordinator serve` once first",
            data.display()
        );
    }
    Ok(Store::open(data).await?)
}

/// Notes in the audit log that the account that runs this has done something.
async fn note(store: &Store, now: UnixMillis, action: &str, subject: &str) -> anyhow::Result<()> {
    let account = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
    let account = account.map_or_else(|| nix::unistd::getuid().to_string(), |it| it.name);
    let actor = format!("{account} on the server");
    Ok(store.audit(now, &actor, action, subject).await?)
}

fn date(time: UnixMillis) -> String {
    let time = std::time::UNIX_EPOCH + Duration::from_millis(time.0);
    humantime::format_rfc3339_seconds(time).to_string()
}

/// Writes to standard output, at once.
pub(crate) fn print_lines<T: std::fmt::Display>(
    lines: impl IntoIterator<Item = T>,
) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(out.flush()?)
}

impl Store {
    /// No node has joined and no token was ever made.
    pub(crate) async fn is_new(&self, now: UnixMillis) -> Result<bool, StoreError> {
        Ok(self.tokens(now).await?.is_empty())
    }
}
