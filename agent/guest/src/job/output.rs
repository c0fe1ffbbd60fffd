//! What the command writes, sent on while it runs.
//!
//! For whoever looks on: the results hold all of it, whatever becomes of this. So nothing is kept here, nothing waits
//! for it, and a server that knows no such thing is left alone.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use coordinator_api::agent::MAX_OUTPUT_PIECE;

use super::directory::JobDirectory;
use super::life::Context;
use crate::environment::OutputFiles;
use crate::retry::pauses;
use crate::stage::open::open_inside;

/// How often the files are looked at. Chosen: somebody waits for a line, and a request a second is cheap.
const PAUSE: Duration = Duration::from_secs(1);

/// Sends what comes to both outputs, as long as the coordinator takes it; does not end before that.
pub(super) async fn follow(context: &Context, directory: &JobDirectory, outputs: &OutputFiles) {
    if context.client.is_plain_oar() {
        return;
    }
    tokio::join!(
        follow_one(context, directory, &outputs.stdout, "stdout"),
        follow_one(context, directory, &outputs.stderr, "stderr"),
    );
}

async fn follow_one(context: &Context, directory: &JobDirectory, file: &str, stream: &str) {
    let id = directory.id();
    let mut offset = 0;
    let mut failures = pauses();
    loop {
        let (work, name) = (directory.work(), file.to_owned());
        let read = tokio::task::spawn_blocking(move || piece(&work, name.as_ref(), offset)).await;
        let piece = read.ok().and_then(Result::ok).unwrap_or_default();
        let is_last = piece.len() < MAX_OUTPUT_PIECE;
        let mut pause = if is_last { PAUSE } else { Duration::ZERO };
        if !piece.is_empty() {
            match context.client.send_output(id.job, id.generation, stream, offset, piece).await {
                Ok(Some(next)) => {
                    // A coordinator that has more was told by an earlier agent; one that has less has lost it.
                    offset = next;
                    failures = pauses();
                }
                Ok(None) => return,
                Err(error) if error.is_transient() => pause = failures.next().unwrap_or(PAUSE),
                Err(error) => {
                    tracing::debug!(job = %id, %error, stream, "nobody looks on");
                    return;
                }
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// What follows the first `offset` bytes, as far as a piece goes. The folder is the job's, which may have put anything
/// in the file's place.
fn piece(work: &Path, name: &Path, offset: u64) -> io::Result<Vec<u8>> {
    let file = open_inside(&File::open(work)?, name)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() <= offset {
        return Ok(Vec::new());
    }
    let mut piece = vec![0; MAX_OUTPUT_PIECE];
    let count = file.read_at(&mut piece, offset)?;
    piece.truncate(count);
    Ok(piece)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn pieces_are_of_the_file_alone_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let work = folder.path().join("work");
        fs::create_dir(&work).unwrap();
        fs::write(folder.path().join("secret"), "secret").unwrap();
        let of = |offset| piece(&work, Path::new("out"), offset);
        assert!(of(0).is_err(), "there is no file yet");
        fs::write(work.join("out"), vec![b'x'; MAX_OUTPUT_PIECE + 3]).unwrap();
        assert_eq!(of(0).unwrap().len(), MAX_OUTPUT_PIECE);
        assert_eq!(of(MAX_OUTPUT_PIECE as u64).unwrap(), b"xxx");
        assert_eq!(of(1 << 40).unwrap(), b"");

        fs::remove_file(work.join("out")).unwrap();
        std::os::unix::fs::symlink("../secret", work.join("out")).unwrap();
        assert!(of(0).is_err());
        fs::remove_file(work.join("out")).unwrap();
        nix::unistd::mkfifo(&work.join("out"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(of(0).unwrap(), b"");
    }
}
