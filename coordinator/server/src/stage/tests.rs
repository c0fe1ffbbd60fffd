//! The store on a real folder.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use futures_util::{Stream, stream};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};
use tokio::io::AsyncReadExt;

use super::*;

type Chunk = Result<Bytes, &'static str>;

fn body(bytes: &[u8]) -> impl Stream<Item = Chunk> + use<> {
    let chunks: Vec<_> = bytes.chunks(7).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    stream::iter(chunks)
}

/// A body whose connection breaks after `bytes`.
fn cut_body(bytes: &[u8]) -> impl Stream<Item = Chunk> + use<> {
    stream::iter([Ok(Bytes::copy_from_slice(bytes)), Err("connection reset")])
}

fn hash(bytes: &[u8]) -> ContentHash {
    ContentHash(Sha256::digest(bytes).into())
}

fn piece(first: u64, last: u64, total: u64) -> Option<Piece> {
    Some(Piece { first, last, total })
}

struct Fixture {
    store: StageStore,
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let limits = StageLimits { max_stagein: 1000, max_stageout: 10_000 };
        Self { store: StageStore::open(dir.path(), limits).unwrap(), dir }
    }

    /// Number of files below the folder.
    fn files(&self, folder: &str) -> usize {
        std::fs::read_dir(self.dir.path().join(folder)).unwrap().count()
    }
}

async fn read(stored: Option<Stored>) -> Vec<u8> {
    let mut stored = stored.unwrap();
    let mut bytes = Vec::new();
    stored.file.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes.len() as u64, stored.length);
    bytes
}

#[test]
fn content_range_is_checked() {
    assert_eq!(Piece::parse("bytes 0-3/10"), Ok(Piece { first: 0, last: 3, total: 10 }));
    for bad in ["", "bytes */10", "bytes 3-2/10", "bytes 0-10/10", "0-3/10", "bytes -1-3/10"] {
        assert_eq!(Piece::parse(bad), Err(PieceError), "{bad}");
    }
}

#[tokio::test]
async fn whole_archive_is_stored_once() {
    let f = Fixture::new();
    let hash = hash(b"an archive");
    assert_eq!(f.store.stagein_state(hash).await.unwrap(), StageinState::Absent);
    for _ in 0..2 {
        let put = f.store.put_stagein(hash, None, body(b"an archive")).await.unwrap();
        assert_eq!(put, Pieced::Complete);
    }
    let complete = StageinState::Complete { length: 10 };
    assert_eq!(f.store.stagein_state(hash).await.unwrap(), complete);
    assert_eq!(read(f.store.open_stagein(hash).await.unwrap()).await, b"an archive");
    assert_eq!(f.files("in"), 1);
}

#[tokio::test]
async fn upload_goes_on_after_a_cut() {
    let f = Fixture::new();
    let hash = hash(b"0123456789");
    let cut = f.store.put_stagein(hash, piece(0, 7, 10), cut_body(b"0123")).await;
    assert!(matches!(cut, Err(StageError::Cut { .. })));
    let partial = StageinState::Partial { offset: 4 };
    assert_eq!(f.store.stagein_state(hash).await.unwrap(), partial);

    // The client repeats the piece, is told the offset, and goes on from there.
    let again = f.store.put_stagein(hash, piece(0, 7, 10), body(b"01234567")).await.unwrap();
    assert_eq!(again, Pieced::Elsewhere { offset: 4 });
    let next = f.store.put_stagein(hash, piece(4, 6, 10), body(b"456")).await.unwrap();
    assert_eq!(next, Pieced::Partial { offset: 7 });
    let last = f.store.put_stagein(hash, piece(7, 9, 10), body(b"789")).await.unwrap();
    assert_eq!(last, Pieced::Complete);
    assert_eq!(read(f.store.open_stagein(hash).await.unwrap()).await, b"0123456789");
}

#[tokio::test]
async fn cut_upload_survives_a_restart() {
    let f = Fixture::new();
    let hash = hash(b"0123456789");
    f.store.put_stagein(hash, None, cut_body(b"0123")).await.unwrap_err();
    let limits = StageLimits::default();
    let store = StageStore::open(f.dir.path(), limits).unwrap();
    let last = store.put_stagein(hash, piece(4, 9, 10), body(b"456789")).await.unwrap();
    assert_eq!(last, Pieced::Complete);
}

#[tokio::test]
async fn wrong_hash_removes_what_came() {
    let f = Fixture::new();
    let wanted = hash(b"right");
    let wrong = f.store.put_stagein(wanted, None, body(b"wrong")).await;
    assert!(matches!(wrong, Err(StageError::WrongHash { .. })));
    f.store.put_stagein(wanted, piece(0, 1, 5), body(b"wr")).await.unwrap();
    let wrong = f.store.put_stagein(wanted, piece(2, 4, 5), body(b"ong")).await;
    assert!(matches!(wrong, Err(StageError::WrongHash { .. })));
    assert_eq!(f.store.stagein_state(wanted).await.unwrap(), StageinState::Absent);
    assert_eq!(f.files("in"), 0);
}

#[tokio::test]
async fn sizes_are_limited() {
    let f = Fixture::new();
    let large = vec![0; 1001];
    let hash = hash(&large);
    let refused = f.store.put_stagein(hash, None, body(&large)).await;
    assert!(matches!(refused, Err(StageError::TooLarge { limit: 1000 })));
    let refused = f.store.put_stagein(hash, piece(0, 9, 1001), body(&large[..10])).await;
    assert!(matches!(refused, Err(StageError::TooLarge { limit: 1000 })));
    let refused = f.store.put_stagein(hash, piece(0, 1, 10), body(b"abc")).await;
    assert!(matches!(refused, Err(StageError::Cut { .. })));
    assert_eq!(f.store.stagein_state(hash).await.unwrap(), StageinState::Absent);

    let refused = f.store.put_stageout(1, 0, 1, None, body(&vec![0; 10_001])).await;
    assert!(matches!(refused, Err(StageError::TooLarge { limit: 10_000 })));
    assert_eq!(f.files("tmp"), 0);
}

#[tokio::test]
async fn many_may_send_the_same_archive_at_once() {
    let f = Fixture::new();
    let archive: Vec<u8> = (0..=250).collect();
    let wanted = hash(&archive);
    let uploads = (0..8).map(|_| {
        let (store, archive) = (f.store.clone(), archive.clone());
        tokio::spawn(async move { store.put_stagein(wanted, None, body(&archive)).await.unwrap() })
    });
    for upload in uploads.collect::<Vec<_>>() {
        assert_eq!(upload.await.unwrap(), Pieced::Complete);
    }
    assert_eq!(read(f.store.open_stagein(wanted).await.unwrap()).await, archive);
}

/// An archive as a rank sends it: (path, kind, content or link target).
fn archive(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, kind, content) in entries {
        let mut header = Header::new_gnu();
        // Straight into the header: `set_path` refuses what a hostile volunteer would send.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o4755);
        let mut data = content.as_bytes();
        if *kind != EntryType::Regular {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
            data = b"";
        }
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append(&header, data).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

async fn entries_of(stored: Option<Stored>) -> BTreeMap<String, String> {
    let bytes = read(stored).await;
    let mut entries = BTreeMap::new();
    for entry in tar::Archive::new(GzDecoder::new(&bytes[..])).entries().unwrap() {
        let mut entry = entry.unwrap();
        assert_eq!(entry.header().mode().unwrap() & 0o7000, 0);
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        if let Some(target) = entry.link_name().unwrap() {
            content = format!("-> {}", target.display());
        }
        entries.insert(entry.path().unwrap().display().to_string(), content);
    }
    entries
}

fn paths(entries: &BTreeMap<String, String>) -> Vec<&str> {
    entries.keys().map(String::as_str).collect()
}

#[tokio::test]
async fn result_holds_every_rank_without_harmful_entries() {
    let f = Fixture::new();
    assert!(f.store.result(5).await.unwrap().is_none());
    let first = archive(&[
        ("./", EntryType::Directory, ""),
        ("./out/answer", EntryType::Regular, "724"),
        ("latest", EntryType::Symlink, "out/answer"),
        ("/etc/passwd", EntryType::Regular, "root"),
        ("../x", EntryType::Regular, "x"),
        ("away", EntryType::Symlink, "/etc"),
        ("up", EntryType::Symlink, "../rank-1"),
        ("latest/x", EntryType::Regular, "through a link"),
        ("hard", EntryType::Link, "out/answer"),
        ("pipe", EntryType::Fifo, ""),
    ]);
    let second = archive(&[("OAR.5.stdout", EntryType::Regular, "hello\n")]);
    f.store.put_stageout(5, 10, 1, Some(hash(&second)), body(&second)).await.unwrap();
    f.store.put_stageout(5, 2, 1, None, body(&first)).await.unwrap();

    let entries = entries_of(f.store.result(5).await.unwrap()).await;
    assert_eq!(
        paths(&entries),
        ["rank-10", "rank-10/OAR.5.stdout", "rank-2", "rank-2/latest", "rank-2/out/answer"]
    );
    assert_eq!(entries["rank-2/out/answer"], "724");
    assert_eq!(entries["rank-2/latest"], "-> out/answer");
    assert_eq!(f.files("tmp"), 0);
}

#[tokio::test]
async fn damaged_archive_gives_what_can_be_read() {
    let f = Fixture::new();
    let noise = |from: u32| -> String {
        (from..from + 600).map(|i| format!("{:x}", i.wrapping_mul(2_654_435_761))).collect()
    };
    let (a, b) = (noise(0), noise(5000));
    let entries = [("a", EntryType::Regular, a.as_str()), ("b", EntryType::Regular, b.as_str())];
    let whole = archive(&entries);
    let good = archive(&[("c", EntryType::Regular, "fine")]);
    f.store.put_stageout(5, 0, 1, None, body(&whole[..whole.len() * 3 / 4])).await.unwrap();
    f.store.put_stageout(5, 1, 1, None, body(b"no archive at all")).await.unwrap();
    f.store.put_stageout(5, 2, 1, None, body(&good)).await.unwrap();
    let entries = entries_of(f.store.result(5).await.unwrap()).await;
    assert_eq!(paths(&entries), ["rank-0", "rank-0/a", "rank-1", "rank-2", "rank-2/c"]);
}

#[tokio::test]
async fn stage_out_is_replaced_and_old_launches_are_forgotten() {
    let f = Fixture::new();
    let of = |text| archive(&[("x", EntryType::Regular, text)]);
    let put = async |rank, generation, text| {
        f.store.put_stageout(5, rank, generation, None, body(&of(text))).await
    };
    put(0, 1, "first").await.unwrap();
    put(1, 1, "other").await.unwrap();
    put(0, 1, "repeated").await.unwrap();
    let entries = entries_of(f.store.result(5).await.unwrap()).await;
    assert_eq!(entries["rank-0/x"], "repeated");
    assert_eq!(entries["rank-1/x"], "other");

    put(0, 2, "launched again").await.unwrap();
    let entries = entries_of(f.store.result(5).await.unwrap()).await;
    assert_eq!(entries["rank-0/x"], "launched again");
    assert_eq!(entries.len(), 2, "rank 1 has sent nothing in the second launch");
    let stale = put(0, 1, "late").await;
    assert!(matches!(stale, Err(StageError::Stale { generation: 1, newest: 2 })));
}

#[tokio::test]
async fn stage_out_with_a_wrong_hash_changes_nothing() {
    let f = Fixture::new();
    let right = archive(&[("x", EntryType::Regular, "right")]);
    f.store.put_stageout(5, 0, 1, Some(hash(&right)), body(&right)).await.unwrap();
    let wrong = f.store.put_stageout(5, 0, 1, Some(hash(b"")), body(&right[1..])).await;
    assert!(matches!(wrong, Err(StageError::WrongHash { .. })));
    let cut = f.store.put_stageout(5, 0, 1, None, cut_body(b"abc")).await;
    assert!(matches!(cut, Err(StageError::Cut { .. })));
    assert_eq!(entries_of(f.store.result(5).await.unwrap()).await["rank-0/x"], "right");
}

#[test]
fn a_result_that_nobody_waits_for_still_counts_until_it_is_made() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(1)
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let f = Fixture::new();
        let sent = archive(&[("x", EntryType::Regular, "x")]);
        f.store.put_stageout(5, 0, 1, None, body(&sent)).await.unwrap();
        // The only thread for such work is busy, so the result is begun and not made.
        let (release, busy) = std::sync::mpsc::channel::<()>();
        let occupied = tokio::task::spawn_blocking(move || busy.recv());
        let gone = tokio::select! {
            biased;
            result = f.store.result(5) => Some(result.is_ok()),
            () = std::future::ready(()) => None,
        };
        assert_eq!(gone, None);
        let free = || f.store.inner.results.available_permits();
        assert_eq!(free(), RESULTS_AT_ONCE - 1);
        release.send(()).unwrap();
        occupied.await.unwrap().unwrap();
        let _all = f.store.inner.results.acquire_many(RESULTS_AT_ONCE as u32).await.unwrap();
    });
}

#[test]
fn the_folder_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().join("stage");
    let _store = StageStore::open(&dir, StageLimits::default()).unwrap();
    for folder in [dir.clone(), dir.join("in"), dir.join("out"), dir.join("tmp")] {
        let mode = std::fs::metadata(&folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", folder.display());
    }
}

const DAY: Duration = Duration::from_secs(24 * 3_600);

#[tokio::test]
async fn what_is_old_and_not_needed_goes() {
    let fixture = Fixture::new();
    let [used, unused] = [b"used".as_slice(), b"unused"];
    for bytes in [used, unused] {
        fixture.store.put_stagein(hash(bytes), None, body(bytes)).await.unwrap();
    }
    let _cut = fixture.store.put_stagein(hash(b"part"), piece(0, 9, 10), cut_body(b"pa")).await;
    for job in [7, 8] {
        let sent = fixture.store.put_stageout(job, 0, 1, None, body(b"results")).await;
        assert!(sent.is_ok());
    }
    let retention = Retention { stageins: DAY, results: 3 * DAY };
    let stageins = [hash(used).0].into_iter().collect();
    let needed = Needed { stageins, jobs: [8].into_iter().collect() };
    let after = async |days: u32| {
        let then = SystemTime::now() + DAY * days + Duration::from_secs(60);
        fixture.store.clean(then, retention, &needed).await.unwrap()
    };
    assert_eq!(after(0).await, Removed::default());
    assert_eq!(after(1).await, Removed { stageins: 2, results: 0 });
    assert_eq!(after(3).await, Removed { stageins: 0, results: 1 });
    assert_eq!((fixture.files("in"), fixture.files("out")), (1, 1));
    assert_eq!(read(fixture.store.open_stagein(hash(used)).await.unwrap()).await, used);
}

#[tokio::test]
async fn a_stage_in_that_is_used_again_is_not_old() {
    let fixture = Fixture::new();
    fixture.store.put_stagein(hash(b"tool"), None, body(b"tool")).await.unwrap();
    let path = fixture.dir.path().join("in").join(hash(b"tool").to_string());
    let old = SystemTime::now() - 2 * DAY;
    std::fs::File::options().append(true).open(path).unwrap().set_modified(old).unwrap();
    fixture.store.touch_stagein(hash(b"tool")).await.unwrap();
    let retention = Retention { stageins: DAY, results: DAY };
    let removed = fixture.store.clean(SystemTime::now(), retention, &Needed::default()).await;
    assert_eq!(removed.unwrap(), Removed::default());
}
