//! `coordinator backup` and `coordinator doctor`: a copy of the database, and whether all is well with it.

use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, bail};
use coordinator_core::{Policy, UnixMillis};

use super::{PKI_FOLDER, note, open, print_lines};
use crate::args::{Backup, Doctor};
use crate::clock::Clock;
use crate::pki::Pki;
use crate::store::{DATABASE, Store};

/// Free space below which jobs' results may soon find no place, bytes.
const LITTLE_SPACE: u64 = 1 << 30;

/// Runs `coordinator backup`: the server may run meanwhile, and goes on.
///
/// # Errors
///
/// A sentence for the operator.
pub async fn backup(command: Backup) -> anyhow::Result<()> {
    let Backup { data, to } = command;
    let store = open(&data).await?;
    if to.try_exists().unwrap_or(true) {
        bail!("{} is there already: name a folder that is not", to.display());
    }
    let made = std::fs::DirBuilder::new().mode(0o700).create(&to);
    made.with_context(|| format!("cannot make {}", to.display()))?;
    let written = write(&store, &data, &to).await;
    if written.is_err() {
        // Half a backup looks like a whole one.
        let _ = std::fs::remove_dir_all(&to);
    }
    written?;
    note(&store, Clock::default().now(), "backup made", &to.display().to_string()).await?;
    store.close().await;
    print_lines([format!(
        "backup: {} (database and root key; archives are not in it)",
        to.display()
    )])
}

async fn write(store: &Store, data: &Path, to: &Path) -> anyhow::Result<()> {
    store.copy_to(&to.join(DATABASE)).await.context("cannot write the database's copy")?;
    let keys = to.join(PKI_FOLDER);
    std::fs::DirBuilder::new().mode(0o700).create(&keys)?;
    for entry in std::fs::read_dir(data.join(PKI_FOLDER)).context("cannot read the keys")? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let copy = keys.join(entry.file_name());
            std::fs::copy(entry.path(), &copy).context("cannot copy the keys")?;
            std::fs::File::open(&copy)?.sync_all()?;
        }
    }
    std::fs::File::open(&keys)?.sync_all()?;
    std::fs::File::open(to)?.sync_all()?;
    Ok(())
}

/// One thing that was looked at.
enum Finding {
    Good(String),
    Note(String),
    Bad(String),
}

/// Runs `coordinator doctor`, beside the server or without it.
///
/// # Errors
///
/// Something is wrong: it has been printed.
pub async fn doctor(command: Doctor) -> anyhow::Result<()> {
    let data = command.data;
    let store = open(&data).await?;
    let mut findings = of_database(&store, Clock::default().now()).await;
    store.close().await;
    findings.push(of_keys(&data));
    findings.push(of_permissions(&data));
    findings.push(of_space(&data));
    let bad = findings.iter().filter(|finding| matches!(finding, Finding::Bad(_))).count();
    print_lines(findings.iter().map(|finding| match finding {
        Finding::Good(text) => format!("good  {text}"),
        Finding::Note(text) => format!("note  {text}"),
        Finding::Bad(text) => format!("BAD   {text}"),
    }))?;
    if bad > 0 {
        bail!("{bad} of {} things are not as they should be", findings.len());
    }
    Ok(())
}

async fn of_database(store: &Store, now: UnixMillis) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.push(match store.damage().await {
        Ok(lines) if lines.is_empty() => {
            Finding::Good("the database's pages and indexes agree".to_owned())
        }
        Ok(lines) => Finding::Bad(format!(
            "the database is damaged: {}; stop the server and put a backup in its place",
            lines.join("; ")
        )),
        Err(error) => {
            Finding::Bad(format!("the database cannot be read: {:#}", anyhow::Error::from(error)))
        }
    });
    findings.push(match store.load(now, &Policy::default()).await {
        Ok((cluster, nodes)) => Finding::Good(format!(
            "{} nodes and {} jobs that have not ended can be read",
            nodes.len(),
            cluster.jobs().len()
        )),
        Err(error) => Finding::Bad(format!(
            "a stored object cannot be read: {:#}",
            anyhow::Error::from(error)
        )),
    });
    findings
}

fn of_keys(data: &Path) -> Finding {
    match Pki::open(&data.join(PKI_FOLDER), &[]) {
        Ok(pki) => Finding::Good(format!("the root key is there: sha256:{}", pki.root_pin())),
        Err(error) => {
            Finding::Bad(format!("the root key cannot be used: {:#}", anyhow::Error::from(error)))
        }
    }
}

fn of_permissions(data: &Path) -> Finding {
    let open = [data.join(DATABASE), data.join(PKI_FOLDER)].into_iter().find(|path| {
        std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
    });
    match open {
        None => Finding::Good("database and keys are the server's own to read".to_owned()),
        Some(path) => Finding::Bad(format!(
            "others can read {}: `chmod -R go-rwx {}`",
            path.display(),
            data.display()
        )),
    }
}

fn of_space(data: &Path) -> Finding {
    let size = std::fs::metadata(data.join(DATABASE)).map_or(0, |metadata| metadata.size());
    match nix::sys::statvfs::statvfs(data) {
        Ok(disk) => {
            // The types of these numbers differ by the system.
            #[allow(clippy::unnecessary_cast, reason = "32 bits elsewhere")]
            let free = (disk.blocks_available() as u64).saturating_mul(disk.fragment_size() as u64);
            let text = format!("{} MiB are free; the database has {} MiB", free >> 20, size >> 20);
            if free < LITTLE_SPACE { Finding::Note(text) } else { Finding::Good(text) }
        }
        Err(error) => Finding::Bad(format!("the disk does not say how much is free: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::role::Role;
    use crate::secret::make_secret;

    const NOW: UnixMillis = UnixMillis(1_000_000);

    async fn data() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        Pki::open(&folder.path().join(PKI_FOLDER), &["127.0.0.1".to_owned()]).unwrap();
        (folder, store)
    }

    /// The other connection stands for a server that writes.
    #[tokio::test]
    async fn a_backup_is_made_while_others_write_and_can_be_started_from() {
        let (data, store) = data().await;
        let (_, hash) = make_secret().unwrap();
        store.add_user("alice", Role::User, hash, NOW).await.unwrap();
        let to = data.path().join("copy");
        let command = || Backup { data: data.path().to_owned(), to: to.clone() };
        backup(command()).await.unwrap();
        let (_, hash) = make_secret().unwrap();
        store.add_user("bob", Role::User, hash, NOW).await.unwrap();
        let twice = backup(command()).await.unwrap_err().to_string();
        assert!(twice.contains("is there already"), "{twice}");

        let copy = Store::open(&to).await.unwrap();
        let names: Vec<String> =
            copy.users().await.unwrap().into_iter().map(|row| row.user.name).collect();
        assert_eq!(names, ["alice"]);
        copy.close().await;
        doctor(Doctor { data: to.clone() }).await.unwrap();
        let root = |data: &Path| Pki::open(&data.join(PKI_FOLDER), &[]).unwrap().root_pin();
        assert_eq!(root(&to), root(data.path()), "clients know it again");
    }

    #[tokio::test]
    async fn the_doctor_finds_what_is_wrong() {
        let (data, store) = data().await;
        let look = || doctor(Doctor { data: data.path().to_owned() });
        look().await.unwrap();
        let folder = data.path().join(PKI_FOLDER);
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(look().await.is_err(), "others read the keys");
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
        look().await.unwrap();
        let broken = "INSERT INTO job (id, state, owner, submitted, body) VALUES (1, 'Waiting', 'a', 0, '{')";
        store.run(broken).await.unwrap();
        assert!(look().await.is_err(), "a job that cannot be read");
    }
}
