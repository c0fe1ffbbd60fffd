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

/// What newer versions have added to a row's object.
fn without_newer_fields(body: &str, newer: &[&str]) -> String {
    let mut body: serde_json::Value = serde_json::from_str(body).unwrap();
    newer.iter().for_each(|field| drop(body.as_object_mut().unwrap().remove(*field)));
    body.to_string()
}

#[tokio::test]
async fn a_database_of_the_first_version_is_brought_up_to_date() {
    let data = tempfile::tempdir().unwrap();
    let policy = Policy::default();
    let (cluster, _) = large_job(&Cluster::default(), &policy);
    let (node, job) = (cluster.nodes().next().unwrap(), cluster.jobs().next().unwrap());
    let newer = ["memory_mib", "properties", "taken_away", "silent_since"];
    let node = without_newer_fields(&serde_json::to_string(&**node).unwrap(), &newer);
    let newer = ["requeues", "alternative", "reserved", "resubmit_of", "array"];
    let job = without_newer_fields(&serde_json::to_string(&**job).unwrap(), &newer);

    let options = sqlx::sqlite::SqliteConnectOptions::new();
    let options =
        options.filename(data.path().join(super::super::DATABASE)).create_if_missing(true);
    let mut old = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::migrate!("./migrations").run_to(1, &mut old).await.unwrap();
    let zeros = vec![0_u8; 32];
    let insert = "INSERT INTO node VALUES (1, ?, ?, 'agent 0.0.1', 512, 1, ?)";
    sqlx::query(insert).bind(&zeros).bind(&zeros).bind(node).execute(&mut old).await.unwrap();
    let insert = "INSERT INTO job VALUES (1, 'Waiting', 'alice', 1, ?)";
    sqlx::query(insert).bind(job).execute(&mut old).await.unwrap();
    let insert = "INSERT INTO user VALUES ('alice', ?, 1)";
    sqlx::query(insert).bind(&zeros).execute(&mut old).await.unwrap();
    old.close().await.unwrap();

    let store = Store::open(data.path()).await.unwrap();
    let (loaded, rows) = store.load(UnixMillis(2), &policy).await.unwrap();
    assert_eq!((loaded.nodes().len(), loaded.jobs().len(), rows.len()), (1, 1, 1));
    let filter = crate::store::JobFilter { array: Some(1), ..Default::default() };
    assert_eq!(store.jobs(&filter, 10, 0).await.unwrap().1, 1, "a job of before is its own array");
    let user = store.user_named("alice").await.unwrap().unwrap();
    assert_eq!((user.0.role, user.1), (crate::role::Role::User, None));
}
