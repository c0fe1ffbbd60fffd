//! The socket on which a job reads events.
//!
//! Each reader gets a line with the state as it is, and then every line that follows. Nothing is read
//! from it. A reader that does not keep up is cut off, and may connect again: the first line tells it all.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::task::JoinSet;

use crate::environment::EVENTS_SUFFIX;

/// Readers at a time. Chosen: each process of a job on a large machine may have one.
const MAX_READERS: usize = 256;

/// Events that may wait for a reader; one more, and it is cut off. Chosen: every member of the largest mesh may
/// come or go at once.
const MAX_WAITING: usize = 2_048;

/// How long a reader that has shut its own side, and then goes, keeps its place.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What is told: the state now, and what has changed since.
struct Told {
    snapshot: String,
    changes: broadcast::Sender<Arc<str>>,
}

/// The open socket. Dropping it ends the readers' streams.
pub(super) struct Stage {
    told: Arc<Mutex<Told>>,
    /// Aborted when dropped.
    _task: JoinSet<()>,
}

impl Stage {
    /// Makes the socket in that folder. What a former agent left there goes.
    pub(super) fn open(folder: &Path, job: u64) -> io::Result<Self> {
        let name = format!("{job}{EVENTS_SUFFIX}");
        let path = folder.join(&name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        // A socket's path has 107 bytes at most, a state directory's may have more.
        let opened = File::open(folder)?;
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/{name}", opened.as_raw_fd()))?;
        // Whoever may enter the folder may read: the job has a user of its own.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
        let changes = broadcast::Sender::new(MAX_WAITING);
        let told = Arc::new(Mutex::new(Told { snapshot: String::new(), changes }));
        let mut task = JoinSet::new();
        task.spawn(accept(listener, Arc::clone(&told)));
        Ok(Self { told, _task: task })
    }

    /// The state as it is now, and the lines that led to it.
    pub(super) fn tell(&self, snapshot: String, lines: Vec<String>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.snapshot = snapshot;
        for line in lines {
            // Nobody needs to listen.
            let _ = told.changes.send(line.into());
        }
    }
}

async fn accept(listener: UnixListener, told: Arc<Mutex<Told>>) {
    let places = Arc::new(Semaphore::new(MAX_READERS));
    let mut readers = JoinSet::new();
    loop {
        while readers.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        // One too many is closed at once.
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            readers.spawn(serve(stream, Arc::clone(&told), place));
        }
    }
}

async fn serve(stream: UnixStream, told: Arc<Mutex<Told>>, _place: OwnedSemaphorePermit) {
    let (reader, writer) = stream.into_split();
    tokio::select! {
        () = tell_all(writer, told) => {}
        () = gone(&reader) => {}
    }
}

async fn tell_all(mut stream: OwnedWriteHalf, told: Arc<Mutex<Told>>) {
    let (snapshot, mut changes) = {
        let told = told.lock().unwrap_or_else(PoisonError::into_inner);
        (told.snapshot.clone(), told.changes.subscribe())
    };
    if stream.write_all(snapshot.as_bytes()).await.is_err() {
        return;
    }
    while let Ok(line) = changes.recv().await {
        if stream.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Returns when nobody reads any more, without an event that would show it.
async fn gone(stream: &OwnedReadHalf) {
    let mut ignored = [0; 1024];
    loop {
        let readable = stream.readable().await;
        match readable.and_then(|()| stream.try_read(&mut ignored)) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
    // Who has nothing to say, as a program whose standard input is empty, may read on.
    loop {
        match stream.ready(Interest::WRITABLE).await {
            Ok(ready) if !ready.is_write_closed() => tokio::time::sleep(LOOK_AGAIN).await,
            Ok(_) | Err(_) => return,
        }
    }
}
