//! `coordinator token` and `coordinator user`: work on the database, whether the server runs or not.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use coordinator_client::{JoinToken, Login};
use coordinator_core::UnixMillis;

use crate::args::{Token, User};
use crate::clock::Clock;
use crate::pki::Pki;
use crate::secret::make_secret;
use crate::store::{DATABASE, Store, StoreError, TokenMakes};

/// The setting that keeps the API's URL for tokens made while the server is down.
pub(crate) const PUBLIC_URL: &str = "public_url";

/// The folder of the root key in the data directory.
pub(crate) const PKI_FOLDER: &str = "pki";

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
            store.close().await;
            if json { print_lines([serde_json::to_string(&texts)?]) } else { print_lines(texts) }
        }
        Token::Revoke { ids, data } => {
            let store = open(&data).await?;
            for id in ids {
                if !store.revoke_token(&id, now).await? && !store.revoke_relay(&id, now).await? {
                    bail!("no unused join token has the id {id}: see `coordinator token list`");
                }
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

/// Runs `coordinator user`.
///
/// # Errors
///
/// A sentence for the operator.
pub async fn user(command: User) -> anyhow::Result<()> {
    let now = Clock::default().now();
    match command {
        User::Add { name, data } => {
            let store = open(&data).await?;
            let (url, root) = address(&store, &data).await?;
            let (token, hash) = make_secret().context("the system has no randomness")?;
            store.add_user(&name, hash, now).await?;
            store.close().await;
            print_lines([Login { url, root, user: name, token }])
        }
        User::List { data } => {
            let store = open(&data).await?;
            let users = store.users().await?;
            store.close().await;
            print_lines(users.iter().map(|(name, added)| format!("{name}  added {}", date(*added))))
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_that_is_no_data_directory_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        for data in [folder.path().to_owned(), folder.path().join("missing")] {
            let refused = user(User::List { data }).await.unwrap_err().to_string();
            assert!(refused.contains("is no coordinator's data directory"), "{refused}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
