//! A place for each connection of the API, by the descriptors that there are.

use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::places::{Place, Places, free_descriptors};

/// Connections from one address, or from one IPv6 /64. Chosen: a laboratory's volunteers behind one NAT,
/// each with a connection or two.
const OF_ADDRESS: usize = 512;

/// The most connections in all. Chosen: above the largest cluster that one coordinator is meant for.
const IN_ALL: usize = 32_768;

/// Gives accepted connections their places, and ends those that get none.
#[derive(Clone)]
pub(super) struct Doorkeeper(Places);

impl Doorkeeper {
    /// For as many connections as the system has descriptors for.
    pub(super) fn by_descriptors() -> Self {
        Self(Places::new(free_descriptors().min(IN_ALL), OF_ADDRESS))
    }
}

impl<S> Accept<TcpStream, S> for Doorkeeper {
    type Stream = Placed;
    type Service = S;
    type Future = Ready<io::Result<(Placed, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        ready(stream.peer_addr().and_then(|remote| {
            let place = self.0.take(remote.ip()).ok_or_else(|| {
                tracing::debug!(%remote, "too many connections");
                io::Error::from(io::ErrorKind::ConnectionRefused)
            })?;
            Ok((Placed { stream, _place: place }, service))
        }))
    }
}

/// A connection that has a place.
pub(super) struct Placed {
    stream: TcpStream,
    _place: Place,
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
