//! Bodies that nobody reads, because the request is refused before.
//!
//! A connection whose client still sends cannot be used again: it is closed, and the client may see that before
//! it sees the answer. So a little is read, and thrown away, before the answer goes out.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes, HttpBody};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use futures_util::{Stream, StreamExt};

/// The most that is thrown away, bytes. Chosen: more than any JSON body that is not a script; who sends an archive
/// may look at its connection.
const MAX_LEFT: usize = 256 * 1024;

/// The longest that a client is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// A body that is still here when the handler has dropped it.
#[derive(Clone)]
struct Kept(Arc<Mutex<BodyDataStream>>);

impl Stream for Kept {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // Nothing that panics is done while it is held.
        let mut body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        body.poll_next_unpin(context)
    }
}

impl Kept {
    fn has_ended(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream()
    }

    async fn throw_away(mut self) {
        let mut left = MAX_LEFT;
        while let Some(Ok(bytes)) = self.next().await {
            let Some(less) = left.checked_sub(bytes.len()) else { return };
            left = less;
        }
    }
}

/// Reads what a refused request has left.
pub(super) async fn throw_away(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let kept = Kept(Arc::new(Mutex::new(body.into_data_stream())));
    let body = Body::from_stream(kept.clone());
    let response = next.run(Request::from_parts(parts, body)).await;
    if response.status().as_u16() >= 400 && !kept.has_ended() {
        // Who is slower has no use for the connection.
        let _ = tokio::time::timeout(PATIENCE, kept.throw_away()).await;
    }
    response
}
