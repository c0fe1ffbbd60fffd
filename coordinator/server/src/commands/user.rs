//! `coordinator user`: who may use the cluster, and what proves it.

use std::io::{self, BufRead, IsTerminal};
use std::path::Path;

use anyhow::{Context, bail};
use coordinator_client::Login;
use coordinator_core::UnixMillis;

use super::{address, date, note, open, print_lines};
use crate::args::User;
use crate::clock::Clock;
use crate::password::{hash_password, judge_password};
use crate::secret::make_secret;
use crate::store::{Store, UserRow};

/// The longest line that is read as a password, bytes.
const MAX_LINE: u64 = 4_096;

/// Runs `coordinator user`.
///
/// # Errors
///
/// A sentence for the operator.
pub async fn user(command: User) -> anyhow::Result<()> {
    let now = Clock::default().now();
    match command {
        User::Add { name, role, data } => {
            let store = open(&data).await?;
            let (url, root) = address(&store, &data).await?;
            let (token, hash) = make_secret().context("the system has no randomness")?;
            store.add_user(&name, role, hash, now).await?;
            note(&store, now, "user added", &format!("{name} as {role}")).await?;
            store.close().await;
            print_lines([Login { url, root, user: name, token }])
        }
        User::List { data } => {
            let store = open(&data).await?;
            let users = store.users().await?;
            store.close().await;
            print_lines(users.iter().map(line))
        }
        User::Role { name, role, data } => {
            let store = open(&data).await?;
            must_be(&name, store.set_role(&name, role).await?)?;
            done(store, now, "user's role set", &format!("{name} to {role}")).await
        }
        User::Password { name, remove, data } => {
            let store = open(&data).await?;
            must_be(&name, store.user_named(&name).await?.is_some())?;
            let hash = if remove { None } else { Some(asked_for(&name)?) };
            store.set_password(&name, hash.as_deref()).await?;
            let action = if remove { "user's password removed" } else { "user's password set" };
            done(store, now, action, &name).await
        }
        User::Token { name, data } => new_token(name, &data, now).await,
        User::Revoke { name, data } => {
            let store = open(&data).await?;
            must_be(&name, store.revoke_user(&name, now).await?)?;
            done(store, now, "user revoked", &name).await
        }
    }
}

async fn new_token(name: String, data: &Path, now: UnixMillis) -> anyhow::Result<()> {
    let store = open(data).await?;
    let (url, root) = address(&store, data).await?;
    let (token, hash) = make_secret().context("the system has no randomness")?;
    must_be(&name, store.set_user_token(&name, hash).await?)?;
    done(store, now, "user's token renewed", &name).await?;
    print_lines([Login { url, root, user: name, token }])
}

async fn done(store: Store, now: UnixMillis, action: &str, subject: &str) -> anyhow::Result<()> {
    note(&store, now, action, subject).await?;
    store.close().await;
    Ok(())
}

fn must_be(name: &str, is_there: bool) -> anyhow::Result<()> {
    if !is_there {
        let shown: String = name.chars().take(40).collect();
        bail!("there is no user `{shown}`, or it is revoked: see `coordinator user list`");
    }
    Ok(())
}

fn line(row: &UserRow) -> String {
    let mut line = format!("{}  {}  added {}", row.user.name, row.user.role, date(row.created));
    if row.has_password {
        line += "  has a password";
    }
    if let Some(revoked) = row.revoked {
        line += &format!("  revoked {}", date(revoked));
    }
    line
}

/// Argon2's text of a new password.
fn asked_for(name: &str) -> anyhow::Result<String> {
    let password = ask(name)?;
    judge_password(&password)?;
    Ok(hash_password(&password)?)
}

/// Without an echo on a terminal; else the first line of standard input.
fn ask(name: &str) -> anyhow::Result<String> {
    if io::stdin().is_terminal() {
        let password = rpassword::prompt_password(format!("Password of {name}: "))
            .context("cannot read from the terminal")?;
        let again = rpassword::prompt_password("Again: ").context("cannot read the terminal")?;
        if password != again {
            bail!("the two are not the same: nothing was changed");
        }
        return Ok(password);
    }
    let mut line = String::new();
    let mut input = io::Read::take(io::stdin().lock(), MAX_LINE);
    input.read_line(&mut line).context("cannot read the password from standard input")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
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
