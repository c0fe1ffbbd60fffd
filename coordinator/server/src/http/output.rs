//! `GET /jobs/ID/output`: what a job has written, as far as it is here.

use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use coordinator_core::Job;

use super::answer::ApiError;
use super::identity::Identity;
use super::objects;
use super::pages::Asked;
use crate::app::App;

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

    /// Of `OAR.NAME.ID.stdout`: what is before the last word, and the output.
    pub(super) fn of_file(name: &str) -> Option<(&str, Self)> {
        let (stem, kind) = name.strip_prefix("OAR.")?.rsplit_once('.')?;
        Some((stem, Self::named(kind)?))
    }
}

/// `GET /jobs/ID/output?stream=stderr&rank=K&tail=N`: text, for the job's owner and operators; the standard
/// output of rank 0 when not said otherwise. 404 as long as the node has not sent it. Ours, not OAR's.
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
    let stream = asked.parameter("stream").unwrap_or("stdout");
    let bad = || ApiError::bad_query("stream must be stdout or stderr");
    let stream = Stream::named(stream).ok_or_else(bad)?;
    let rank = u16::try_from(asked.number("rank")?.unwrap_or(0));
    let rank = rank.map_err(|_| ApiError::bad_query("rank must be a number of a node"))?;
    let content = of_rank(&app, &job, rank, stream).await?.ok_or_else(|| {
        let why = match job.state.is_final() {
            true => "The job has ended and left no such output, or its time is over",
            false => "The output is not here yet: it comes when the job ends",
        };
        ApiError::new(axum::http::StatusCode::NOT_FOUND, "No output", why)
    })?;
    let content = match asked.number("tail")? {
        Some(lines) => last_lines(&content, lines).to_vec(),
        None => content,
    };
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], content).into_response())
}

/// What that rank of the job's newest launch has written; none if it has sent nothing.
pub(super) async fn of_rank(
    app: &App,
    job: &Job,
    rank: u16,
    stream: Stream,
) -> Result<Option<Vec<u8>>, ApiError> {
    let object = objects::job(job, app.clock.now());
    let name = match stream {
        Stream::Stdout => object.stdout_file,
        Stream::Stderr => object.stderr_file,
    };
    Ok(app.stage.output(job.id.0, rank, name).await?)
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
