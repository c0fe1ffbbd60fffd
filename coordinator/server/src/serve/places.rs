//! How many connections there may be: in all, and from one address.
//!
//! Each costs a descriptor, and whoever can use them all up would keep agents from polling until their
//! jobs are given up.

use std::collections::HashMap;
use std::future::{Ready, ready};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum_server::accept::Accept;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Connections from one address, or from one IPv6 /64. Chosen: a laboratory's volunteers behind one NAT,
/// each with a connection or two.
const OF_ADDRESS: usize = 512;

/// Descriptors that are kept for everything but connections: database, archives, sockets.
const RESERVED: u64 = 128;

/// The most connections in all. Chosen: above the largest cluster that one coordinator is meant for.
const IN_ALL: u64 = 32_768;

/// Hands out places to connections, and takes them back when they end.
#[derive(Clone)]
pub(super) struct Places {
    taken: Arc<Mutex<Taken>>,
    in_all: usize,
    of_address: usize,
}

#[derive(Default)]
struct Taken {
    in_all: usize,
    of_address: HashMap<IpAddr, usize>,
}

impl Places {
    /// As many as the system has descriptors for.
    pub(super) fn by_descriptors() -> Self {
        let places = raise_descriptors().saturating_sub(RESERVED).clamp(RESERVED, IN_ALL);
        Self::new(usize::try_from(places).unwrap_or(usize::MAX), OF_ADDRESS)
    }

    fn new(in_all: usize, of_address: usize) -> Self {
        Self { taken: Arc::default(), in_all, of_address }
    }

    fn take(&self, remote: IpAddr) -> Option<Place> {
        let address = network(remote);
        let mut taken = lock(&self.taken);
        let of_address = taken.of_address.get(&address).copied().unwrap_or(0);
        if taken.in_all >= self.in_all || of_address >= self.of_address {
            return None;
        }
        taken.in_all += 1;
        taken.of_address.insert(address, of_address + 1);
        Some(Place { taken: self.taken.clone(), address })
    }
}

impl<S> Accept<TcpStream, S> for Places {
    type Stream = Placed;
    type Service = S;
    type Future = Ready<io::Result<(Placed, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        ready(stream.peer_addr().and_then(|remote| {
            let place = self.take(remote.ip()).ok_or_else(|| {
                tracing::debug!(%remote, "too many connections");
                io::Error::from(io::ErrorKind::ConnectionRefused)
            })?;
            Ok((Placed { stream, _place: place }, service))
        }))
    }
}

/// One connection's place.
struct Place {
    taken: Arc<Mutex<Taken>>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.in_all = taken.in_all.saturating_sub(1);
        if let Some(count) = taken.of_address.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.of_address.remove(&self.address);
            }
        }
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

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one owner is taken to have: an IPv4 address, or an IPv6 /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
    }
}

/// Raises the limit of descriptors to what the system allows; answers the limit. Shells and service
/// managers start programs with 1024, which is one for each of a thousand volunteers.
fn raise_descriptors() -> u64 {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((RESERVED, RESERVED));
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(errno) => {
            tracing::warn!(%errno, soft, "cannot raise the limit of open files");
            soft
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_cannot_take_all_places() {
        let places = Places::new(3, 2);
        let (a, b) = (address("192.0.2.1"), address("192.0.2.2"));
        let mut held = vec![places.take(a).unwrap(), places.take(a).unwrap()];
        assert!(places.take(a).is_none());
        held.push(places.take(b).unwrap());
        assert!(places.take(b).is_none(), "no place is left");
        held.pop();
        assert!(places.take(a).is_none());
        held.clear();
        assert!(places.take(a).is_some());
        assert!(lock(&places.taken).of_address.is_empty());
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        let places = Places::new(3, 1);
        let _held = places.take(address("2001:db8::1")).unwrap();
        assert!(places.take(address("2001:db8::2:1")).is_none());
        assert!(places.take(address("2001:db8:0:1::1")).is_some());
        let _mapped = places.take(address("::ffff:192.0.2.1")).unwrap();
        assert!(places.take(address("192.0.2.1")).is_none());
    }
}
