//! Asks a NAT with UDP sockets: the suite of [`netsim_sim::conformance`] on real packets.
//!
//! Where the sockets are is the business of a [`Site`]: the same questions go to a NAT in user space and
//! to the kernel's in a laboratory.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use netsim_sim::conformance::{Inner, NatProbe, Outer};

/// The ports of packets that tell when to stop waiting for another one.
const SENTINELS: [u16; 2] = [60_000, 60_001];

/// How long a packet may take that certainly arrives. Chosen: a busy machine's.
const SURE: Duration = Duration::from_secs(20);

/// Two machines inside of a NAT and two addresses outside.
pub trait Site {
    /// The address of a machine inside: 0 or 1.
    fn inside(&self, machine: u8) -> IpAddr;

    /// An address outside: 0 or 1.
    fn outside(&self, address: u8) -> IpAddr;

    /// Binds a socket there.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn bind_inside(&self, at: Inner) -> io::Result<UdpSocket>;

    /// Binds a socket there.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn bind_outside(&self, at: Outer) -> io::Result<UdpSocket>;

    /// Lets the NAT's mappings age.
    ///
    /// # Errors
    ///
    /// When there is no such NAT any more.
    fn age(&mut self, by: Duration) -> io::Result<()>;
}

/// The sockets that have asked so far.
#[derive(Debug)]
pub struct Asker<S> {
    site: S,
    inside: BTreeMap<Inner, UdpSocket>,
    outside: BTreeMap<Outer, UdpSocket>,
    sentinels: u32,
}

impl<S: Site> Asker<S> {
    /// Sends the first packets. Before anything is asked: a mapping that is made in between would take
    /// a port, and a neighbour that has to be found first would let others overtake.
    ///
    /// # Errors
    ///
    /// When a packet that certainly gets out does not arrive.
    pub fn new(site: S) -> io::Result<Self> {
        let (inside, outside) = (BTreeMap::new(), BTreeMap::new());
        let mut asker = Self { site, inside, outside, sentinels: 0 };
        asker.settle(1)?;
        asker.settle(0)?;
        Ok(asker)
    }

    /// Where the sockets are.
    pub fn site(&self) -> &S {
        &self.site
    }

    fn inner(&mut self, at: Inner) -> io::Result<UdpSocket> {
        if !self.inside.contains_key(&at) {
            self.inside.insert(at, self.site.bind_inside(at)?);
        }
        self.inside[&at].try_clone()
    }

    fn outer(&mut self, at: Outer) -> io::Result<(UdpSocket, SocketAddr)> {
        if !self.outside.contains_key(&at) {
            self.outside.insert(at, self.site.bind_outside(at)?);
        }
        let address = SocketAddr::new(self.site.outside(at.address), at.port);
        Ok((self.outside[&at].try_clone()?, address))
    }

    /// Waits until whatever was sent has arrived or never will: a packet that certainly gets out, and
    /// its answer, go the same way in the same order.
    fn settle(&mut self, address: u8) -> io::Result<()> {
        self.sentinels += 1;
        let token = self.sentinels.to_be_bytes();
        let inner = self.inner(Inner { machine: 0, port: SENTINELS[0] })?;
        let (outer, to) = self.outer(Outer { address, port: SENTINELS[1] })?;
        let receive = |socket: &UdpSocket| {
            socket.set_read_timeout(Some(SURE))?;
            loop {
                let mut bytes = [0; 16];
                let (length, from) = socket.recv_from(&mut bytes)?;
                if bytes[..length] == token {
                    return io::Result::Ok(from);
                }
            }
        };
        inner.send_to(&token, to)?;
        let from = receive(&outer)?;
        outer.send_to(&token, from)?;
        receive(&inner).map(drop)
    }

    fn arrived_inside(&self) -> io::Result<Option<(Inner, SocketAddr)>> {
        for (inner, socket) in &self.inside {
            if let Some(from) = waiting(socket)? {
                return Ok(Some((*inner, from)));
            }
        }
        Ok(None)
    }
}

/// Whence something has come to a socket that has not been taken yet.
fn waiting(socket: &UdpSocket) -> io::Result<Option<SocketAddr>> {
    socket.set_nonblocking(true)?;
    let taken = socket.recv_from(&mut [0; 16]);
    socket.set_nonblocking(false)?;
    match taken {
        Ok((_, from)) => Ok(Some(from)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

impl<S: Site> NatProbe for Asker<S> {
    type Error = io::Error;

    fn endpoint(&self, inner: Inner) -> SocketAddr {
        SocketAddr::new(self.site.inside(inner.machine), inner.port)
    }

    fn send_out(&mut self, from: Inner, to: Outer) -> io::Result<Option<SocketAddr>> {
        let (sender, (receiver, address)) = (self.inner(from)?, self.outer(to)?);
        sender.send_to(b"out", address)?;
        self.settle(to.address)?;
        waiting(&receiver)
    }

    fn send_in(&mut self, from: Outer, to: SocketAddr) -> io::Result<Option<Inner>> {
        self.outer(from)?.0.send_to(b"in", to)?;
        self.settle(from.address)?;
        Ok(self.arrived_inside()?.map(|(inner, _)| inner))
    }

    fn send_round(
        &mut self,
        from: Inner,
        to: SocketAddr,
    ) -> io::Result<Option<(Inner, SocketAddr)>> {
        self.inner(from)?.send_to(b"round", to)?;
        self.settle(0)?;
        self.arrived_inside()
    }

    fn wait(&mut self, time: Duration) -> io::Result<()> {
        self.site.age(time)
    }
}
