//! The ledger's connection when the disk does not do what it should.

use coordinator_api::job::{OneOrMany, SubmitJob};
use coordinator_core::{Draft, Request};

use super::*;

async fn set_page_limit(writer: &mut Writer, pages: u32) {
    let pragma = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
    sqlx::query(pragma).execute(&mut writer.connection).await.unwrap();
}

/// A job whose row takes many pages.
fn large_job(cluster: &Cluster, policy: &Policy) -> (Cluster, Vec<Change>) {
    let command = "x".repeat(60_000);
    let submission = SubmitJob { command, resource: OneOrMany(Vec::new()), ..SubmitJob::default() };
    let mut draft = Draft::new(cluster, UnixMillis(1), policy);
    draft.enrol(1, 512);
    draft.submit("alice", Request::admit(&submission).unwrap()).unwrap();
    draft.finish(cluster)
}

#[tokio::test]
async fn a_disk_that_was_full_is_written_again_when_there_is_space() {
    let data = tempfile::tempdir().unwrap();
    let store = Store::open(data.path()).await.unwrap();
    let policy = Policy::default();
    let (cluster, _) = store.load(UnixMillis(1), &policy).await.unwrap();
    let (_, changes) = large_job(&cluster, &policy);
    let mut writer = store.writer().await.unwrap();

    // SQLite's own limit ends a transaction as a full disk does: rolled back by SQLite, unknown to sqlx.
    set_page_limit(&mut writer, 1).await;
    assert!(writer.commit(&changes).await.is_err());
    set_page_limit(&mut writer, u32::MAX >> 1).await;

    writer.commit(&changes).await.unwrap();
    let (cluster, _) = store.load(UnixMillis(2), &policy).await.unwrap();
    assert_eq!(cluster.jobs().len(), 1);
}

#[tokio::test]
async fn the_database_is_its_owners_alone_even_in_a_folder_that_is_not() {
    use std::os::unix::fs::PermissionsExt;
    let data = tempfile::tempdir().unwrap();
    std::fs::set_permissions(data.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let store = Store::open(data.path()).await.unwrap();
    store.set_setting("a", "b").await.unwrap();
    for entry in std::fs::read_dir(data.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.file_name());
    }
}
