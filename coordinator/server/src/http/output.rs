//! `/jobs/ID/output`: what a job has written, as far as it is here; its nodes send it while it runs.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use coordinator_api::agent::{OUTPUT_COMPLETE, OUTPUT_LAUNCH, OUTPUT_OFFSET};
use coordinator_core::Job;

use super::answer::ApiError;
use super::archives;
use super::identity::Identity;
use super::objects;
use super::pages::Asked;
use crate::app::App;
use crate::stage::{LivePiece, MAX_LIVE};

/// One of a job's two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    const BOTH: [(&str, Self); 2] = [("stdout", Self::Stdout), ("stderr", Self::Stderr)];

    fn named(name: &str) -> Option<Self> {
        Self::BOTH.into_iter().find(|(known, _)| *known == name).map(|(_, stream)| stream)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    /// Of `OAR.NAME.ID.stdout`: what is before the last word, and the output.
    pub(super) fn of_file(name: &str) -> Option<(&str, Self)> {
        let (stem, kind) = name.strip_prefix("OAR.")?.rsplit_once('.')?;
        Some((stem, Self::named(kind)?))
    }
}

/// `GET /jobs/ID/output?stream=stderr&rank=K&tail=N`: text, for the job's owner and operators; the standard
/// output of rank 0 when not said otherwise. 404 as long as the node has not sent any of it. Ours, not OAR's.
///
/// With `offset=N` it is what follows the first N bytes, nothing when there is nothing yet, and headers say where the
/// next piece begins, of which launch it is (which begins anew), and whether more will come.
pub(super) async fn output(
    State(app): State<App>,
    identity: Identity,
    asked: Asked,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let actor = identity.user("looking at jobs")?.actor();
    let job = app.find_job(&id).await?;
    if !actor.may(&job.owner) {
        return Err(ApiError::forbidden("The job is another user's"));
    }
    let stream = stream_of(&asked)?;
    let rank = u16::try_from(asked.number("rank")?.unwrap_or(0));
    let rank = rank.map_err(|_| ApiError::bad_query("rank must be a number of a node"))?;
    let written = of_rank(&app, &job, rank, stream).await?;
    let kind = (CONTENT_TYPE, "text/plain; charset=utf-8");
    // A following reader asks by name: the offset of a page is another thing, and 0 when nobody says it.
    if asked.parameter("offset").is_some() {
        // A launch that may still follow has written nothing yet.
        let nothing =
            || Written { content: Vec::new(), generation: job.generation, is_whole: false };
        let Written { content, generation, is_whole } = written.unwrap_or_else(nothing);
        let place = [
            (OUTPUT_OFFSET, content.len().to_string()),
            (OUTPUT_LAUNCH, generation.to_string()),
            (OUTPUT_COMPLETE, if is_whole || job.state.is_final() { "yes" } else { "no" }.into()),
        ];
        let rest = content.get(asked.offset..).unwrap_or_default().to_vec();
        return Ok(([kind], place, rest).into_response());
    }
    let Written { content, .. } = written.ok_or_else(|| {
        let why = match job.state.is_final() {
            true => "The job has ended and left no such output, or its time is over",
            false => "The job has not written anything yet, or its node sends it at the end",
        };
        ApiError::new(StatusCode::NOT_FOUND, "No output", why)
    })?;
    let content = match asked.number("tail")? {
        Some(lines) => last_lines(&content, lines).to_vec(),
        None => content,
    };
    Ok(([kind], content).into_response())
}

fn stream_of(asked: &Asked) -> Result<Stream, ApiError> {
    let stream = asked.parameter("stream").unwrap_or("stdout");
    Stream::named(stream).ok_or_else(|| ApiError::bad_query("stream must be stdout or stderr"))
}

/// `PUT /jobs/ID/output?stream=stdout&generation=G&offset=N`: a piece of what a node's command has written, as long as it
/// runs. 200 with the place where the next piece begins; 413 when no more is kept; 403 for a node without a part;
/// 409 for another launch. Ours, not OAR's.
pub(super) async fn put_output(
    State(app): State<App>,
    identity: Identity,
    asked: Asked,
    Path(id): Path<String>,
    piece: Bytes,
) -> Result<Response, ApiError> {
    let node = identity.node("uploading files")?;
    let job = app.find_job(&id).await?;
    let generation = asked.number("generation")?.and_then(|number| u32::try_from(number).ok());
    let generation = generation.ok_or_else(|| ApiError::bad_query("generation is missing"))?;
    let rank = archives::rank_in(&job, node, generation)?;
    let (stream, offset) = (stream_of(&asked)?.name(), asked.offset as u64);
    let taken = app.stage.append_live(job.id.0, rank, generation, stream, offset, &piece).await?;
    Ok(match taken {
        LivePiece::Next(next) => [(OUTPUT_OFFSET, next.to_string())].into_response(),
        LivePiece::Full => {
            let message = format!("No more than {MAX_LIVE} bytes are kept while a job runs");
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "Output long enough", message)
                .into_response()
        }
    })
}

/// What a rank has written.
pub(super) struct Written {
    /// From its beginning.
    pub(super) content: Vec<u8>,
    /// The launch that it did so in.
    generation: u32,
    /// It is of the rank's results, and not of a command that runs.
    is_whole: bool,
}

/// What that rank of the job's newest launch has written; none if it has sent nothing.
pub(super) async fn of_rank(
    app: &App,
    job: &Job,
    rank: u16,
    stream: Stream,
) -> Result<Option<Written>, ApiError> {
    if let Some(live) = app.stage.live(job.id.0, rank, stream.name()).await? {
        let (content, generation) = (live.content, live.generation);
        return Ok(Some(Written { content, generation, is_whole: false }));
    }
    let object = objects::job(job, app.clock.now());
    let name = match stream {
        Stream::Stdout => object.stdout_file,
        Stream::Stderr => object.stderr_file,
    };
    let found = app.stage.output(job.id.0, rank, name).await?;
    // Results of an earlier launch are not the end of this one.
    let whole = |(generation, content)| {
        let is_whole = generation == job.generation;
        Written { content, generation, is_whole }
    };
    Ok(found.map(whole))
}

/// The last lines of a text, the last of which may have no end.
pub(super) fn last_lines(text: &[u8], lines: usize) -> &[u8] {
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let mut ends = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    match lines {
        0 => &[],
        lines => ends.nth(lines - 1).map_or(text, |(end, _)| &text[end + 1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_told_with_and_without_an_end() {
        for (text, lines, last) in [
            ("one\ntwo\nthree\n", 1, "three\n"),
            ("one\ntwo\nthree", 2, "two\nthree"),
            ("one\n", 5, "one\n"),
            ("one\n", 0, ""),
            ("\n\n", 1, "\n"),
            ("", 3, ""),
        ] {
            assert_eq!(last_lines(text.as_bytes(), lines), last.as_bytes(), "{text:?} {lines}");
        }
    }

    #[test]
    fn names_of_outputs_are_oars() {
        assert_eq!(Stream::of_file("OAR.pi.15.stdout"), Some(("pi.15", Stream::Stdout)));
        assert_eq!(Stream::of_file("OAR.15.stderr"), Some(("15", Stream::Stderr)));
        for other in ["OAR.15", "x.15.stdout", "OAR.15.log"] {
            assert_eq!(Stream::of_file(other), None, "{other}");
        }
    }
}
