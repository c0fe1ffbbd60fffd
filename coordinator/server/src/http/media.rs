//! OAR's media routes: files that users keep with the coordinator, and what their jobs have written.
//!
//! OAR acts on the server's file system as the user. Here a user has an area of their own, `~/`, and nothing
//! else: every other path is refused alike, so that nobody learns what there is. `~/OAR.NAME.ID.stdout` is
//! what the job ID has written, unless a file of that name was put there.

use axum::Json;
use axum::body::Bytes;
use axum::extract::multipart::Multipart;
use axum::extract::{Extension, FromRequest, Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use coordinator_api::List;
use coordinator_api::server::{FileEntry, FileStored};
use coordinator_core::JobId;
use serde::Deserialize;

use super::answer::ApiError;
use super::body::Sent;
use super::format::essence;
use super::identity::Identity;
use super::openapi::{Absent, Denied, Full, Refused, Tail, TooLarge, Unknown, Upload};
use super::output::{Stream, last_lines};
use super::pages::Asked;
use super::suffix::{AskedPath, taken};
use super::{links, objects, output};
use crate::app::App;
use crate::causes::Causes;
use crate::files::{FileError, FileStore, OwnPath};
use crate::role::User;

/// The multipart field in which OAR's clients send a file.
const FIELD: &str = "file";

/// A path of a route with the suffix that was taken off it.
struct Named {
    user: User,
    path: OwnPath,
    shown: String,
}

impl Named {
    fn read(
        identity: Identity,
        path: &str,
        asked: &AskedPath,
        before: &str,
    ) -> Result<Self, ApiError> {
        let user = identity.user(before)?;
        let shown = format!("{path}{}", taken(asked));
        let path = OwnPath::parse(&shown).map_err(|_| unreadable(&shown))?;
        Ok(Self { user, path, shown })
    }
}

/// `GET /media/ls/PATH`: what lies in a folder.
#[utoipa::path(
    get,
    path = "/media/ls/{*path}",
    tag = "Files",
    params(("path" = String, Path, description = "`~/` and what is below", pattern = "^~/[a-z0-9]")),
    responses(
        (status = 200, description = "What lies in the folder", body = List<FileEntry>),
        Refused,
        Unknown,
        Denied,
        Absent,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn list(
    State(app): State<App>,
    identity: Identity,
    asked: Asked,
    Path(path): Path<String>,
    Extension(full): Extension<AskedPath>,
) -> Result<Json<List<FileEntry>>, ApiError> {
    let named = Named::read(identity, &path, &full, "getting files")?;
    let (user, path) = (named.user.name, named.path);
    let entries = on_disk(&app, move |files| files.list(&user, &path)).await;
    let entries = entries.map_err(|error| match matches!(error, FileError::Missing) {
        true => missing(format!("Path not found: {}", named.shown)),
        false => error.into(),
    })?;
    let item = |entry: crate::files::Entry| FileEntry {
        name: entry.name,
        kind: if entry.is_folder { "d" } else { "f" }.to_owned(),
        mode: entry.mode,
        size: entry.size.to_string(),
        mtime: entry.mtime,
    };
    Ok(asked.whole(entries.into_iter().map(item).collect(), app.clock.now()))
}

/// `GET /media/PATH`: a file's content, or with `?tail=N` its last lines.
#[utoipa::path(
    get,
    path = "/media/{*path}",
    tag = "Files",
    params(("path" = String, Path, description = "`~/` and what is below", pattern = "^~/[a-z0-9]"), Tail),
    responses(
        (status = 200, description = "The file", body = Vec<u8>, content_type = "application/octet-stream"),
        Refused,
        Unknown,
        Denied,
        Absent,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn read(
    State(app): State<App>,
    identity: Identity,
    asked: Asked,
    Path(path): Path<String>,
    Extension(full): Extension<AskedPath>,
) -> Result<Response, ApiError> {
    let named = Named::read(identity, &path, &full, "getting files")?;
    let (user, path) = (named.user.name.clone(), named.path.clone());
    let content = match on_disk(&app, move |files| files.read(&user, &path)).await {
        Err(FileError::Missing) => written(&app, &named).await?,
        content => content?,
    };
    let content = match asked.number("tail")? {
        Some(lines) => last_lines(&content, lines).to_vec(),
        None => content,
    };
    Ok(([(CONTENT_TYPE, "application/octet-stream")], content).into_response())
}

/// What the job has written whose output file has this name.
async fn written(app: &App, named: &Named) -> Result<Vec<u8>, ApiError> {
    let gone = || missing(format!("File not found: {}", named.shown));
    let name = named.path.single().ok_or_else(gone)?;
    let (stem, stream) = Stream::of_file(name).ok_or_else(gone)?;
    let id = stem.rsplit('.').next().and_then(|id| id.parse().ok()).ok_or_else(gone)?;
    let job = app.look_up(JobId(id)).await?.filter(|job| job.owner == named.user.name);
    let job = job.ok_or_else(gone)?;
    let object = objects::job(&job, app.clock.now());
    if ![object.stdout_file, object.stderr_file].iter().any(|file| file == name) {
        return Err(gone());
    }
    let written = output::of_rank(app, &job, 0, stream).await?;
    written.map(|written| written.content).ok_or_else(gone)
}

/// `POST /media/PATH`: 201; 403 where there is such a file.
#[utoipa::path(
    post,
    path = "/media/{*path}",
    tag = "Files",
    params(("path" = String, Path, description = "`~/` and what is below", pattern = "^~/[a-z0-9]")),
    request_body(content(
            (Vec<u8> = "application/octet-stream"),
            (Upload = "multipart/form-data"),
        )),
    responses(
        (status = 201, description = "Stored", body = FileStored),
        Refused,
        Unknown,
        Denied,
        Absent,
        TooLarge,
        Full,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn upload(
    State(app): State<App>,
    identity: Identity,
    Path(path): Path<String>,
    Extension(full): Extension<AskedPath>,
    request: Request,
) -> Result<Response, ApiError> {
    store(&app, identity, &path, &full, request, false).await
}

/// `POST /media/force/PATH`: 201, in place of an earlier file.
#[utoipa::path(
    post,
    path = "/media/force/{*path}",
    tag = "Files",
    params(("path" = String, Path, description = "`~/` and what is below", pattern = "^~/[a-z0-9]")),
    request_body(content(
            (Vec<u8> = "application/octet-stream"),
            (Upload = "multipart/form-data"),
        )),
    responses(
        (status = 201, description = "Stored", body = FileStored),
        Refused,
        Unknown,
        Denied,
        Absent,
        TooLarge,
        Full,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn upload_forced(
    State(app): State<App>,
    identity: Identity,
    Path(path): Path<String>,
    Extension(full): Extension<AskedPath>,
    request: Request,
) -> Result<Response, ApiError> {
    store(&app, identity, &path, &full, request, true).await
}

async fn store(
    app: &App,
    identity: Identity,
    path: &str,
    full: &AskedPath,
    request: Request,
    replace: bool,
) -> Result<Response, ApiError> {
    let Named { user, path, shown } = Named::read(identity, path, full, "uploading files")?;
    let content = content(request).await?;
    on_disk(app, move |files| files.write(&user.name, &path, &content, replace)).await?;
    let itself = links::itself(format!("/media/{shown}"));
    let body = FileStored {
        status: "created".to_owned(),
        success: "true".to_owned(),
        links: vec![itself],
    };
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

/// The raw body, or the form's field `file`. A refused upload leaves nothing.
async fn content(request: Request) -> Result<Bytes, ApiError> {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = essence(kind.unwrap_or_default()).to_ascii_lowercase();
    let too_long = |status, text: String| ApiError::new(status, "Body not understood", text);
    match kind.as_str() {
        "application/octet-stream" => {
            let read = Bytes::from_request(request, &()).await;
            read.map_err(|error| too_long(error.status(), error.body_text()))
        }
        "multipart/form-data" => {
            let form = Multipart::from_request(request, &()).await;
            let mut form = form.map_err(|error| ApiError::bad_query(error.body_text()))?;
            loop {
                let field = form.next_field().await;
                let field = field.map_err(|e| too_long(e.status(), e.body_text()))?;
                let Some(field) = field else {
                    return Err(ApiError::bad_query("the form has no field `file`"));
                };
                if field.name() == Some(FIELD) {
                    let read = field.bytes().await;
                    return read.map_err(|error| too_long(error.status(), error.body_text()));
                }
            }
        }
        other => {
            let message = format!("{other} not allowed for file upload");
            Err(ApiError::new(StatusCode::NOT_ACCEPTABLE, "Bad content type", message))
        }
    }
}

/// A file's new permissions.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct NewMode {
    #[schema(value_type = String, pattern = "^[0-7]{1,4}$")]
    mode: Option<String>,
}

/// `POST /media/chmod/PATH` with an octal mode: 202.
#[utoipa::path(
    post,
    path = "/media/chmod/{*path}",
    tag = "Files",
    params(("path" = String, Path, description = "`~/` and what is below", pattern = "^~/[a-z0-9]")),
    request_body = NewMode,
    responses(
        (status = 202, description = "Changed"),
        Refused,
        Unknown,
        Denied,
        Absent,
        TooLarge,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn chmod(
    State(app): State<App>,
    identity: Identity,
    Path(path): Path<String>,
    Extension(full): Extension<AskedPath>,
    Sent(new): Sent<NewMode>,
) -> Result<StatusCode, ApiError> {
    let Named { user, path, shown } = Named::read(identity, &path, &full, "changing files")?;
    let text = new.mode.ok_or_else(|| ApiError::missing_field("A mode must be given"))?;
    let octal = text.len() <= 4 && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let mode = u32::from_str_radix(&text, 8).ok().filter(|_| octal).ok_or_else(|| {
        let word: String = text.chars().take(40).collect();
        ApiError::bad_query(format!("Bad mode value: {word}"))
    })?;
    match on_disk(&app, move |files| files.chmod(&user.name, &path, mode)).await {
        Err(FileError::Missing) => Err(missing(format!("File not found: {shown}"))),
        done => Ok(done.map(|()| StatusCode::ACCEPTED)?),
    }
}

/// `DELETE /media/PATH`: 204; a file, or a folder that is empty.
#[utoipa::path(
    delete,
    path = "/media/{*path}",
    tag = "Files",
    params(("path" = String, Path, description = "`~/` and what is below", pattern = "^~/[a-z0-9]")),
    responses(
        (status = 204, description = "Deleted"),
        Refused,
        Unknown,
        Denied,
        Absent,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) async fn delete(
    State(app): State<App>,
    identity: Identity,
    Path(path): Path<String>,
    Extension(full): Extension<AskedPath>,
) -> Result<StatusCode, ApiError> {
    let Named { user, path, shown } = Named::read(identity, &path, &full, "deleting files")?;
    match on_disk(&app, move |files| files.remove(&user.name, &path)).await {
        Err(FileError::Missing) => Err(missing(format!("File not found: {shown}"))),
        done => Ok(done.map(|()| StatusCode::NO_CONTENT)?),
    }
}

/// Disks are slow: on a thread for that.
async fn on_disk<T: Send + 'static>(
    app: &App,
    work: impl FnOnce(&FileStore) -> Result<T, FileError> + Send + 'static,
) -> Result<T, FileError> {
    let files = app.files.clone();
    let done = tokio::task::spawn_blocking(move || work(&files)).await;
    done.unwrap_or_else(|ended| Err(FileError::Io(std::io::Error::other(ended))))
}

fn missing(message: String) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "Not found", message)
}

fn unreadable(shown: &str) -> ApiError {
    let shown: String = shown.chars().take(200).collect();
    let message = format!("File could not be read: /{shown} (only ~/ and what is below is yours)");
    ApiError::new(StatusCode::FORBIDDEN, "Forbidden", message)
}

impl From<FileError> for ApiError {
    fn from(error: FileError) -> Self {
        let (status, title) = match &error {
            FileError::Path => (StatusCode::FORBIDDEN, "Forbidden"),
            FileError::Missing => (StatusCode::NOT_FOUND, "Not found"),
            FileError::Exists => (StatusCode::FORBIDDEN, "File already exists"),
            FileError::Kind => (StatusCode::BAD_REQUEST, "Bad query"),
            FileError::Full => (StatusCode::INSUFFICIENT_STORAGE, "No space"),
            FileError::Io(_) => {
                tracing::error!(error = %Causes(&error), "users' files");
                (StatusCode::INTERNAL_SERVER_ERROR, "Oar server error")
            }
        };
        Self::new(status, title, error.to_string())
    }
}
