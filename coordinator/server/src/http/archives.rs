//! Stage-in and stage-out: archives in and out of the stage store.

use std::io::SeekFrom;

use axum::body::Body;
use axum::extract::multipart::Multipart;
use axum::extract::{FromRequest, Path, Request, State};
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, RANGE,
};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use coordinator_api::ErrorBody;
use coordinator_core::{Job, NodeNumber, ReportRefusal};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::answer::ApiError;
use super::compat::{self, Speaker};
use super::identity::Identity;
use super::openapi::{
    Absent, Conflict, Denied, Full, Launch, Refused, Results, TooLarge, Unknown, WrongHash,
};
use super::pages::Asked;
use crate::app::App;
use crate::stage::{ContentHash, Piece, Pieced, StageError, StageinState, Stored};

/// How many bytes of an archive the client has sent, or should go on from.
const UPLOAD_OFFSET: &str = "upload-offset";

/// The announced hash of a stage-out.
const CONTENT_SHA256: &str = "x-content-sha256";

/// The multipart field in which the agents of old send a stage-out.
const FIELD: &str = "myfile";

/// `HEAD /stagein/SHA256`: 200 complete; 204 with `Upload-Offset`; 404 nothing yet.
#[utoipa::path(
    head,
    path = "/stagein/{hash}",
    tag = "Results",
    params(("hash" = String, Path, description = "The archive's SHA-256", pattern = "^(sha256:)?[0-9a-fA-F]{64}$")),
    responses(
        (status = 200, description = "Complete"),
        (status = 204, description = "A part is here", headers(("upload-offset" = u64, description = "Its length, bytes"))),
        Refused,
        Unknown,
        Denied,
        Absent,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn stagein_state(
    State(app): State<App>,
    identity: Identity,
    Path(hash): Path<String>,
) -> Result<Response, ApiError> {
    identity.user("uploading files")?;
    let state = app.stage.stagein_state(parse_hash(&hash)?).await?;
    Ok(match state {
        StageinState::Complete { .. } => StatusCode::OK.into_response(),
        StageinState::Partial { offset } => offset_answer(StatusCode::NO_CONTENT, offset),
        StageinState::Absent => StatusCode::NOT_FOUND.into_response(),
    })
}

/// `PUT /stagein/SHA256`: the whole archive, or the piece that `Content-Range` names. 201 complete and
/// right; 204 go on; 409 go on elsewhere.
#[utoipa::path(
    put,
    path = "/stagein/{hash}",
    tag = "Results",
    params(("hash" = String, Path, description = "The archive's SHA-256", pattern = "^(sha256:)?[0-9a-fA-F]{64}$"),
        ("content-range" = Option<String>, Header, description = "Which piece: `bytes FIRST-LAST/LENGTH`")),
    request_body(content(
            (Vec<u8> = "application/x-gzip"),
            (Vec<u8> = "application/octet-stream"),
        )),
    responses(
        (status = 201, description = "Complete, and of that hash"),
        (status = 204, description = "Go on", headers(("upload-offset" = u64, description = "From here, bytes"))),
        (status = 409, description = "Go on elsewhere", headers(("upload-offset" = u64, description = "From here, bytes"))),
        Refused,
        Unknown,
        Denied,
        TooLarge,
        WrongHash,
        Full,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn put_stagein(
    State(app): State<App>,
    identity: Identity,
    Path(hash): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    identity.user("uploading files")?;
    let hash = parse_hash(&hash)?;
    let range = text_header(request.headers(), CONTENT_RANGE.as_str())?;
    let piece = range.map(Piece::parse).transpose();
    let piece = piece.map_err(|error| ApiError::bad_query(error.to_string()))?;
    let body = request.into_body().into_data_stream();
    Ok(match app.stage.put_stagein(hash, piece, body).await? {
        Pieced::Complete => StatusCode::CREATED.into_response(),
        Pieced::Partial { offset } => offset_answer(StatusCode::NO_CONTENT, offset),
        Pieced::Elsewhere { offset } => offset_answer(StatusCode::CONFLICT, offset),
    })
}

/// `GET` and `HEAD /jobs/ID/stagein.tgz`: for the nodes of the job and its owner; with `Range`.
#[utoipa::path(
    get,
    path = "/jobs/{id}/stagein",
    tag = "Results",
    params(("id" = u64, Path, description = "The job's number"),
        ("range" = Option<String>, Header, description = "`bytes=FIRST-LAST`")),
    responses(
        (status = 200, description = "The archive", body = Vec<u8>, content_type = "application/x-gzip"),
        (status = 206, description = "The range that was asked for", body = Vec<u8>, content_type = "application/x-gzip"),
        (status = 416, description = "No such range", body = ErrorBody),
        Unknown,
        Denied,
        Absent,
    ),
    security(("token" = []), ("password" = []), ("credential" = [])),
)]
pub(super) async fn stagein(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    if identity == Identity::Anonymous {
        return Err(ApiError::anonymous("looking at jobs"));
    }
    let job = app.find_job(&id).await?;
    match &identity {
        Identity::Node(node) if part_of(&job, *node).is_none() => return Err(ApiError::no_job()),
        Identity::User(user) if user.name != job.owner && !compat::speaks_for(&app, &job) => {
            return Err(not_yours());
        }
        Identity::Node(_) | Identity::User(_) | Identity::Anonymous => {}
    }
    let Some(hash) = job.request.stagein_sha256 else { return Err(no_file("stage-in")) };
    let stored = app.stage.open_stagein(parse_hash(&hash)?).await?;
    send(stored.ok_or_else(|| no_file("stage-in"))?, &method, &headers).await
}

/// `GET /jobs/ID/stageout.tgz`: all ranks' results in one archive, for the owner.
#[utoipa::path(
    get,
    path = "/jobs/{id}/stageout",
    tag = "Results",
    params(("id" = u64, Path, description = "The job's number"),
        ("range" = Option<String>, Header, description = "`bytes=FIRST-LAST`")),
    responses(
        (status = 200, description = "The archive", body = Vec<u8>, content_type = "application/x-gzip"),
        (status = 206, description = "The range that was asked for", body = Vec<u8>, content_type = "application/x-gzip"),
        (status = 416, description = "No such range", body = ErrorBody),
        Unknown,
        Denied,
        Absent,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn result(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let user = identity.user("looking at jobs")?;
    let job = app.find_job(&id).await?;
    if job.owner != user.name {
        return Err(not_yours());
    }
    let stored = app.stage.result(job.id.0).await?;
    send(stored.ok_or_else(|| no_file("stage-out"))?, &method, &headers).await
}

/// `POST /jobs/ID/stageout.tgz?generation=G`: a node's results, raw or as the multipart field `myfile`. They
/// replace what it sent before, also after the end of its part: agents of old report it first. 403 for a node
/// without a part; 409 for another launch; 422 for a wrong hash.
#[utoipa::path(
    post,
    path = "/jobs/{id}/stageout",
    tag = "Results",
    params(("id" = u64, Path, description = "The job's number"), Launch,
        ("x-content-sha256" = Option<String>, Header, description = "The archive's SHA-256", pattern = "^(sha256:)?[0-9a-fA-F]{64}$")),
    request_body(content(
            (Vec<u8> = "application/x-gzip"),
            (Vec<u8> = "application/octet-stream"),
            (Results = "multipart/form-data"),
        )),
    responses(
        (status = 200, description = "Stored"),
        Refused,
        Unknown,
        Denied,
        Absent,
        Conflict,
        TooLarge,
        WrongHash,
        Full,
    ),
    security(("credential" = [])),
)]
pub(super) async fn put_stageout(
    State(app): State<App>,
    identity: Identity,
    Path(id): Path<String>,
    asked: Asked,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let Speaker { node, launch } = compat::speaker(&app, identity, "uploading files", &id).await?;
    let job = app.find_job(&id).await?;
    let generation = asked.parameter("generation").unwrap_or("0").parse();
    let generation = generation.map_err(|_| ApiError::bad_query("generation must be a number"))?;
    let generation = launch.unwrap_or(generation);
    let rank = rank_in(&job, node, generation)?;
    let announced = text_header(request.headers(), CONTENT_SHA256)?;
    let announced = announced.map(parse_hash).transpose()?;
    let kind = text_header(request.headers(), CONTENT_TYPE.as_str())?.unwrap_or_default();
    if !kind.starts_with("multipart/form-data") {
        let body = request.into_body().into_data_stream();
        app.stage.put_stageout(job.id.0, rank, generation, announced, body).await?;
        return Ok(StatusCode::OK);
    }
    let form = Multipart::from_request(request, &()).await;
    let mut form = form.map_err(|error| ApiError::bad_query(error.body_text()))?;
    while let Some(field) =
        form.next_field().await.map_err(|e| ApiError::bad_query(e.body_text()))?
    {
        if field.name() == Some(FIELD) {
            app.stage.put_stageout(job.id.0, rank, generation, announced, field).await?;
            return Ok(StatusCode::OK);
        }
    }
    Err(ApiError::bad_query("the form has no field `myfile`"))
}

/// A node's rank in the job's current or last launch, and that launch.
fn part_of(job: &Job, node: NodeNumber) -> Option<(u16, u32)> {
    let launch = job.launch.as_ref()?;
    let (rank, _) = launch.part(node)?;
    Some((u16::try_from(rank).ok()?, launch.generation))
}

/// A node's rank in that launch, which must be the job's current or last one.
pub(super) fn rank_in(job: &Job, node: NodeNumber, generation: u32) -> Result<u16, ReportRefusal> {
    let current = job.launch.as_ref().map(|launch| launch.generation);
    if current != Some(generation) && (1..=job.generation).contains(&generation) {
        return Err(ReportRefusal::Stale { job: job.id, generation });
    }
    match part_of(job, node) {
        Some((rank, current)) if current == generation => Ok(rank),
        Some(_) | None => Err(ReportRefusal::NotAssigned),
    }
}

/// Sends a file, or the range of it that was asked for.
async fn send(stored: Stored, method: &Method, headers: &HeaderMap) -> Result<Response, ApiError> {
    let Stored { mut file, length } = stored;
    let range = headers.get(RANGE).and_then(|value| value.to_str().ok());
    // What is not a single range is no reason to refuse: the whole file is a right answer (RFC 9110, 14.2).
    let range = range.and_then(parse_range);
    let (first, last) = match range {
        None => (0, length),
        Some((first, last)) if first < length => {
            (first, last.map_or(length, |last| last.saturating_add(1).min(length)))
        }
        Some(_) => {
            let all = [(CONTENT_RANGE, format!("bytes */{length}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, all).into_response());
        }
    };
    file.seek(SeekFrom::Start(first)).await.map_err(StageError::from)?;
    let sent = last - first;
    let body = match *method {
        Method::HEAD => Body::empty(),
        _ => Body::from_stream(ReaderStream::new(file.take(sent))),
    };
    let named = [
        (CONTENT_TYPE, "application/x-gzip".to_owned()),
        (CONTENT_LENGTH, sent.to_string()),
        (ACCEPT_RANGES, "bytes".to_owned()),
    ];
    if range.is_none() {
        return Ok((StatusCode::OK, named, body).into_response());
    }
    let place = [(CONTENT_RANGE, format!("bytes {first}-{}/{length}", last - 1))];
    Ok((StatusCode::PARTIAL_CONTENT, named, place, body).into_response())
}

/// `bytes=FIRST-[LAST]`.
fn parse_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (first, last) = text.trim().strip_prefix("bytes=")?.split_once('-')?;
    let first: u64 = first.trim().parse().ok()?;
    let last = match last.trim() {
        "" => None,
        last => Some(last.parse().ok().filter(|last| *last >= first)?),
    };
    Some((first, last))
}

fn offset_answer(status: StatusCode, offset: u64) -> Response {
    (status, [(UPLOAD_OFFSET, offset.to_string())]).into_response()
}

fn text_header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, ApiError> {
    let value = headers.get(name).map(|value| value.to_str());
    value.transpose().map_err(|_| ApiError::bad_query(format!("the header {name} is not text")))
}

fn parse_hash(text: &str) -> Result<ContentHash, ApiError> {
    text.parse::<ContentHash>().map_err(|error| ApiError::bad_query(error.to_string()))
}

fn not_yours() -> ApiError {
    ApiError::forbidden("The job is another user's")
}

fn no_file(what: &str) -> ApiError {
    let message = format!("The job has no {what}, or its time is over");
    ApiError::new(StatusCode::NOT_FOUND, "File not found", message)
}

impl From<StageError> for ApiError {
    fn from(error: StageError) -> Self {
        let (status, title) = match &error {
            StageError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "File too large"),
            StageError::DiskFull => (StatusCode::INSUFFICIENT_STORAGE, "Disk full"),
            StageError::WrongHash { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "Wrong hash"),
            StageError::Cut { .. } => (StatusCode::BAD_REQUEST, "Upload cut off"),
            StageError::Stale { .. } => (StatusCode::CONFLICT, "Conflict"),
            StageError::Io(_) => {
                let cause = &error as &dyn std::error::Error;
                tracing::error!(error = cause, "stage directory");
                (StatusCode::INTERNAL_SERVER_ERROR, "Oar server error")
            }
        };
        Self::new(status, title, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        assert_eq!(parse_range("bytes=0-"), Some((0, None)));
        assert_eq!(parse_range("bytes=5-9"), Some((5, Some(9))));
        for odd in ["bytes=-5", "bytes=9-5", "bytes=1-2,4-5", "items=1-2", "bytes=a-"] {
            assert_eq!(parse_range(odd), None, "{odd}");
        }
    }
}
