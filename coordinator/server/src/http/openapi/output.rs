//! What `GET` and `PUT /jobs/ID/output` are described by.

#![expect(dead_code, reason = "they describe routes and are not called")]

use super::parameters::{OutputOf, PieceOf};
use super::{Absent, Conflict, Denied, Full, Refused, TooLarge, Unknown};

/// What a job has written, also while it runs: text, for the job's owner and operators. Ours, not OAR's.
///
/// With `offset` it is what follows so many bytes, nothing when there is nothing yet, and the headers are there.
#[utoipa::path(
    get,
    path = "/jobs/{id}/output",
    tag = "Jobs",
    params(("id" = u64, Path, description = "The job's number"), OutputOf),
    responses(
        (status = 200, description = "What is here of it", body = String, content_type = "text/plain", headers(
            ("x-output-offset" = u64, description = "With `offset`: where the next piece begins, bytes"),
            ("x-output-launch" = u32, description = "With `offset`: the launch that wrote it; another one begins at 0"),
            ("x-output-complete" = String, description = "With `offset`: `yes` when nothing more will come, else `no`"),
        )),
        Refused,
        Unknown,
        Denied,
        Absent,
    ),
    security(("token" = []), ("password" = [])),
)]
pub(super) fn output() {}

/// A piece of what a node's command has written, as long as it runs; 413 when no more is kept. Ours, not OAR's.
#[utoipa::path(
    put,
    path = "/jobs/{id}/output",
    tag = "Agents",
    params(("id" = u64, Path, description = "The job's number"), PieceOf),
    request_body(content((Vec<u8> = "application/octet-stream"))),
    responses(
        (status = 200, description = "Kept", headers(
            ("x-output-offset" = u64, description = "Where the next piece begins, bytes"),
        )),
        Refused,
        Unknown,
        Denied,
        Absent,
        Conflict,
        TooLarge,
        Full,
    ),
    security(("credential" = [])),
)]
pub(super) fn put_output() {}
