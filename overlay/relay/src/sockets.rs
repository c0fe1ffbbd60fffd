//! The relay's sockets: one address, as many sockets as workers.
//!
//! The kernel chooses among them by the datagram's addresses and ports (SO_REUSEPORT), so that what one node
//! sends stays on one of them, in its order.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::thread;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Workers that an agent, a coordinator and the jobs of one machine leave room for. Chosen: eight forward more than
/// a 25 Gbit/s port takes.
const MAX_WORKERS: usize = 8;

/// As many workers as suit this machine: one for two cores.
pub fn suitable_workers() -> usize {
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (cores / 2).clamp(1, MAX_WORKERS)
}

/// Binds so many sockets to an address; a port of 0 is one port for all.
///
/// # Errors
///
/// Those of the operating system, such as that the port is in use.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<UdpSocket>> {
    // Without sharing: another program's port is not ours, even if that one would share it.
    let first = UdpSocket::bind(address)?;
    if workers < 2 {
        return Ok(vec![first]);
    }
    let address = first.local_addr()?;
    drop(first);
    (0..workers).map(|_| shared(address)).collect()
}

fn shared(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(true)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_of_one_relay_share_a_port_that_nobody_else_gets() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let sockets = bind(any, 3).unwrap();
        let at = sockets[0].local_addr().unwrap();
        assert!(sockets.iter().all(|socket| socket.local_addr().unwrap() == at));
        for workers in [1, 2] {
            let refused = bind(at, workers).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::AddrInUse, "{workers}");
        }
    }
}
