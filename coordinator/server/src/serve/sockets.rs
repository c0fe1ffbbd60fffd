//! Sockets, addresses and the lock on the data directory, with errors that say what to do.

use std::fs::{File, TryLockError};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use anyhow::{Context, bail};

/// Held as long as the server runs, so that two never share a data directory.
pub(crate) struct DataLock {
    _file: File,
}

impl DataLock {
    pub(crate) fn take(data: &Path) -> anyhow::Result<Self> {
        let path = data.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.with_context(|| format!("cannot make {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => bail!(
                "another process uses the directory {}: stop it, or give this one a directory of its own",
                data.display()
            ),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }
}

pub(crate) fn bind_tcp(option: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address)
        .with_context(|| format!("cannot listen on tcp {address} ({option})"))?;
    listener.set_nonblocking(true).context("cannot use a TCP socket")?;
    Ok(listener)
}

pub(crate) fn bind_udp(option: &str, address: SocketAddr) -> anyhow::Result<UdpSocket> {
    UdpSocket::bind(address).with_context(|| format!("cannot listen on udp {address} ({option})"))
}

/// A relay's sockets: as many as suit this machine.
pub(crate) fn bind_relay(option: &str, address: SocketAddr) -> anyhow::Result<Vec<UdpSocket>> {
    overlay_relay::bind(address, overlay_relay::suitable_workers())
        .with_context(|| format!("cannot listen on udp {address} ({option})"))
}

/// The API's URL under a host name or an IP address.
pub(super) fn url(host: &str, port: u16) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("https://[{address}]:{port}{}", crate::http::PREFIX),
        Ok(IpAddr::V4(_)) | Err(_) => format!("https://{host}:{port}{}", crate::http::PREFIX),
    }
}

/// The endpoints under which a public host can be reached at a port.
pub(crate) async fn resolve(host: &str, port: u16) -> anyhow::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let found = tokio::net::lookup_host((host, port)).await;
    let found = found.with_context(|| {
        format!("cannot resolve {host}: give --public-address a name that this machine knows")
    })?;
    Ok(found.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_ipv6_addresses_in_brackets() {
        assert_eq!(url("c.example", 6443), "https://c.example:6443/oarapi");
        assert_eq!(url("198.18.0.1", 6443), "https://198.18.0.1:6443/oarapi");
        assert_eq!(url("2001:db8::1", 1), "https://[2001:db8::1]:1/oarapi");
    }

    #[test]
    fn a_data_directory_has_one_server() {
        let data = tempfile::tempdir().unwrap();
        let first = DataLock::take(data.path()).unwrap();
        let second = DataLock::take(data.path()).err().unwrap().to_string();
        assert!(second.contains("another process"), "{second}");
        drop(first);
        assert!(DataLock::take(data.path()).is_ok());
    }
}
